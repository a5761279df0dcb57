"""Ambient RNA: foreign counts go, a cell's own stay, and counts stay whole numbers."""

import json

import anndata as ad
import numpy as np
import pytest
from scipy import sparse
from spikgpt.base.h5ad import count_data, write_h5ad
from spikgpt.quality_control import ambient
from stored_cells import on_disk

CELLS, GENES = 150, 200
OWN = slice(0, 20)
"""Genes of the first type alone."""


@pytest.fixture(scope="module")
def contaminated() -> tuple[ad.AnnData, np.ndarray]:
    """Two cell types; every tenth count of the second type is drawn from the first, and the other way round."""
    rng = np.random.default_rng(0)
    profiles = rng.dirichlet(np.full(GENES, 0.3), 2)
    profiles[1, OWN] = 0
    profiles[0, OWN] += 0.01
    profiles /= profiles.sum(axis=1, keepdims=True)
    own = [rng.multinomial(2700, profiles[i % 2]) for i in range(CELLS)]
    foreign = [rng.multinomial(300, profiles[1 - i % 2]) for i in range(CELLS)]
    barcodes = np.array([f"c{i:04d}" for i in rng.permutation(CELLS)])
    counts = sparse.csr_matrix(np.add(own, foreign).astype(np.int32))
    adata = count_data(counts, barcodes, [f"G{i}" for i in range(GENES)], [""] * GENES)
    return adata, np.arange(CELLS) % 2 == 1


def corrected(adata: ad.AnnData, path, seed: int = 0) -> tuple[ad.AnnData, dict]:
    with on_disk(adata) as cells:
        stats = ambient.remove_ambient(cells, path, seed)
    json.dumps(stats, allow_nan=False)
    return ad.read_h5ad(path), stats


def test_foreign_counts_go_and_own_counts_stay(contaminated, tmp_path):
    adata, second = contaminated
    made, stats = corrected(adata, tmp_path / "a.h5ad")
    assert stats["run"]
    assert stats["background"] == "other populations"
    assert made.X.dtype == made.layers["uncorrected_counts"].dtype == np.int32
    assert (made.layers["uncorrected_counts"] != adata.X).nnz == 0
    assert (made.X.toarray() <= adata.X.toarray()).all()
    before, after = adata.X[second][:, OWN].sum(), made.X[second][:, OWN].sum()
    assert before > 500
    assert after < 0.1 * before
    assert made.X[~second][:, OWN].sum() > 0.95 * adata.X[~second][:, OWN].sum()
    assert stats["estimated_percent"] == pytest.approx(10, abs=3)
    assert stats["counts_after"] == made.X.sum()
    assert stats["cells_emptied"] == 0
    assert stats["genes"][0]["before"] > stats["genes"][0]["after"]


def test_empty_droplets_are_the_profile_where_they_are_known(contaminated, tmp_path):
    adata, second = contaminated
    known = adata.copy()
    known.var["ambient_counts"] = np.asarray(adata.X.sum(axis=0)).ravel()
    made, stats = corrected(known, tmp_path / "a.h5ad")
    assert stats["background"] == "empty droplets"
    assert made.X[second][:, OWN].sum() < 0.2 * adata.X[second][:, OWN].sum()


def test_order_of_cells_changes_no_count(contaminated, tmp_path):
    adata, _ = contaminated
    order = np.random.default_rng(1).permutation(CELLS)
    straight, _ = corrected(adata, tmp_path / "a.h5ad")
    shuffled, _ = corrected(adata[order].copy(), tmp_path / "b.h5ad")
    assert (straight[order].X != shuffled.X).nnz == 0


@pytest.mark.parametrize(("cells", "genes"), [(1, GENES), (99, GENES), (CELLS, 1), (0, GENES)])
def test_too_little_is_left_as_it_is_and_said(contaminated, tmp_path, cells, genes):
    adata = contaminated[0][:cells, :genes].copy()
    made, stats = corrected(adata, tmp_path / "a.h5ad")
    assert not stats["run"]
    assert "was not removed" in stats["messages"][0]
    assert made.shape == (cells, genes)
    assert (made.X != adata.X).nnz == 0
    assert "uncorrected_counts" in made.layers


def test_all_zeros(contaminated, tmp_path):
    adata = contaminated[0].copy()
    adata.X = sparse.csr_matrix(adata.shape, dtype=np.int32)
    made, stats = corrected(adata, tmp_path / "a.h5ad")
    assert made.X.nnz == 0
    assert (stats["run"], stats["cells_emptied"]) == (False, 0)


def test_script_and_the_same_bytes(tmp_path, script, contaminated):
    """In a process of its own, by the script."""
    write_h5ad(contaminated[0], tmp_path / "s.counts.h5ad")
    done = script("remove_ambient.py", "--sample", "s", "--h5ad", "s.counts.h5ad", "--seed", "3")
    assert done.returncode == 0, done.stderr
    _, stats = corrected(contaminated[0], tmp_path / "here.h5ad", seed=3)
    assert (tmp_path / "s.ambient.h5ad").read_bytes() == (tmp_path / "here.h5ad").read_bytes()
    assert json.loads((tmp_path / "s.ambient.json").read_text()) == {"sample": "s", **stats}
