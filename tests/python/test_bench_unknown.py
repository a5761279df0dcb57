"""The bench of the rate of Unknown: its queries, its figures, its choice of constants, and its section of the page."""

import sys

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from annotator_cells import made_cells
from conftest import ROOT
from spikgpt.annotator.correction import Constants

sys.path.append(str(ROOT / "bench"))

import unknown
from library import pairs
from library.splits import Side
from sections import unknown as section


@pytest.fixture(scope="module")
def cells() -> pairs.Cells:
    data, embedding = made_cells({"B cell": 120, "NK cell": 60, "T cell": 30}, seed=3, name="c")
    texts = [data.obs[column].to_numpy(dtype=object) for column in ("cell_type", "batch")]
    counts = sp.csr_matrix(data.layers["counts"]).astype(np.float32)
    return pairs.Cells(Side(counts, list(data.var_names), *texts, data.obs_names.to_numpy(dtype=object)), embedding)


def test_compositions_and_changes_are_what_they_are_called(cells):
    made = pairs.variants(cells, True, lambda side: np.zeros((len(side.labels), 4), np.float32))
    assert set(made) == {*pairs.COMPOSITIONS, pairs.BOTH, *pairs.CHANGES}
    assert (made["one type is 85 %"].side.labels == "B cell").mean() == pytest.approx(0.85, abs=0.01)
    assert (made[pairs.BOTH].side.labels == "B cell").mean() == pytest.approx(0.75, abs=0.01)
    assert set(made["two types"].side.labels) == {"B cell", "NK cell"}
    # a cell keeps its own embedding
    kept = np.isin(cells.side.barcodes, made["two types"].side.barcodes)
    np.testing.assert_array_equal(made["two types"].embedding, cells.embedding[kept])
    assert made["40 % of the depth"].side.counts.sum() == pytest.approx(0.4 * cells.side.counts.sum(), rel=0.05)
    assert 0.2 < made["gene factors"].side.counts.sum() / cells.side.counts.sum() < 0.9


def test_types_are_left_out_largest_and_smallest_first(cells):
    assert pairs.types_to_leave_out(cells.side, [cells.side], 3) == ["B cell", "T cell", "NK cell"]
    assert pairs.types_to_leave_out(cells.side, [cells.side], pairs.EVERY) == ["B cell", "T cell", "NK cell"]
    assert pairs.types_to_leave_out(cells.side, [cells.side], 0) == []
    few = cells.side.take(cells.side.labels != "T cell")
    assert pairs.types_to_leave_out(cells.side, [cells.side, few], 3) == ["B cell", "NK cell"]


def test_families_that_share_cells_are_left_out_together():
    assert pairs.related("pbmc") == {"pbmc", "pbmc-kang"}
    assert pairs.related("pbmc-kang") == {"pbmc-kang", "pbmc", "kang"}
    assert pairs.related("lines") == {"lines"}
    assert {one.family for one in pairs.PAIRS} >= set(pairs.BETWEEN)


def query() -> dict:
    truth = np.array(["a"] * 100 + ["b"] * 40 + ["c"] * 10 + ["new"] * 50, dtype=object)
    return {"truth": truth, "known": truth != "new", "unseen": truth == "new", "small": {"c"}}


def test_figures_of_a_query():
    p_value = np.r_[np.repeat([0.03, 0.5], [5, 95]), np.repeat([0.03, 0.5], [10, 30]), np.full(10, 0.03),
                    np.repeat([0.005, 0.5], [30, 20])]  # fmt: skip
    found = unknown.figures(query(), p_value)
    assert found["false_unknown 0.05"] == pytest.approx(25 / 150)
    assert found["false_unknown 0.01"] == 0
    assert (found["worst 0.05"], found["worst_type 0.05"]) == (0.25, "b")  # c is too small to be the worst
    assert found["small 0.05"] == 1
    assert found["caught 0.01"] == found["caught 0.2"] == pytest.approx(0.6)
    assert 0.7 < found["auroc"] < 0.9


def test_score_asks_for_the_rate_and_for_the_unseen():
    rows = pd.DataFrame(
        {"family": ["a", "a", "b"], "left_out": [False, True, False], "false_unknown": [0.05, 0.2, 0.05],
         "worst": [0.1, 0.3, 0.1], "caught": [np.nan, 0.6, np.nan]}
    )  # fmt: skip
    assert unknown.score(rows) == pytest.approx(0.75 - 0.25 - 0.125 + 0.6)


def test_the_grid_holds_what_is_shipped():
    shipped = Constants()
    for name, values in (unknown.GRID | unknown.LAST).items():
        assert getattr(shipped, name) in values


def test_section_says_what_is_missed():
    def row(kind: str, share: float, caught: float | None = None, **more: object) -> dict:
        figures = {
            f"{name} {rate}": None for name in ("worst_type", "small") for rate in ("0.01", "0.05", "0.1", "0.2")
        }
        for rate in ("0.01", "0.05", "0.1", "0.2"):
            figures |= {f"false_unknown {rate}": share, f"worst {rate}": 2 * share, f"caught {rate}": caught}
        figures |= {"worst_type 0.05": "B", "auroc": None if caught is None else 0.95}
        about = {"family": "pbmc", "reference": "one", "query": "two", "variant": None, "kind": kind, "left_out": None}
        about |= {"known_cells": 100, "unseen_cells": 0, "accuracy": 0.9, "ece": 0.03, "likeness": 0.9, "gate": 1.0}
        redone = {f"{name}, family left out": value for name, value in figures.items()}
        return about | {"not_calibrated": None} | figures | redone | more

    rows = [
        row("whole", 0.05),
        row("whole", 0.16, query="three", not_calibrated="too far"),
        row("left out", 0.03, 0.01, left_out="B"),
        row("variant", 0.04, variant="two types"),
    ]
    made = section.render(
        {
            "steps": {"max_steps": 100}, "minutes": 12.0, "constants": {"tail": 0.2, "transfer": 0.1},
            "grid": {"tail": [0.0, 0.2], "transfer": [0.1]}, "chosen": {"pbmc": {"tail": 0.0, "transfer": 0.1}},
            "spread": {"tail": {"0": 1.0, "0.2": 1.1}}, "columns": list(rows[0]),
            "rows": [list(one.values()) for one in rows],
        }
    )  # fmt: skip
    assert "| splits with false Unknown of 2 to 8 % | at least 80 % | 67 % | **no** |" in made
    assert "| false Unknown, highest | at most 15 % | 16.0 % (one to three) | **no** |" in made
    assert "samples that the product calls calibrated | at most 15 % | 5.0 % (one to two) | yes |" in made
    assert "| none | 1 of 1 | **no** |" in made
    assert "| without pbmc | 0 | 0.1 |" in made
    assert "| one without B to two | 3.0 % |" in made
    assert "| one to two: two types | 4.0 % |" in made
