"""Doublets: found where they were made, the same in any order, skipped and said where there are too few cells."""

import anndata as ad
import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import roc_auc_score
from spikgpt.quality_control import doublets
from spikgpt.quality_control.doublets import expected_rate, valley
from stored_cells import on_disk

GENES, SINGLETS, DOUBLETS = 500, 400, 30


def detect_doublets(adata: ad.AnnData, seed: int, skip: bool = False):
    with on_disk(adata) as cells:
        return doublets.detect_doublets(cells, seed, skip)


@pytest.fixture(scope="module")
def mixture() -> tuple[ad.AnnData, np.ndarray]:
    """Three cell types and doublets of two different ones."""
    rng = np.random.default_rng(0)
    types = rng.dirichlet(np.full(GENES, 0.2), 3)
    of = rng.integers(0, 3, SINGLETS)
    rows = [rng.multinomial(2000, types[t]) for t in of]
    pairs = [rng.permutation(3)[:2] for _ in range(DOUBLETS)]
    rows += [rng.multinomial(2000, types[a]) + rng.multinomial(2000, types[b]) for a, b in pairs]
    adata = ad.AnnData(sparse.csr_matrix(np.array(rows, dtype=np.int32)))
    adata.obs_names = [f"c{i:04d}" for i in rng.permutation(adata.n_obs)]
    return adata, np.r_[np.zeros(SINGLETS, dtype=bool), np.ones(DOUBLETS, dtype=bool)]


def test_made_doublets_are_found(mixture):
    adata, truth = mixture
    table, stats = detect_doublets(adata, 0)
    assert list(table["barcode"]) == list(adata.obs_names)
    assert roc_auc_score(truth, table["doublet_score"]) > 0.95
    assert stats["run"]
    assert stats["predicted"] == table["predicted_doublet"].sum()
    assert table["predicted_doublet"][truth].mean() > 0.7
    assert table["predicted_doublet"][~truth].mean() < 0.05
    assert table["doublet_score"].dtype == np.float32


def test_order_of_cells_does_not_matter(mixture):
    adata, _ = mixture
    order = np.random.default_rng(1).permutation(adata.n_obs)
    straight, _ = detect_doublets(adata, 0)
    shuffled, _ = detect_doublets(adata[order].copy(), 0)
    assert straight.iloc[order].reset_index(drop=True).equals(shuffled)


def test_large_samples_are_scored_in_blocks_in_any_order(mixture, monkeypatch):
    adata, truth = mixture
    monkeypatch.setattr("spikgpt.quality_control.doublets.LARGEST_BLOCK", 220)
    table, _stats = detect_doublets(adata, 0)
    assert roc_auc_score(truth, table["doublet_score"]) > 0.9
    shuffled, _ = detect_doublets(adata[::-1].copy(), 0)
    assert table[::-1].reset_index(drop=True).equals(shuffled)


def test_a_part_that_lacks_a_gene_is_scored_without_it(mixture):
    counts = sparse.csr_matrix(mixture[0].X[:100], dtype=np.float32)
    lacking = sparse.csr_matrix(sparse.hstack([counts, sparse.csr_matrix((100, 1), dtype=np.float32)]))
    for scores, same in zip(doublets._scores(lacking, 0.05, 0), doublets._scores(counts, 0.05, 0), strict=True):
        assert np.isfinite(scores).all()
        np.testing.assert_array_equal(scores, same)


def test_variable_genes_are_scanpys(mixture):
    import scanpy as sc

    adata = mixture[0].copy()
    with on_disk(adata) as cells:
        seen, variable = doublets.variable_genes(cells)
    sc.pp.filter_genes(adata, min_cells=3)
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata)
    assert seen == adata.n_vars
    assert list(variable) == [mixture[0].var_names.get_loc(g) for g in adata.var_names[adata.var["highly_variable"]]]


@pytest.mark.parametrize(
    ("cells", "genes", "skip", "told"),
    [
        (99, GENES, False, "99 cells, fewer than 100"),
        (0, GENES, False, "0 cells, fewer than 100"),
        (200, 50, False, "genes seen in 3 cells, fewer than 100"),
        (430, GENES, True, "switched off"),
    ],
)
def test_not_run_is_said(mixture, cells, genes, skip, told):
    adata = mixture[0][:cells, :genes].copy()
    table, stats = detect_doublets(adata, 0, skip)
    assert len(table) == cells
    assert table["doublet_score"].isna().all()
    assert not table["predicted_doublet"].any()
    assert not stats["run"]
    assert told in stats["messages"][0]


def test_cells_without_variable_genes_are_not_scored():
    adata = ad.AnnData(sparse.csr_matrix(np.ones((150, 150), dtype=np.int32)))
    table, stats = detect_doublets(adata, 0)
    assert not stats["run"]
    assert "variable genes" in stats["messages"][0]
    assert not table["predicted_doublet"].any()


def test_expected_rate_follows_the_cells():
    assert expected_rate(1000) == pytest.approx(0.008)
    assert expected_rate(10_000) == pytest.approx(0.08)
    assert expected_rate(10_000_000) == 0.2


def test_valley_lies_between_two_modes():
    rng = np.random.default_rng(0)
    assert 0.2 < valley(np.r_[rng.normal(0.1, 0.03, 2000), rng.normal(0.5, 0.05, 2000)]) < 0.45
    assert valley(np.zeros(100)) is None


def test_an_absurd_threshold_is_not_used(mixture, monkeypatch):
    monkeypatch.setattr("spikgpt.quality_control.doublets.valley", lambda scores: 0.0)
    table, stats = detect_doublets(mixture[0], 0)
    assert not table["predicted_doublet"].any()
    assert table["doublet_score"].notna().all()
    assert (stats["predicted"], stats["threshold"]) == (0, None)
    assert "where 0.3% are expected" in stats["messages"][0]
