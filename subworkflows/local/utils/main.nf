/*
 * What main.nf and the subworkflows share beside their wiring: parameters, paths, messages, and digests of what
 * Nextflow itself does not look at.
 */

// A user's mistake in the form of all others (bin/spikgpt/base/errors.py). It is returned, not thrown: an error
// inside of a function that an operator calls would reach the user as an InvocationTargetException.
def mistake(what, found, expected, fix, where = 'command line or -params-file') {
    return """SpikGPT stopped: ${what}
  where:     ${where}
  found:     ${found}
  expected:  ${expected}
  next step: ${fix}""".toString()
}

// JSON text of a file, whatever the locale's charset
def readJson(path) {
    return new groovy.json.JsonSlurper().parseText(path.getText('UTF-8'))
}

// nextflow_schema.json, which describes every parameter
def parameterSchema() {
    return readJson(file("${projectDir}/nextflow_schema.json", glob: false))
}

// The text of --help
def helpText() {
    def groups = parameterSchema()['$defs'].collect { _name, group ->
        def lines = group.properties.collect { name, spec ->
            def value = spec.containsKey('default') && spec.default != '' ? " [${spec.default}]" : ''
            "  --${name.padRight(24)}${spec.description}${value}"
        }
        "${group.title}\n${lines.join('\n')}"
    }
    return "nextflow run . -profile <docker|singularity|local|...> --input samplesheet.csv --outdir results\n\n${groups.join('\n\n')}"
}

// What a parameter names, separated by commas: annotators (pbmc and tissue, which are bundled, or folders), references
def namesIn(given) {
    return given.tokenize(',').collect { name -> name.strip() }.findAll { name -> name }
}

// The last part of a path; a slash at its end is none
def lastPart(path) {
    return path.tokenize('/').last()
}

// A comma separates references. Where one file of the whole text exists, or a part is no name of a reference, the message;
// else null.
def referenceMistake(given) {
    if (!given.contains(',')) {
        return null
    }
    if (pathMistake('', given, '') == null) {
        return mistake('A comma in --reference separates files, and a file of the whole name exists', given, 'file names without a comma', 'rename the file, or give a link to it that has no comma in its name', '--reference')
    }
    def pattern = parameterSchema()['$defs'].values().collectEntries { group -> group.properties }.reference
    def odd = namesIn(given).find { name -> !(name =~ pattern.pattern) }
    return odd
        ? mistake('--reference names several files, and one of them is no labelled reference', "\"${odd}\"", pattern.errorMessage, 'correct the name; a comma separates files, so no name may hold one', '--reference')
        : null
}

// The files of --reference, each of which must exist
def referenceFiles(given) {
    def message = referenceMistake(given)
    if (message) {
        error(message)
    }
    return namesIn(given).collect { name -> plainlyNamed(existingPath('reference', name)) }
}

// What --list_annotators shows: of each bundled annotator its name, its classes, and what its model card says of its
// training and its limits
def annotatorList() {
    def names = file("${projectDir}/assets/annotators", glob: false).listFiles().collect { folder -> folder.name }.sort()
    def entries = names.collect { name ->
        def folder = file("${projectDir}/assets/annotators/${name}", glob: false)
        // the tissue profiles have a table of theirs; below the classes it has those that may be said together
        def classes = name == 'tissue'
            ? file("${projectDir}/assets/cell_profiles/classes.tsv", glob: false).getText('UTF-8').readLines().tail().findAll { line -> !line.contains('|') }.collect { line -> line.tokenize('\t')[0] }
            : readJson(folder.resolve('config.json')).classes
        def card = folder.resolve('README.md').getText('UTF-8')
        def told = ['Trained on', 'Known limits'].collect { heading ->
            "  ${heading}\n${card.split("\n## ${heading}\n")[1].split('\n## ')[0].strip().readLines().collect { line -> "    ${line}" }.join('\n')}"
        }
        "--annotator ${name}\n  ${classes.size()} classes\n    ${classes.join('; ')}\n${told.join('\n')}"
    }
    return "Bundled annotators. A folder that an earlier run trained (results/annotator) is given by its path.\n\n${entries.join('\n\n')}"
}

