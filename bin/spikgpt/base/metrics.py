"""Quality metrics of cells: of samples before they are filtered, and of a reference as its authors left it."""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy import sparse

from spikgpt.base.columns import QC_METRICS
from spikgpt.base.genes import haemoglobin_genes, immunoglobulin_genes, mitochondrial_genes, ribosomal_genes

TOP = 20
"""Genes whose share of a cell's counts tells how many of them a few genes have."""


def cell_metrics(
    blocks: Iterable[tuple[int, sparse.csr_matrix]], barcodes: np.ndarray, symbols: list[str]
) -> pd.DataFrame:
    """Quality metrics per cell, as `scanpy.pp.calculate_qc_metrics` has them, which takes a second to import.

    Immunoglobulin, haemoglobin, ribosomal and mitochondrial genes are left out of the top 20 genes and of the counts
    that their share is taken of: a plasma cell has most of its counts in two or three antibody genes, a red cell in
    haemoglobin, and neither is damaged for that.

    Parameters
    ----------
    blocks
        Raw counts, CSR (cells x genes), a block of cells at a time (`spikgpt.base.h5ad`).
    barcodes, symbols
        Of all cells, and of the genes with unified names.

    Returns
    -------
    DataFrame
        barcode, n_genes_by_counts (int64), total_counts (int64), as float32 percentages of a cell's counts
        pct_counts_mt, pct_counts_ribo, pct_counts_hb, pct_counts_in_top_20_genes, and counts_for_top_20 (int64), the
        counts that the last is a percentage of. Row order of the cells; a cell without counts has 0 throughout.
    """
    families = {
        "mt": mitochondrial_genes(symbols),
        "ribo": ribosomal_genes(symbols),
        "hb": haemoglobin_genes(symbols),
    }
    rest = ~(np.logical_or.reduce(list(families.values())) | immunoglobulin_genes(symbols))
    whole = ["n_genes_by_counts", "total_counts", "counts_for_top_20"]
    kinds = {name: np.int64 if name in whole else np.float32 for name in QC_METRICS}
    # a sample without cells has no block
    tables = [pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in kinds.items()})]
    for _, block in blocks:
        # float64: totals of float32 lose whole counts above 2^24
        counts = block.astype(np.float64)
        counts.eliminate_zeros()
        of_rest = counts[:, rest]
        # sums of whole numbers, exact in float64
        total, total_of_rest = counts @ np.ones(len(symbols)), of_rest @ np.ones(int(rest.sum()))
        with np.errstate(invalid="ignore"):  # a cell without counts
            shares = {
                f"pct_counts_{name}": counts @ of.astype(np.float64) / total * 100 for name, of in families.items()
            }
            shares["pct_counts_in_top_20_genes"] = largest(of_rest, TOP) / total_of_rest * 100
        metrics = {
            "n_genes_by_counts": counts.getnnz(axis=1),
            "total_counts": total,
            "counts_for_top_20": total_of_rest,
        }
        tables.append(pd.DataFrame(metrics | shares)[list(QC_METRICS)].fillna(0.0).astype(kinds))
    table = pd.concat(tables[1:] or tables, ignore_index=True)
    table.insert(0, "barcode", np.asarray(barcodes, dtype=object))
    return table


def largest(counts: sparse.csr_matrix, number: int) -> np.ndarray:
    """The sum of each row's largest values (float64), of so many at most."""
    sums = np.zeros(counts.shape[0])
    for row, (start, stop) in enumerate(pairwise(counts.indptr)):
        values = counts.data[start:stop]
        sums[row] = values.sum() if len(values) <= number else np.partition(values, -number)[-number:].sum()
    return sums
