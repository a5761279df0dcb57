// Doublet score of every cell (Scrublet)
process DETECT_DOUBLETS {
    tag "${meta.id}"
    label 'one_core'

    input:
    tuple val(meta), path(h5ad)
    val skip
    val seed
    val digest

    output:
    tuple val(meta), path("${meta.id}.doublets.parquet"), emit: doublets
    tuple val(meta), path("${meta.id}.doublets.json"), emit: stats
    tuple val(meta), path("${meta.id}.genomes.tsv.gz"), emit: genomes, optional: true
    tuple val("${task.process}"), val('scanpy'), eval('package_version.py scanpy'), emit: versions_scanpy, topic: versions

    script:
    def args = [skip ? '--skip' : '', task.ext.args ?: ''].join(' ').trim()
    """
    detect_doublets.py --sample ${meta.id} --h5ad ${h5ad} --seed ${seed} ${args}
    """

    stub:
    """
    touch ${meta.id}.doublets.parquet
    echo '{"sample": "${meta.id}"}' > ${meta.id}.doublets.json
    """
}
