// An annotator that is damaged, or of another scGPT checkpoint, ends the run before anything is embedded
process CHECK_ANNOTATOR {
    tag "${meta.id}"
    label 'one_core_little_memory'

    input:
    tuple val(meta), path(annotator), val(content)
    path scgpt_model
    val digest

    output:
    tuple val(meta), path(annotator), emit: annotator
    tuple val("${task.process}"), val('torch'), eval('package_version.py torch'), emit: versions_torch, topic: versions

    script:
    """
    check_annotator.py \\
        --annotator ${annotator} \\
        --scgpt-model ${scgpt_model}
    """

    stub:
    """
    """
}
