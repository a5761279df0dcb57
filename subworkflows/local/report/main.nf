include { MAKE_REPORT } from '../../../modules/local/make_report'
include { MULTIQC     } from '../../../modules/local/multiqc'
include { digestOf    } from '../utils'

// The MultiQC report of the whole run
workflow REPORT {
    take:
    ch_samples      // [meta, samples.json]
    record          // text: JSON with version and parameters of the run, see runRecord
    ch_stats        // json of any step
    ch_qc           // parquet of a sample
    ch_tables       // table of the cohort
    ch_annotator    // folder of the annotator that gives labels, or an empty list
    ch_versions     // yaml
    facility        // [JSON of the report's head as text, logo or [], table of earlier runs or []]

    main:
    MAKE_REPORT(
        ch_samples,
        ch_stats.toSortedList { a, b -> a.name <=> b.name },
        ch_qc.toSortedList { a, b -> a.name <=> b.name },
        ch_tables.toSortedList { a, b -> a.name <=> b.name },
        ch_annotator,
        record,
        facility,
        digestOf('make_report.py'),
    )
    MULTIQC(
        MAKE_REPORT.out.content.combine(ch_versions),
        MAKE_REPORT.out.title.map { title -> [file("${projectDir}/assets/multiqc_config.yml", glob: false), title] },
    )

    report = MULTIQC.out.report

    emit:
    report  // [meta, html]
}
