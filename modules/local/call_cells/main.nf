// Tell cells from empty droplets in an unfiltered matrix (EmptyDrops)
process CALL_CELLS {
    tag "${meta.id}"
    label 'one_core'

    input:
    tuple val(meta), path(h5ad)
    val seed
    val digest

    output:
    tuple val(meta), path("${meta.id}.called.h5ad"), emit: h5ad
    tuple val(meta), path("${meta.id}.called.json"), emit: stats
    tuple val("${task.process}"), val('cell-filter'), eval('package_version.py cell-filter'), emit: versions_cell_filter, topic: versions

    script:
    def args = [
        meta.expected_cells ? "--expected-cells ${meta.expected_cells}" : '',
        task.ext.args ?: '',
    ].join(' ').trim()
    """
    call_cells.py --sample ${meta.id} --h5ad ${h5ad} --seed ${seed} ${args}
    """

    stub:
    """
    touch ${meta.id}.called.h5ad
    echo '{"sample": "${meta.id}"}' > ${meta.id}.called.json
    """
}
