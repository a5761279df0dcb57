import groovy.json.JsonSlurper

/** What a file holds that Groovy cannot read itself: h5ad, parquet, npy, safetensors, tables. */
class Probe {

    /** The content of a file in figures and names; the keys stand in tests/lib/probe.py. */
    static Map read(path) {
        def process = ['python3', 'tests/lib/probe.py', path.toString()].execute()
        def out = new StringBuffer()
        def err = new StringBuffer()
        process.waitForProcessOutput(out, err)
        if (process.exitValue() != 0) {
            throw new IllegalStateException("probe.py could not read ${path}:\n${err}")
        }
        return new JsonSlurper().parseText(out.toString()) as Map
    }
}
