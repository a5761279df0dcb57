// What other tools read: labels for Loupe Browser and Cell Ranger, counts per sample and type for DESeq2 and edgeR
process EXPORT_COHORT {
    tag "${meta.id}"
    label 'one_core'

    input:
    tuple val(meta), path(h5ad)
    path profiles
    val digest

    output:
    tuple val(meta), path('loupe'), path('cell_types'), emit: labels
    tuple val(meta), path('pseudobulk'), emit: pseudobulk
    tuple val("${task.process}"), val('anndata'), eval('package_version.py anndata'), emit: versions_anndata, topic: versions

    script:
    def args = task.ext.args ?: ''
    """
    export_cohort.py --h5ad ${h5ad} --profiles ${profiles} ${args}
    """

    stub:
    """
    mkdir loupe cell_types pseudobulk
    touch pseudobulk/samples.tsv pseudobulk/pseudobulk.h5ad
    echo '' | gzip > pseudobulk/counts.tsv.gz
    """
}
