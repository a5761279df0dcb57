"""log1p CP10k, and the layout that every later step reads."""

from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from spikgpt.base.h5ad import Stored, constant, genes_of, new_h5ad, write_csr, write_frame

TARGET = 1e4
BLOCK = 4096


def log1p_cp10k(counts: sparse.csr_matrix, totals: np.ndarray | None = None) -> sparse.csr_matrix:
    """ln(1 + counts / total of the cell * 10,000); float32 CSR, cells x genes.

    Computed in float64 cell by cell, so that a cell's values do not depend on the other cells. A cell
    without counts stays 0.

    Parameters
    ----------
    totals
        float64 (cells,): each cell's counts on more genes than those of ``counts``; None: on these.
    """
    counts = sparse.csr_matrix(counts)
    if totals is None:
        totals = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    factors = np.divide(TARGET, totals, out=np.zeros_like(totals), where=totals > 0)
    values = np.empty(counts.data.size, dtype=np.float32)
    # in blocks of cells, so that the float64 copies stay small
    for start in range(0, counts.shape[0], BLOCK):
        pointers = counts.indptr[start : start + BLOCK + 1]
        part = slice(pointers[0], pointers[-1])
        per_value = np.repeat(factors[start : start + BLOCK], np.diff(pointers))
        values[part] = np.log1p(counts.data[part] * per_value)
    return sparse.csr_matrix((values, counts.indices.copy(), counts.indptr.copy()), shape=counts.shape)


def sheet_obs(obs: pd.DataFrame, sample: str, batch: str = "", donor: str = "", condition: str = "") -> pd.DataFrame:
    """`obs` with sample, batch (the sample's name when empty), donor, condition (str categorical) first."""
    made = obs.copy()
    values = {"sample": sample, "batch": batch or sample, "donor": donor, "condition": condition}
    for place, (name, value) in enumerate(values.items()):
        made.insert(place, name, constant(value, len(made)))
    return made


def normalise(adata: ad.AnnData, sample: str) -> ad.AnnData:
    """`normalise_cells` in memory, for a reference.

    Parameters
    ----------
    adata
        Raw counts in X; its obs columns are kept.
    """
    counts = sparse.csr_matrix(adata.X, dtype=np.int32)
    obs = sheet_obs(adata.obs, sample)
    return ad.AnnData(X=log1p_cp10k(counts), obs=obs, var=genes_of(adata.var), layers={"counts": counts})


def normalise_cells(
    cells: Stored, out: str | Path, sample: str, batch: str = "", donor: str = "", condition: str = ""
) -> None:
    """Write the layout of norm.h5ad, a block of cells at a time.

    X is log1p CP10k float32, layers["counts"] int32, both CSR; further layers as they are. obs: `sheet_obs`, then
    the columns that were there; var: `spikgpt.base.h5ad.genes_of`.
    """
    with new_h5ad(out) as file:
        write_frame(file, "obs", sheet_obs(cells.obs, sample, batch, donor, condition))
        write_frame(file, "var", genes_of(cells.var))

        def normalised() -> Iterator[sparse.csr_matrix]:
            for _, block in cells.blocks():
                yield log1p_cp10k(block)

        write_csr(file, "X", normalised(), len(cells.var), np.float32, len(cells.file["X/indices"]))
        # copied as they are compressed
        cells.file.copy("X", file["layers"], "counts")
        for key in cells.layers:
            cells.file.copy(key, file["layers"])
