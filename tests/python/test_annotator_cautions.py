"""What training tells about a reference: batches, small types, spellings, depth, and types it would miss."""

import numpy as np
import scipy.sparse as sp
from spikgpt.annotator.cautions import DEPTH_LEAKS, depth_leak, reference_warnings, spellings
from spikgpt.annotator.missing_types import leave_one_out_lines
from spikgpt.annotator.training_set import Reference


def depths(ratio: float, cells: int = 60, types: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Depth of cells whose types' median depths form a geometric series, spread within a type as in 10x data."""
    draw = np.random.default_rng(0)
    codes = np.repeat(np.arange(types), cells)
    return 3000 * ratio**codes * draw.lognormal(0, 0.4, len(codes)), codes


def reference(depth: np.ndarray, codes: np.ndarray, **given: object) -> Reference:
    classes = [f"type {number}" for number in range(codes.max() + 1)]
    batches = {"batch_codes": np.arange(len(codes)) % 2, "batches": ["a", "b"]}
    empty = sp.csr_matrix((len(codes), 3))
    fields = {"classes": classes, "without_known_gene": 0, **batches, **given}
    return Reference(
        counts=empty, genes=["A", "B", "C"], embedding=np.zeros((len(codes), 2)), codes=codes, depth=depth, **fields
    )


def warnings_of(depth: np.ndarray, codes: np.ndarray, kind: str = "batch", **given: object) -> list[str]:
    return reference_warnings(reference(depth, codes, **given), kind, 0.05, depth_leak(depth, codes, 0))


def test_a_sound_reference_has_no_warning():
    assert warnings_of(*depths(1.0)) == []


def test_depth_that_alone_predicts_the_label_is_warned_of():
    none, some, much = (depth_leak(*depths(ratio), seed=0) for ratio in (1.0, 1.3, 3.0))
    assert none["chance"] == some["chance"] == 0.25
    assert abs(none["leak"]) < 0.12
    # types that differ in RNA content are usual; those of other depths altogether are not
    assert none["leak"] < some["leak"] < DEPTH_LEAKS < much["leak"]
    assert much["balanced_accuracy"] > 0.8
    assert [text for text in warnings_of(*depths(3.0)) if "number of counts alone" in text]
    assert not [text for text in warnings_of(*depths(1.3)) if "number of counts alone" in text]


def test_depth_is_not_checked_on_a_handful_of_cells():
    assert depth_leak(*depths(3.0, cells=9), seed=0) is None
    depth, codes = depths(3.0, cells=9)
    with_one = np.concatenate([depth, np.full(30, 1e5)]), np.concatenate([codes, np.full(30, 4)])
    assert depth_leak(*with_one, seed=0) is None  # one type that is large enough


def test_few_cells_one_batch_and_lost_cells_are_told():
    depth, codes = depths(1.0, cells=12)
    warnings = warnings_of(depth, codes, batch_codes=np.zeros(48, dtype=int), batches=["a"], without_known_gene=3,
                 messages=["X holds log1p values; raw counts were restored from them."])  # fmt: skip
    assert warnings[0].startswith("X holds log1p")
    assert "at least 19 needed" in warnings[1]
    assert "type 0 (12), type 1 (12)" in warnings[1]
    assert "one batch" in warnings[2]
    assert "3 cells were left out" in warnings[3]
    assert "Types hardly recur across the batches" in warnings_of(*depths(1.0), kind="stratified")[0]


def test_spellings_of_one_type():
    assert spellings(["B cell", "B cells", "T-cell", "T cell", "NK", "CD4+ T", "CD4 T"]) == [
        ["B cell", "B cells"],
        ["T cell", "T-cell"],
    ]
    assert spellings(["Monocyte", "monocytes", "mono"]) == [["Monocyte", "monocytes"]]
    # letters of any alphabet count; signs alone are no spelling of each other
    assert spellings(["α cell", "β cell", "<", ">", "cell"]) == []
    depth, codes = depths(1.0, types=2)
    warnings = warnings_of(depth, codes, classes=["<script>B cell", "<SCRIPT>B cells"])
    assert warnings == [
        "'<SCRIPT>B cells' and '<script>B cell' look like one cell type spelt in different ways; they are kept apart."
    ]


def test_a_missing_type_is_told_with_its_interval():
    row = {"cell_type": "NK", "cells": 40, "caught": 0.9, "interval": [0.769, 0.96], "auroc": 0.8}
    assert leave_one_out_lines([row | {"mistaken_for": "CD8 T"}]) == [
        "without NK: 90 % (77 to 96 %) of 40 cells Unknown, AUROC 0.800; nearest to CD8 T"
    ]
