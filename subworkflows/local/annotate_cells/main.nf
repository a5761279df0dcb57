include { TRAIN_ANNOTATOR } from '../../../modules/local/train_annotator'
include { ANNOTATE        } from '../../../modules/local/annotate'
include { SECOND_OPINION  } from '../../../modules/local/second_opinion'
include { CHOOSE_LABELS   } from '../../../modules/local/choose_labels'
include { TYPE_REMOVED    } from '../../../modules/local/type_removed'
include { digestOf        } from '../utils'

// Labels for every sample, from annotators that were given, one that is trained here, or the tissue profiles, and what
// these profiles say beside the labels: of the samples' cells, and of the reference's labels
workflow ANNOTATE_CELLS {
    take:
    ch_reference    // [meta, h5ad, [npy]], or empty
    ch_annotators   // folders of trained annotators in order, or empty
    ch_samples      // [meta, h5ad, [npy]]
    ch_removed      // [meta, h5ad] with the cells that quality control removed
    scgpt_model     // path: the checkpoint that made the embedding
    rule            // text: where labels come from. only: the one annotator; first: the first of several; tissue: the
                    // profiles; unless_blood: these, or the first annotator where a sample looks like blood
    unknown_rate    // number: share of cells of known types that may be Unknown
    features        // text: both, embedding or expression, for an annotator that is trained here
    seed            // integer

    main:
    TRAIN_ANNOTATOR(ch_reference, scgpt_model, unknown_rate, features, seed, digestOf('train_annotator.py'))
    ch_folders = TRAIN_ANNOTATOR.out.annotator.map { _meta, folder -> folder }.mix(ch_annotators).toList()
    // the annotator that gives labels; an empty list where the profiles alone do
    ch_used = ch_folders.map { folders -> folders && rule != 'tissue' ? folders.first() : [] }

    // every sample by every annotator; their places tell the results apart
    ch_tasks = ch_samples
        .combine(ch_folders.flatMap { folders -> folders.withIndex() }.map { folder, place -> [place, folder] })
        .multiMap { meta, h5ad, embedding, place, folder ->
            sample: [meta + [annotator_place: place], h5ad, embedding]
            annotator: folder
        }
    ANNOTATE(ch_tasks.sample, ch_tasks.annotator, scgpt_model, unknown_rate, digestOf('annotate.py'))
    ch_by = ANNOTATE.out.annotation
        .join(ANNOTATE.out.stats)
        .map { meta, annotation, stats -> [meta.findAll { name, _value -> name != 'annotator_place' }, meta.annotator_place, annotation, stats] }

    profiles = file("${projectDir}/assets/cell_profiles", glob: false)
    SECOND_OPINION(
        ch_samples.mix(ch_reference).map { meta, h5ad, _embedding -> [meta, h5ad] },
        profiles,
        digestOf('second_opinion.py', [profiles]),
    )

    // with one annotator there is nothing to choose; a sample that no annotator judges, since there is none, is labelled
    // by the profiles
    ch_judged = ch_samples
        .filter { rule != 'only' }
        .map { meta, _h5ad, _embedding -> [meta, meta.id] }
        .join(ch_by.filter { rule != 'only' }.map { meta, place, annotation, stats -> [meta, [place, annotation, stats]] }.groupTuple(), remainder: true)
        .map { meta, _id, results ->
            def ordered = (results ?: []).sort { result -> result[0] }
            [meta, ordered.collect { result -> result[1] }, ordered.collect { result -> result[2] }]
        }
    CHOOSE_LABELS(
        ch_judged.join(SECOND_OPINION.out.opinions).join(SECOND_OPINION.out.stats),
        ch_folders.map { folders -> folders.collect { folder -> folder.name } },
        rule,
        profiles,
        scgpt_model,
        digestOf('choose_labels.py', [profiles, scgpt_model]),
    )
    ch_labels = rule == 'only'
        ? ch_by.map { meta, _place, annotation, stats -> [meta, annotation, stats] }
        : CHOOSE_LABELS.out.annotation.join(CHOOSE_LABELS.out.stats)

    // what was removed gets its nearest type too, so that a type that is lost is seen
    TYPE_REMOVED(
        ch_removed
            .toSortedList { a, b -> a[0].id <=> b[0].id }
            .filter { entries -> entries }
            .map { entries -> [[id: 'cohort'], entries.collect { entry -> entry[1] }] },
        ch_used,
        profiles,
        ch_labels.map { _meta, _annotation, stats -> stats }.toSortedList { a, b -> a.name <=> b.name },
        digestOf('type_removed.py', [profiles]),
    )

    annotated = ch_samples.join(ch_labels).join(SECOND_OPINION.out.opinions)
    annotator = ch_used
    removed_types = TYPE_REMOVED.out.types.map { _meta, types -> types }
    benchmark = TRAIN_ANNOTATOR.out.benchmark
    stats = ch_labels.map { meta, _annotation, stats -> [meta, stats] }.mix(SECOND_OPINION.out.stats)

    emit:
    annotated  // [meta, h5ad, [npy], annotation parquet, its json, second opinion parquet]
    annotator  // folder of the one that gives labels; an empty list where the profiles alone do
    removed_types  // parquet
    benchmark  // [meta, tsv], when one was trained
    stats      // [meta, json]
}
