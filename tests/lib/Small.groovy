import java.nio.file.Files
import java.nio.file.Path

/**
 * Paths of the small samples and of what a real run of the pipeline made of them. Tests of later steps
 * start from there, so that each costs its own task alone. The pytest suite makes them, anew each time;
 * after a change of the code they are stale until it ran.
 */
class Small {

    private static final Path FOLDER = Path.of('.demo', 'test').toAbsolutePath()

    /** What goes in: samplesheet.csv, reference.h5ad, small.h5ad, raw. */
    static String input(String name) { existing("data/${name}") }

    /** A file between the steps of the run. */
    static String step(String name) { existing("small/results/intermediates/${name}") }

    /** A published result of the run. */
    static String result(String name) { existing("small/results/${name}") }

    /** A sample of one cell, of one gene or without a count: one_cell, one_gene or all_zeros, with the step's ending. */
    static synchronized String edge(String name) {
        def folder = Path.of('.nf-test', 'edge').toAbsolutePath()
        if (!Files.exists(folder.resolve('all_zeros.filtered.h5ad'))) {
            def process = ['python3', 'tests/lib/edge.py', step('small.counts.h5ad'), folder.toString()].execute()
            def err = new StringBuffer()
            process.waitForProcessOutput(new StringBuffer(), err)
            if (process.exitValue() != 0) {
                throw new IllegalStateException("edge.py failed:\n${err}")
            }
        }
        return folder.resolve(name).toString()
    }

    /** An empty file of this name, for stub runs, which never look inside. */
    static String empty(String name) { written(name, '') }

    /** A file of this name and content. */
    static String written(String name, String content) {
        def path = Path.of('.nf-test', 'files', name).toAbsolutePath()
        Files.createDirectories(path.parent)
        Files.writeString(path, content)
        return path.toString()
    }

    private static String existing(String name) {
        def path = FOLDER.resolve(name)
        if (!Files.exists(path)) {
            throw new FileNotFoundException("${path} is missing. The pytest suite makes it; it alone: " +
                'python -m pytest tests/python/test_pipeline.py -k contract')
        }
        return path.toString()
    }
}
