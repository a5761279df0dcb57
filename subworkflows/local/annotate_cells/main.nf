include { TRAIN_ANNOTATOR } from '../../../modules/local/train_annotator'
include { ANNOTATE        } from '../../../modules/local/annotate'

// Labels for every sample, from an annotator that was given or is trained here
workflow ANNOTATE_CELLS {
    take:
    ch_reference    // [meta, h5ad, [npy]], or empty
    ch_annotator    // folder of a trained annotator, or empty
    ch_samples      // [meta, h5ad, [npy]]
    options         // map: scgpt_model, unknown_rate, features, seed

    main:
    TRAIN_ANNOTATOR(ch_reference, options.scgpt_model, options.unknown_rate, options.features, options.seed)
    ch_used = TRAIN_ANNOTATOR.out.annotator.map { _meta, folder -> folder }.mix(ch_annotator).first()
    ANNOTATE(ch_samples, ch_used, options.scgpt_model, options.unknown_rate)

    annotated = ch_samples.join(ANNOTATE.out.annotation).join(ANNOTATE.out.stats)
    annotator = ch_used
    benchmark = TRAIN_ANNOTATOR.out.benchmark
    stats = ANNOTATE.out.stats

    emit:
    annotated  // [meta, h5ad, [npy], parquet, json]
    annotator  // folder
    benchmark  // [meta, tsv], when one was trained
    stats      // [meta, json]
}
