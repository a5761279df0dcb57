// Counts, genes and mitochondrial share of every cell, and the group of like cells that it is judged in
process QC_METRICS {
    tag "${meta.id}"
    label 'one_core'

    input:
    tuple val(meta), path(h5ad)
    val seed
    val digest

    output:
    tuple val(meta), path("${meta.id}.qc.parquet"), emit: qc
    tuple val("${task.process}"), val('igraph'), eval('package_version.py igraph'), emit: versions_igraph, topic: versions
    tuple val("${task.process}"), val('scikit-learn'), eval('package_version.py scikit-learn'), emit: versions_sklearn, topic: versions

    script:
    def args = task.ext.args ?: ''
    """
    qc_metrics.py --sample ${meta.id} --h5ad ${h5ad} --seed ${seed} ${args}
    """

    stub:
    """
    touch ${meta.id}.qc.parquet
    """
}
