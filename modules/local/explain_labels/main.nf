// The genes that the label of every cluster rests on
process EXPLAIN_LABELS {
    tag "${meta.id}"
    label 'whole_cohort'

    input:
    tuple val(meta), path(h5ad)
    path annotator
    path scgpt_model
    val max_genes
    val seed
    val digest

    output:
    tuple val(meta), path('explanations.tsv'), emit: explanations
    tuple val("${task.process}"), val('torch'), eval('package_version.py torch'), emit: versions_torch, topic: versions
    tuple val("${task.process}"), val('spikingjelly'), eval('package_version.py spikingjelly'), emit: versions_spikingjelly, topic: versions

    script:
    def args = [annotator ? "--annotator ${annotator}" : '', task.ext.args ?: ''].join(' ').trim()
    """
    explain_labels.py \\
        --h5ad ${h5ad} \\
        --scgpt-model ${scgpt_model} \\
        --max-genes ${max_genes} \\
        --seed ${seed} ${args}
    """

    stub:
    """
    touch explanations.tsv
    """
}
