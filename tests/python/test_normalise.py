"""Normalisation and the layout of norm.h5ad."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from spikgpt.base.h5ad import count_data, write_h5ad
from spikgpt.base.normalisation import log1p_cp10k, normalise, normalise_cells
from stored_cells import on_disk


@pytest.fixture
def counts() -> sparse.csr_matrix:
    return sparse.csr_matrix(np.random.default_rng(0).poisson(0.5, (50, 30)), dtype=np.int32)


def plain(counts) -> ad.AnnData:
    barcodes = np.array([f"c{i}-1" for i in range(counts.shape[0])])
    genes = [f"G{i}" for i in range(counts.shape[1])]
    adata = count_data(counts, barcodes, genes, [f"ENSG{i:011d}" for i in range(counts.shape[1])])
    adata.obs["total_counts"] = np.asarray(counts.sum(axis=1)).ravel()
    return adata


def test_values_are_scanpys(counts):
    import scanpy as sc

    expected = ad.AnnData(counts.astype(np.float32))
    sc.pp.normalize_total(expected, target_sum=1e4)
    sc.pp.log1p(expected)
    np.testing.assert_allclose(log1p_cp10k(counts).toarray(), expected.X.toarray(), rtol=1e-6)


def test_a_cell_does_not_depend_on_the_others(counts):
    whole = log1p_cp10k(counts)
    alone = log1p_cp10k(counts[7])
    assert (whole[7].toarray() == alone.toarray()).all()


def test_cells_without_counts_stay_0():
    assert log1p_cp10k(sparse.csr_matrix((2, 3), dtype=np.int32)).toarray().tolist() == [[0, 0, 0], [0, 0, 0]]
    assert log1p_cp10k(sparse.csr_matrix((0, 3), dtype=np.int32)).shape == (0, 3)


def test_layout(tmp_path, counts):
    with on_disk(plain(counts)) as cells:
        normalise_cells(cells, tmp_path / "s1.norm.h5ad", "s1", donor="d 1")
    adata = ad.read_h5ad(tmp_path / "s1.norm.h5ad")
    in_memory = normalise(plain(counts), "s1")
    assert (in_memory.X != adata.X).nnz == 0
    assert (in_memory.layers["counts"] != adata.layers["counts"]).nnz == 0
    assert list(adata.obs) == ["sample", "batch", "donor", "condition", "total_counts"]
    assert [adata.obs[c].iloc[0] for c in ("sample", "batch", "donor", "condition")] == ["s1", "s1", "d 1", ""]
    for column in ("sample", "batch", "donor", "condition"):
        assert isinstance(adata.obs[column].dtype, pd.CategoricalDtype)
    assert adata.X.dtype == np.float32
    assert adata.layers["counts"].dtype == np.int32
    assert (adata.layers["counts"] != counts).nnz == 0
    assert list(adata.var.columns) == ["gene_id"]


def test_script(tmp_path, script, counts):
    write_h5ad(plain(counts), tmp_path / "s.filtered.h5ad")
    written = []
    for _ in range(2):
        done = script(
            "normalise.py", "--sample", "s", "--h5ad", "s.filtered.h5ad", "--batch", "b", "--condition", "it's"
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        written.append((tmp_path / "s.norm.h5ad").read_bytes())
    assert written[0] == written[1]
    adata = ad.read_h5ad(tmp_path / "s.norm.h5ad")
    assert adata.obs[["batch", "condition"]].iloc[0].tolist() == ["b", "it's"]
    assert isinstance(adata.X, sparse.csr_matrix)
    assert isinstance(adata.layers["counts"], sparse.csr_matrix)
    assert json.loads((tmp_path / "s.norm.json").read_text()) == {"sample": "s", "cells": 50, "genes": 30}
