// Counts without ambient RNA, whole numbers as before (DecontX)
process REMOVE_AMBIENT {
    tag "${meta.id}"
    label 'two_cores_more_memory'

    input:
    tuple val(meta), path(h5ad)
    val seed
    val digest

    output:
    tuple val(meta), path("${meta.id}.ambient.h5ad"), emit: h5ad
    tuple val(meta), path("${meta.id}.ambient.json"), emit: stats
    tuple val("${task.process}"), val('decontx-scanpy'), eval('package_version.py decontx-scanpy'), emit: versions_decontx_scanpy, topic: versions

    script:
    def args = task.ext.args ?: ''
    """
    remove_ambient.py --sample ${meta.id} --h5ad ${h5ad} --seed ${seed} ${args}
    """

    stub:
    """
    touch ${meta.id}.ambient.h5ad
    echo '{"sample": "${meta.id}"}' > ${meta.id}.ambient.json
    """
}
