"""The bench of answers on levels: its figures, its choice of a threshold for other methods, its section of the page."""

import sys

import numpy as np
import pytest
from conftest import ROOT

sys.path.append(str(ROOT / "bench"))

import levels
from library import level_trials, together
from library.terms import TERMS
from sections import levels as section
from spikgpt.annotator.levels import Levels
from spikgpt.annotator.tree import Node, Tree
from spikgpt.base.cell_ontology import current_term


def test_figures_count_a_true_ancestor_as_right_and_unknown_as_safe():
    truth = np.array(["a"] * 8 + ["new"] * 4, dtype=object)
    known, missing = truth == "a", truth == "new"
    right = np.array([1] * 6 + [0] * 2 + [1, 0, 0, 0], dtype=bool)
    emitted = np.array([1] * 7 + [0] + [1, 1, 0, 0], dtype=bool)
    at_type = np.array([1] * 4 + [0] * 8, dtype=bool)
    sets = np.array(["a"] * 5 + ["b", "b|a", ""] + [""] * 4, dtype=object)
    found = levels.judged(truth, known, missing, right, emitted, at_type, sets)
    assert found["right"] == pytest.approx(6 / 7)
    assert (found["at_type"], found["above"], found["unknown"]) == (0.5, 0.375, 0.125)
    assert found["set_error"] == pytest.approx(1 / 7)
    assert found["set_size"] == pytest.approx(8 / 7)
    assert (found["missing_true"], found["missing_unknown"]) == (0.75, 0.5)
    assert levels.judged(truth, known, missing & False, right, emitted, at_type)["missing_true"] is None


def test_the_threshold_is_the_best_for_the_method():
    rows = [
        [
            {"right": 0.9, "unknown": 0.02 * at, "missing_true": min(1.0, 0.1 * at)}
            for at in range(len(levels.THRESHOLDS))
        ]
    ]
    assert levels.best_threshold(rows) == 10


def test_every_term_of_the_bench_is_in_use():
    assert all(current_term(term) == term for term in TERMS.values())


def test_the_section_says_what_was_aimed_at_and_whether_it_was_met():
    def row(query, left_out, method, **own):
        given = dict.fromkeys(levels.COLUMNS) | {
            "reference": "r", "query": query, "same_lab": True, "left_out": left_out, "method": method,
            "known_cells": 100, "missing_cells": 50 if left_out else 0, "right": 0.96, "at_type": 0.95, "above": 0.0,
            "unknown": 0.05,
        }  # fmt: skip
        return [(given | own)[name] for name in levels.COLUMNS]

    deep = {"at_type": 0.9, "above": 0.07, "unknown": 0.03, "set_error": 0.04, "set_size": 1.1}
    figures = {
        "minutes": 1.0, "thresholds": {"CellTypist": 0.5}, "columns": list(levels.COLUMNS),
        "rows": [
            row("q", None, levels.FLAT),
            row("q", None, levels.LEVELS, right=0.97, **deep),
            row("q", None, "CellTypist"),
            row("q", "t", levels.FLAT, missing_true=0.4), row("q", "t", "CellTypist", missing_true=0.2),
            row("q", "t", levels.LEVELS, missing_true=0.8, missing_unknown=0.3, right=0.95, **deep),
        ],
        "more_rows": [
            row("q2", None, levels.FLAT, right=0.9), row("q2", None, levels.LEVELS, right=0.99, **deep),
            row("q2", "t", levels.FLAT, missing_true=0.1), row("q2", "t", levels.LEVELS, missing_true=0.7, **deep),
        ],
        "chosen_columns": list(level_trials.COLUMNS),
        "chosen": [["blood", "shipped", 0.5, 0.15, 1.5, 1.5, None, 0.98, 0.9, 0.04]],
    }  # fmt: skip
    figures |= {
        "alike": 0.25,
        "together_columns": list(together.COLUMNS), "together": [["a and b", levels.FLAT, 10, 0.9, 0.5, 0.4, 0.1, 7]],
        "nearest_columns": list(together.NEAREST_COLUMNS),
        "nearest": [
            ["a", "b", "x", "x", 0.5, True], ["a", "c", "x", "z", 0.1, False], ["a", "c", "y", "z", 0.3, False],
        ],
    }  # fmt: skip
    met = [line[-1] for line in section.goals(section.frame_of(figures))]
    assert met == ["yes", "no", "yes", "yes", "yes"]  # of the type left out, fewer answers are right than the flat ones
    # where the best match alone errs less than 2 %, a set need not err more
    flat = [levels.COLUMNS.index(name) for name in ("method", "right")]
    sure = [[0.99 if (row[flat[0]], at) == (levels.FLAT, flat[1]) else value for at, value in enumerate(row)]
            for row in figures["rows"]]  # fmt: skip
    for rows, error, told in ((sure, 0.01, "yes"), (figures["rows"], 0.01, "no"), (sure, 0.09, "no")):
        frame = section.frame_of(figures | {"rows": rows})
        frame.loc[frame["left_out"].isna() & (frame["method"] == levels.LEVELS), "set_error"] = error
        assert section.goals(frame)[3][-1] == told
    page = section.render(figures)
    assert "| r without t to q2 | 50 | 10.0 % | 70.0 % | 96.0 % | 96.0 % | 5.0 % |" in page
    assert "| blood | shipped | 0.5 | 0.15 | 1.5 | 1.5 | – | 98.0 % | 90.0 % | 4.0 % |" in page
    assert "| r without t to q | 50 | 40.0 % | 80.0 % | 20.0 % | 30.0 % | 95.0 % |" in page
    assert "CellTypist 0.5" in page
    assert "| a and b, SpikGPT, flat | 7 | 90.0 % | 50.0 % | 40.0 % | 10.0 % |" in page
    assert "Among 2 pairs of data sets 2 pairs of types reach it; 1 of them are one type" in page
    assert "the smallest with 0.50 (not so: y and z (0.30)). The largest correlation below it is 0.10" in page


