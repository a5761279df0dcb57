"""Teach an annotator one more type, from a population of cells that an earlier run called Unknown.

The population's cells are learned against the cells of the same samples that the annotator calls by a name, and
against populations that have other names; cells of its clusters that were called by a name, and Unknown cells
elsewhere, may be of the taught type and are learned from as neither. Everything that is told of the lesson, and its
calibration, comes from cells that were held out: whole samples where several have the population, else a third of the
cells in turn.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from spikgpt.annotator.annotation import Annotator, Own
from spikgpt.annotator.cells import Cells
from spikgpt.annotator.expression import SD_FLOOR
from spikgpt.annotator.folds import cells_needed, folds
from spikgpt.annotator.mixture import Mixture
from spikgpt.annotator.neighbours import MIN_CELLS_TO_POOL
from spikgpt.annotator.rejection import Calibration, Signs, rejected
from spikgpt.annotator.taught import (
    CLAIMED,
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
from spikgpt.annotator.training_set import Reference
from spikgpt.base.arrays import Codes, Flags, Floats, Floats32
from spikgpt.base.threads import one_thread

OTHERS, INSIDE, NEITHER = 0, 1, 2
"""What a cell is to a lesson."""
EMBEDDING_FLOOR = 1e-6
REPEATS = 3
"""How often thirds are drawn: of one drawing a few dozen cells calibrate, and the share of alpha cells that was called
later (Baron's library 3, in halves) was 0.85 to 0.98, as the draw had it."""


@dataclass
class TaughtCells:
    """Cells of the taught samples, rows sorted by sample and barcode, on the annotator's genes.

    ``counts`` (cells, annotator's genes) of the genes that are ``measured`` (genes,) in every sample, 0 elsewhere;
    ``embedding`` (cells, embedding_size); ``sample`` (cells,) into ``samples``; ``part`` (cells,): `OTHERS`, `INSIDE`,
    `NEITHER`; ``cluster``, ``label`` (cells,) of the earlier run.
    """

    counts: sp.csr_matrix
    measured: Flags
    embedding: Floats32
    sample: Codes
    samples: list[str]
    part: Codes
    cluster: NDArray[np.object_]
    label: NDArray[np.object_]

    def cells(self, rows: Codes) -> Cells:
        """Some of the cells, as a sample of their own."""
        columns = np.where(self.measured, np.arange(self.counts.shape[1]), -1)
        return Cells(self.counts, rows, columns, self.embedding[rows])


@dataclass(frozen=True)
class HeldOutCells:
    """What lessons without a cell's fold say of it, all (held-out cells,): its ``row``; ``best`` and ``own_p_value`` of
    the annotator; ``probability`` of the taught type; ``won``, and the ``p_value`` of those that are claimed.
    ``repeats``: how often each cell was held out."""

    row: Codes
    best: Codes
    own_p_value: Floats
    probability: Floats
    p_value: Floats
    won: Flags
    repeats: int


@dataclass(frozen=True)
class Part:
    """Cells of one sample that were held out, ``rows`` (cells,), what the annotator says of them as a sample of their
    own, and the lesson that was learned without their fold."""

    rows: Codes
    cells: Cells
    own: Own
    draft: Lesson


@one_thread()
def teach(annotator: Annotator, name: str, cells: TaughtCells, seed: int) -> tuple[Lesson, dict[str, Any]]:
    """Learn one type.

    Returns
    -------
    The lesson, and its figures on held-out cells, see `figures`.
    """
    foldings, by = hold_out(cells, cells_needed(annotator.config["unknown_rate"]), seed)
    parts, best_of_all = held_out_parts(annotator, name, cells, foldings)
    rows = np.concatenate([part.rows for part in parts])
    best = np.concatenate([part.own.log_p.argmax(1) for part in parts])
    of_parts = [log_probabilities(part.draft.judges, part.cells, part.own.log_p.argmax(1)) for part in parts]
    log_p = {view: np.concatenate([one[view] for one in of_parts]) for view in of_parts[0]}
    told = cells.part[rows] != NEITHER
    mixture = Mixture.fit({view: values[told] for view, values in log_p.items()}, cells.part[rows][told])
    probability = np.exp(mixture(log_p)[:, 1])
    ends = np.cumsum([len(part.rows) for part in parts])[:-1]
    probabilities = np.split(probability, ends)

    signs: dict[str, list[tuple[Signs, Flags]]] = {kind: [] for kind in annotator.rejection.calibrations}
    for part, of_part in zip(parts, probabilities, strict=True):
        draft = Taught.of(part.draft, annotator.views, annotator.rejection)
        near = part.own.neighbours
        for neighbours in [None] if near is None else [near, None]:
            mine = draft.signs(part.cells, part.own.log_p, of_part, neighbours)
            if mine.kind in signs:
                counted = (cells.part[part.rows] == INSIDE) & (mine.predicted == len(annotator.own_classes))
                signs[mine.kind].append((mine, counted))
    calibrations = {kind: Calibration.learn(found) for kind, found in signs.items() if found}
    learned = learn(annotator, name, cells, np.arange(len(cells.part)), best_of_all)
    lesson = replace(learned, mixture=mixture, calibrations=calibrations)

    judged = []
    for part, of_part in zip(parts, probabilities, strict=True):
        draft = Taught.of(replace(part.draft, calibrations=calibrations), annotator.views, annotator.rejection)
        own = part.own
        judged.append(won_by(draft, part.cells, own.log_p, of_part, own.judgement.p_value, own.neighbours))
    held = HeldOutCells(
        rows,
        best,
        np.concatenate([part.own.judgement.p_value for part in parts]),
        probability,
        np.concatenate([judgement.p_value for _, judgement in judged]),
        np.concatenate([won for won, _ in judged]),
        len(foldings),
    )
    return lesson, figures(annotator, cells, held, by)


def held_out_parts(
    annotator: Annotator, name: str, cells: TaughtCells, foldings: list[Codes]
) -> tuple[list[Part], Codes]:
    """Every sample of every fold of every folding, and the annotator's own type of each cell ``(cells,)``."""
    parts, first = [], np.zeros(0, dtype=np.int64)
    for fold_of in foldings:
        places = [rows for fold in np.unique(fold_of) for rows in samples_of(cells, np.flatnonzero(fold_of == fold))]
        own = [annotator.own_signs(cells.cells(rows)) for rows in places]
        best = np.zeros(len(fold_of), dtype=np.int64)
        for rows, one in zip(places, own, strict=True):
            best[rows] = one.log_p.argmax(1)
        drafts = {f: learn(annotator, name, cells, np.flatnonzero(fold_of != f), best) for f in np.unique(fold_of)}
        parts += [
            Part(rows, cells.cells(rows), one, drafts[fold_of[rows[0]]]) for rows, one in zip(places, own, strict=True)
        ]
        first = best if len(first) == 0 else first
    return parts, first


def samples_of(cells: TaughtCells, rows: Codes) -> list[Codes]:
    """Held-out ``rows`` (cells,) by sample; all together where a sample's are too few to pool."""
    parts = [rows[cells.sample[rows] == sample] for sample in np.unique(cells.sample[rows])]
    return parts if min(map(len, parts)) >= MIN_CELLS_TO_POOL else [rows]


def hold_out(cells: TaughtCells, needed: int, seed: int) -> tuple[list[Codes], str]:
    """Folds of the cells, each ``(cells,)``, and ``batch`` or ``stratified``, as `folds` has them.

    Whole samples are held out, once, where the others always have ``needed`` cells of the population left. Else thirds
    of the cells are, `REPEATS` times.
    """
    labelled = Reference(
        cells.counts, [], cells.embedding, cells.part, ["", "", ""], cells.sample, cells.samples, np.zeros(0), 0
    )
    fold_of, by = folds(labelled, seed)
    inside = cells.part == INSIDE
    if by == "batch":
        left = [int(inside[fold_of != fold].sum()) for fold in np.unique(fold_of)]
        if min(left) >= needed and len(np.unique(fold_of[inside])) > 1:
            return [fold_of], by
    labelled = replace(labelled, batches=[""])
    return [folds(labelled, seed + 1000 * repeat)[0] for repeat in range(REPEATS)], "stratified"


def learn(annotator: Annotator, name: str, cells: TaughtCells, rows: Codes, best: Codes) -> Lesson:
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
        parts.append(TypeRows.learn(views, cells.cells(rows[of_sample]), inside[of_sample], best[rows[of_sample]]))
    learned = TypeRows.mean(parts)
    return Lesson(name, cells.measured, judges, Mixture(0.5, 1.0), learned, {})


def figures(annotator: Annotator, cells: TaughtCells, held: HeldOutCells, by: str) -> dict[str, Any]:
    """What a lesson comes to on held-out cells, at the annotator's unknown rate.

    ``cells`` of the population and the shares of them ``claimed`` and ``called`` by its name; ``others``: cells that
    the annotator calls by a name, how many of these are claimed and would be called so (``claimed_others``, ``taken``),
    and the type that most of the latter have; ``known_as``: the type that most of the population have without the
    lesson, of those that are not Unknown; ``folds_by`` as in `hold_out`.
    """
    rate, part = annotator.config["unknown_rate"], cells.part[held.row]
    inside, claimed = part == INSIDE, held.probability > CLAIMED
    unknown = rejected(held.own_p_value, rate)
    called = held.won & ~rejected(held.p_value, rate)
    named = (part == OTHERS) & ~unknown
    names = annotator.own_classes

    def most(which: Flags) -> str | None:
        return names[int(np.bincount(held.best[which]).argmax())] if which.any() else None

    def number(which: Flags) -> int:
        return int(np.ceil(which.sum() / held.repeats))

    return {
        "cells": number(inside),
        "folds_by": by,
        "claimed": round(float(claimed[inside].mean()), 6),
        "called": round(float(called[inside].mean()), 6),
        "others": number(named),
        "claimed_others": number(claimed & named),
        "taken": number(called & named),
        "most_taken_from": most(called & named),
        "known_as": most(inside & ~unknown),
    }
