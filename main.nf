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
include { annotatorList ; checkedParameters ; checkFolders ; checkOutdir ; contrastMistake ; earlierRuns ; emptyMistake ; existingPath ; helpText ; killedMessage ; logoMistake ; namesIn ; plainlyNamed ; publishParameters ; referenceFiles ; runRecord ; strangersMistake ; taughtFrom ; workFolderMistake } from './subworkflows/local/utils'

workflow {
    main:
    if (params.help.toString() == 'true') {
        log.info(helpText())
        return
    }
    if (params.list_annotators.toString() == 'true') {
        log.info(annotatorList())
        return
    }
    def options = checkedParameters(params)
    def elsewhere = workFolderMistake(workflow.profile, workflow.workDir.toUriString(), options.k8s_storage_claim, options.k8s_mount_path)
    if (elsewhere) {
        error(elsewhere)
    }
    checkFolders('work folder (-work-dir)': workflow.workDir, 'the pipeline': projectDir)
    def scgpt_model = plainlyNamed(existingPath('scgpt_model', options.scgpt_model))
    checkOutdir(options.outdir, workflow.resume)
    def logo = options.report_logo ? plainlyNamed(existingPath('report_logo', options.report_logo)) : []
    def bad_logo = logo ? logoMistake(logo) : null
    if (bad_logo) {
        error(bad_logo)
    }
    def earlier = options.history ? earlierRuns(existingPath('history', options.history), options.outdir) : []
    def facility = ['title', 'project', 'customer', 'contact', 'text']
        .collectEntries { name -> [name, options["report_${name}".toString()]] }
        .findAll { _name, value -> value != null }
    publishParameters(options, workflow.manifest.version, workflow.sessionId)
    def record = runRecord(options, workflow.manifest.version)

    def run = workflow  // inside the closure the name is null
    workflow.onError {
        if (killedMessage(run.exitStatus)) {
            log.error(killedMessage(run.exitStatus))
        }
    }

    // [meta, [h5ad]], several files of one reference together; empty without a reference
    ch_reference = options.reference
        ? channel.of([[id: 'reference', reference: true], referenceFiles(options.reference)])
        : channel.empty()
    def table = options.teach ? existingPath('teach', options.teach) : null
    def lesson = table ? taughtFrom(table, options.annotator, options.outdir) : [annotator: options.annotator]
    if (lesson.mistake) {
        error(lesson.mistake)
    }
    // names or folders; with neither, human blood and, for samples that do not look like it, the tissue profiles
    def annotators = options.reference ? [] : namesIn(lesson.annotator ?: 'pbmc')
    def trained = annotators.findAll { name -> name != 'tissue' }
    def rule = !options.reference && !lesson.annotator
        ? 'unless_blood'
        : annotators && annotators.first() == 'tissue' ? 'tissue' : annotators.size() > 1 ? 'first' : 'only'
    // [meta, folder], in the order given; empty with a reference
    ch_annotator = channel.fromList(
        trained.withIndex().collect { name, place ->
            [[id: place == 0 ? 'annotator' : "annotator.${place + 1}".toString(), annotator: true], plainlyNamed(existingPath('annotator', name == 'pbmc' ? "${projectDir}/assets/annotators/pbmc" : name))]
        }
    )

    // counts: [meta, h5ad] of each sample; reference: [meta, h5ad, stats]; annotator: folder
    READ_INPUT(
        existingPath('input', options.input),
        ch_reference,
        ch_annotator,
        options.label_key,
        options.batch_key,
        options.exclude_labels,
        options.merge_similar_labels,
        options.label_levels,
        scgpt_model,
        options.min_gene_match,
        options.compare_key,
        options.species,
        table ? [plainlyNamed(table), lesson.files.collect { path -> plainlyNamed(path) }] : [],
        options.seed,
    )
    READ_INPUT.out.samples.subscribe { _meta, samples ->
        def message = strangersMistake(options.outdir, samples) ?: contrastMistake(options.contrast, samples)
        if (message) {
            error(message)
        }
    }

    // normalised: [meta, h5ad, stats] of each sample with cells left; removed: [meta, tsv.gz]; removed_cells: [meta, h5ad]; qc: [meta, parquet]
    QUALITY_CONTROL(READ_INPUT.out.counts, options.ambient, options.skip_doublets, options.seed)
    QUALITY_CONTROL.out.stats
        .filter { _meta, stats -> stats.name.endsWith('.filter.json') }
        .map { _meta, stats -> stats }
        .collect()
        .subscribe { stats ->
            def message = emptyMistake(stats)
            if (message) {
                error(message)
            }
        }

    // samples and reference are embedded by the same step, then part again: [meta, h5ad, [npy]]
    EMBED_CELLS(
        QUALITY_CONTROL.out.normalised.mix(READ_INPUT.out.reference),
        scgpt_model,
        options.scgpt_backend,
        options.scgpt_precision,
        options.max_genes,
        options.chunk_cells,
        options.seed,
    )
    ch_embedded = EMBED_CELLS.out.embedded.branch { meta, _h5ad, _embedding ->
        reference: meta.reference
        sample: true
    }

    // annotated: [meta, h5ad, [npy], parquet, json, parquet] of each sample; removed_types: parquet; annotator: folder,
    // or an empty list where the tissue profiles alone give labels; benchmark: [meta, tsv]
    ANNOTATE_CELLS(
        ch_embedded.reference,
        READ_INPUT.out.annotator,
        ch_embedded.sample,
        QUALITY_CONTROL.out.removed_cells,
        scgpt_model,
        rule,
        options.unknown_rate,
        options.features,
        options.seed,
    )

    // json of any step
    ch_stats = READ_INPUT.out.stats
        .mix(QUALITY_CONTROL.out.stats, EMBED_CELLS.out.stats, ANNOTATE_CELLS.out.stats)
        .map { _meta, stats -> stats }

    // samples, cohort: [meta, h5ad]; tables: file
    BUILD_COHORT(
        ANNOTATE_CELLS.out.annotated,
        QUALITY_CONTROL.out.removed,
        ANNOTATE_CELLS.out.removed_types,
        READ_INPUT.out.samples,
        READ_INPUT.out.own_labels,
        ANNOTATE_CELLS.out.annotator,
        ch_stats,
        record,
        options.integrate,
        options.cluster_resolution,
        options.seed,
        options.contrast,
        READ_INPUT.out.protein,
        scgpt_model,
        options.max_genes,
    )

    // one yaml of every tool's version; a tool that a task did not use has none
    ch_versions = channel.topic('versions')
        .filter { _process, _tool, version -> version }
        .map { process, tool, version -> [process.tokenize(':').last(), "    ${tool}: ${version}".toString()] }
        .unique()
        .groupTuple()
        .map { process, tools -> "${process}:\n${tools.sort().join('\n')}".toString() }
        .mix(channel.of("Workflow:\n    SpikGPT: ${workflow.manifest.version}\n    Nextflow: ${nextflow.version}".toString()))
        .collectFile(name: 'spikgpt_software_mqc_versions.yml', storeDir: "${options.outdir}/pipeline_info", sort: true, newLine: true)

    // [meta, html]
    REPORT(
        READ_INPUT.out.samples,
        record,
        ch_stats,
        QUALITY_CONTROL.out.qc.map { _meta, qc -> qc },
        BUILD_COHORT.out.tables.mix(ANNOTATE_CELLS.out.benchmark.map { _meta, benchmark -> benchmark }),
        ANNOTATE_CELLS.out.annotator,
        ch_versions,
        [groovy.json.JsonOutput.toJson(facility), logo, earlier],
    )
}
