// The nearest type of every cell that quality control removed: what a filter takes must be seen
process TYPE_REMOVED {
    tag "${meta.id}"
    label 'one_core'

    input:
    tuple val(meta), path(h5ad)
    path annotator
    path profiles
    path stats, stageAs: 'stats/*'
    val digest

    output:
    tuple val(meta), path('removed_types.parquet'), emit: types
    tuple val("${task.process}"), val('scikit-learn'), eval('package_version.py scikit-learn'), emit: versions_sklearn, topic: versions

    script:
    def args = [annotator ? "--annotator ${annotator}" : '', task.ext.args ?: ''].join(' ').trim()
    """
    type_removed.py --h5ad ${h5ad} --profiles ${profiles} --stats ${stats} ${args}
    """

    stub:
    """
    touch removed_types.parquet
    """
}
