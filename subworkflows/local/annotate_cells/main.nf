include { TRAIN_ANNOTATOR } from '../../../modules/local/train_annotator'
include { ANNOTATE        } from '../../../modules/local/annotate'
include { SECOND_OPINION  } from '../../../modules/local/second_opinion'
include { TYPE_REMOVED    } from '../../../modules/local/type_removed'
include { digestOf        } from '../utils'

// Labels for every sample, from an annotator that was given or is trained here, and what the tissue profiles say beside
// them: of the samples' cells, and of the reference's labels
workflow ANNOTATE_CELLS {
    take:
    ch_reference    // [meta, h5ad, [npy]], or empty
    ch_annotator    // folder of a trained annotator, or empty
    ch_samples      // [meta, h5ad, [npy]]
    ch_removed      // [meta, h5ad] with the cells that quality control removed
    scgpt_model     // path: the checkpoint that made the embedding
    unknown_rate    // number: share of cells of known types that may be Unknown
    features        // text: both, embedding or expression, for an annotator that is trained here
    seed            // integer

    main:
    TRAIN_ANNOTATOR(ch_reference, scgpt_model, unknown_rate, features, seed, digestOf('train_annotator.py'))
    ch_used = TRAIN_ANNOTATOR.out.annotator.map { _meta, folder -> folder }.mix(ch_annotator).first()
    ANNOTATE(ch_samples, ch_used, scgpt_model, unknown_rate, digestOf('annotate.py'))

    profiles = file("${projectDir}/assets/cell_profiles", glob: false)
    SECOND_OPINION(
        ch_samples.mix(ch_reference).map { meta, h5ad, _embedding -> [meta, h5ad] },
        profiles,
        digestOf('second_opinion.py', [profiles]),
    )

    // what was removed gets its nearest type too, so that a type that is lost is seen
    TYPE_REMOVED(
        ch_removed
            .toSortedList { a, b -> a[0].id <=> b[0].id }
            .filter { entries -> entries }
            .map { entries -> [[id: 'cohort'], entries.collect { entry -> entry[1] }] },
        ch_used,
        digestOf('type_removed.py'),
    )

    annotated = ch_samples.join(ANNOTATE.out.annotation).join(ANNOTATE.out.stats).join(SECOND_OPINION.out.opinions)
    annotator = ch_used
    removed_types = TYPE_REMOVED.out.types.map { _meta, types -> types }
    benchmark = TRAIN_ANNOTATOR.out.benchmark
    stats = ANNOTATE.out.stats.mix(SECOND_OPINION.out.stats)

    emit:
    annotated  // [meta, h5ad, [npy], annotation parquet, its json, second opinion parquet]
    annotator  // folder
    removed_types  // parquet
    benchmark  // [meta, tsv], when one was trained
    stats      // [meta, json]
}
