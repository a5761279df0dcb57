include { shellQuote } from '../functions'

// Labels that a sample's cells already have, for a comparison with ours. A step of its own, so that no other one runs
// again when it is asked for.
process READ_LABELS {
    tag "${meta.id}"
    label 'one_core'

    input:
    tuple val(meta), path(matrix), val(content)
    val digest

    output:
    tuple val(meta), path("${meta.id}.own_labels.parquet"), emit: labels
    tuple val("${task.process}"), val('anndata'), eval('package_version.py anndata'), emit: versions_anndata, topic: versions

    script:
    def args = [
        meta.filtered ? '' : '--unfiltered',
        meta.counts_layer ? "--counts-layer ${shellQuote(meta.counts_layer)}" : '',
        task.ext.args ?: '',
    ].join(' ').trim()
    """
    read_labels.py \\
        --sample ${meta.id} \\
        --matrix ${matrix} \\
        --column ${shellQuote(meta.column)} ${args}
    """

    stub:
    """
    touch ${meta.id}.own_labels.parquet
    """
}
