// One HTML report of the whole run
process MULTIQC {
    tag "${meta.id}"
    label 'one_core'

    input:
    tuple val(meta), path(content), path(versions)
    path configs    // the later ones take precedence

    output:
    tuple val(meta), path('multiqc_report.html'), emit: report
    tuple val(meta), path('multiqc_report_data'), emit: data
    // not on the topic: this report is made of what the topic holds
    tuple val("${task.process}"), val('multiqc'), eval('package_version.py multiqc'), emit: versions_multiqc

    script:
    def args = task.ext.args ?: ''
    """
    multiqc ${[configs].flatten().collect { path -> "--config ${path}" }.join(' ')} --filename multiqc_report.html ${args} ${content} ${versions}
    """

    stub:
    """
    mkdir multiqc_report_data
    touch multiqc_report_data/multiqc.log
    echo '<!doctype html><title>SpikGPT</title><p>Stub run: nothing was computed.</p>' > multiqc_report.html
    """
}
