"""Metrics, filters: every removed cell has one reason, and the numbers add up."""

import gzip
import json
import tempfile
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from spikgpt.base.columns import QC_METRICS
from spikgpt.base.errors import UserError
from spikgpt.base.h5ad import count_data, write_h5ad
from spikgpt.base.metrics import cell_metrics
from spikgpt.quality_control.cells import filter_cells
from spikgpt.quality_control.groups import find_groups
from spikgpt.quality_control.rules import DEFAULTS, REASONS, Thresholds, removal_reasons, thresholds_from
from stored_cells import on_disk

GENES = [f"GENE{i}" for i in range(900)] + [f"MT-{i}" for i in range(13)] + [f"RPL{i}" for i in range(1, 21)] + ["HBB"]


def sample(rng: np.random.Generator, cells: int = 200) -> ad.AnnData:
    """Healthy cells of about 3,000 counts."""
    profile = rng.dirichlet(np.full(len(GENES), 0.5))
    rows = [rng.multinomial(int(n), profile) for n in rng.lognormal(8.0, 0.25, cells)]
    counts = sparse.csr_matrix(np.array(rows, dtype=np.int32))
    return count_data(counts, np.array([f"c{i}" for i in range(cells)]), GENES, [""] * len(GENES))


def no_doublets(adata: ad.AnnData) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "barcode": np.asarray(adata.obs_names, dtype=object),
            "doublet_score": np.float32(0.1),
            "predicted_doublet": False,
        }
    )


def measured(adata: ad.AnnData) -> pd.DataFrame:
    with on_disk(adata) as cells:
        return cell_metrics(cells.blocks(), cells.barcodes, cells.symbols).join(find_groups(cells, 0))


def filtered(adata, doublets=None, **thresholds):
    doublets = no_doublets(adata) if doublets is None else doublets
    with on_disk(adata) as cells, tempfile.TemporaryDirectory() as folder:
        out, gone = Path(folder) / "kept.h5ad", Path(folder) / "removed.h5ad"
        chosen = thresholds_from(thresholds, "sheet")
        removed, stats = filter_cells(cells, measured(adata), doublets, chosen, "s", out, gone)
        counts = ad.read_h5ad(gone)
        assert list(counts.obs_names) == list(removed["barcode"])
        assert (counts.X != adata[counts.obs_names].X).nnz == 0
        kept = ad.read_h5ad(out) if out.exists() else adata[:0, : stats["genes_out"]].copy()
    return kept, removed, stats


def adds_up(adata, kept, removed, stats):
    assert stats["cells_in"] == adata.n_obs
    assert stats["cells_out"] == kept.n_obs
    assert stats["cells_in"] == stats["cells_out"] + sum(stats["removed"].values())
    assert removed["reason"].value_counts().to_dict() == {k: n for k, n in stats["removed"].items() if n}
    assert set(removed["barcode"]) | set(kept.obs_names) == set(adata.obs_names)
    assert not set(removed["barcode"]) & set(kept.obs_names)
    json.dumps(stats, allow_nan=False)


def test_metrics_are_right():
    counts = np.zeros((3, len(GENES)), dtype=np.int32)
    counts[0, :30] = np.arange(1, 31)
    counts[1, GENES.index("MT-1")] = 30
    counts[1, GENES.index("RPL13")] = 60
    counts[1, GENES.index("HBB")] = 10
    table = measured(count_data(sparse.csr_matrix(counts), np.array(["a", "b", "c"]), GENES, [""] * len(GENES)))
    assert list(table["barcode"]) == ["a", "b", "c"]
    assert list(table["total_counts"]) == [465, 100, 0]
    assert list(table["n_genes_by_counts"]) == [30, 3, 0]
    assert table["total_counts"].dtype == np.int64
    # the second cell has no count but of the families that are left out
    assert table["counts_for_top_20"].tolist() == [465, 0, 0]
    assert table["pct_counts_in_top_20_genes"].tolist() == pytest.approx([100 * sum(range(11, 31)) / 465, 0, 0])
    assert table["pct_counts_mt"].tolist() == pytest.approx([0, 30, 0])
    assert table["pct_counts_ribo"].tolist() == pytest.approx([0, 60, 0])
    assert table["pct_counts_hb"].tolist() == pytest.approx([0, 10, 0])


def test_healthy_cells_stay():
    adata = sample(np.random.default_rng(0))
    kept, removed, stats = filtered(adata)
    adds_up(adata, kept, removed, stats)
    assert kept.n_obs >= 0.97 * adata.n_obs
    assert kept.n_vars == adata.n_vars
    assert "pct_counts_mt" in kept.obs
    assert "doublet_score" in kept.obs


