// What a profile comes to: the configuration as a run has it, and what a task with a GPU's label and one without
// ask for. Run by tests/python/test_profiles.py.
process PLAIN {
    label 'one_core'

    output:
    val asked

    exec:
    asked = [name: 'plain', queue: task.queue, machine: task.machineType, disk: task.disk, gpus: task.accelerator?.request, gpu_type: task.accelerator?.type, cluster: task.clusterOptions, container: task.containerOptions, pod: task.pod, memory: task.memory]
}

process GPU {
    label 'can_use_gpu'

    output:
    val asked

    exec:
    asked = [name: 'gpu', queue: task.queue, machine: task.machineType, disk: task.disk, gpus: task.accelerator?.request, gpu_type: task.accelerator?.type, cluster: task.clusterOptions, container: task.containerOptions, pod: task.pod, memory: task.memory]
}

workflow {
    PLAIN()
    GPU()
    PLAIN.out.mix(GPU.out).view { asked -> 'ASKED ' + groovy.json.JsonOutput.toJson(asked.collectEntries { name, value -> [name, value instanceof nextflow.util.MemoryUnit ? value.toString() : value] }) }
    println('CONFIG ' + groovy.json.JsonOutput.toJson(nextflow.Global.session.config.subMap(['aws', 'google', 'azure', 'k8s', 'docker', 'podman', 'singularity', 'apptainer', 'workDir', 'plugins'])))
}
