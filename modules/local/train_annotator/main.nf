// Train, calibrate and describe an annotator on the embedded reference
process TRAIN_ANNOTATOR {
    tag "${meta.id}"
    label 'two_cores_more_memory'

    input:
    tuple val(meta), path(h5ad), path(embedding)
    path scgpt_model
    val unknown_rate
    val features
    val seed
    val digest

    output:
    tuple val(meta), path('annotator'), emit: annotator
    tuple val(meta), path('benchmark.tsv'), emit: benchmark
    tuple val("${task.process}"), val('torch'), eval('package_version.py torch'), emit: versions_torch, topic: versions
    tuple val("${task.process}"), val('spikingjelly'), eval('package_version.py spikingjelly'), emit: versions_spikingjelly, topic: versions
    tuple val("${task.process}"), val('scikit-learn'), eval('package_version.py scikit-learn'), emit: versions_scikit_learn, topic: versions
    tuple val("${task.process}"), val('celltypist'), eval('package_version.py celltypist'), emit: versions_celltypist, topic: versions

    script:
    def args = task.ext.args ?: ''
    """
    train_annotator.py \\
        --reference ${h5ad} \\
        --embedding ${embedding} \\
        --scgpt-model ${scgpt_model} \\
        --unknown-rate ${unknown_rate} \\
        --features ${features} \\
        --seed ${seed} \\
        --threads ${task.cpus} ${args}
    """

    stub:
    """
    mkdir annotator
    touch annotator/config.json annotator/model.safetensors annotator/README.md benchmark.tsv
    """
}
