// Counts, genes and mitochondrial share of every cell
process QC_METRICS {
    tag "${meta.id}"
    label 'one_core_little_memory'

    input:
    tuple val(meta), path(h5ad)
    val digest

    output:
    tuple val(meta), path("${meta.id}.qc.parquet"), emit: qc
    tuple val("${task.process}"), val('scanpy'), eval('package_version.py scanpy'), emit: versions_scanpy, topic: versions

    script:
    def args = task.ext.args ?: ''
    // scanpy's top genes without numba: to compile them takes longer than to count them in most samples
    """
    NUMBA_DISABLE_JIT=1 qc_metrics.py --sample ${meta.id} --h5ad ${h5ad} ${args}
    """

    stub:
    """
    touch ${meta.id}.qc.parquet
    """
}
