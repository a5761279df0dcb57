"""The tables that a script reads."""

import csv
import gzip

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from spikgpt.base.columns import OBS_COLUMNS
from spikgpt.base.tsv import read_tsv, write_tsv
from spikgpt.cohort.tables import STATISTICS, STEPS, cells_per_step, composition, read_cohort, removed_cells
from test_cohort import ODD, annotated, joined, small, small_table  # noqa: F401


@pytest.fixture(scope="module")
def cells(joined):  # noqa: F811
    return read_cohort(joined)[0]


def test_cells_have_the_contracts_columns_and_the_barcodes_as_they_came_in(cells, joined, small):  # noqa: F811
    assert list(cells.columns) == ["sample", "barcode", *OBS_COLUMNS[1:]]
    given = [
        name for s in small.samples for name in ad.read_h5ad(small.folder / f"{s}.norm.h5ad", backed="r").obs_names
    ]
    assert list(cells["barcode"]) == given


def test_bytes_are_stable_and_names_come_back(cells, tmp_path):
    for name in ("a", "b"):
        write_tsv(tmp_path / f"{name}.tsv.gz", cells)
    packed = (tmp_path / "a.tsv.gz").read_bytes()
    assert packed == (tmp_path / "b.tsv.gz").read_bytes()
    assert packed[4:8] == b"\0\0\0\0"  # no time stamp
    with gzip.open(tmp_path / "a.tsv.gz", "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(rows) == len(cells)
    assert ODD in {row["spikgpt_cell_type"] for row in rows}
    assert {row["condition"] for row in rows} == {"<b>ctrl</b>", "stim"}
    again = read_tsv(tmp_path / "a.tsv.gz")
    assert list(again["spikgpt_cell_type"]) == list(cells["spikgpt_cell_type"].astype(str))
    assert set(again["predicted_doublet"]) == {"False"}
    assert again["total_counts"].str.fullmatch(r"\d+").all()


def test_large_tables_are_written_in_parts(tmp_path):
    table = pd.DataFrame({"x": np.arange(100_001), "y": 1e7 + np.arange(100_001)})
    write_tsv(tmp_path / "t.tsv.gz", table)
    lines = gzip.decompress((tmp_path / "t.tsv.gz").read_bytes()).decode().splitlines()
    assert lines[0] == "x\ty"
    assert len(lines) == 100_002
    assert lines[-1] == "100000\t1.01e+07"


def test_composition_adds_up(cells):
    table = composition(cells)
    assert list(table.columns) == ["sample", "cell_type", "cells", "percent"]
    assert table["cells"].sum() == len(cells)
    np.testing.assert_allclose(table.groupby("sample")["percent"].sum(), 100)
    assert list(table["cell_type"][:4]) == [*sorted(table["cell_type"][:3]), "Unknown"]


def test_removed_cells_are_joined_by_sample(tmp_path):
    for sample in ("z", "a"):
        table = pd.DataFrame({"sample": [sample] * 2, "barcode": ["NA", "y"], "reason": ["min_genes"] * 2})
        write_tsv(tmp_path / f"{sample}.removed.tsv.gz", table)
    pd.DataFrame(columns=["sample", "barcode", "reason"]).to_csv(tmp_path / "n.removed.tsv.gz", sep="\t", index=False)
    joined_ = removed_cells([tmp_path / f"{s}.removed.tsv.gz" for s in "zna"])
    assert list(joined_["sample"]) == ["a", "a", "z", "z"]
    assert list(joined_["barcode"]) == ["NA", "y", "NA", "y"]  # a barcode NA is a name
    assert removed_cells([]).empty


def test_cells_per_step_add_up():
    removed = pd.DataFrame(
        {"sample": "a", "barcode": list("uvwx"), "reason": ["no_counts", "min_genes", *["predicted_doublet"] * 2]}
    )
    cells = pd.DataFrame({"sample": ["a"] * 5, "spikgpt_cell_type": ["T", "T", "B", "Unknown", "T"]})
    statistics = {kind: {} for kind in STATISTICS}
    statistics["import"] = {"a": {"barcodes": 100}, "b": {"barcodes": 0}}
    statistics["called"] = {"a": {"cells": 9}}
    statistics["ambient"] = {"a": {"cells_emptied": 1}}
    found = cells_per_step(["b", "a"], statistics, removed, cells)
    assert list(found.columns) == ["sample", "step", "cells"]
    steps = found.pivot(index="sample", columns="step", values="cells")[list(STEPS)]
    assert steps.loc["a"].tolist() == [100, 9, 8, 6, 5, 4, 1]
    assert steps.loc["b"].tolist() == [0] * 7
    # from each step to the next go as many as are removed there, and the last two share what is left
    assert steps.loc["a", "called"] - len(removed) == steps.loc["a", ["annotated", "Unknown"]].sum()
    statistics["called"]["a"]["cells"] = 10
    with pytest.raises(ValueError, match=r"a: 100 barcodes, 10 called .* do not add up"):
        cells_per_step(["a"], statistics, removed, cells)
