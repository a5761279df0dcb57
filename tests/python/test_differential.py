"""Differential expression of pseudobulk counts: planted genes are found, donors are replicates, masks are respected."""

import json
import subprocess
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from spikgpt.base.tsv import read_tsv
from spikgpt.cohort.contrast import DIFFERENTIAL_COLUMNS
from spikgpt.cohort.differential import differential_expression

ROOT = Path(__file__).resolve().parents[2]
GENES = 120


def write(path: Path, groups: str, donors: str, seed: int = 0, cells: int = 50, measured=None) -> Path:
    """Pseudobulk of types "T, cell" and Unknown: genes 0 to 9 are four times as high in group b, donors differ."""
    rng = np.random.default_rng(seed)
    base = rng.lognormal(4, 1, GENES)
    of_donor = {donor: rng.lognormal(0, 0.3, GENES) for donor in sorted(set(donors))}
    rows, obs = [], []
    for at, (group, donor) in enumerate(zip(groups, donors, strict=True)):
        for cell_type in ("T, cell", "Unknown"):
            mean = base * of_donor[donor] * np.where((np.arange(GENES) < 10) & (group == "b"), 4, 1)
            rows.append(rng.negative_binomial(20, 20 / (20 + mean)))
            obs.append((f"{cell_type}:s{at}", cell_type, f"s{at}", donor.strip(), group, cells))
    frame = pd.DataFrame(obs, columns=["id", "cell_type", "sample", "donor", "my group", "cells"]).set_index("id")
    var = pd.DataFrame({"gene_id": [f"E{g}" for g in range(GENES)]}, index=[f"g{g}" for g in range(GENES)])
    seen = pd.DataFrame(True, index=var.index, columns=[f"s{at}" for at in range(len(groups))])
    for gene, sample in measured or ():
        seen.loc[gene, sample] = False
    data = ad.AnnData(sp.csr_matrix(np.array(rows, dtype=np.int64)), frame, var, varm={"measured": seen})
    data.write_h5ad(path)
    return path


@pytest.mark.parametrize(("groups", "donors", "paired"), [("aaabbb", "uvwxyz", False), ("aaabbb", "pqrpqr", True)])
def test_planted_genes_are_found_and_their_direction(tmp_path, groups, donors, paired):
    found = differential_expression(write(tmp_path / "p.h5ad", groups, donors), "my group", "b", "a")
    assert tuple(found.table) == DIFFERENTIAL_COLUMNS
    assert found.messages == []
    (told,) = found.types
    assert (told["cell_type"], told["treated"], told["control"], told["paired"]) == ("T, cell", 3, 3, paired)
    assert told["replicates"] == "donor"
    hits = found.table[found.table["fdr"] <= 0.05]
    planted = {f"g{g}" for g in range(10)}
    assert len(planted & set(hits["gene"])) >= 9
    assert len(set(hits["gene"]) - planted) <= 3
    own = found.table.set_index("gene").loc[sorted(planted)]
    np.testing.assert_allclose(own["log2_fold_change"], 2, atol=0.9)
    assert told["higher"] >= 9
    assert list(found.table["p_value"]) == sorted(found.table["p_value"])
    swapped = differential_expression(tmp_path / "p.h5ad", "my group", "a", "b").table.set_index("gene")
    np.testing.assert_allclose(
        swapped.loc[own.index, "log2_fold_change"], -own["log2_fold_change"], rtol=1e-3, atol=1e-3
    )


def test_genes_that_a_sample_did_not_measure_are_not_tested(tmp_path):
    path = write(tmp_path / "p.h5ad", "aabb", "uvxy", measured=[("g3", "s1"), ("g50", "s3")])
    table = differential_expression(path, "my group", "b", "a").table
    assert not {"g3", "g50"} & set(table["gene"])
    assert {"g4", "g51"} <= set(table["gene"])


def test_samples_of_a_donor_are_summed(tmp_path):
    path = write(tmp_path / "p.h5ad", "aaaabbbb", "uuvvxxyy")
    found = differential_expression(path, "my group", "b", "a")
    assert (found.types[0]["treated"], found.types[0]["control"]) == (2, 2)
    data = ad.read_h5ad(path)
    data.obs["donor"] = ""
    data.write_h5ad(path)
    found = differential_expression(path, "my group", "b", "a")
    assert (found.types[0]["treated"], found.types[0]["replicates"]) == (4, "sample")
    assert "samples as replicates" in found.messages[0]


@pytest.mark.parametrize(
    ("groups", "donors", "cells"), [("aaab", "uvwx", 50), ("aabb", "uvxy", 9), ("abbb", "uuxy", 50)]
)
def test_too_few_replicates_or_cells_are_told_and_not_tested(tmp_path, groups, donors, cells):
    found = differential_expression(write(tmp_path / "p.h5ad", groups, donors, cells=cells), "my group", "b", "a")
    assert not len(found.table)
    assert tuple(found.table) == DIFFERENTIAL_COLUMNS
    assert found.types == []
    assert "T, cell was not compared" in found.messages[0]
    assert "too few" in found.messages[0]


def test_the_script_gives_the_same_bytes_again(tmp_path):
    write(tmp_path / "p.h5ad", "aaabbb", "uvwxyz")
    command = [str(ROOT / "bin" / "differential_expression.py"), "--pseudobulk", str(tmp_path / "p.h5ad")]
    written = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        subprocess.run([*command, "--contrast", "my group, b,a"], cwd=tmp_path / name, check=True)
        written.append((tmp_path / name / "differential_expression.tsv.gz").read_bytes())
    assert written[0] == written[1]
    told = json.loads((tmp_path / "one" / "differential_expression.json").read_text())
    assert told["contrast"] == ["my group", "b", "a"]
    assert len(read_tsv(tmp_path / "one" / "differential_expression.tsv.gz")) == told["types"][0]["genes"]
