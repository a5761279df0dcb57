// Neighbours, UMAP and Leiden clusters of all samples together, on the embedding; integrated by Harmony where so decided
process CLUSTER_COHORT {
    tag "${meta.id}"
    label 'whole_cohort'

    input:
    tuple val(meta), path(h5ads), path(embeddings), path(annotations)
    path integration
    val resolution
    val seed
    val digest

    output:
    tuple val(meta), path('cohort_cells.parquet'), emit: cells
    tuple val(meta), path('*.cohort.parquet'), emit: by_sample
    tuple val("${task.process}"), val('scanpy'), eval('package_version.py scanpy'), emit: versions_scanpy, topic: versions
    tuple val("${task.process}"), val('umap-learn'), eval('package_version.py umap-learn'), emit: versions_umap_learn, topic: versions
    tuple val("${task.process}"), val('harmonypy'), eval('package_version.py harmonypy'), emit: versions_harmonypy, topic: versions
    tuple val("${task.process}"), val('igraph'), eval('package_version.py igraph'), emit: versions_igraph, topic: versions

    script:
    def args = task.ext.args ?: ''
    """
    cluster_cohort.py \\
        --h5ad ${h5ads} \\
        --embedding ${embeddings} \\
        --annotation ${annotations} \\
        ${integration ? "--integration ${integration}" : ''} \\
        --resolution ${resolution} \\
        --seed ${seed} ${args}
    """

    stub:
    """
    touch cohort_cells.parquet
    for h5ad in ${h5ads}; do
        touch "\${h5ad%.norm.h5ad}.cohort.parquet"
    done
    """
}
