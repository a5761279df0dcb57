include { EMBED_SCGPT } from '../../../modules/local/embed_scgpt'

// Embedding of each h5ad, spread over tasks of at most options.chunk_cells cells
workflow EMBED_CELLS {
    take:
    ch_normalised   // [meta, h5ad, stats with the number of cells]
    options         // map: scgpt_model, scgpt_backend, scgpt_precision, max_genes, chunk_cells, seed

    main:
    ch_chunks = ch_normalised.flatMap { meta, h5ad, stats ->
        def cells = new groovy.json.JsonSlurper().parseText(stats.text).cells
        def chunks = cells.intdiv(options.chunk_cells) + (cells % options.chunk_cells ? 1 : 0)
        (0..<chunks).collect { chunk ->
            def start = chunk * options.chunk_cells
            // with the number of chunks in the key, a sample goes on when its own are done
            [groupKey(meta, chunks), h5ad, start, Math.min(start + options.chunk_cells, cells)]
        }
    }
    EMBED_SCGPT(ch_chunks, options.scgpt_model, options.max_genes, options.seed, options.scgpt_backend, options.scgpt_precision)

    ch_gathered = EMBED_SCGPT.out.embedding
        .groupTuple()
        .map { key, embeddings, _stats -> [key.target, embeddings.sort { part -> part.name }] }

    embedded = ch_normalised.map { meta, h5ad, _stats -> [meta, h5ad] }.join(ch_gathered)
    stats = EMBED_SCGPT.out.embedding.map { key, _embedding, stats -> [key.target, stats] }

    emit:
    embedded  // [meta, h5ad, [npy]]
    stats
}