// A value as the schema's type. What a command line gives may be text, or a number where text is meant; what
// cannot be of the type stays as it is, for the check to refuse.
def typed(value, type) {
    def text = value.toString().trim()
    if (type == 'string') {
        return value instanceof Number ? text : value
    }
    if (type == 'boolean') {
        return text in ['true', 'false'] ? text == 'true' : value
    }
    if (!text.isBigDecimal()) {
        return value
    }
    if (type == 'number') {
        return text.toDouble()
    }
    def number = text.toBigDecimal()
    if (number != number.toBigInteger()) {
        return value
    }
    return number.abs() <= Integer.MAX_VALUE ? number.intValue() : number.longValue()
}

// What the schema wants of a value, in words, where the value does not fit it; else null
def misfit(value, spec) {
    def kinds = ['string': CharSequence, 'boolean': Boolean, 'number': Number]
    def fits = spec.type == 'integer' ? value instanceof Integer || value instanceof Long : kinds[spec.type].isInstance(value)
    if (!fits) {
        return spec.errorMessage ?: "a value of type ${spec.type}"
    }
    def rules = [
        'enum': [{ limit -> value in limit }, { limit -> "one of ${limit.join(', ')}" }],
        minimum: [{ limit -> value >= limit }, { limit -> "at least ${limit}" }],
        maximum: [{ limit -> value <= limit }, { limit -> "at most ${limit}" }],
        exclusiveMinimum: [{ limit -> value > limit }, { limit -> "more than ${limit}" }],
        minLength: [{ limit -> value.size() >= limit }, { _limit -> 'a value that is not empty' }],
        pattern: [{ limit -> value =~ limit }, { limit -> "text that matches ${limit}" }],
    ]
    def broken = rules.find { rule, parts -> spec.containsKey(rule) && !parts[0](spec[rule]) }
    return broken ? spec.errorMessage ?: broken.value[1](spec[broken.key]) : null
}

// The parameters that were given, by name, each of the schema's type
def typedParameters(given, schema) {
    def specs = schema['$defs'].values().collectEntries { group -> group.properties }
    return given
        .findAll { _name, value -> value != null }
        .sort()
        .collectEntries { name, value -> [name, specs[name] ? typed(value, specs[name].type) : value] }
}

// The first mistake among typed parameters as a message, or null
def parameterMistake(given, schema) {
    def groups = schema['$defs'].values()
    def specs = groups.collectEntries { group -> group.properties }
    def stranger = given.keySet().find { name -> !specs[name] }
    if (stranger) {
        def near = specs.keySet().closest(stranger.replace('-', '_'))
        return mistake("There is no parameter --${stranger}", "--${stranger}", near ? "did you mean '${near[0]}'?" : "known names: ${specs.keySet().sort().join(', ')}", "correct the name; 'nextflow run . --help' lists all parameters")
    }
    def missing = groups.collectMany { group -> group.required ?: [] }.find { name -> given[name] == null }
    if (missing) {
        return mistake("The parameter --${missing} is missing", 'no value', specs[missing].description, "add --${missing}; 'nextflow run . --help' lists all parameters")
    }
    def wrong = given.find { name, value -> misfit(value, specs[name]) }
    if (wrong) {
        def found = wrong.value instanceof CharSequence ? "\"${wrong.value}\"" : wrong.value
        return mistake("Invalid value for --${wrong.key}", found, misfit(wrong.value, specs[wrong.key]), "--${wrong.key}: ${specs[wrong.key].description}")
    }
    if (given.annotator) {
        def names = namesIn(given.annotator)
        if (!names || names.toSet().size() < names.size()) {
            return mistake('--annotator names no annotator, or one twice', "\"${given.annotator}\"", "names of bundled annotators (pbmc, tissue) or folders, each once, separated by commas", "correct it; 'nextflow run . --list_annotators' lists the bundled ones")
        }
    }
    if (given.reference) {
        def names = namesIn(given.reference).collect { name -> lastPart(name) }
        if (!names || names.toSet().size() < names.size()) {
            return mistake('--reference names no file, or two of one name', "\"${given.reference}\"", 'files of different names, separated by commas: cells and batches are named by their file', 'correct it, or rename one of the files')
        }
    }
    if (given.teach && given.reference) {
        return mistake('Both --teach and --reference are given', "--teach ${given.teach} and --reference ${given.reference}", 'one of them: types are taught to an annotator that is there already', 'leave one of them out')
    }
    if (given.teach && given.annotator && namesIn(given.annotator) != [given.annotator.strip()] - 'tissue') {
        return mistake('--teach is given with annotators that cannot be taught', "--annotator ${given.annotator}", 'one trained annotator, pbmc or a folder; tissue is a table of mean profiles', 'give --annotator the one of the run that the table is of, or leave it out')
    }
    if (given.reference && given.annotator) {
        return mistake('Both --reference and --annotator are given', "--reference ${given.reference} and --annotator ${given.annotator}", 'one of them: a reference trains a new annotator, an annotator is used as it is', 'leave one of them out')
    }
    return null
}

