// The samplesheet and the parameters against the JSON schemas, before anything else runs
process CHECK_INPUT {
    tag "${meta.id}"
    label 'process_single'

    input:
    tuple val(meta), path(samplesheet), val(parameters)
    path samplesheet_schema
    path parameter_schema

    output:
    tuple val(meta), path('samples.json'), emit: samples
    tuple val(meta), path('run.json'), emit: run
    tuple val("${task.process}"), val('jsonschema'), eval('package_version.py jsonschema'), emit: versions_jsonschema, topic: versions

    // The stub runs the check itself: it takes no time, and the steps after it need the samples.
    script:
    """
    cat <<'PARAMETERS_AS_GIVEN' > parameters.json
    ${parameters}
    PARAMETERS_AS_GIVEN
    check_input.py \\
        --samplesheet ${samplesheet} \\
        --parameters parameters.json \\
        --samplesheet-schema ${samplesheet_schema} \\
        --parameter-schema ${parameter_schema}
    """
}
