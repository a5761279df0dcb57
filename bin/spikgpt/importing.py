"""The import of a sample: read, check the genes against the model, tell what was found."""

from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np

from spikgpt.errors import UserError
from spikgpt.genes import check_match, vocabulary
from spikgpt.layout import count_data
from spikgpt.matrices import Matrix, read_matrix


def read_for_model(
    path: str | Path,
    scgpt_model: str | Path,
    min_gene_match: float,
    symbol_col: str | None = None,
    geneid_col: str | None = None,
    counts_layer: str | None = None,
) -> tuple[Matrix, dict[str, Any]]:
    """Read a matrix and check that its genes are those of the model.

    Returns
    -------
    matrix, stats
        `stats` has the keys of the import's JSON that both samples and references share.
    """
    vocab = vocabulary(scgpt_model)
    matrix = read_matrix(path, vocab, symbol_col, geneid_col, counts_layer)
    gene_totals = np.asarray(matrix.counts.sum(axis=0, dtype=np.int64)).ravel()
    match = check_match(matrix.symbols, matrix.gene_ids, gene_totals, vocab, min_gene_match, str(path))
    return matrix, {
        "format": matrix.format,
        "barcodes": matrix.counts.shape[0],
        "genes": matrix.counts.shape[1],
        "counts_from": matrix.counts_from,
        "symbols_from": matrix.symbols_from,
        "feature_types_left_out": matrix.feature_types_left_out,
        "gene_match_genes": round(match.genes, 6),
        "gene_match_counts": round(match.counts, 6),
        "gene_match_vocabulary": round(match.vocabulary, 6),
    }


def import_counts(
    sample: str,
    path: str | Path,
    scgpt_model: str | Path,
    min_gene_match: float,
    filtered: bool,
    symbol_col: str | None = None,
    geneid_col: str | None = None,
    counts_layer: str | None = None,
) -> tuple[ad.AnnData, dict[str, Any]]:
    """One sample's raw counts and the statistics of its import.

    Barcodes without a single count are dropped from an unfiltered matrix (Cell Ranger lists millions of
    them); `stats["barcodes"]` counts them, `stats["barcodes_without_counts"]` says how many they were.

    Returns
    -------
    adata
        X int32 CSR (cells x genes); obs index barcode; var index symbol, column gene_id.
    stats
        Content of `{sample}.import.json`.
    """
    if not 0 <= min_gene_match <= 1:
        raise UserError("min_gene_match is out of range.", found=str(min_gene_match), expected="0 to 1")
    matrix, shared = read_for_model(path, scgpt_model, min_gene_match, symbol_col, geneid_col, counts_layer)
    counted = np.diff(matrix.counts.indptr) > 0
    empty = int((~counted).sum())
    counts, barcodes = matrix.counts, matrix.barcodes
    if not filtered and empty:
        counts, barcodes = counts[counted], barcodes[counted]
    stats = {
        "sample": sample,
        "filtered": filtered,
        **shared,
        "barcodes_without_counts": empty,
        "messages": matrix.messages,
    }
    return count_data(counts, barcodes, matrix.symbols, matrix.gene_ids), stats