// The parameters as checked values of the schema's types; the first mistake ends the run
def checkedParameters(given) {
    def schema = parameterSchema()
    def values = typedParameters(given, schema)
    def message = parameterMistake(values, schema)
    if (message) {
        error(message)
    }
    return values
}

// What is recorded of a parameter's value: of a path its last part. References are joined in the order of their names,
// whatever order they are given in.
def recorded(name, value, format) {
    if (name in ['annotator', 'reference']) {
        def parts = namesIn(value).collect { path -> lastPart(path) }
        // the first annotator gives the labels
        return (name == 'reference' ? parts.sort() : parts).join(',')
    }
    return format?.endsWith('-path') ? lastPart(value) : value
}

// What the run was, as JSON for h5ad files and report: the version and the parameters that bear on results, which
// are those of the schema's groups with "bears_on_results". Of a path only the name is told: another folder gives
// the same bytes. The task that reads this runs again when it changes.
def runRecord(options, version) {
    def specs = parameterSchema()['$defs'].values().findAll { group -> group.bears_on_results }.collectEntries { group -> group.properties }
    def parameters = options
        .subMap(specs.keySet())
        .findAll { _name, value -> value != null }
        .sort()
        .collectEntries { name, value -> [name, recorded(name, value, specs[name].format)] }
    return groovy.json.JsonOutput.toJson([pipeline: 'spikgpt', version: version, parameters: parameters])
}

// Every parameter of the run into pipeline_info/params.json, those that say where it runs too, and the session that
// -resume goes on with
def publishParameters(options, version, session) {
    def path = file("${options.outdir}/pipeline_info/params.json", glob: false)
    path.parent.mkdirs()
    def content = [pipeline: 'spikgpt', version: version, session: session.toString(), parameters: options]
    path.setText(groovy.json.JsonOutput.prettyPrint(groovy.json.JsonOutput.toJson(content)) + '\n', 'UTF-8')
}

// Why a path cannot be read, as a message, or null. A store in a cloud answers with exceptions of its own.
def pathMistake(what, value, where) {
    try {
        def path = file(value, glob: false)
        if (!path.exists()) {
            return mistake(what, "nothing at ${path.toUriString()}", 'an existing file or folder (relative paths start where the run was started, or at the samplesheet)', 'correct the path', where)
        }
        // a folder that cannot be listed to its end is told here
        filesIn(path)
        return null
    }
    catch (Exception cause) {
        def reason = cause.message?.readLines()?.find { line -> line } ?: cause.class.simpleName
        return mistake(what, "${value}: ${reason}", 'a file or folder that this machine can reach', 'check the address, and that the profile and the credentials of its store are in use; a name with other letters than English ones needs a UTF-8 locale', where)
    }
}

// A parameter's file or folder, which must exist
def existingPath(name, value) {
    def message = pathMistake("--${name} names a file or folder that is missing", value, 'command line or -params-file')
    if (message) {
        error(message)
    }
    return file(value, glob: false)
}

// An input that tasks can read by its name: itself, or a copy in the work folder. Nextflow writes paths into shell
// commands without quotes around these signs, and engines of containers take some apart: run[1].h5ad would be read as
// run1.h5ad where that exists. There is one copy for each state of the files, so that -resume finds it again.
def plainlyNamed(path) {
    if (!(path.toString() =~ '[$*?\\[\\]{},~\\p{Cntrl}]|:(?!//)|/[-#][^/]*$')) {
        return path
    }
    def state = [path.toUriString(), filesIn(path) ?: "${path.size()}\t${path.lastModified()}"].join('\n').digest('SHA-256')
    def copies = workflow.workDir.resolve('inputs')
    def copied = copies.resolve(state).resolve(path.name.replaceAll('[^\\p{L}\\p{M}\\p{N}._]', '_'))
    def complete = copies.resolve("${state}.complete")
    if (!complete.exists()) {
        log.info("The name of an input holds signs that tasks cannot read it by, it is copied into the work folder: ${path.toUriString()}")
        copied.parent.deleteDir()
        copied.parent.mkdirs()
        path.copyTo(copied)
        complete.setText(path.toUriString(), 'UTF-8')
    }
    return copied
}

