// Marker genes of every cluster, and what every cluster and type shows of them
process FIND_MARKERS {
    tag "${meta.id}"
    label 'whole_cohort'

    input:
    tuple val(meta), path(h5ad)
    val digest

    output:
    tuple val(meta), path('markers.tsv'), emit: markers
    tuple val(meta), path('marker_expression.tsv'), emit: expression
    // for other programs; no step reads it
    path 'markers_seurat.tsv', emit: seurat
    tuple val("${task.process}"), val('scipy'), eval('package_version.py scipy'), emit: versions_scipy, topic: versions

    script:
    def args = task.ext.args ?: ''
    """
    find_markers.py --h5ad ${h5ad} ${args}
    """

    stub:
    """
    touch markers.tsv markers_seurat.tsv marker_expression.tsv
    """
}
