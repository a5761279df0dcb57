include { CLUSTER_COHORT } from '../../../modules/local/cluster_cohort'
include { BATCH_MIXING   } from '../../../modules/local/batch_mixing'
include { WRITE_SAMPLE   } from '../../../modules/local/write_sample'
include { JOIN_COHORT    } from '../../../modules/local/join_cohort'
include { FIND_MARKERS   } from '../../../modules/local/find_markers'
include { EXPLAIN_LABELS } from '../../../modules/local/explain_labels'
include { MAKE_TABLES    } from '../../../modules/local/make_tables'
include { EXPORT_COHORT  } from '../../../modules/local/export_cohort'
include { COMPARE_CONDITIONS } from '../../../modules/local/compare_conditions'
include { DIFFERENTIAL_EXPRESSION } from '../../../modules/local/differential_expression'
include { digestOf ; readJson } from '../utils'

// All samples together: clusters, markers, the annotated files and the tables
workflow BUILD_COHORT {
    take:
    ch_annotated    // [meta, h5ad, [npy], annotation parquet, its json, second opinion parquet]
    ch_removed      // [meta, tsv.gz]
    ch_removed_types  // parquet: nearest type of each removed cell
    ch_samples      // [meta, samples.json]
    ch_own_labels   // [meta, parquet] of samples whose own labels are compared
    ch_annotator    // folder of the annotator that gives labels, or an empty list
    ch_stats        // json of any step
    record          // text: JSON with version and parameters of the run, see runRecord
    integrate       // text: auto, harmony or none
    resolution      // number: of the Leiden clusters
    seed            // integer
    contrast        // text: column of the samplesheet, treated and control, or null
    ch_protein      // [meta, h5ad] of each sample with antibody or hashtag counts
    scgpt_model     // path: the checkpoint that made the embedding
    max_genes       // integer: longest sequence that it was given

    main:
    def cohort_meta = [id: 'cohort']
    // sorted by sample, so that the order in which tasks end changes neither results nor hashes
    ch_all = ch_annotated
        .toSortedList { a, b -> a[0].id <=> b[0].id }
        .filter { entries -> entries }
        .map { entries ->
            def told_apart = integrate == 'harmony' || entries.any { entry -> entry[0].batch }
            [
                told_apart && entries.collect { entry -> entry[0].batch ?: entry[0].id }.unique().size() > 1,
                cohort_meta,
                entries.collect { entry -> entry[1] },
                entries.collectMany { entry -> entry[2] },
                entries.collect { entry -> entry[3] },
            ]
        }
    ch_opinions = ch_annotated
        .toSortedList { a, b -> a[0].id <=> b[0].id }
        .filter { entries -> entries }
        .map { entries -> entries.collect { entry -> entry[5] } }
    // only where the samplesheet tells batches apart, or where samples are to be integrated
    BATCH_MIXING(ch_all.filter { entries -> entries.head() }.map { entries -> entries.tail() }, integrate, seed, digestOf('batch_mixing.py'))
    CLUSTER_COHORT(
        ch_all.map { entries -> entries.tail() },
        BATCH_MIXING.out.integration.map { _meta, integration -> integration }.ifEmpty([]),
        resolution,
        seed,
        digestOf('cluster_cohort.py'),
    )
    // each sample's own part, so that no task reads that of the others
    ch_cells = CLUSTER_COHORT.out.by_sample.flatMap { _meta, parts ->
        [parts].flatten().collect { part -> [part.name.replaceFirst(/\.cohort\.parquet$/, ''), part] }
    }

    // the samplesheet's own columns go into the files, and into no other task
    ch_extra = ch_samples.flatMap { _meta, sheet ->
        readJson(sheet).collect { row -> [row.sample, groovy.json.JsonOutput.toJson(row.extra ?: [:])] }
    }
    // not every sample has antibodies, and not every sample with antibodies has a cell left
    ch_complete = ch_annotated
        .map { entry -> [entry[0].id, entry] }
        .join(ch_cells)
        .join(ch_extra)
        .join(ch_protein.map { meta, protein -> [meta.id, protein] }, remainder: true)
        .filter { entry -> entry[1] }
        .map { _id, entry, cells, extra, protein -> entry + [cells, extra, protein ?: []] }
    WRITE_SAMPLE(
        ch_complete,
        record,
        digestOf('write_sample.py'),
    )
    JOIN_COHORT(
        WRITE_SAMPLE.out.h5ad
            .toSortedList { a, b -> a[0].id <=> b[0].id }
            .filter { entries -> entries }
            .map { entries -> [cohort_meta, entries.collect { entry -> entry[1] }] },
        digestOf('join_cohort.py'),
    )
    FIND_MARKERS(JOIN_COHORT.out.h5ad, digestOf('find_markers.py'))
    EXPLAIN_LABELS(JOIN_COHORT.out.h5ad, ch_annotator, scgpt_model, max_genes, seed, digestOf('explain_labels.py', [scgpt_model]))
    profiles = file("${projectDir}/assets/cell_profiles", glob: false)
    MAKE_TABLES(
        JOIN_COHORT.out.h5ad.join(FIND_MARKERS.out.markers),
        ch_removed.toSortedList { a, b -> a[0].id <=> b[0].id }.map { entries -> entries.collect { entry -> entry[1] } },
        ch_removed_types,
        ch_opinions,
        profiles,
        ch_annotator,
        ch_samples.map { _meta, sheet -> sheet },
        ch_stats.toSortedList { a, b -> a.name <=> b.name },
        ch_own_labels.toSortedList { a, b -> a[0].id <=> b[0].id }.map { entries -> entries.collect { entry -> entry[1] } },
        digestOf('make_tables.py', [profiles]),
    )

    EXPORT_COHORT(JOIN_COHORT.out.h5ad, profiles, digestOf('export_cohort.py', [profiles]))

    // only where the samplesheet tells conditions apart
    ch_conditions = ch_annotated
        .toSortedList { a, b -> a[0].id <=> b[0].id }
        .map { entries -> entries.collect { entry -> entry[0].condition }.findAll { condition -> condition }.unique().size() > 1 }
    COMPARE_CONDITIONS(
        EXPORT_COHORT.out.pseudobulk.combine(ch_conditions).filter { entry -> entry[2] }.map { meta, pseudobulk, _several -> [meta, pseudobulk] },
        digestOf('compare_conditions.py'),
    )

    DIFFERENTIAL_EXPRESSION(
        EXPORT_COHORT.out.pseudobulk.filter { contrast },
        contrast ?: '',
        digestOf('differential_expression.py'),
    )

    samples = WRITE_SAMPLE.out.h5ad
    cohort = JOIN_COHORT.out.h5ad
    tables = MAKE_TABLES.out.tables.flatMap { _meta, packed, plain -> [packed, plain].flatten() }
        .mix(MAKE_TABLES.out.comparison.flatten())
        .mix(MAKE_TABLES.out.contradictions.map { _meta, contradictions -> contradictions })
        .mix(FIND_MARKERS.out.markers.map { _meta, markers -> markers })
        .mix(FIND_MARKERS.out.expression.map { _meta, expression -> expression })
        .mix(EXPLAIN_LABELS.out.explanations.map { _meta, explanations -> explanations })
        .mix(BATCH_MIXING.out.scores.map { _meta, scores -> scores })
        .mix(BATCH_MIXING.out.integration.map { _meta, integration -> integration })
        .mix(COMPARE_CONDITIONS.out.conditions.flatMap { _meta, table, messages -> [table, messages] })
        .mix(DIFFERENTIAL_EXPRESSION.out.genes.flatMap { _meta, table, told -> [table, told] })
        .mix(CLUSTER_COHORT.out.cells.map { _meta, cells -> cells })

    emit:
    samples  // [meta, h5ad]
    cohort   // [meta, h5ad]
    tables   // file; with the cells' place on the map
}
