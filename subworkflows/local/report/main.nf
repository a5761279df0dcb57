include { MAKE_REPORT } from '../../../modules/local/make_report'
include { MULTIQC     } from '../../../modules/local/multiqc'

// The MultiQC report of the whole run
workflow REPORT {
    take:
    ch_samples      // [meta, samples.json]
    ch_run          // [meta, run.json]
    ch_stats        // json of any step
    ch_qc           // parquet of a sample
    ch_tables       // table of the cohort
    ch_annotator    // folder
    ch_versions     // yaml

    main:
    MAKE_REPORT(
        ch_samples.join(ch_run),
        ch_stats.toSortedList { a, b -> a.name <=> b.name },
        ch_qc.toSortedList { a, b -> a.name <=> b.name },
        ch_tables.toSortedList { a, b -> a.name <=> b.name },
        ch_annotator,
    )
    MULTIQC(
        MAKE_REPORT.out.content.combine(ch_versions),
        file("${projectDir}/assets/multiqc_config.yml"),
    )

    report = MULTIQC.out.report

    emit:
    report  // [meta, html]
}