def test_each_rule_removes_its_cells_and_gives_the_first_reason():
    rng = np.random.default_rng(0)
    adata = sample(rng)
    dense = adata.X.toarray()
    mito = [i for i, gene in enumerate(GENES) if gene.startswith("MT-")]
    dense[0] = 0
    dense[1] = 0
    dense[1, :50] = 1  # too few genes
    dense[2] //= 20  # few counts
    dense[2, :300] += 1  # ... of enough genes, of no group's programme
    dense[3] *= 40  # too many counts
    dense[4, mito] += 20  # dying
    dense[5, 0] += 100_000  # one gene only, and too many counts: counts are asked first
    adata.X = sparse.csr_matrix(dense.astype(np.int32))
    doublets = no_doublets(adata)
    doublets.loc[[1, 6], "predicted_doublet"] = True
    kept, removed, stats = filtered(adata, doublets)
    adds_up(adata, kept, removed, stats)
    reason = dict(zip(removed["barcode"], removed["reason"], strict=True))
    assert {f"c{i}": reason[f"c{i}"] for i in range(7)} == {
        "c0": "no_counts",
        "c1": "min_genes",
        "c2": "no_programme",
        "c3": "log1p_total_counts",
        "c4": "pct_counts_mt",
        "c5": "log1p_total_counts",
        "c6": "predicted_doublet",
    }
    assert len(removed) <= 10


def test_rules_are_switched_off_by_0():
    adata = sample(np.random.default_rng(0))
    adata.X = sparse.csr_matrix(adata.X.multiply(np.r_[1000, np.ones(adata.n_obs - 1)][:, None]).astype(np.int32))
    off = {name: 0 for name in DEFAULTS}
    kept, removed, stats = filtered(adata, **off)
    adds_up(adata, kept, removed, stats)
    assert kept.n_obs == adata.n_obs
    assert stats["bounds"] == []
    assert filtered(adata)[1]["reason"].tolist()[0] == "log1p_total_counts"


def test_max_mito_is_absolute():
    adata = sample(np.random.default_rng(0))
    metrics = measured(adata)
    limit = float(metrics["pct_counts_mt"].median())
    kept, removed, stats = filtered(adata, max_mito_percentage=limit)
    adds_up(adata, kept, removed, stats)
    assert stats["removed"]["max_mito_percentage"] == (metrics["pct_counts_mt"] > limit).sum() > 50


def test_alike_cells_are_no_outliers_of_each_other():
    """More than half of the values equal: the MAD is 0, and a bound without leeway removes the rest."""
    adata = sample(np.random.default_rng(0))
    metrics = measured(adata)
    metrics["pct_counts_mt"] = np.r_[np.zeros(150), np.full(50, 0.5)]
    metrics["total_counts"] = np.r_[np.full(150, 3000), np.full(50, 3300)]
    reasons, bounds = removal_reasons(metrics, np.zeros(200, dtype=bool), Thresholds(dict(DEFAULTS), False))
    spreads = {row["mad"] for row in bounds if row["rule"] in ("pct_counts_mt", "log1p_total_counts")}
    assert spreads == {0.0}
    assert not np.isin(reasons, ["pct_counts_mt", "log1p_total_counts"]).any()


def test_a_sample_without_mitochondrial_genes_passes():
    adata = sample(np.random.default_rng(0))
    adata = adata[:, ~adata.var_names.str.startswith("MT-")].copy()
    kept, removed, stats = filtered(adata, max_mito_percentage=5)
    adds_up(adata, kept, removed, stats)
    assert kept.n_obs >= 0.97 * adata.n_obs


def test_min_cells_drops_genes():
    adata = sample(np.random.default_rng(0), 60)
    kept, removed, stats = filtered(adata, min_cells=30)
    adds_up(adata, kept, removed, stats)
    assert stats["genes_out"] == kept.n_vars < stats["genes_in"] == len(GENES)
    assert (kept.X.getnnz(axis=0) >= 30).all()
    kept, removed, stats = filtered(adata, min_cells=61)
    adds_up(adata, kept, removed, stats)
    assert kept.n_obs == 0
    assert stats["removed"]["min_cells"] > 50