// What --teach goes by: the annotated files beside the table, without the cohort's, and the annotator of the run that left
// them: the folder that it trained, where no other is given, else the bundled one. Or a message, under `mistake`.
def taughtFrom(table, annotator, outdir) {
    def results = table.parent?.parent
    def where = "--teach ${table.toUriString()}"
    def folder = results?.resolve('annotated')
    def files = folder?.isDirectory() ? folder.listFiles().findAll { path -> path.name.endsWith('.h5ad') && path.name != 'cohort.h5ad' }.sort { path -> path.name } : []
    if (!files) {
        return [mistake: mistake('The results that the table of --teach belongs to are not beside it', "no h5ad in ${folder?.toUriString()}", 'the results folder as the run left it: tables/unknown_populations.tsv, annotated/<sample>.h5ad', 'leave the table in the folder tables of the results, and the results whole', where)]
    }
    if (file(outdir, glob: false).toUriString().replaceFirst('/+$', '') == results.toUriString().replaceFirst('/+$', '')) {
        return [mistake: mistake('The results would replace those that are taught from', outdir, 'another folder: the annotator is taught from the cells of the earlier run', 'give another --outdir', "--outdir ${outdir}")]
    }
    def own = results.resolve('annotator')
    return [files: files, annotator: annotator ?: (own.resolve('config.json').exists() ? own.toUriString() : 'pbmc')]
}

// Tasks read what lies in these folders by their names, which cannot be mended by a copy
def checkFolders(folders) {
    def odd = folders.find { _name, path -> path.toString() =~ '[${}]' }
    if (odd) {
        error(mistake('The path of a folder has signs that no task can read it by', odd.value, 'a path without $, { and }', 'rename the folder, or give another one', odd.key))
    }
}

// The tasks of a cloud's profile cannot reach a work folder elsewhere. The message, or null. Nextflow says this in
// sentences of its own, a different one for each cloud, and of Kubernetes only that pods fail.
def workFolderMistake(profile, work_dir, storage_claim, mount_path) {
    def stores = [awsbatch: 's3', googlebatch: 'gs', azurebatch: 'az']
    def names = profile.tokenize(', ')
    def cloud = names.find { name -> stores[name] }
    if (cloud && !work_dir.startsWith("${stores[cloud]}://")) {
        def bucket = "${stores[cloud]}://${cloud == 'azurebatch' ? 'CONTAINER' : 'BUCKET'}/work"
        return mistake("The work folder is not one that the machines of -profile ${cloud} can reach", work_dir, "a folder in a bucket: ${bucket}", "add --work_dir ${bucket}; docs/cloud.md says how to make one", '--work_dir')
    }
    if (cloud && work_dir.tokenize('/').size() < 3) {
        return mistake('The work folder is a whole bucket', work_dir, 'a folder in it', "add --work_dir ${work_dir.replaceFirst('/+$', '')}/work", '--work_dir')
    }
    if ('kubernetes' in names && storage_claim && !"${work_dir}/".startsWith("${mount_path.replaceFirst('/+$', '')}/")) {
        return mistake('The work folder is not on the volume that the pods share', work_dir, "a folder below ${mount_path} (--k8s_mount_path)", "add --work_dir ${mount_path.replaceFirst('/+$', '')}/work, and run Nextflow in a pod that mounts the volume there", '--work_dir')
    }
    return null
}

// A logo that no browser would show, or one that is no picture: the message, or null. It is looked at here, not in
// the report's task, which is the last one of a run.
def logoMistake(path) {
    def expected = 'a PNG, or an SVG without a document type, of at most 1 MB'
    if (path.isDirectory() || path.size() > 1024 * 1024) {
        return mistake('The logo is not a small picture', path.isDirectory() ? 'a folder' : "${path.size()} bytes", expected, 'give a smaller file', "--report_logo ${path.name}")
    }
    def content = path.bytes
    if (content.encodeHex().toString().startsWith('89504e470d0a1a0a')) {
        return null
    }
    def root = null
    try {
        // a document type, which could have entities that grow, is refused by default
        root = new groovy.xml.XmlSlurper().parse(new java.io.ByteArrayInputStream(content)).name()
    }
    catch (Exception _cause) {
        root = null
    }
    return root == 'svg'
        ? null
        : mistake('The logo is neither PNG nor SVG', root ? "XML that begins with <${root}>" : 'something else', expected, 'save it as PNG', "--report_logo ${path.name}")
}

