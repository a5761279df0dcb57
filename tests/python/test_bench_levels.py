"""The bench of answers on levels: its figures, its choice of a threshold for other methods, its section of the page."""

import sys

import numpy as np
import pytest
from conftest import ROOT

sys.path.append(str(ROOT / "bench"))

import levels
from library import together
from library.terms import TERMS
from sections import levels as section
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
    page = section.render(figures)
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
