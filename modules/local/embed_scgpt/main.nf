// scGPT cell embedding of a range of cells; the same bytes whatever the range
process EMBED_SCGPT {
    tag "${meta.id}:${start}-${end}"
    label 'two_cores'
    label 'can_use_gpu'

    input:
    tuple val(meta), path(h5ad), val(start), val(end)
    path scgpt_model
    val max_genes
    val seed
    val backend
    val precision
    val digest

    output:
    tuple val(meta), path("${meta.id}.*.embedding.npy"), path("${meta.id}.*.embedding.json"), emit: embedding
    tuple val("${task.process}"), val('torch'), eval('package_version.py torch'), emit: versions_torch, topic: versions
    // empty unless the scgpt package embeds
    tuple val("${task.process}"), val('scgpt'), eval("[ ${backend} = spikgpt ] || package_version.py scgpt"), emit: versions_scgpt, topic: versions

    script:
    def args = task.ext.args ?: ''
    """
    embed_scgpt.py \\
        --sample ${meta.id} \\
        --h5ad ${h5ad} \\
        --scgpt-model ${scgpt_model} \\
        --start ${start} \\
        --end ${end} \\
        --max-genes ${max_genes} \\
        --seed ${seed} \\
        --backend ${backend} \\
        --precision ${precision} \\
        --device ${task.accelerator ? 'cuda' : 'cpu'} \\
        --threads ${task.cpus} ${args}
    """

    stub:
    def part = "${meta.id}.${String.format('%09d', start)}.embedding"
    """
    touch ${part}.npy
    echo '{"sample": "${meta.id}"}' > ${part}.json
    """
}
