"""The tables that a script reads."""

import csv
import gzip

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from spikgpt.base.columns import OBS_COLUMNS
from spikgpt.base.tsv import read_tsv, write_tsv
from spikgpt.cohort.tables import (
    STATISTICS,
    STEPS,
    cells_per_step,
    composition,
    qc_thresholds,
    read_cohort,
    removed_by_type,
    removed_cells,
)
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
    files = [tmp_path / f"{s}.removed.tsv.gz" for s in "zna"]
    types = pd.DataFrame({"sample": list("zzaa"), "barcode": ["y", "NA"] * 2, "nearest_type": ["T", "", "B", "T"]})
    joined_ = removed_cells(files, types)
    assert list(joined_["sample"]) == ["a", "a", "z", "z"]
    assert list(joined_["barcode"]) == ["NA", "y", "NA", "y"]  # a barcode NA is a name
    assert list(joined_["nearest_type"]) == ["T", "B", "", "T"]
    assert removed_cells([], types[:0]).empty
    for other in (types[:3], types.assign(barcode=list("pqrs"))):
        with pytest.raises(ValueError, match="other cells"):
            removed_cells(files, other)


def test_removed_by_type_counts_every_cell_once():
    cells = pd.DataFrame({"sample": ["a"] * 3 + ["b"], "spikgpt_best_match": ["T", "T", "B", "T"]})
    removed = pd.DataFrame(
        [("a", "u", "min_genes", "Plasma"), ("a", "v", "min_genes", "T"), ("a", "w", "predicted_doublet", "Plasma"),
         ("a", "x", "no_counts", ""), ("a", "y", "min_genes", "Plasma")],
        columns=["sample", "barcode", "reason", "nearest_type"],
    )  # fmt: skip
    found = removed_by_type(cells, removed)
    assert found["cells"].sum() == len(cells) + len(removed)
    rows = found.set_index(["sample", "nearest_type"])
    assert list(rows.index) == [("a", "B"), ("a", "Plasma"), ("a", "T"), ("a", ""), ("b", "T")]
    plasma = rows.loc[("a", "Plasma")]
    assert plasma[["cells", "kept", "removed", "percent_removed"]].tolist() == [3, 0, 3, 100]
    assert (plasma["reason"], plasma["min_genes"], plasma["predicted_doublet"]) == ("min_genes", 2, 1)
    assert rows.loc[("b", "T"), ["kept", "removed", "reason"]].tolist() == [1, 0, ""]
    # nothing was removed
    assert removed_by_type(cells, removed[:0])["removed"].sum() == 0
    # removed cells whose types nobody can tell: no type seems to have lost nothing
    blind = removed_by_type(cells, removed.assign(nearest_type=""))
    assert list(zip(blind["sample"], blind["nearest_type"], blind["cells"], strict=True)) == [
        ("a", "", 8),
        ("b", "", 1),
    ]


def test_thresholds_are_told_by_group():
    bound = {"rule": "pct_counts_mt", "threshold": 3.0, "centre": 4.0, "mad": 1.0, "lower": None, "upper": 9.0}
    stats = {
        "cells_in": 12, "cells_out": 9, "groups": [{"group": 1, "genes": "CD3D, IL7R", "cells": 10, "kept": 8}],
        "bounds": [{"group": "all", **bound, "removed": 1}, {"group": 1, **bound, "removed": 2}], "given": [],
        "removed": {"predicted_doublet": 0},
    }  # fmt: skip
    found = qc_thresholds({"filter": {"b": stats | {"bounds": []}, "a": stats}, "doublets": {"a": {"run": False}}})
    assert found["sample"].tolist() == ["a", "a"]
    assert found[["group", "genes", "cells", "kept", "removed"]].to_numpy().tolist() == [
        ["all", "", 12, 9, 1], [1, "CD3D, IL7R", 10, 8, 2],
    ]  # fmt: skip


def test_a_bound_says_where_it_comes_from():
    bound = {"group": "all", "threshold": 2.0, "centre": 4.0, "mad": 1.0, "lower": None, "upper": 9.0, "removed": 1}
    stats = {
        "cells_in": 12, "cells_out": 9, "groups": [], "given": ["min_genes", "pct_counts_mt_nmads"],
        "bounds": [{**bound, "rule": rule} for rule in ("min_genes", "pct_counts_mt", "log1p_total_counts")],
        "removed": {"predicted_doublet": 2},
    }  # fmt: skip
    doublets = {"a": {"run": True, "expected_rate": 0.012, "threshold": 0.31}}
    found = qc_thresholds({"filter": {"a": stats}, "doublets": doublets}).set_index("rule")
    assert found["source"].to_dict() == {
        "min_genes": "samplesheet", "pct_counts_mt": "samplesheet", "log1p_total_counts": "default",
        "predicted_doublet": "number of cells",
    }  # fmt: skip
    rate = found.loc["predicted_doublet"]
    assert rate[["group", "cells", "kept", "threshold", "upper", "removed"]].tolist() == ["all", 12, 9, 0.012, 0.31, 2]


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