// The samples of earlier runs as one table in the work folder, where -resume finds the same one again: of each folder in
// `history` that has results, its name and the rows of tables/samples.tsv. The results of this run are left out.
def earlierRuns(history, outdir) {
    def own = file(outdir, glob: false).toUriString()
    def tables = history.listFiles()
        .findAll { run -> run.isDirectory() && run.toUriString().replaceFirst('/+$', '') != own.replaceFirst('/+$', '') }
        .collect { run -> [run.name.replaceAll('[\\p{Cntrl}/"]', ' '), run.resolve('tables/samples.tsv')] }
        .findAll { _name, table -> table.exists() }
        .sort { entry -> entry[0] }
    if (!tables) {
        error(mistake('--history has no results of earlier runs', "no folder with tables/samples.tsv in ${history.toUriString()}", 'a folder that holds one folder for each earlier run', 'give the folder in which the results of the runs lie, or leave it out', '--history'))
    }
    def header = tables[0][1].getText('UTF-8').readLines()[0]
    def other = tables.find { _name, table -> table.getText('UTF-8').readLines()[0] != header }
    if (other) {
        error(mistake('The tables of earlier runs are of different versions', "${tables[0][0]} and ${other[0]}", 'the same columns in each tables/samples.tsv', 'leave one of the two out of the folder', '--history'))
    }
    def rows = tables.collectMany { name, table -> table.getText('UTF-8').readLines().tail().collect { row -> "${name}\t${row}" } }
    def text = (["run\t${header}"] + rows).join('\n') + '\n'
    def made = workflow.workDir.resolve('inputs').resolve(text.digest('SHA-256')).resolve('history.tsv')
    if (!made.exists()) {
        made.parent.mkdirs()
        made.setText(text, 'UTF-8')
    }
    return made
}

// Files of two runs side by side would look like one run's. -resume alone would go on with the last run that was
// started in this folder, which now is this one: the message names the session of the run that made the results.
def checkOutdir(outdir, resumed) {
    def earlier = ['annotated', 'annotator', 'multiqc', 'tables'].findAll { name -> file("${outdir}/${name}", glob: false).exists() }
    if (earlier && !resumed) {
        def told = file("${outdir}/pipeline_info/params.json", glob: false)
        def resume = told.exists() ? "-resume ${readJson(told).session}" : '-resume'
        error(mistake('The folder for the results holds results of an earlier run', earlier.join(', '), 'an empty folder, or -resume to go on with the run that made them', "give another --outdir, remove the folder, or add ${resume}", "--outdir ${outdir}"))
    }
}

// No sample has a cell left after quality control: the message, or null. No figures at all are a run that ends for
// another reason, and has said so.
def emptyMistake(stats) {
    return stats && stats.every { path -> readJson(path).cells_out == 0 }
        ? mistake('No sample has a cell left after quality control', 'every cell removed', 'at least one cell in one sample', 'check that the matrices hold called cells, or relax the thresholds (samplesheet columns min_genes, max_mito_percentage, *_nmads)', 'all samples')
        : null
}

// The species that a step or an annotator's config.json tells; null where it tells none, as a stub's files do. What is
// wrong with a damaged config.json is told by CHECK_ANNOTATOR.
def speciesOf(path) {
    try {
        def told = path.exists() ? readJson(path) : null
        return told instanceof Map ? told.species : null
    }
    catch (groovy.json.JsonException | IllegalArgumentException _damaged) {
        return null
    }
}

// Samples that are of another species than what their labels come from, a reference or an annotator: the message, or
// null. Pairs of meta and species.
def speciesMistake(pairs) {
    def told = pairs.findAll { _meta, species -> species }
    def source = told.find { meta, _species -> meta.reference || meta.annotator }
    def others = source ? told.findAll { _meta, species -> species != source[1] } : []
    if (!others) {
        return null
    }
    def given = source[0].annotator ? 'annotator' : 'reference'
    return mistake("The ${given} is of ${source[1]} cells, and samples are of another species", others.collect { meta, species -> "${meta.id}: ${species}" }.join(', '), "samples of ${source[1]} cells alone", given == 'annotator' ? "give labelled ${others[0][1]} cells as --reference, or the folder of an annotator that was trained on such as --annotator; the bundled annotator is of human blood" : 'give samples and a reference of one species', 'genes of the samples')
}

