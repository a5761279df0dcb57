"""The opinion: both judges joined, and silence where they are not sure.

The log-probability of a class is that of the correlation (a softmax over profiles, summed over the class's) plus
`WEIGHT` times the mean of the regressions', brought to one scale. An opinion is given where the probability of a class
reaches a cut that was found on studies withheld from the library in turn (tools/assets/calibrate_profiles.py). Some
classes are told apart badly by any method that was tried, as T and NK cells: where none reaches the cut and two that
the library names together do, the opinion is "one of the two".
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from spikgpt.base.columns import OPINION, OPINION_SCORE
from spikgpt.profiles.correlation import Correlation, Offset, log_softmax
from spikgpt.profiles.library import Library
from spikgpt.profiles.ranks import Floats
from spikgpt.profiles.regression import LEAST, Regression, fit_regressions, viewed

SPREAD = 0.015
"""Temperature of the softmax over correlations with profiles."""
WEIGHT = 1.5
"""Of the regressions' mean log-probability beside the correlation's; .866 of withheld cells are right with 1, .868 with
1.5, .867 with 2."""
SHARPNESS = 0.535
"""Inverse temperature of both together."""
CUT = 0.81
"""Least probability of an opinion on a cell, ..."""
CLUSTER_CUT = 0.74
"""... and least mean probability over the cells of a cluster; both where 95 % of the opinions on withheld studies are
right, classes that the library has not seen among them."""
MIN_GENES = 1000
"""Genes of the library that a sample must have: fewer is a panel, another species, or antibodies."""
AT_ONCE = 1000
"""Cells whose values are in memory at a time."""

Blocks = Callable[[], Iterable[sp.csr_matrix]]


class Judges:
    """The judges of one sample, fitted to its genes, its depth and its batch."""

    def __init__(self, values: Floats, codes: NDArray[np.int64], classes: int, blocks: Blocks) -> None:
        """``values`` (genes found, profiles) log1p CP10k, ``codes`` (profiles,) their classes; ``blocks`` gives the
        sample's counts (cells, genes found), block by block, each time it is called."""
        offset = Offset(Correlation.of(values, codes))
        depths = []
        for counts in blocks():
            offset.add(counts)
            depths.append(np.asarray(counts.sum(axis=1)).ravel())
        every = np.concatenate(depths)
        self.depth = float(np.median(every[every > 0])) if (every > 0).any() else 0.0
        self.classes, self.codes = classes, codes
        self.correlation, self.offset_classes = offset.corrected()
        self.regressions: list[Regression] = (
            fit_regressions(values, codes, classes, self.depth) if self.depth > 0 else []
        )

    def log_probabilities(self, counts: sp.csr_matrix) -> tuple[Floats, Floats]:
        """Those of the correlation and the mean of the regressions', each ``(cells, classes)``.

        A cell without a count has the same everywhere.
        """
        per_profile = log_softmax(self.correlation.with_cells(counts) / SPREAD)
        member = np.zeros((len(self.codes), self.classes))
        member[np.arange(len(self.codes)), self.codes] = 1.0
        # row by row, as in `ranks`
        summed = np.asarray(sp.csr_matrix(np.exp(per_profile)) @ member)
        first = np.maximum(np.log(np.maximum(summed, np.exp(LEAST))), LEAST)
        seen = {view: viewed(counts, view) for view in {r.view for r in self.regressions}}
        second = [regression.log_probabilities(seen[regression.view]) for regression in self.regressions]
        return first, np.mean(second, axis=0)

    def probabilities(self, counts: sp.csr_matrix) -> Floats:
        """``(cells, classes)``; ``counts`` (cells, genes found); all 0 for a cell without a count."""
        first, second = self.log_probabilities(counts)
        out = np.exp(log_softmax(SHARPNESS * (first + WEIGHT * second)))
        out[np.diff(counts.indptr) == 0] = 0.0
        return out


