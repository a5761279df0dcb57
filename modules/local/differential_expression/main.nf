include { shellQuote } from '../functions'

// Genes that differ between two groups of samples, type by type
process DIFFERENTIAL_EXPRESSION {
    tag "${meta.id}"
    label 'one_core'

    input:
    tuple val(meta), path(pseudobulk)
    val contrast
    val digest

    output:
    tuple val(meta), path('differential_expression.tsv.gz'), path('differential_expression.json'), emit: genes
    tuple val("${task.process}"), val('pydeseq2'), eval('package_version.py pydeseq2'), emit: versions_pydeseq2, topic: versions

    script:
    def args = task.ext.args ?: ''
    """
    differential_expression.py --pseudobulk ${pseudobulk}/pseudobulk.h5ad --contrast ${shellQuote(contrast)} ${args}
    """

    stub:
    """
    echo '' | gzip > differential_expression.tsv.gz
    echo '{"contrast": [], "types": [], "messages": []}' > differential_expression.json
    """
}
