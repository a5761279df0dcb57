include { shellQuote } from '../functions'

// The labels of a sample from one of several annotators or from the tissue profiles, and how well each annotator fits
process CHOOSE_LABELS {
    tag "${meta.id}"
    label 'one_core'

    input:
    tuple val(meta), path(annotations, stageAs: 'by/?/*'), path(annotation_stats, stageAs: 'by/?/*'), path(second_opinion), path(second_opinion_stats)
    val names
    val rule
    path profiles
    path scgpt_model
    val digest

    output:
    tuple val(meta), path("${meta.id}.annotation.parquet"), emit: annotation
    tuple val(meta), path("${meta.id}.annotation.json"), emit: stats
    tuple val("${task.process}"), val('pandas'), eval('package_version.py pandas'), emit: versions_pandas, topic: versions

    script:
    def args = task.ext.args ?: ''
    """
    choose_labels.py \\
        --sample ${meta.id} \\
        --rule ${rule} \\
        --annotation ${annotations} \\
        --stats ${annotation_stats} \\
        --name ${names.collect { name -> shellQuote(name) }.join(' ')} \\
        --second-opinion ${second_opinion} \\
        --second-opinion-stats ${second_opinion_stats} \\
        --profiles ${profiles} \\
        --scgpt-model ${scgpt_model} ${args}
    """

    stub:
    """
    touch ${meta.id}.annotation.parquet
    echo '{"sample": "${meta.id}"}' > ${meta.id}.annotation.json
    """
}
