// Remove low-quality cells and doublets, each with its reason; no h5ad when none is left
process FILTER_CELLS {
    tag "${meta.id}"
    label 'one_core_little_memory'

    input:
    tuple val(meta), path(h5ad), path(qc), path(doublets)
    val digest

    output:
    tuple val(meta), path("${meta.id}.filtered.h5ad"), emit: h5ad, optional: true
    tuple val(meta), path("${meta.id}.removed.tsv.gz"), emit: removed
    tuple val(meta), path("${meta.id}.removed.h5ad"), emit: removed_cells
    tuple val(meta), path("${meta.id}.filter.json"), emit: stats
    tuple val("${task.process}"), val('anndata'), eval('package_version.py anndata'), emit: versions_anndata, topic: versions

    script:
    def args = task.ext.args ?: ''
    """
    echo '${groovy.json.JsonOutput.toJson(meta.thresholds ?: [:])}' > thresholds.json
    filter_cells.py \\
        --sample ${meta.id} \\
        --h5ad ${h5ad} \\
        --qc ${qc} \\
        --doublets ${doublets} \\
        --thresholds thresholds.json ${args}
    """

    stub:
    """
    touch ${meta.id}.filtered.h5ad ${meta.id}.removed.h5ad
    echo '' | gzip > ${meta.id}.removed.tsv.gz
    echo '{"sample": "${meta.id}"}' > ${meta.id}.filter.json
    """
}
