// What the pipeline says of the logos in --logos, and the table that it makes of the earlier runs in --history. Run by
// tests/python/test_report_facility.py.
include { earlierRuns ; logoMistake } from '../../subworkflows/local/utils'

workflow {
    def logos = file(params.logos).listFiles().collectEntries { path -> [path.name, logoMistake(path)] }
    def history = earlierRuns(file(params.history), params.outdir).getText('UTF-8')
    file(params.out).text = groovy.json.JsonOutput.toJson([logos: logos, history: history])
}
