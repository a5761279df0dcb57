include { EMBED_SCGPT         } from '../../../modules/local/embed_scgpt'
include { digestOf ; readJson } from '../utils'

// Embedding of each h5ad, spread over tasks of at most chunk_cells cells
workflow EMBED_CELLS {
    take:
    ch_normalised   // [meta, h5ad, stats with the number of cells]
    scgpt_model     // path: the checkpoint
    backend         // text: spikgpt or package
    precision       // text: auto, fp32 or bf16
    max_genes       // integer: tokens per cell
    chunk_cells     // integer: cells per task
    seed            // integer

    main:
    ch_chunks = ch_normalised.flatMap { meta, h5ad, stats ->
        def cells = readJson(stats).cells
        def chunks = cells.intdiv(chunk_cells) + (cells % chunk_cells ? 1 : 0)
        (0..<chunks).collect { chunk ->
            def start = chunk * chunk_cells
            // with the number of chunks in the key, a sample goes on when its own are done
            [groupKey(meta, chunks), h5ad, start, Math.min(start + chunk_cells, cells)]
        }
    }
    EMBED_SCGPT(ch_chunks, scgpt_model, max_genes, seed, backend, precision, digestOf('embed_scgpt.py'))

    ch_gathered = EMBED_SCGPT.out.embedding
        .groupTuple()
        .map { key, embeddings, _stats -> [key.target, embeddings.sort { part -> part.name }] }

    embedded = ch_normalised.map { meta, h5ad, _stats -> [meta, h5ad] }.join(ch_gathered)
    stats = EMBED_SCGPT.out.embedding.map { key, _embedding, stats -> [key.target, stats] }

    emit:
    embedded  // [meta, h5ad, [npy]]
    stats
}
