"""Cell calling on simulated droplets: real cells among ambient RNA."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from spikgpt.base.errors import UserError
from spikgpt.base.h5ad import write_h5ad
from spikgpt.quality_control.calling import call_cells, expected_cells, knee_curve

GENES, CELLS, SMALL, EMPTY = 400, 150, 40, 3000


@pytest.fixture(scope="module")
def droplets() -> ad.AnnData:
    """Large cells, small cells of another profile, small barcodes of ambient RNA alone, and empty droplets."""
    rng = np.random.default_rng(0)
    large, small = rng.dirichlet(np.full(GENES, 0.1)), rng.dirichlet(np.full(GENES, 0.1))
    ambient = 0.8 * large + 0.1 * small + 0.1 / GENES
    rows = [rng.multinomial(n, large) for n in rng.integers(3000, 6000, CELLS)]
    rows += [rng.multinomial(n, small) for n in rng.integers(150, 250, SMALL)]
    rows += [rng.multinomial(n, ambient) for n in rng.integers(110, 200, 30)]
    rows += [rng.multinomial(n, ambient) for n in rng.integers(1, 60, EMPTY)]
    kinds = ["large"] * CELLS + ["small"] * SMALL + ["ambient"] * 30 + ["empty"] * EMPTY
    obs = pd.DataFrame({"kind": kinds}, index=[f"b{i}" for i in range(len(rows))])
    return ad.AnnData(sparse.csr_matrix(np.array(rows, dtype=np.int32)), obs=obs)


def test_cells_are_told_from_ambient_rna(droplets):
    called, _, stats = call_cells(droplets.X, None, 0, "s")
    rate = droplets.obs.assign(called=called).groupby("kind")["called"].mean()
    assert rate["large"] == 1
    assert rate["small"] > 0.95
    assert rate["ambient"] < 0.1
    assert rate["empty"] == 0
    assert stats["cells"] == called.sum()
    assert stats["called_by_test"] + (stats["cells"] - stats["called_by_test"]) == stats["cells"]
    assert stats["tested"] == SMALL + 30
    assert not stats["expected_cells_given"]
    assert abs(stats["expected_cells"] - CELLS) < 0.1 * CELLS
    assert len(stats["knee"]) <= 200
    assert stats["knee"][0]["umis"] == droplets.X.sum(axis=1).max()
    json.dumps(stats, allow_nan=False)


def test_order_does_not_matter(droplets):
    order = np.random.default_rng(1).permutation(droplets.n_obs)
    straight, *_ = call_cells(droplets.X, 150, 0, "s")
    shuffled, *_ = call_cells(droplets.X[order], 150, 0, "s")
    assert (straight[order] == shuffled).all()


def test_filtered_matrices_are_refused(droplets):
    with pytest.raises(UserError, match=r"too few empty droplets(?s:.)*column filtered"):
        call_cells(droplets.X[:CELLS], None, 0, "s")


def test_nothing_but_empty_droplets(droplets):
    empty = droplets[-500:].copy()
    called, _, stats = call_cells(empty.X, None, 0, "s")
    assert called.sum() == stats["cells"] == 0
    assert stats["messages"] == ["No barcode has more than 100 UMIs."]


def test_knee_curve_is_short_and_falls():
    totals = np.random.default_rng(0).integers(1, 10_000, 50_000)
    curve = knee_curve(totals, totals > 5000)
    assert len(curve) <= 200
    assert (curve[0]["rank"], curve[-1]["rank"]) == (1, 50_000)
    umis = [point["umis"] for point in curve]
    assert umis == sorted(umis, reverse=True)
    assert all(0 <= point["share_called"] <= 1 for point in curve)
    assert len(knee_curve(np.array([3]), np.array([True]))) == 1


@pytest.mark.parametrize("cells", [60, 500, 5000])
def test_expected_cells_are_estimated(cells):
    rng = np.random.default_rng(0)
    totals = np.concatenate([rng.lognormal(8.5, 0.4, cells), rng.integers(1, 90, 20_000)]).astype(np.int64)
    assert abs(expected_cells(totals) - cells) < 0.1 * cells


def test_script(tmp_path, script, droplets):
    droplets.var["gene_id"] = ""
    write_h5ad(droplets, tmp_path / "s.counts.h5ad")
    done = script("call_cells.py", "--sample", "s", "--h5ad", "s.counts.h5ad", "--expected-cells", "150")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    stats = json.loads((tmp_path / "s.called.json").read_text())
    called = ad.read_h5ad(tmp_path / "s.called.h5ad")
    assert called.n_obs == stats["cells"]
    assert stats["expected_cells"] == 150
    assert called.X.dtype == np.int32
    few = np.asarray(droplets.X.sum(axis=1)).ravel() <= 100
    assert (called.var["ambient_counts"] == np.asarray(droplets.X[few].sum(axis=0)).ravel()).all()
