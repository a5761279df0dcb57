// The samplesheet against its JSON schema, before anything else runs
process CHECK_INPUT {
    tag "${meta.id}"
    label 'one_core_little_memory'

    input:
    tuple val(meta), path(samplesheet)
    path samplesheet_schema
    val digest

    output:
    tuple val(meta), path('samples.json'), emit: samples
    tuple val("${task.process}"), val('jsonschema'), eval('package_version.py jsonschema'), emit: versions_jsonschema, topic: versions

    // The stub runs the check itself: it takes no time, and the steps after it need the samples.
    script:
    """
    check_input.py \\
        --samplesheet ${samplesheet} \\
        --samplesheet-schema ${samplesheet_schema}
    """
}
