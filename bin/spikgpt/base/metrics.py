"""Quality metrics of cells: of samples before they are filtered, and of a reference as its authors left it."""

from collections.abc import Iterable

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from spikgpt.base.columns import QC_METRICS
from spikgpt.base.genes import haemoglobin_genes, immunoglobulin_genes, mitochondrial_genes, ribosomal_genes


def cell_metrics(
    blocks: Iterable[tuple[int, sparse.csr_matrix]], barcodes: np.ndarray, symbols: list[str]
) -> pd.DataFrame:
    """Quality metrics per cell, by scanpy.

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
    import scanpy as sc

    families = {
        "mt": mitochondrial_genes(symbols),
        "ribo": ribosomal_genes(symbols),
        "hb": haemoglobin_genes(symbols),
    }
    rest = ~(np.logical_or.reduce(list(families.values())) | immunoglobulin_genes(symbols))
    var = pd.DataFrame(families, index=pd.Index(symbols, dtype=object))
    # scanpy counts the top genes of matrices with at least so many genes only
    top = min(20, int(rest.sum()))
    whole = ["n_genes_by_counts", "total_counts", "counts_for_top_20"]
    kinds = {name: np.int64 if name in whole else np.float32 for name in QC_METRICS}
    # a sample without cells has no block
    tables = [pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in kinds.items()})]
    for _, block in blocks:
        # float64: totals of float32 lose whole counts above 2^24
        measured = ad.AnnData(X=block.astype(np.float64), var=var)
        metrics, _ = sc.pp.calculate_qc_metrics(measured, qc_vars=list(families), percent_top=None, log1p=False)
        metrics["counts_for_top_20"], metrics["pct_counts_in_top_20_genes"] = 0, 0.0
        if top:
            others, _ = sc.pp.calculate_qc_metrics(measured[:, rest].copy(), percent_top=[top], log1p=False)
            metrics["counts_for_top_20"] = others["total_counts"]
            metrics["pct_counts_in_top_20_genes"] = others[f"pct_counts_in_top_{top}_genes"]
        tables.append(metrics[list(QC_METRICS)].fillna(0.0).astype(kinds))
    table = pd.concat(tables[1:] or tables, ignore_index=True)
    table.insert(0, "barcode", np.asarray(barcodes, dtype=object))
    return table
