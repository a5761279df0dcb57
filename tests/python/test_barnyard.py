"""Matrices of two genomes: the share of each species per barcode, cells of the other species, mixed barcodes."""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from mouse_copy import mouse_copy
from scipy import sparse
from spikgpt.quality_control.barnyard import MIXED, OTHER, OWN, species_calls

MINI = ROOT / "assets" / "scgpt-mini"
CELLS = {"human": 150, "mouse": 90, "both": 12}


@pytest.fixture(scope="module")
def barnyard(demo_data, tmp_path_factory) -> Path:
    """Human cells, human cells renamed to mouse genes as the mouse's, and sums of two; 3 % of the counts ambient."""
    rng = np.random.default_rng(0)
    human = ad.read_h5ad(demo_data / "human1_lib3.h5ad")
    rows = rng.permutation(human.n_obs)
    own = human[rows[:200]]
    mouse = mouse_copy(human[rows[200:400]].copy())
    names = [*(f"GRCh38_{name}" for name in own.var_names), *(f"mm10___{name}" for name in mouse.var_names)]
    wide = {
        "human": sparse.hstack([own.X[: CELLS["human"]], _ambient(mouse, own.X[: CELLS["human"]], rng)]),
        "mouse": sparse.hstack([_ambient(own, mouse.X[: CELLS["mouse"]], rng), mouse.X[: CELLS["mouse"]]]),
        "both": sparse.hstack([own.X[-CELLS["both"] :], mouse.X[-CELLS["both"] :]]),
    }
    path = tmp_path_factory.mktemp("barnyard") / "m.h5ad"
    barcodes = [f"{kind}_{n}" for kind, matrix in wide.items() for n in range(matrix.shape[0])]
    ad.AnnData(
        sparse.vstack(list(wide.values())).tocsr().astype(np.int32),
        obs=pd.DataFrame(index=barcodes),
        var=pd.DataFrame(index=names),
    ).write_h5ad(path)
    return path


def _ambient(other: ad.AnnData, counts: sparse.csr_matrix, rng: np.random.Generator) -> sparse.csr_matrix:
    profile = np.asarray(other.X.sum(axis=0), dtype=np.float64).ravel()
    totals = np.rint(0.03 * np.asarray(counts.sum(axis=1)).ravel()).astype(int)
    return sparse.csr_matrix(np.stack([rng.multinomial(total, profile / profile.sum()) for total in totals]))


def test_calls_follow_the_counts():
    own = np.array([5000] * 50 + [40] * 30 + [6000, 0, 300, 6000])
    other = np.array([100] * 50 + [3000] * 30 + [3000, 0, 250, 500])
    calls = species_calls(own, other)
    # the last ones: no count; too small for two cells; too few counts of the other species
    assert calls.tolist() == [OWN] * 50 + [OTHER] * 30 + [MIXED, OWN, OWN, OWN]
    # one species alone: ambient RNA of the other makes no barcode mixed
    assert (species_calls(own[:50], other[:50]) == OWN).all()
    # nor does a single small barcode of the other species
    assert (species_calls(np.append(own[:50], 10), np.append(other[:50], 20))[:50] == OWN).all()


@pytest.mark.parametrize(("species", "own", "other"), [("human", "human", "mouse"), ("mouse", "mouse", "human")])
def test_mixed_barcodes_are_doublets_and_the_other_species_is_removed(barnyard, script, tmp_path, species, own, other):
    made = [
        script("import_counts.py", "--sample", "s", "--matrix", barnyard, "--scgpt-model", MINI, "--species", species),
        script("qc_metrics.py", "--sample", "s", "--h5ad", "s.counts.h5ad", "--seed", 0),
        script("detect_doublets.py", "--sample", "s", "--h5ad", "s.counts.h5ad"),
    ]
    (tmp_path / "none.json").write_text("{}")
    made.append(
        script(
            "filter_cells.py", "--sample", "s", "--h5ad", "s.counts.h5ad", "--qc", "s.qc.parquet", "--doublets",
            "s.doublets.parquet", "--thresholds", "none.json",
        )
    )  # fmt: skip
    for done in made:
        assert done.returncode == 0, done.stderr
    given, counts = ad.read_h5ad(barnyard), ad.read_h5ad(tmp_path / "s.counts.h5ad")
    prefix = {"human": "GRCh38_", "mouse": "mm10___"}
    totals = {
        name: np.asarray(given.X[:, given.var_names.str.startswith(start)].sum(axis=1)).ravel()
        for name, start in prefix.items()
    }
    assert counts.obs["counts_other_genomes"].tolist() == totals[other].tolist()
    assert np.asarray(counts.X.sum(axis=1)).ravel().tolist() == totals[own].tolist()
    genomes = pd.read_csv(tmp_path / "s.genomes.tsv.gz", sep="\t", index_col="barcode")
    share = 100 * totals[other] / (totals[own] + totals[other])
    assert genomes["pct_other_genomes"].to_numpy() == pytest.approx(share, abs=1e-4)
    kind = genomes.index.str.split("_").str[0]
    assert (genomes["call"][kind == own] == OWN).all()
    assert (genomes["call"][kind == other] == OTHER).all()
    # the rule misses pairs with a cell that is small for its species
    assert (genomes["call"][kind == "both"] == MIXED).mean() > 0.5
    removed = pd.read_csv(tmp_path / "s.removed.tsv.gz", sep="\t", index_col="barcode")["reason"]
    assert (removed.reindex(genomes.index[kind == other]) == "other_species").all()
    mixed = removed.reindex(genomes.index[genomes["call"] == MIXED])
    assert mixed.notna().all()
    assert (mixed == "predicted_doublet").mean() > 0.6
    left = ad.read_h5ad(tmp_path / "s.filtered.h5ad")
    assert set(left.obs_names) <= set(genomes.index[genomes["call"] == OWN])
    assert left.n_obs > 0.8 * CELLS[own]


def test_one_genome_has_no_such_table(script, demo_data, tmp_path):
    ad.read_h5ad(demo_data / "human1_lib3.h5ad")[:60].write_h5ad(tmp_path / "m.h5ad")
    script("import_counts.py", "--sample", "s", "--matrix", "m.h5ad", "--scgpt-model", MINI)
    done = script("detect_doublets.py", "--sample", "s", "--h5ad", "s.counts.h5ad")
    assert done.returncode == 0, done.stderr
    assert list(ad.read_h5ad(tmp_path / "s.counts.h5ad").obs.columns) == []
    assert list(pd.read_parquet(tmp_path / "s.doublets.parquet")) == ["barcode", "doublet_score", "predicted_doublet"]
    assert not list(tmp_path.glob("*.genomes.tsv.gz"))
