"""The bench of the genes that labels rest on: its exchange of genes, its markers, its section of the page."""

import sys

import numpy as np
import pytest
import scipy.sparse as sp
from conftest import ROOT

sys.path.append(str(ROOT / "bench"))

from library.attributions import BAR, RANDOM, WHOLE, Sample, constants, recall
from library.canonical import BLOOD, MARKERS, PANCREAS
from library.splits import Side, Split
from library.task import Task
from sections import explanations as section
from spikgpt.base.genes import Spelling


class Named:
    """What the bench asks of an annotator in these tests: its types."""

    classes = ("B", "NK")


@pytest.fixture
def sample() -> Sample:
    counts = sp.csr_matrix(
        np.array([[8, 0, 0, 2], [6, 0, 2, 2], [9, 1, 0, 0], [0, 5, 5, 10], [0, 4, 4, 2], [0, 9, 0, 1]])
    )
    side = Side(counts, ["MS4A1", "GNLY", "NKG7", "ACTB"], *(np.array(list("abcdef"), dtype=object) for _ in range(3)))
    task = Task(Split("made", side, side), np.zeros((6, 2)), np.zeros((6, 2)), 0, True)
    log_p = np.log(np.array([[0.9, 0.1]] * 3 + [[0.2, 0.8]] * 3))
    return Sample(task, Named(), None, np.arange(6), None, log_p, np.zeros(6, dtype=bool))


def test_exchanged_genes_are_those_of_a_cell_of_another_type_at_the_cells_depth(sample):
    made = sample.exchanged({0: np.array([0, 1]), 1: np.array([2])}).toarray()
    before = sample.counts.toarray()
    for cell, partner in enumerate(sample.partners):
        assert sample.called[partner] != sample.called[cell]
        columns = [0, 1] if sample.called[cell] == 0 else [2]
        expected = np.rint(before[partner, columns] * before[cell].sum() / before[partner].sum())
        assert made[cell, columns].tolist() == expected.tolist()
        others = [gene for gene in range(4) if gene not in columns]
        assert made[cell, others].tolist() == before[cell, others].tolist()


def test_recall_counts_the_markers_that_were_measured(sample):
    # CD79A and CD79B are no genes of the sample
    found = recall(
        sample, {0: np.array([0, 3]), 1: np.array([1, 3])}, {"B": ("MS4A1", "CD79A"), "NK": ("GNLY", "NKG7")}
    )
    assert found == {"B": 1.0, "NK": 0.5}


def test_random_genes_are_not_the_types_own(sample):
    own = {0: np.array([0, 3]), 1: np.array([1])}
    matched = sample.matched(own, 0, among=2)
    for type_, genes in own.items():
        assert len(matched[type_]) == len(genes)
        assert not set(matched[type_]) & set(genes)


def test_markers_are_current_symbols():
    spelling = Spelling({gene for markers in MARKERS.values() for gene in markers})
    assert all(spelling.of(gene) == gene for markers in MARKERS.values() for gene in markers)
    assert not set(PANCREAS) & set(BLOOD)


def test_the_section_says_whether_the_goal_was_met():
    def row(method: str, recall: float, lost: float) -> dict:
        return {"method": method, "recall": recall, "lost": lost, "changed": 0.1, "ms": None, "types": {"B": {}}}

    def told(own: float) -> str:
        rows = [row(WHOLE, own, 0.2), row("other", 0.9, 0.05), row(BAR, 0.8, 0.1), row(RANDOM, 0.0, 0.0)]
        split = {"split": "s", "cells": 9, "labelled": 8, "types": 1, "markers": 2, "embedding_weight": 0.4,
                 "methods": rows}  # fmt: skip
        return section.render({**constants(), "splits": [split]})

    assert f"Passes on every split: {WHOLE}. The product gives the first of them" in told(0.8)
    assert "No way passes. The product gives another: goal missed" in told(0.79)
    assert f"{WHOLE} by s" in told(0.8)
    assert "| other | 90.0 % | 0.050 | 10.0 % | – |" in told(0.8)
