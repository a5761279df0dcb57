include { shellQuote } from '../functions'

// The annotated h5ad of one sample: counts, embedding, labels and clusters in one file
process WRITE_SAMPLE {
    tag "${meta.id}"
    label 'one_core'

    input:
    tuple val(meta), path(h5ad), path(embedding), path(annotation), path(annotation_stats), path(second_opinion), path(cohort_cells), val(extra), path(protein)
    val record
    val digest

    output:
    tuple val(meta), path("${meta.id}.h5ad"), emit: h5ad
    tuple val("${task.process}"), val('anndata'), eval('package_version.py anndata'), emit: versions_anndata, topic: versions

    script:
    def args = "${protein ? "--protein ${protein}" : ''} ${task.ext.args ?: ''}".trim()
    """
    cat <<'END_OF_RECORD' > run.json
    ${record}
    END_OF_RECORD
    write_sample.py \\
        --sample ${meta.id} \\
        --h5ad ${h5ad} \\
        --embedding ${embedding} \\
        --annotation ${annotation} \\
        --annotation-stats ${annotation_stats} \\
        --second-opinion ${second_opinion} \\
        --cohort ${cohort_cells} \\
        --run run.json \\
        --extra ${shellQuote(extra)} ${args}
    """

    stub:
    """
    touch ${meta.id}.h5ad
    """
}
