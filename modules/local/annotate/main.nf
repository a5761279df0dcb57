// The cell type of every cell, or Unknown with the reason
process ANNOTATE {
    tag "${meta.id}"
    label 'one_core'

    input:
    tuple val(meta), path(h5ad), path(embedding)
    path annotator
    path scgpt_model
    val unknown_rate
    val digest

    output:
    tuple val(meta), path("${meta.id}.annotation.parquet"), emit: annotation
    tuple val(meta), path("${meta.id}.annotation.json"), emit: stats
    tuple val("${task.process}"), val('torch'), eval('package_version.py torch'), emit: versions_torch, topic: versions
    tuple val("${task.process}"), val('spikingjelly'), eval('package_version.py spikingjelly'), emit: versions_spikingjelly, topic: versions

    script:
    def args = task.ext.args ?: ''
    """
    annotate.py \\
        --sample ${meta.id} \\
        --h5ad ${h5ad} \\
        --embedding ${embedding} \\
        --annotator ${annotator} \\
        --scgpt-model ${scgpt_model} \\
        --unknown-rate ${unknown_rate} \\
        --threads ${task.cpus} ${args}
    """

    stub:
    """
    touch ${meta.id}.annotation.parquet
    echo '{"sample": "${meta.id}"}' > ${meta.id}.annotation.json
    """
}
