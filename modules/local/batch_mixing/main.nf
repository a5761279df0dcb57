// Whether batches mix in the embedding, as it is and after Harmony, and whether Harmony is used
process BATCH_MIXING {
    tag "${meta.id}"
    label 'two_cores'

    input:
    tuple val(meta), path(h5ads), path(embeddings), path(annotations)
    val integrate
    val seed
    val digest

    output:
    tuple val(meta), path('batch_mixing.tsv'), emit: scores
    tuple val(meta), path('integration.tsv'), emit: integration
    tuple val("${task.process}"), val('harmonypy'), eval('package_version.py harmonypy'), emit: versions_harmonypy, topic: versions

    script:
    def args = task.ext.args ?: ''
    """
    batch_mixing.py \\
        --h5ad ${h5ads} \\
        --embedding ${embeddings} \\
        --annotation ${annotations} \\
        --integrate ${integrate} \\
        --seed ${seed} ${args}
    """

    stub:
    """
    touch batch_mixing.tsv integration.tsv
    """
}