def test_an_answer_above_or_below_the_query_s_label_is_right():
    truth = np.array(["CD4 T", "CD4 T", "Mono", "CD8 T"], dtype=object)
    terms = np.array(["CL:0000895", "CL:0000084", "CL:0000236", "unknown"], dtype=object)
    answers = np.array(["CD4 Naive T", "T cell", "B", "Unknown"], dtype=object)
    found = together.judged(truth, terms, answers)
    assert found == {"cells": 4, "right": pytest.approx(2 / 3), "as_deep": 0.25, "above": 0.25, "unknown": 0.25}


def seen_query(reference: str, left_out: str | None, far: float) -> level_trials.Seen:
    """Ten CD4 and ten CD8 T cells; with one of them left out, its cells lie ``far`` and are called by the other."""
    classes = ["B", "CD4 T", "CD8 T"]
    node = Node("T cell", "CL:0000084", (1, 2))
    rule = Levels(Tree("ontology", "", (node,)), [-3.0] * 11, [[round(0.1 * at, 1) for at in range(99)]])
    truth = np.array(["CD4 T"] * 10 + ["CD8 T"] * 10)
    called = np.array([1] * 10 + [1 if left_out else 2] * 10)
    log_p = np.log(np.full((20, 3), 0.01) + 0.97 * np.eye(3)[called])
    distance = np.where(truth == left_out, far, 1.0)
    about = {"reference": reference, "left_out": left_out}
    kept = classes if left_out is None else ["B", "CD4 T", "no"]
    return level_trials.Seen(
        about, kept, rule, True, log_p, np.full(20, 0.5), distance, np.full(20, 0.9), np.zeros(20, bool), truth
    )


def test_the_rule_is_tried_on_what_was_kept(tmp_path):
    whole = seen_query("pbmc3k", None, 1.0)
    whole.save(tmp_path / "levels_seen_00.npz")
    (again,) = level_trials.load_all(tmp_path)
    found = again.judged(level_trials.SHIPPED)
    assert found == whole.judged(level_trials.SHIPPED)
    assert (found["right"], found["at_type"], found["worth"], found["missing_true"]) == (1.0, 1.0, 1.0, None)
    # cells with a p-value within the margin are called at the level above, which is right and worth half
    border = level_trials.Choice(margin=20.0)
    assert (again.judged(border)["at_type"], again.judged(border)["worth"]) == (0.0, 0.5)


def test_constants_are_chosen_without_the_data_set_that_they_are_judged_on():
    seen = [seen_query(name, "CD8 T", 1.0) for name in ("pbmc3k", "10x v2", "Kang control")]
    for one, p in zip(seen, (0.09, 0.12, 0.12), strict=True):
        one.p_value[10:] = p  # of the missing type's cells
    choices = [level_trials.Choice(margin=margin) for margin in (1.5, 2.0, 3.0)]
    best = level_trials.chosen(seen, choices)
    assert {name: choice.margin for name, choice in best.items()} == {"pbmc": 3.0, "savercat": 3.0, "kang": 3.0}
    rows = level_trials.chosen_again(seen[:2], choices)
    assert [(row["data_set"], row["constants"], row["margin"], row["missing_true"]) for row in rows] == [
        ("pbmc", "shipped", 1.5, 0.0), ("pbmc", "uniform", 1.0, 0.0), ("pbmc", "chosen without it", 3.0, 1.0),
        ("savercat", "shipped", 1.5, 0.0), ("savercat", "uniform", 1.0, 0.0),
        ("savercat", "chosen without it", 2.0, 0.0),
    ]  # fmt: skip
