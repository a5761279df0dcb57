#!/usr/bin/env nextflow
/*
 * SpikGPT: from raw single-cell counts to annotated cells and a report.
 * Cells that belong to no type of the reference are called Unknown.
 */

include { READ_INPUT      } from './subworkflows/local/read_input'
include { QUALITY_CONTROL } from './subworkflows/local/quality_control'
include { EMBED_CELLS     } from './subworkflows/local/embed_cells'
include { ANNOTATE_CELLS  } from './subworkflows/local/annotate_cells'
include { BUILD_COHORT    } from './subworkflows/local/build_cohort'
include { REPORT          } from './subworkflows/local/report'

// The parameters as nextflow_schema.json describes them
def helpText() {
    def schema = new groovy.json.JsonSlurper().parseText(file("${projectDir}/nextflow_schema.json").text)
    def groups = schema['$defs'].collect { _name, group ->
        def lines = group.properties.collect { name, spec ->
            def value = spec.containsKey('default') && spec.default != '' ? " [${spec.default}]" : ''
            "  --${name.padRight(24)}${spec.description}${value}"
        }
        "${group.title}\n${lines.join('\n')}"
    }
    return "nextflow run . -profile <docker|singularity|local|...> --input samplesheet.csv --outdir results\n\n${groups.join('\n\n')}"
}

// Content of the Python package behind bin/, its tables too. Nextflow hashes the scripts that a task calls, not the
// package they import: with this in every task's meta, -resume runs again what changed code would do.
def codeVersion() {
    def sources = files("${projectDir}/bin/spikgpt/**.{py,tsv}").sort { source -> source.toString() }
    return sources.collect { source -> source.text }.join('\n').digest('SHA-256')
}

// A message in the form of all others (spikgpt/base/errors.py). It is returned, not thrown: an error inside a
// function that an operator calls reaches the user as InvocationTargetException.
def mistake(what, found, expected, fix, where = 'command line or -params-file') {
    return """SpikGPT stopped: ${what}
  where:     ${where}
  found:     ${found}
  expected:  ${expected}
  next step: ${fix}"""
}

def existingPath(name) {
    def value = params[name].toString()
    def found = file(value)
    if (!found.exists()) {
        error(mistake("--${name} names a file or folder that is not there", value, 'an existing path', 'correct the path'))
    }
    return found
}

