include { CHECK_INPUT      } from '../../../modules/local/check_input'
include { CHECK_ANNOTATOR  } from '../../../modules/local/check_annotator'
include { IMPORT_COUNTS    } from '../../../modules/local/import_counts'
include { IMPORT_REFERENCE } from '../../../modules/local/import_reference'
include { TEACH_ANNOTATOR  } from '../../../modules/local/teach_annotator'
include { READ_LABELS      } from '../../../modules/local/read_labels'
include { digestOf ; filesIn ; pathMistake ; plainlyNamed ; readJson ; speciesMistake ; speciesOf } from '../utils'

// One row of the samplesheet as [meta, path of the matrix as text, where it stands]. What a task needs is in meta as a value:
// a row's task then runs again when that row changes, not when the sheet does.
def toSample(row) {
    def column = row.filtered ? 'filtered' : 'unfiltered'
    def thresholds = row.findAll { name, _value ->
        name in ['min_genes', 'min_cells', 'max_mito_percentage', 'no_programme_odds'] || name.endsWith('_nmads')
    }
    def meta = [id: row.sample, filtered: row.filtered != null, thresholds: thresholds]
    def optional = row.subMap(['batch', 'condition', 'donor', 'expected_cells', 'symbol_col', 'geneid_col', 'counts_layer'])
    return [meta + optional, row[column], "samplesheet, line ${row.line}, column ${column}"]
}

// A relative path starts where the run was started; one that leads nowhere from there, at the samplesheet.
def besideSheet(matrix, samplesheet) {
    if (matrix ==~ '(?s)(/|[A-Za-z][A-Za-z0-9+.-]+:/).*' || pathMistake('', matrix, '') == null) {
        return matrix
    }
    def beside = samplesheet.parent.resolve(matrix).toUriString()
    return pathMistake('', beside, '') == null ? beside : matrix
}

// Everything a user can get wrong is found here, before any heavy work starts.
workflow READ_INPUT {
    take:
    samplesheet     // path
    ch_reference    // [meta, [matrix]], the files of one reference, or empty
    ch_annotator    // [meta, folder], or empty
    label_key       // text: column of the reference's obs with the cell types
    batch_key       // text: column with its batches, or null
    exclude_labels  // text: labels whose cells are left out, as CSV, or null
    merge_similar_labels  // boolean: whether labels that differ in spelling alone are one
    label_levels    // text: columns of the reference's obs with coarser labels, coarse to fine, as CSV, or null
    scgpt_model     // path: the checkpoint that will embed
    min_gene_match  // number: share of a sample that must be in genes the checkpoint knows
    compare_key     // text: column of the samples' obs with labels to compare, where the samplesheet names none; or null
    species         // text: species of samples and reference, or null to go by their genes
    taught          // [table of named populations, [h5ad of each sample of their run]] to teach the annotator, or empty
    seed            // integer

    main:
    CHECK_INPUT(
        [[id: 'cohort'], plainlyNamed(samplesheet)],
        file("${projectDir}/assets/schema_input.json", glob: false),
        digestOf('check_input.py'),
    )

    // [meta, matrix, digest of the files in it, column with labels to compare or null]
    ch_matrices = CHECK_INPUT.out.samples.flatMap { _meta, samples ->
        readJson(samples).collect { row ->
            def (sample, given, where) = toSample(row)
            def matrix = besideSheet(given, samplesheet)
            def message = pathMistake('A file or folder is missing', matrix, where)
            if (message) {
                error(message)
            }
            def path = plainlyNamed(file(matrix, glob: false))
            [sample, path, filesIn(path), row.cell_type_col ?: compare_key]
        }
    }
    ch_own = ch_matrices
        .filter { _sample, _path, _content, column -> column }
        .map { sample, path, content, column -> [sample.subMap(['id', 'filtered', 'counts_layer']) + [column: column], path, content] }
    READ_LABELS(ch_own, digestOf('read_labels.py'))
    // The checkpoint's files count here and in no later step: what is imported anew, all others run anew.
    IMPORT_COUNTS(ch_matrices.map { entry -> entry.take(3) }, scgpt_model, min_gene_match, species ?: '', digestOf('import_counts.py', [scgpt_model]))

    // the reference waits for the check of the samplesheet, whose mistakes are told first
    IMPORT_REFERENCE(
        ch_reference.combine(CHECK_INPUT.out.samples).map { meta, matrices, _meta, _samples -> [meta, matrices, matrices.collect { matrix -> filesIn(matrix) }.join('')] },
        label_key,
        batch_key ?: '',
        exclude_labels ?: '',
        merge_similar_labels,
        label_levels ?: '',
        scgpt_model,
        min_gene_match,
        species ?: '',
        digestOf('import_reference.py', [scgpt_model]),
    )

    CHECK_ANNOTATOR(
        ch_annotator.map { meta, folder -> [meta, folder, filesIn(folder)] },
        scgpt_model,
        digestOf('check_annotator.py', [scgpt_model]),
    )

    // a population that is refused is a mistake in the input too
    TEACH_ANNOTATOR(
        CHECK_ANNOTATOR.out.annotator
            .filter { taught }
            .map { meta, folder -> [meta, taught[0], taught[1], folder, filesIn(folder)] },
        scgpt_model,
        seed,
        digestOf('teach_annotator.py', [scgpt_model]),
    )
    ch_annotators = taught ? TEACH_ANNOTATOR.out.annotator : CHECK_ANNOTATOR.out.annotator

    // Nothing goes on before every input was read: one bad sample ends the run here, not hours later.
    ch_read = IMPORT_COUNTS.out.h5ad
        .join(IMPORT_COUNTS.out.stats)
        .mix(IMPORT_REFERENCE.out.h5ad)
        .mix(ch_annotators.map { meta, folder -> [meta, folder, null] })
        .toSortedList { a, b -> a[0].id <=> b[0].id }
        .flatMap { entries ->
            def message = speciesMistake(entries.collect { meta, given, stats -> [meta, speciesOf(stats ?: given.resolve('config.json'))] })
            if (message) {
                error(message)
            }
            entries
        }
        .branch { meta, _file, _stats ->
            reference: meta.reference
            annotator: meta.annotator
            sample: true
        }

    counts = ch_read.sample.map { meta, h5ad, _stats -> [meta, h5ad] }
    reference = ch_read.reference
    annotator = ch_read.annotator.map { _meta, folder, _stats -> folder }
    samples = CHECK_INPUT.out.samples
    own_labels = READ_LABELS.out.labels
    protein = IMPORT_COUNTS.out.protein
    stats = IMPORT_COUNTS.out.stats.mix(IMPORT_REFERENCE.out.h5ad.map { meta, _h5ad, stats -> [meta, stats] })

    emit:
    counts     // [meta, counts h5ad]
    reference  // [meta, normalised h5ad, stats]
    annotator  // folder, when one was given; with what it was taught
    samples    // [meta, json]
    own_labels // [meta, parquet] of samples whose labels are compared
    protein    // [meta, h5ad] of each sample with antibody or hashtag counts
    stats
}
