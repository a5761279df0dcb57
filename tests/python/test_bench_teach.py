"""The bench of taught types: what a lesson comes to, mixtures, and its section of the page."""

import copy
import sys

import numpy as np
import scipy.sparse as sp
from conftest import ROOT

sys.path.append(str(ROOT / "bench"))

import teach
from annotator_cells import TYPES, made_cells
from library.splits import Side
from sections import teach as section


def test_mixtures_are_told_from_single_types() -> None:
    cells, _ = made_cells({TYPES[0]: 80, TYPES[1]: 80, TYPES[2]: 10}, seed=1, name="m")
    side = Side(
        sp.csr_matrix(cells.layers["counts"]), list(cells.var_names), cells.obs["cell_type"].to_numpy(dtype=object),
        cells.obs["batch"].to_numpy(dtype=object), np.array(cells.obs_names, dtype=object),
    )  # fmt: skip
    found = teach.mixtures(side, np.random.default_rng(0))
    assert [row["kind"] for row in found] == ["one type"] * 2 + ["two types, equal", "two types, 4 to 1"]
    assert [row["refused"] for row in found] == [False, False, True, True]


def figures() -> dict:
    at = {"cells": 40, "unknown_before": 0.9, "called": 0.95, "unknown": 0.05, "known_cells": 300, "right_before": 0.95,
          "right": 0.948, "false": 1, "others": 310}  # fmt: skip
    foreign = at | {"cells": 0, "unknown_before": None, "called": None, "unknown": None, "false": 0}
    row = {
        "reference": "r", "left_out": ["alpha"], "name": "alpha", "sample": "s", "seed": 0, "population": 38,
        "refused": "", "held_out": {"called": 0.9, "claimed_others": 1}, "other_half": at, "other_sample": at,
        "foreign": foreign, "foreign_name": "f",
    }  # fmt: skip
    mixed = {"agreement": 0.9, "share": 0.4, "refused": True}
    return {
        "scgpt": {}, "seeds": [0, 1], "minutes": 1.0, "rows": [row, row | {"seed": 1}],
        "wrong": [{"sample": "s", "what": "half of beta", "population": 50, "refused": "Not told."}],
        "mixed": {
            "s": [mixed | {"kind": "one type", "types": "ductal"}, mixed | {"kind": "two types", "types": "a, b"}]
        },
    }  # fmt: skip


def test_the_section_says_what_was_measured() -> None:
    page = section.render(figures())
    assert "95.0 % (95.0 % to 95.0 %) | yes |" in page
    assert "| r without alpha: alpha | 40 |" in page
    assert "Single types that are: ductal of s." in page
    assert "of 620 cells in 2 annotations 0 get a taught name" in page
    assert [row[-1] for row in section.goals(figures())] == ["yes"] * 3


def test_a_goal_that_is_missed_is_said_so() -> None:
    bad = copy.deepcopy(figures())
    bad["rows"][1]["other_half"] |= {"called": 0.8, "right": 0.9}
    bad["wrong"][0]["refused"] = ""
    assert [row[-1] for row in section.goals(bad)] == ["no"] * 3
    refused = copy.deepcopy(figures())
    kept = ("reference", "left_out", "name", "sample", "seed", "population")
    refused["rows"][1] = {name: refused["rows"][1][name] for name in kept} | {"refused": "Two kinds."}
    assert [row[-1] for row in section.goals(refused)] == ["no", "no", "yes"]
    assert "1 of 2: Two kinds." in section.render(refused)
