// Neighbours, UMAP and Leiden clusters of all samples together, on the embedding
process CLUSTER_COHORT {
    tag "${meta.id}"
    label 'whole_cohort'

    input:
    tuple val(meta), path(h5ads), path(embeddings), path(annotations)
    val resolution
    val seed
    val digest

    output:
    tuple val(meta), path('cohort_cells.parquet'), emit: cells
    tuple val("${task.process}"), val('scanpy'), eval('package_version.py scanpy'), emit: versions_scanpy, topic: versions
    tuple val("${task.process}"), val('umap-learn'), eval('package_version.py umap-learn'), emit: versions_umap_learn, topic: versions
    tuple val("${task.process}"), val('igraph'), eval('package_version.py igraph'), emit: versions_igraph, topic: versions

    script:
    def args = task.ext.args ?: ''
    """
    cluster_cohort.py \\
        --h5ad ${h5ads} \\
        --embedding ${embeddings} \\
        --annotation ${annotations} \\
        --resolution ${resolution} \\
        --seed ${seed} ${args}
    """

    stub:
    """
    touch cohort_cells.parquet
    """
}
