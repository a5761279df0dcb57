include { CHECK_INPUT      } from '../../../modules/local/check_input'
include { CHECK_ANNOTATOR  } from '../../../modules/local/check_annotator'
include { IMPORT_COUNTS    } from '../../../modules/local/import_counts'
include { IMPORT_REFERENCE } from '../../../modules/local/import_reference'

// The message for a matrix that is not there, in the form of all others. It is returned, not thrown:
// an error inside a function that an operator calls reaches the user as InvocationTargetException.
def missing(matrix, where) {
    return """SpikGPT stopped: A file or folder is missing
  where:     ${where}
  found:     nothing at ${matrix}
  expected:  an existing file or folder (relative paths start where the run was started)
  next step: correct the path"""
}

// One row of the samplesheet as [meta, matrix, where it stands]. What a task needs is in meta as a value:
// a row's task then runs again when that row changes, not when the sheet does.
def toSample(row, code) {
    def column = row.filtered ? 'filtered' : 'unfiltered'
    def thresholds = row.findAll { name, _value ->
        name in ['min_genes', 'min_cells', 'max_mito_percentage'] || name.endsWith('_nmads')
    }
    def meta = [id: row.sample, code: code, filtered: row.filtered != null, thresholds: thresholds]
    def optional = row.subMap(['batch', 'condition', 'donor', 'expected_cells', 'symbol_col', 'geneid_col', 'counts_layer'])
    return [meta + optional, file(row[column]), "samplesheet, line ${row.line}, column ${column}"]
}

// Everything a user can get wrong is found here, before any heavy work starts.
workflow READ_INPUT {
    take:
    ch_input        // [meta, samplesheet, parameters as JSON]
    ch_reference    // [meta, h5ad], or empty
    ch_annotator    // [meta, folder], or empty
    options         // map: label_key, batch_key, scgpt_model, min_gene_match

    main:
    CHECK_INPUT(
        ch_input,
        file("${projectDir}/assets/schema_input.json"),
        file("${projectDir}/nextflow_schema.json"),
    )

    ch_matrices = CHECK_INPUT.out.samples.flatMap { meta, samples ->
        new groovy.json.JsonSlurper().parseText(samples.text).collect { row ->
            def (sample, matrix, where) = toSample(row, meta.code)
            if (!matrix.exists()) {
                error(missing(matrix, where))
            }
            [sample, matrix]
        }
    }
    IMPORT_COUNTS(ch_matrices, options.scgpt_model, options.min_gene_match)

    // the reference too waits for the check of the parameters
    IMPORT_REFERENCE(
        ch_reference.combine(CHECK_INPUT.out.run).map { meta, h5ad, _meta, _run -> [meta, h5ad] },
        options.label_key,
        options.batch_key ?: '',
        options.scgpt_model,
        options.min_gene_match,
    )

    CHECK_ANNOTATOR(ch_annotator, options.scgpt_model)

    // Nothing goes on before every input was read: one bad sample ends the run here, not hours later.
    ch_read = IMPORT_COUNTS.out.h5ad
        .map { meta, h5ad -> [meta, h5ad, null] }
        .mix(IMPORT_REFERENCE.out.h5ad)
        .mix(CHECK_ANNOTATOR.out.annotator.map { meta, folder -> [meta, folder, null] })
        .toSortedList { a, b -> a[0].id <=> b[0].id }
        .flatMap { entries -> entries }
        .branch { meta, _file, _stats ->
            reference: meta.reference
            annotator: meta.annotator
            sample: true
        }

    counts = ch_read.sample.map { meta, h5ad, _stats -> [meta, h5ad] }
    reference = ch_read.reference
    annotator = ch_read.annotator.map { _meta, folder, _stats -> folder }
    samples = CHECK_INPUT.out.samples
    run = CHECK_INPUT.out.run
    stats = IMPORT_COUNTS.out.stats.mix(IMPORT_REFERENCE.out.h5ad.map { meta, _h5ad, stats -> [meta, stats] })

    emit:
    counts     // [meta, counts h5ad]
    reference  // [meta, normalised h5ad, stats]
    annotator  // folder, when one was given
    samples    // [meta, json]
    run        // [meta, json]
    stats
}
