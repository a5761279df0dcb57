include { shellQuote } from '../functions'

// The labelled cells of the reference, of one file or several joined, checked and normalised, never filtered
process IMPORT_REFERENCE {
    tag "${meta.id}"
    label 'one_core'

    input:
    tuple val(meta), path(references), val(content)
    val label_key
    val batch_key
    val exclude_labels
    val merge_similar_labels
    val label_levels
    path scgpt_model
    val min_gene_match
    val species
    val digest

    output:
    tuple val(meta), path('reference.norm.h5ad'), path('reference.json'), emit: h5ad
    tuple val("${task.process}"), val('anndata'), eval('package_version.py anndata'), emit: versions_anndata, topic: versions

    script:
    def args = [
        batch_key ? "--batch-key ${shellQuote(batch_key)}" : '',
        exclude_labels ? "--exclude-labels ${shellQuote(exclude_labels)}" : '',
        merge_similar_labels ? '--merge-similar-labels' : '',
        species ? "--species ${species}" : '',
        label_levels ? "--label-levels ${shellQuote(label_levels)}" : '',
        task.ext.args ?: '',
    ].join(' ').trim()
    """
    import_reference.py \\
        --reference ${references} \\
        --label-key ${shellQuote(label_key)} \\
        --scgpt-model ${scgpt_model} \\
        --min-gene-match ${min_gene_match} ${args}
    """

    stub:
    """
    touch reference.norm.h5ad
    echo '{"cells": 10}' > reference.json
    """
}
