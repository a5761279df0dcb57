include { shellQuote } from '../functions'

// One sample's raw counts from any supported format, checked, with unified gene symbols
process IMPORT_COUNTS {
    tag "${meta.id}"
    label 'one_core'

    input:
    tuple val(meta), path(matrix), val(content)
    path scgpt_model
    val min_gene_match
    val species
    val digest

    output:
    tuple val(meta), path("${meta.id}.counts.h5ad"), emit: h5ad
    tuple val(meta), path("${meta.id}.protein.h5ad"), emit: protein, optional: true
    tuple val(meta), path("${meta.id}.import.json"), emit: stats
    tuple val("${task.process}"), val('anndata'), eval('package_version.py anndata'), emit: versions_anndata, topic: versions

    script:
    def args = [
        meta.filtered ? '' : '--unfiltered',
        meta.symbol_col ? "--symbol-col ${shellQuote(meta.symbol_col)}" : '',
        meta.geneid_col ? "--geneid-col ${shellQuote(meta.geneid_col)}" : '',
        meta.counts_layer ? "--counts-layer ${shellQuote(meta.counts_layer)}" : '',
        species ? "--species ${species}" : '',
        task.ext.args ?: '',
    ].join(' ').trim()
    """
    import_counts.py \\
        --sample ${meta.id} \\
        --matrix ${matrix} \\
        --scgpt-model ${scgpt_model} \\
        --min-gene-match ${min_gene_match} ${args}
    """

    stub:
    """
    touch ${meta.id}.counts.h5ad
    echo '{"sample": "${meta.id}"}' > ${meta.id}.import.json
    """
}
