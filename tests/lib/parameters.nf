// What the pipeline makes of parameters: for each case of --cases, a JSON list of maps, the typed values and the
// message of the first mistake. Run by tests/python/test_parameters.py.
include { parameterMistake ; readJson ; typedParameters } from '../../subworkflows/local/utils'

workflow {
    def schema = readJson(file(params.schema))
    def told = readJson(file(params.cases)).collect { given ->
        def values = typedParameters(given, schema)
        [values: values, mistake: parameterMistake(values, schema)]
    }
    file(params.out).text = groovy.json.JsonOutput.toJson(told)
}
