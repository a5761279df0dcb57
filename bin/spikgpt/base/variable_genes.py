"""Highly variable genes of a cohort, from sums over its cells: the matrix is seen once, in blocks."""

import numpy as np
import pandas as pd
from scipy import sparse

HIGHLY_VARIABLE = 2000
"""Genes that are marked."""
BINS = 20
FEWEST_CELLS = 3
"""A batch of fewer cells has no say."""


class Moments:
    """Sum and sum of squares of each gene's values over the cells, by batch.

    Parameters
    ----------
    batches
        Names of the batches, each once.
    """

    def __init__(self, batches: list[str], genes: int) -> None:
        self.batches = batches
        self.cells = np.zeros(len(batches), dtype=np.int64)
        self.total = np.zeros((len(batches), genes))
        self.squares = np.zeros((len(batches), genes))

    def add(self, block: sparse.csr_matrix, batch: str) -> None:
        """Add cells of one batch; CSR (cells x genes), not logged."""
        at, genes = self.batches.index(batch), self.total.shape[1]
        values = block.data.astype(np.float64)
        self.cells[at] += block.shape[0]
        self.total[at] += np.bincount(block.indices, weights=values, minlength=genes)
        self.squares[at] += np.bincount(block.indices, weights=values**2, minlength=genes)


def highly_variable(
    moments: Moments, symbols: list[str], most: int = HIGHLY_VARIABLE, candidates: np.ndarray | None = None
) -> pd.DataFrame:
    """The genes that vary most within batches, so that a difference between batches makes none variable.

    As `scanpy.pp.highly_variable_genes(flavor="seurat", n_top_genes=most, batch_key=...)` (Satija et al. 2015),
    whose own function holds the matrix in memory: in each batch the dispersion of CP10k, standardised among genes
    of like mean; genes by the number of batches in which they are among the first `most`, then by mean
    standardised dispersion. Ties go by name.

    Parameters
    ----------
    moments
        Of CP10k.
    candidates
        bool (genes,): those that may be marked, and that the ranks are of; all when None.

    Returns
    -------
    One row per gene: highly_variable (bool), highly_variable_nbatches (int64), means and dispersions_norm
    (float64, means over batches; NaN where no batch has cells enough).
    """
    among = np.ones(len(symbols), dtype=bool) if candidates is None else candidates
    frames = []
    for cells, total, squares in zip(moments.cells, moments.total, moments.squares, strict=True):
        if cells >= FEWEST_CELLS and (total > 0).any():
            table = dispersions(int(cells), np.where(among, total, 0), squares)
            ranked = np.sort(table["dispersions_norm"].dropna().to_numpy())[::-1]
            table["among"] = (table["dispersions_norm"] >= (ranked[:most][-1] if ranked.size else np.inf)).astype(int)
            # a gene that the batch lacks does not vary in it
            frames.append(table.reindex(range(len(symbols)), fill_value=0))
    if not frames:
        empty = {"highly_variable": False, "highly_variable_nbatches": 0, "means": np.nan, "dispersions_norm": np.nan}
        return pd.DataFrame(empty, index=range(len(symbols)))
    by_gene = pd.concat(frames).groupby(level=0)
    found = by_gene[["means", "dispersions_norm"]].mean()
    found["highly_variable_nbatches"] = by_gene["among"].sum().astype(np.int64)
    # sums over blocks end in other digits than sums over cells
    found = found.round(6)
    norm = np.where(among, found["dispersions_norm"].fillna(-np.inf), -np.inf)
    order = np.lexsort((np.asarray(symbols, dtype=str), -norm, -found["highly_variable_nbatches"].to_numpy()))
    found["highly_variable"] = False
    chosen = [gene for gene in order[:most] if np.isfinite(norm[gene])]
    found.loc[chosen, "highly_variable"] = True
    return found[["highly_variable", "highly_variable_nbatches", "means", "dispersions_norm"]]


def dispersions(cells: int, total: np.ndarray, squares: np.ndarray) -> pd.DataFrame:
    """Mean and standardised dispersion of genes, as scanpy's flavour "seurat" has them.

    Parameters
    ----------
    cells
        At least 2.
    total, squares
        Sums over the cells of values that are not logged, and of their squares; shape (genes,).

    Returns
    -------
    means (log1p) and dispersions_norm of the genes whose total is not 0, the index their positions.
    """
    genes = np.flatnonzero(total > 0)
    mean = total[genes] / cells
    variance = np.maximum(squares[genes] / cells - mean**2, 0) * (cells / (cells - 1))
    with np.errstate(divide="ignore"):
        dispersion = np.where(variance > 0, np.log(variance / mean), np.nan)
    table = pd.DataFrame({"means": np.log1p(mean), "dispersions": dispersion}, index=genes)
    bins = pd.cut(table["means"], bins=BINS)
    grouped = table.groupby(bins, observed=True)["dispersions"]
    average, deviation = grouped.transform("mean"), grouped.transform("std")
    # a gene alone in its bin has the standardised dispersion 1
    alone = deviation.isna()
    deviation[alone] = average[alone]
    average[alone] = 0.0
    table["dispersions_norm"] = (table["dispersions"] - average) / deviation
    return table[["means", "dispersions_norm"]]
