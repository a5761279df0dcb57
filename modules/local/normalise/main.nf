include { shellQuote } from '../functions'

// log1p of counts per 10,000 in X, the raw counts in a layer, the samplesheet's columns in obs
process NORMALISE {
    tag "${meta.id}"
    label 'one_core_little_memory'

    input:
    tuple val(meta), path(h5ad)
    val digest

    output:
    tuple val(meta), path("${meta.id}.norm.h5ad"), path("${meta.id}.norm.json"), emit: h5ad
    tuple val("${task.process}"), val('anndata'), eval('package_version.py anndata'), emit: versions_anndata, topic: versions

    script:
    def args = [
        meta.batch ? "--batch ${shellQuote(meta.batch)}" : '',
        meta.donor ? "--donor ${shellQuote(meta.donor)}" : '',
        meta.condition ? "--condition ${shellQuote(meta.condition)}" : '',
        task.ext.args ?: '',
    ].join(' ').trim()
    """
    normalise.py --sample ${meta.id} --h5ad ${h5ad} ${args}
    """

    stub:
    """
    touch ${meta.id}.norm.h5ad
    echo '{"cells": 10}' > ${meta.id}.norm.json
    """
}
