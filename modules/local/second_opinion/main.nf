// A broad class for every cell from the bundled tissue profiles, without the reference; empty where they are not sure.
// Of a reference's cells, also whether their labels agree.
process SECOND_OPINION {
    tag "${meta.id}"
    label 'one_core'

    input:
    tuple val(meta), path(h5ad)
    path profiles
    val digest

    output:
    tuple val(meta), path("${meta.id}.second_opinion.parquet"), emit: opinions
    tuple val(meta), path("${meta.id}.second_opinion.json"), emit: stats
    tuple val("${task.process}"), val('scikit-learn'), eval('package_version.py scikit-learn'), emit: versions_sklearn, topic: versions

    script:
    def args = [meta.reference ? '--reference' : '', task.ext.args ?: ''].join(' ').trim()
    """
    second_opinion.py --sample ${meta.id} --h5ad ${h5ad} --profiles ${profiles} ${args}
    """

    stub:
    """
    touch ${meta.id}.second_opinion.parquet
    echo '{"sample": "${meta.id}"}' > ${meta.id}.second_opinion.json
    """
}
