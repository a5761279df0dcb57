include { CALL_CELLS      } from '../../../modules/local/call_cells'
include { REMOVE_AMBIENT  } from '../../../modules/local/remove_ambient'
include { QC_METRICS      } from '../../../modules/local/qc_metrics'
include { DETECT_DOUBLETS } from '../../../modules/local/detect_doublets'
include { FILTER_CELLS    } from '../../../modules/local/filter_cells'
include { NORMALISE       } from '../../../modules/local/normalise'
include { digestOf        } from '../utils'

// From counts to the normalised cells that are worth annotating
workflow QUALITY_CONTROL {
    take:
    ch_counts       // [meta, counts h5ad]
    ambient         // text: none or decontx
    skip_doublets   // boolean
    seed            // integer

    main:
    ch_by_calling = ch_counts.branch { meta, _h5ad ->
        called: meta.filtered
        uncalled: true
    }
    CALL_CELLS(ch_by_calling.uncalled, seed, digestOf('call_cells.py'))
    ch_by_ambient = ch_by_calling.called.mix(CALL_CELLS.out.h5ad).branch { _meta, _h5ad ->
        decontx: ambient == 'decontx'
        none: true
    }
    REMOVE_AMBIENT(ch_by_ambient.decontx, seed, digestOf('remove_ambient.py'))
    ch_cells = ch_by_ambient.none.mix(REMOVE_AMBIENT.out.h5ad)

    QC_METRICS(ch_cells, seed, digestOf('qc_metrics.py'))
    DETECT_DOUBLETS(ch_cells, skip_doublets, seed, digestOf('detect_doublets.py'))
    FILTER_CELLS(ch_cells.join(QC_METRICS.out.qc).join(DETECT_DOUBLETS.out.doublets), digestOf('filter_cells.py'))
    NORMALISE(FILTER_CELLS.out.h5ad, digestOf('normalise.py'))

    normalised = NORMALISE.out.h5ad
    qc = QC_METRICS.out.qc
    removed = FILTER_CELLS.out.removed
    removed_cells = FILTER_CELLS.out.removed_cells
    stats = CALL_CELLS.out.stats.mix(REMOVE_AMBIENT.out.stats, DETECT_DOUBLETS.out.stats, FILTER_CELLS.out.stats)

    emit:
    normalised  // [meta, h5ad, stats]; a sample without cells is missing
    qc          // [meta, parquet]
    removed     // [meta, tsv.gz]
    removed_cells  // [meta, h5ad]; of no cell where all stay
    stats
}
