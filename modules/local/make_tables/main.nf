// The tables a script would read
process MAKE_TABLES {
    tag "${meta.id}"
    label 'one_core'

    input:
    tuple val(meta), path(h5ad), path(markers)
    path removed
    path removed_types
    path opinions, stageAs: 'opinions/*'
    path profiles
    path annotator
    path samples
    path stats, stageAs: 'stats/*'
    path own_labels, stageAs: 'own_labels/*'
    val digest

    output:
    tuple val(meta), path('{cells,removed_cells}.tsv.gz'), path('{annotators,composition,judges,levels,evidence,expected_genes,expected_genes_shown,second_opinion,unknown_populations,cells_per_step,genes_measured,removed_by_type,qc_thresholds,samples}.tsv'), emit: tables
    tuple val(meta), path('contradictions.tsv'), emit: contradictions
    path '{comparison,agreement}.tsv', optional: true, emit: comparison
    tuple val("${task.process}"), val('pandas'), eval('package_version.py pandas'), emit: versions_pandas, topic: versions

    script:
    def args = [
        annotator ? "--annotator ${annotator}" : '',
        own_labels ? '--own-labels own_labels/*.parquet' : '',
        task.ext.args ?: '',
    ].join(' ').trim()
    """
    make_tables.py \\
        --h5ad ${h5ad} \\
        --markers ${markers} \\
        --opinions opinions/*.parquet \\
        --profiles ${profiles} \\
        --removed ${removed} \\
        --removed-types ${removed_types} \\
        --samples ${samples} \\
        --stats stats/*.json ${args}
    """

    stub:
    """
    echo '' | gzip > cells.tsv.gz
    echo '' | gzip > removed_cells.tsv.gz
    touch contradictions.tsv
    touch annotators.tsv composition.tsv judges.tsv levels.tsv evidence.tsv expected_genes.tsv expected_genes_shown.tsv second_opinion.tsv unknown_populations.tsv cells_per_step.tsv genes_measured.tsv removed_by_type.tsv qc_thresholds.tsv samples.tsv
    """
}