def test_block_size_changes_nothing(monkeypatch):
    adata = sample(np.random.default_rng(0), 60)
    whole, parts = measured(adata), filtered(adata, min_cells=30)
    monkeypatch.setattr("spikgpt.base.h5ad.BLOCK", 1000)
    assert measured(adata).equals(whole)
    kept, removed, stats = filtered(adata, min_cells=30)
    assert (kept.X != parts[0].X).nnz == 0
    assert kept.obs.equals(parts[0].obs)
    assert removed.equals(parts[1])
    assert stats == parts[2]


@pytest.mark.parametrize(("cells", "genes"), [(1, len(GENES)), (1, 1), (30, 1), (0, len(GENES))])
def test_smallest_samples(cells, genes):
    adata = sample(np.random.default_rng(0), 30)[:cells, :genes].copy()
    for thresholds in ({}, {"min_genes": 0}):
        kept, removed, stats = filtered(adata, **thresholds)
        adds_up(adata, kept, removed, stats)
    if 0 < cells < 20:
        assert {row["rule"] for row in stats["bounds"]} <= {"min_genes"}
        assert stats["messages"][-1] == "Fewer than 20 cells: no MAD rules."


def test_all_zeros_leave_nothing():
    adata = sample(np.random.default_rng(0), 30)
    adata.X = sparse.csr_matrix(adata.shape, dtype=np.int32)
    kept, removed, stats = filtered(adata)
    adds_up(adata, kept, removed, stats)
    assert stats["removed"]["no_counts"] == 30
    assert stats["messages"] == ["No cell is left; the sample is skipped."]


@pytest.mark.parametrize("value", ["many", -1, float("nan"), [3]])
def test_bad_thresholds_are_refused(value):
    with pytest.raises(UserError, match=r"min_genes is not a number"):
        thresholds_from({"min_genes": value}, "sheet")


def test_unknown_and_empty_thresholds():
    with pytest.raises(UserError, match="no threshold called 'min_gene'"):
        thresholds_from({"min_gene": 3}, "sheet")
    assert thresholds_from({"min_genes": None, "min_cells": ""}, "sheet") == Thresholds(DEFAULTS, False)


def test_reasons_are_unique():
    assert len(set(REASONS)) == len(REASONS)


FILTER = (
    "filter_cells.py", "--sample", "s", "--h5ad", "in.h5ad", "--qc", "s.qc.parquet",
    "--doublets", "s.doublets.parquet", "--thresholds", "s.thresholds.json",
)  # fmt: skip


def test_scripts(tmp_path, script):
    adata = sample(np.random.default_rng(0))
    write_h5ad(adata, tmp_path / "in.h5ad")
    (tmp_path / "s.thresholds.json").write_text('{"min_genes": 300}')
    for step in (
        ("qc_metrics.py", "--sample", "s", "--h5ad", "in.h5ad"),
        ("detect_doublets.py", "--sample", "s", "--h5ad", "in.h5ad", "--skip"),
        FILTER,
    ):
        done = script(*step)
        assert done.returncode == 0, done.stderr
    kept = ad.read_h5ad(tmp_path / "s.filtered.h5ad")
    stats = json.loads((tmp_path / "s.filter.json").read_text())
    removed = pd.read_csv(tmp_path / "s.removed.tsv.gz", sep="\t")
    adds_up(adata, kept, removed, stats)
    assert list(removed.columns) == ["sample", "barcode", "reason"]
    assert stats["thresholds"]["min_genes"] == 300
    assert kept.X.dtype == np.int32
    assert list(kept.obs) == [*QC_METRICS, "doublet_score", "predicted_doublet"]
    assert kept.obs["doublet_score"].isna().all()
    # bytes 4 to 8 of gzip are a time
    assert (tmp_path / "s.removed.tsv.gz").read_bytes()[4:8] == b"\0\0\0\0"


def test_a_sample_with_nothing_left_has_no_h5ad(tmp_path, script):
    adata = sample(np.random.default_rng(0), 30)
    write_h5ad(adata, tmp_path / "in.h5ad")
    measured(adata).to_parquet(tmp_path / "s.qc.parquet")
    no_doublets(adata).to_parquet(tmp_path / "s.doublets.parquet")
    (tmp_path / "s.thresholds.json").write_text('{"min_genes": 100000}')
    done = script(*FILTER)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "s.filtered.h5ad").exists()
    assert json.loads((tmp_path / "s.filter.json").read_text())["cells_out"] == 0
    text = gzip.decompress((tmp_path / "s.removed.tsv.gz").read_bytes()).decode()
    assert text.splitlines()[1] == "s\tc0\tmin_genes"
    assert len(text.splitlines()) == 31