// A task was killed, most often for memory, or by a scheduler that left no exit status (Nextflow has
// Integer.MAX_VALUE for it); conf/base.config has tried it again with more. The message, or null.
def killedMessage(exit_status) {
    return exit_status in [137, Integer.MAX_VALUE]
        ? mistake('A task needed more memory than it was given', 'it was killed, also when tried again with more', 'the memory that conf/base.config asks for is enough', "give the step more, in a file for -c: process { withName: 'NAME_OF_THE_STEP' { memory = 64.GB } }; then -resume", 'the task that is named above')
        : null
}

// With -resume too: a sample that left the samplesheet must not stay among the results. The message, or null.
def strangersMistake(outdir, samples) {
    def folder = file("${outdir}/annotated", glob: false)
    def names = readJson(samples).collect { row -> "${row.sample}.h5ad".toString() } + 'cohort.h5ad'
    def strangers = (folder.exists() ? folder.listFiles() : []).collect { path -> path.name }.findAll { name -> name.endsWith('.h5ad') && !(name in names) }
    return strangers
        ? mistake('The folder for the results holds samples that are not in the samplesheet', strangers.sort().collect { name -> name.take(name.size() - 5) }.join(', '), 'results of this samplesheet alone', 'give another --outdir, or remove these files', "${outdir}/annotated")
        : null
}

// Whether --contrast names a column of the samplesheet and two of its values. The message, or null.
def contrastMistake(contrast, samples) {
    if (!contrast) {
        return null
    }
    def (column, treated, control) = contrast.tokenize(',').collect { part -> part.trim() }
    def rows = readJson(samples).collect { row -> row + (row.extra ?: [:]) }
    // the pseudobulk has columns of its own by these names
    def columns = (['batch', 'condition', 'donor'] + (rows[0].extra ?: [:]).keySet() - ['id', 'cell_type', 'cells']).findAll { name -> rows.any { row -> row[name] } }
    if (!(column in columns)) {
        return mistake('The contrast is of a column that the samplesheet does not have', column, columns ? "one of ${columns.sort().join(', ')}" : "a samplesheet with a column 'condition'", 'write it as column,treated,control', '--contrast')
    }
    def values = rows.collect { row -> row[column] }.findAll { value -> value }.unique().sort()
    def stranger = [treated, control].find { value -> !(value in values) }
    if (stranger || treated == control) {
        return mistake("The contrast needs two different values of the samplesheet's column '${column}'", contrast, "two of ${values.take(20).join(', ')}", 'write it as column,treated,control', '--contrast')
    }
    return null
}

// A digest of the code of the package that a script of bin/ can import, and of the files in folders. Nextflow hashes
// the script, not what it imports: with this among its inputs, a task runs again when that code has changed, and
// for no other. closure.tsv lists the files; tools/code_closure.py makes it.
def digestOf(script, folders = []) {
    def rows = file("${projectDir}/bin/spikgpt/closure.tsv", glob: false).getText('UTF-8').readLines()
    def names = rows.find { row -> row.startsWith("${script}\t") }.tokenize('\t')[1].tokenize(' ')
    def code = names.collect { name -> name + file("${projectDir}/bin/${name}", glob: false).bytes.digest('SHA-256') }
    return (code + folders.collect { folder -> filesIn(folder) }).join('\n').digest('SHA-256')
}

// The files in a folder: name, size and time of change of each, as Nextflow takes it of a file. Of a folder Nextflow
// takes its own path and time alone, and misses a file that is overwritten in it. Nothing is read but the listing,
// also of a store in a cloud. A file gives an empty text: Nextflow sees its change.
def filesIn(path) {
    if (!path.isDirectory()) {
        return ''
    }
    return java.nio.file.Files.walk(path, java.nio.file.FileVisitOption.FOLLOW_LINKS)
        .filter { entry -> java.nio.file.Files.isRegularFile(entry) }
        .map { entry -> "${path.relativize(entry)}\t${entry.size()}\t${entry.lastModified()}".toString() }
        .sorted()
        .toList()
        .join('\n')
        .digest('SHA-256')
}