workflow {
    main:
    if (params.help) {
        log.info(helpText())
        return
    }
    if (!params.input) {
        error(mistake('The parameter --input is missing', 'no value', 'a samplesheet', "add --input samplesheet.csv; 'nextflow run . --help' lists all parameters"))
    }
    if (!params.outdir) {
        error(mistake('The parameter --outdir is missing', 'no value', 'a folder for the results', 'add --outdir results'))
    }
    // killed, most often for memory, or by a scheduler that left no status; conf/base.config has tried it again with more
    def run = workflow  // inside the closure the name is null
    workflow.onError {
        if (run.exitStatus in [137, Integer.MAX_VALUE]) {
            log.error(mistake('A task needed more memory than it was given', 'it was killed, also when tried again with more', 'the memory that conf/base.config asks for is enough', "give the step more, in a file for -c: process { withName: 'NAME_OF_THE_STEP' { memory = 64.GB } }; then -resume", 'the task that is named above'))
        }
    }

    // Files of two runs side by side would look like one run's
    def earlier = ['annotated', 'annotator', 'multiqc', 'tables'].findAll { name -> file("${params.outdir}/${name}").exists() }
    if (earlier && !workflow.resume) {
        error(mistake('The folder for the results holds results of an earlier run', earlier.join(', '), 'an empty folder, or -resume to go on with the run that made them', 'give another --outdir, remove the folder, or add -resume', "--outdir ${params.outdir}"))
    }
    def cohort = [id: 'cohort', code: codeVersion()]
    def options = params + [scgpt_model: existingPath('scgpt_model')]

    ch_reference = params.reference
        ? channel.of([[id: 'reference', code: cohort.code, reference: true], existingPath('reference')])
        : channel.empty()
    // without a reference: the annotator given, else the bundled one of human blood
    def annotator = params.annotator ? existingPath('annotator') : file("${projectDir}/assets/annotators/pbmc")
    ch_annotator = params.reference
        ? channel.empty()
        : channel.of([[id: 'annotator', code: cohort.code, annotator: true], annotator])

    READ_INPUT(
        channel.of([cohort, existingPath('input'), groovy.json.JsonOutput.toJson(params)]),
        ch_reference,
        ch_annotator,
        options,
    )
    // with -resume too: a sample that left the samplesheet must not stay among the results
    READ_INPUT.out.samples.subscribe { _meta, samples ->
        def names = new groovy.json.JsonSlurper().parseText(samples.text).collect { row -> row.sample } + 'cohort'
        def strangers = files("${params.outdir}/annotated/*.h5ad").collect { h5ad -> h5ad.baseName }.findAll { name -> !(name in names) }
        if (strangers) {
            error(mistake('The folder for the results holds samples that are not in the samplesheet', strangers.sort().join(', '), 'results of this samplesheet alone', 'give another --outdir, or remove these files', "${params.outdir}/annotated"))
        }
    }
    QUALITY_CONTROL(READ_INPUT.out.counts, options)

    // an empty list is a run that ends for another reason, and has said so
    QUALITY_CONTROL.out.stats
        .filter { _meta, stats -> stats.name.endsWith('.filter.json') }
        .map { _meta, stats -> new groovy.json.JsonSlurper().parseText(stats.text).cells_out }
        .collect()
        .subscribe { cells ->
            if (cells && cells.every { left -> left == 0 }) {
                error(mistake('No sample has a cell left after quality control', 'every cell removed', 'at least one cell in one sample', 'check that the matrices hold called cells, or relax the thresholds (samplesheet columns min_genes, max_mito_percentage, *_nmads)', 'all samples'))
            }
        }

    // samples and reference are embedded by the same step, then part again
    EMBED_CELLS(QUALITY_CONTROL.out.normalised.mix(READ_INPUT.out.reference), options)
    ch_embedded = EMBED_CELLS.out.embedded.branch { meta, _h5ad, _embedding ->
        reference: meta.reference
        sample: true
    }

    ANNOTATE_CELLS(ch_embedded.reference, READ_INPUT.out.annotator, ch_embedded.sample, options)

    ch_stats = READ_INPUT.out.stats
        .mix(QUALITY_CONTROL.out.stats, EMBED_CELLS.out.stats, ANNOTATE_CELLS.out.stats)
        .map { _meta, stats -> stats }
    BUILD_COHORT(
        ANNOTATE_CELLS.out.annotated,
        QUALITY_CONTROL.out.removed,
        READ_INPUT.out.samples,
        READ_INPUT.out.run,
        ANNOTATE_CELLS.out.annotator,
        ch_stats,
        cohort,
        options,
    )

    // a tool that a task did not use has no version
    ch_versions = channel.topic('versions')
        .filter { _process, _tool, version -> version }
        .map { process, tool, version -> [process.tokenize(':').last(), "    ${tool}: ${version}".toString()] }
        .unique()
        .groupTuple()
        .map { process, tools -> "${process}:\n${tools.sort().join('\n')}".toString() }
        .mix(channel.of("Workflow:\n    SpikGPT: ${workflow.manifest.version}\n    Nextflow: ${nextflow.version}".toString()))
        .collectFile(name: 'spikgpt_software_mqc_versions.yml', storeDir: "${params.outdir}/pipeline_info", sort: true, newLine: true)

    REPORT(
        READ_INPUT.out.samples,
        READ_INPUT.out.run,
        ch_stats,
        QUALITY_CONTROL.out.qc.map { _meta, qc -> qc },
        BUILD_COHORT.out.tables.mix(ANNOTATE_CELLS.out.benchmark.map { _meta, benchmark -> benchmark }),
        ANNOTATE_CELLS.out.annotator,
        ch_versions,
    )
}
