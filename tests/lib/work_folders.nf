// What the pipeline says of the work folders in --cases, a JSON list of [profile, folder, claim, mount path]. Run by
// tests/python/test_profiles.py.
include { readJson ; workFolderMistake } from '../../subworkflows/local/utils'

workflow {
    def told = readJson(file(params.cases)).collect { profile, folder, claim, mount ->
        workFolderMistake(profile, folder, claim, mount)
    }
    file(params.out).text = groovy.json.JsonOutput.toJson(told)
}