def decide(
    probabilities: NDArray[np.floating[Any]], library: Library, cut: float
) -> tuple[list[str], NDArray[np.float32]]:
    """The opinion ("" for none) on each row and its probability, that of the likeliest class where there is none.

    ``probabilities`` (rows, classes); ``cut``: least probability of an opinion.
    """
    # float32 before the cut, as it is written: who reads the file finds the same opinions
    alone = probabilities.astype(np.float32)
    names = np.asarray(library.classes, dtype=object)[alone.argmax(axis=1)]
    score = alone.max(axis=1)
    together = [[library.classes.index(name) for name in members] for members in library.merged.values()]
    sums = np.stack([probabilities[:, members].sum(axis=1) for members in together], axis=1).astype(np.float32)
    merged = (score < cut) & (sums.max(axis=1) >= cut)
    names[merged] = np.asarray(list(library.merged), dtype=object)[sums.argmax(axis=1)[merged]]
    score[merged] = sums.max(axis=1)[merged]
    names[score < cut] = ""
    return names.tolist(), score


def second_opinion(
    library: Library,
    blocks: Callable[[], Iterable[sp.csr_matrix]],
    symbols: Sequence[str],
    gene_ids: Sequence[str],
    barcodes: Sequence[str],
    human: bool = True,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """What the library says of each cell of a sample.

    Parameters
    ----------
    blocks
        Gives the raw counts (cells, genes), block by block, each time it is called.
    symbols, gene_ids
        Of the sample's genes; an id may be "".
    barcodes
        Of the cells, in the order of the blocks.
    human
        Whether the genes are human ones; of another species nothing is said, whatever its genes are called.

    Returns
    -------
    barcode, `OPINION` ("" for none), `OPINION_SCORE` (float32) of each cell in that order, and the probability
    (float32) of each class in a column of its name; and figures: genes_found, offset_classes, cells, with_opinion,
    classes (opinion to number of cells), messages.

    Notes
    -----
    A cell's opinion depends on the other cells of the sample through the offset and the median depth alone, and these
    on sums of whole numbers: neither the order of cells nor the blocks change a byte.
    """
    columns = library.columns_in(symbols, gene_ids)
    found = np.flatnonzero(columns >= 0) if human else np.zeros(0, dtype=np.int64)
    names, scores = [""] * len(barcodes), np.zeros(len(barcodes), dtype=np.float32)
    every = np.zeros((len(barcodes), len(library.classes)), dtype=np.float32)
    offset_classes, messages = 0, []

    def own() -> Iterable[sp.csr_matrix]:
        for block in blocks():
            for start in range(0, block.shape[0], AT_ONCE):
                part = sp.csr_matrix(block[start : start + AT_ONCE][:, columns[found]], dtype=np.float64)
                part.eliminate_zeros()
                part.sort_indices()
                yield part

    if not human:
        messages.append("No second opinion: the tissue profiles are of human cells, and this sample is not.")
    elif len(found) < MIN_GENES:
        messages.append(
            f"No second opinion: {len(found)} of the {len(columns)} genes of the tissue profiles are in this sample, "
            f"at least {MIN_GENES} are needed."
        )
    elif barcodes:
        judges = Judges(library.values[found], library.codes, len(library.classes), own)
        offset_classes = judges.offset_classes
        if judges.depth > 0:
            at = 0
            for counts in own():
                rows = slice(at, at + counts.shape[0])
                every[rows] = judges.probabilities(counts)
                names[rows], scores[rows] = decide(every[rows], library, CUT)
                at = rows.stop
    given = pd.Series(names, dtype=object)
    table = pd.DataFrame({"barcode": list(barcodes), OPINION: given, OPINION_SCORE: scores})
    table = table.join(pd.DataFrame(every, columns=library.classes))
    counted = given[given != ""].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    return table, {
        "genes_found": len(found),
        "offset_classes": offset_classes,
        "cells": len(barcodes),
        "with_opinion": int((given != "").sum()),
        "classes": {str(name): int(number) for name, number in counted.items()},
        "messages": messages,
    }
