// Unknown populations of an earlier run that a person has named become types of a new annotator
process TEACH_ANNOTATOR {
    tag "${meta.id}"
    label 'two_cores_more_memory'

    input:
    // the folder gets a place of its own: the new one has its name
    tuple val(meta), path(table), path(annotated, stageAs: 'annotated/*'), path(annotator, stageAs: 'before/*'), val(content)
    path scgpt_model
    val seed
    val digest

    output:
    tuple val(meta), path('annotator'), emit: annotator
    tuple val("${task.process}"), val('torch'), eval('package_version.py torch'), emit: versions_torch, topic: versions
    tuple val("${task.process}"), val('scikit-learn'), eval('package_version.py scikit-learn'), emit: versions_scikit_learn, topic: versions

    script:
    def args = task.ext.args ?: ''
    """
    teach_annotator.py \\
        --populations ${table} \\
        --annotated ${annotated} \\
        --annotator ${annotator} \\
        --scgpt-model ${scgpt_model} \\
        --seed ${seed} ${args}
    """

    stub:
    """
    cp -rL ${annotator} annotator
    """
}
