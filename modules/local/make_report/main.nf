// Everything the report shows, as MultiQC custom content
process MAKE_REPORT {
    tag "${meta.id}"
    label 'one_core'

    input:
    tuple val(meta), path(samples)
    path stats, stageAs: 'stats/*'
    path qc, stageAs: 'qc/*'
    path tables, stageAs: 'tables/*'
    path annotator
    val record
    tuple val(facility), path(logo, stageAs: 'logo/*'), path(history, stageAs: 'history/*')
    val digest

    output:
    tuple val(meta), path('report'), emit: content
    path 'multiqc_title.json', emit: title
    tuple val("${task.process}"), val('pandas'), eval('package_version.py pandas'), emit: versions_pandas, topic: versions

    script:
    def args = [
        annotator ? "--annotator ${annotator}" : '',
        logo ? "--logo ${logo}" : '',
        history ? "--history ${history}" : '',
        task.ext.args ?: '',
    ].join(' ').trim()
    """
    cat <<'END_OF_RECORD' > run.json
    ${record}
    END_OF_RECORD
    cat <<'END_OF_HEAD' > facility.json
    ${facility}
    END_OF_HEAD
    make_report.py \\
        --samples ${samples} \\
        --run run.json \\
        --stats stats/*.json \\
        --qc qc/*.parquet \\
        --tables tables \\
        --facility facility.json \\
        --out report ${args}
    """

    stub:
    """
    mkdir report
    echo '{"title": "stub"}' > multiqc_title.json
    printf 'id: stub\\nsection_name: Stub run\\nplot_type: html\\ndata: nothing was computed\\n' > report/stub_mqc.yml
    """
}
