// All samples in one h5ad, joined on disk
process JOIN_COHORT {
    tag "${meta.id}"
    label 'one_core'

    input:
    tuple val(meta), path(h5ads, stageAs: 'samples/*')
    val digest

    output:
    tuple val(meta), path('cohort.h5ad'), emit: h5ad
    tuple val("${task.process}"), val('anndata'), eval('package_version.py anndata'), emit: versions_anndata, topic: versions

    script:
    def args = task.ext.args ?: ''
    """
    join_cohort.py --h5ad samples/*.h5ad ${args}
    """

    stub:
    """
    touch cohort.h5ad
    """
}
