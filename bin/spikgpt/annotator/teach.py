"""Teach an annotator one more type, from a population of cells that an earlier run called Unknown.

The population's cells are learned against the cells of the same samples that the annotator calls by a name, and against
other populations; Unknown cells elsewhere may be of the taught type, and are learned from as neither. Everything that is
told of the lesson, and its calibration, comes from cells that were held out: whole samples where several have the
population, else a third of the cells in turn.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from spikgpt.annotator.annotation import Annotator
from spikgpt.annotator.cells import Cells
from spikgpt.annotator.expression import SD_FLOOR
from spikgpt.annotator.folds import cells_needed, folds
from spikgpt.annotator.mixture import Mixture
from spikgpt.annotator.neighbours import MIN_CELLS_TO_POOL
from spikgpt.annotator.rejection import Calibration, Signs, rejected
from spikgpt.annotator.taught import (
    EMBEDDING,
    EXPRESSION,
    SCALE,
    Judge,
    Lesson,
    Taught,
    TypeRows,
    log_probabilities,
    own_markers,
    values_of,
    won_by,
)
from spikgpt.annotator.training_set import STRATIFIED_FOLDS, Reference, readable_cells
from spikgpt.base.arrays import Codes, Flags, Floats, Floats32
from spikgpt.base.threads import one_thread

OTHERS, INSIDE, NEITHER = 0, 1, 2
"""What a cell is to a lesson."""
EMBEDDING_FLOOR = 1e-6


@dataclass
class Lessons:
    """Cells of the taught samples, rows sorted by sample and barcode, on the annotator's genes.

    ``counts`` (cells, annotator's genes) of the genes that are ``measured`` (genes,) in every sample, 0 elsewhere;
    ``embedding`` (cells, embedding_size); ``sample`` (cells,) into ``samples``; ``part`` (cells,): `OTHERS`, `INSIDE`,
    `NEITHER`.
    """

    counts: sp.csr_matrix
    measured: Flags
    embedding: Floats32
    sample: Codes
    samples: list[str]
    part: Codes

    def cells(self, rows: Codes) -> Cells:
        """Some of the cells, as a sample of their own."""
        columns = np.where(self.measured, np.arange(self.counts.shape[1]), -1)
        return Cells(self.counts, rows, columns, self.embedding[rows])


@dataclass(frozen=True)
class HeldOutCells:
    """What a lesson without a cell's fold says of it: ``log_p`` (cells, 2) of each regression, ``best`` (cells,) and
    ``own_p_value`` (cells,) of the annotator; ``probability``, ``p_value`` (cells,) of the taught type, the latter 0
    where it is not claimed; ``won`` (cells,)."""

    log_p: dict[str, Floats]
    best: Codes
    own_p_value: Floats
    probability: Floats
    p_value: Floats
    won: Flags


@one_thread()
def teach(annotator: Annotator, name: str, cells: Lessons, seed: int) -> tuple[Lesson, dict[str, Any]]:
    """Learn one type.

    Returns
    -------
    The lesson, and its figures on held-out cells, see `figures`.
    """
    fold_of, by = hold_out(cells, cells_needed(annotator.config["unknown_rate"]), seed)
    parts = [
        (fold, np.flatnonzero((fold_of == fold) & (cells.sample == sample)))
        for fold in np.unique(fold_of)
        for sample in np.unique(cells.sample[fold_of == fold])
    ]
    parts = [(fold, rows) for fold, rows in parts if len(rows)]
    own = {}
    for at, (_, rows) in enumerate(parts):
        own[at] = annotator.own_signs(cells.cells(rows))
    best = np.zeros(len(cells.part), dtype=np.int64)
    for at, (_, rows) in enumerate(parts):
        best[rows] = own[at].log_p.argmax(1)
    drafts = {
        fold: learn(annotator, name, cells, np.flatnonzero(fold_of != fold), best) for fold in np.unique(fold_of)
    }
    log_p: dict[str, Floats] = {view: np.zeros((len(cells.part), 2)) for view in drafts[parts[0][0]].judges}
    for at, (fold, rows) in enumerate(parts):
        found = log_probabilities(drafts[fold].judges, cells.cells(rows), best[rows])
        for view, values in found.items():
            log_p[view][rows] = values
    told = np.flatnonzero(cells.part != NEITHER)
    mixture = Mixture.fit({view: values[told] for view, values in log_p.items()}, cells.part[told])
    probability = np.exp(mixture(log_p)[:, 1])

    signs: dict[str, list[tuple[Signs, Flags]]] = {kind: [] for kind in annotator.rejection.calibrations}
    judged = []
    for at, (fold, rows) in enumerate(parts):
        draft = Taught.of(replace(drafts[fold], mixture=mixture), annotator.views, annotator.rejection)
        some = cells.cells(rows)
        for neighbours in [None] if own[at].neighbours is None else [own[at].neighbours, None]:
            mine = draft.signs(some, own[at].log_p, probability[rows], neighbours)
            counted = (cells.part[rows] == INSIDE) & (mine.predicted == len(annotator.own_classes))
            if mine.kind in signs:
                signs[mine.kind].append((mine, counted))
        judged.append(draft)
    calibrations = {kind: Calibration.learn(found) for kind, found in signs.items() if found}
    lesson = learn(annotator, name, cells, np.arange(len(cells.part)), best)
    lesson = replace(lesson, mixture=mixture, calibrations=calibrations)

    p_value, won = np.zeros(len(cells.part)), np.zeros(len(cells.part), dtype=bool)
    own_p = np.zeros(len(cells.part))
    for at, (fold, rows) in enumerate(parts):
        draft = Taught.of(
            replace(drafts[fold], mixture=mixture, calibrations=calibrations), annotator.views, annotator.rejection
        )
        own_p[rows] = own[at].judgement.p_value
        won[rows], judgement = won_by(
            draft, cells.cells(rows), own[at].log_p, probability[rows], own_p[rows], own[at].neighbours
        )
        p_value[rows] = judgement.p_value
    held = HeldOutCells(log_p, best, own_p, probability, p_value, won)
    return lesson, figures(annotator, cells, held, by)


def hold_out(cells: Lessons, needed: int, seed: int) -> tuple[Codes, str]:
    """Fold of each cell ``(cells,)``, and ``batch`` or ``stratified``, as `folds` has them.

    Whole samples are held out only where the others always have ``needed`` cells of the population left.
    """
    labelled = Reference(
        cells.counts, [], cells.embedding, cells.part, ["", "", ""], cells.sample, cells.samples, np.zeros(0), 0
    )
    fold_of, by = folds(labelled, seed)
    inside = cells.part == INSIDE
    if by == "batch":
        left = [int(inside[fold_of != fold].sum()) for fold in np.unique(fold_of)]
        if min(left) < needed or len(np.unique(fold_of[inside])) < 2:
            fold_of, by = folds(replace(labelled, batches=[""]), seed)
    return fold_of, by


def learn(annotator: Annotator, name: str, cells: Lessons, rows: Codes, best: Codes) -> Lesson:
    """A lesson of some cells, without mixture and calibration; ``best`` (all cells,) the annotator's own types."""
    inside, learns = cells.part[rows] == INSIDE, cells.part[rows] != NEITHER
    some = cells.cells(rows)
    views, classes = annotator.views, len(annotator.own_classes)
    judges = {}
    if views.expression is not None:
        genes = own_markers(some.counts()[learns], inside[learns])
        values = values_of(EXPRESSION, some, genes)
        judges[EXPRESSION] = Judge.fit(values, genes, inside, learns, best[rows], classes, SD_FLOOR[SCALE])
    if views.embedding is not None:
        numbers = np.arange(cells.embedding.shape[1])
        values = values_of(EMBEDDING, some, numbers)
        judges[EMBEDDING] = Judge.fit(values, numbers, inside, learns, best[rows], classes, EMBEDDING_FLOOR)
    parts = []
    for sample in np.unique(cells.sample[rows[inside]]):
        of_sample = cells.sample[rows] == sample
        parts.append(
            TypeRows.learn(views, cells.cells(rows[of_sample]), inside[of_sample], best[rows[of_sample]])
        )
    learned = TypeRows.mean(parts)
    return Lesson(name, cells.measured, judges, Mixture(0.5, 1.0), learned, {})


def figures(annotator: Annotator, cells: Lessons, held: HeldOutCells, by: str) -> dict[str, Any]:
    """What a lesson comes to on held-out cells, at the annotator's unknown rate.

    ``cells`` of the population, ``unknown`` share of them that the annotator calls Unknown without the lesson,
    ``claimed``, ``called`` shares of them; ``others`` cells that it calls by a name, ``taken`` how many of these would
    be called by the taught name, ``most_taken_from`` the type that most of them have; ``folds_by``.
    """
    rate = annotator.config["unknown_rate"]
    inside = cells.part == INSIDE
    unknown = rejected(held.own_p_value, rate)
    called = held.won & ~rejected(held.p_value, rate)
    named = (cells.part == OTHERS) & ~unknown
    taken = held.best[called & named]
    known = held.best[inside & ~unknown]
    names = annotator.own_classes
    return {
        "cells": int(inside.sum()),
        "folds_by": by,
        "unknown": round(float(unknown[inside].mean()), 6),
        "claimed": round(float((held.probability[inside] > 0.5).mean()), 6),
        "called": round(float(called[inside].mean()), 6),
        "others": int(named.sum()),
        "claimed_others": int((held.probability > 0.5)[named].sum()),
        "taken": len(taken),
        "most_taken_from": names[int(np.bincount(taken).argmax())] if len(taken) else None,
        "known_as": names[int(np.bincount(known).argmax())] if len(known) else None,
    }
