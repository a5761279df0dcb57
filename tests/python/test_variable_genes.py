"""Variable genes across batches, from sums: those that scanpy finds with the matrix in memory."""

import anndata as ad
import numpy as np
import pytest
from scipy import sparse
from spikgpt.base.normalisation import log1p_cp10k
from spikgpt.base.variable_genes import Moments, highly_variable

GENES = 400


@pytest.fixture(scope="module")
def batches() -> ad.AnnData:
    rng = np.random.default_rng(0)
    mean = rng.lognormal(-1, 1.5, GENES)
    counts = rng.negative_binomial(rng.uniform(0.3, 5, GENES), 0.5, (180, GENES)) * rng.poisson(mean, (180, GENES))
    counts[:, :5] = 0
    counts[:60, 5] = 0
    adata = ad.AnnData(log1p_cp10k(sparse.csr_matrix(counts.astype(np.int32))))
    adata.var_names = [f"G{i}" for i in range(GENES)]
    adata.obs["batch"] = np.repeat(["a", "b", "c"], 60)
    return adata


def summed(adata: ad.AnnData) -> Moments:
    moments = Moments(["a", "b", "c"], GENES)
    for start in range(0, adata.n_obs, 20):
        moments.add(adata.X[start : start + 20].expm1(), str(adata.obs["batch"].iloc[start]))
    return moments


@pytest.mark.parametrize("most", [50, 120])
def test_the_same_as_scanpys(batches, most):
    import scanpy as sc

    theirs = sc.pp.highly_variable_genes(batches.copy(), n_top_genes=most, batch_key="batch", inplace=False)
    ours = highly_variable(summed(batches), list(batches.var_names), most).set_axis(batches.var_names)
    assert ours["highly_variable"].sum() == most
    assert (ours["highly_variable"] == theirs["highly_variable"]).all()
    assert (ours["highly_variable_nbatches"] == theirs["highly_variable_nbatches"]).all()
    np.testing.assert_allclose(ours["means"], theirs["means"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours["dispersions_norm"], theirs["dispersions_norm"], rtol=1e-3, atol=1e-4)


def test_without_cells_no_gene_is_variable():
    found = highly_variable(Moments(["a"], 3), ["x", "y", "z"])
    assert not found["highly_variable"].any()
    assert (found["highly_variable_nbatches"] == 0).all()
