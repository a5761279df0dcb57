"""log1p CP10k, and the layout that every later step reads."""

import anndata as ad
import numpy as np
from scipy import sparse

from spikgpt.layout import constant

TARGET = 1e4
BLOCK = 4096


def log1p_cp10k(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """ln(1 + counts / total of the cell * 10,000); float32 CSR, cells x genes.

    Computed in float64 cell by cell, so that a cell's values do not depend on the other cells. A cell
    without counts stays 0.
    """
    counts = sparse.csr_matrix(counts)
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


def normalise(adata: ad.AnnData, sample: str, batch: str = "", donor: str = "", condition: str = "") -> ad.AnnData:
    """The layout of norm.h5ad: X log1p CP10k float32, layers["counts"] int32, both CSR.

    Parameters
    ----------
    adata
        Raw counts in X; its obs columns are kept.
    batch
        The sample's name when empty.

    Returns
    -------
    AnnData
        obs: sample, batch, donor, condition (str categorical), then the columns of `adata`; var: gene_id.
    """
    counts = sparse.csr_matrix(adata.X, dtype=np.int32)
    obs = adata.obs.copy()
    values = {"sample": sample, "batch": batch or sample, "donor": donor, "condition": condition}
    for place, (name, value) in enumerate(values.items()):
        obs.insert(place, name, constant(value, adata.n_obs))
    return ad.AnnData(X=log1p_cp10k(counts), obs=obs, var=adata.var[["gene_id"]].copy(), layers={"counts": counts})
