// Whether the shares of the types differ between conditions
process COMPARE_CONDITIONS {
    tag "${meta.id}"
    label 'one_core_little_memory'

    input:
    tuple val(meta), path(pseudobulk)
    val digest

    output:
    tuple val(meta), path('conditions.tsv'), path('conditions.json'), emit: conditions
    tuple val("${task.process}"), val('scipy'), eval('package_version.py scipy'), emit: versions_scipy, topic: versions

    script:
    def args = task.ext.args ?: ''
    """
    compare_conditions.py --samples ${pseudobulk}/samples.tsv ${args}
    """

    stub:
    """
    touch conditions.tsv
    echo '{"messages": []}' > conditions.json
    """
}
