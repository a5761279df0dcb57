"""Which types of this reference would be caught, were they missing from it?

Each type in turn is taken out of the training cells of one held-out model; its held-out cells are then unseen, and
are judged together with the others by the annotator's own rule (`spikgpt.annotator.rejection`).

The table is an indication, not a promise: its calibration scores are those of the other held-out cells themselves,
which are of the reference's own batches, and a row rests on few cells, hence its interval. To keep training short, at
most `MAX_TRAINING_CELLS` cells are learned from, and the network takes at most `MAX_STEPS` steps.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from spikgpt.annotator.folds import large_enough
from spikgpt.annotator.held_out import HeldOut, Training
from spikgpt.annotator.levels import LeftOut, Tails
from spikgpt.annotator.missing_types import interval
from spikgpt.annotator.mixture import Mixture
from spikgpt.annotator.neighbours import MIN_CELLS_TO_POOL
from spikgpt.annotator.realised import measured
from spikgpt.annotator.rejection import Rejection, Signs, rejected
from spikgpt.annotator.views import Views
from spikgpt.annotator.workers import results
from spikgpt.base.arrays import Codes, Flags, Floats

MIN_CELLS = 15
"""Types with fewer cells on either side are left out of the table: a share of them would be noise."""
MAX_TRAINING_CELLS = 2000
MAX_STEPS = 120
MAX_TYPES = 20
"""Only the largest types are tried."""


@dataclass
class WithoutType:
    """An annotator that lacks a type: views, mixture and rule; the held-out ``rows`` (cells,) of the reference that it
    judged, sample after sample, the ``samples`` (rows of each), their ``signs``, mixed log-probabilities (cells,
    classes) and p-values (cells,)."""

    views: Views
    mixture: Mixture
    rejection: Rejection
    samples: list[Codes]
    signs: list[Signs]
    log_probabilities: Floats
    p_values: Floats

    @property
    def rows(self) -> Codes:
        return np.concatenate(self.samples)


def leave_one_out_table(
    training: Training,
    held: HeldOut,
    fold_of: Codes,
    unknown_rate: float,
    weight: float,
    rule: Rejection,
    threads: int,
) -> list[tuple[dict[str, Any], LeftOut]]:
    """The rows of the table, on the split that ``held`` out, each with the cells it is about; see `judged_type`.

    ``fold_of`` (cells of the reference,); ``threads`` processes; the rest as in `without_type`.
    """
    codes, classes = training.reference.codes, len(training.reference.classes)
    train = np.flatnonzero(fold_of != held.fold)
    return results(
        [
            (judged_type, training, train, held.rows, k, unknown_rate, weight, rule)
            for k in types_to_try(codes, train, held.rows, classes)
        ],
        threads,
    )


def types_to_try(codes: Codes, train: Codes, test: Codes, classes: int) -> list[int]:
    """Classes with enough training and held-out cells, the largest `MAX_TYPES`, in order of their code."""
    cells = np.bincount(codes[train], minlength=classes)
    enough = np.minimum(cells, np.bincount(codes[test], minlength=classes)) >= MIN_CELLS
    if np.count_nonzero(cells) < 3:  # two types must remain to be told apart
        return []
    largest = [int(k) for k in np.argsort(-cells, kind="stable") if enough[k]][:MAX_TYPES]
    return sorted(largest)


def without_type(
    training: Training,
    train: Codes,
    test: Codes,
    left_out: int,
    unknown_rate: float,
    weight: float,
    rule: Rejection,
) -> WithoutType:
    """Learn from the rows ``train`` less those of a type, and judge the rows ``test``, sample by sample, as a user's.

    ``weight`` is that of the embedding view; ``rule`` that of the annotator with all types.
    """
    codes = training.reference.codes
    classes = len(training.reference.classes)
    rows = train[codes[train] != left_out]
    if len(rows) > MAX_TRAINING_CELLS:
        chosen = np.random.default_rng(training.seed).permutation(len(rows))[:MAX_TRAINING_CELLS]
        rows = np.sort(rows[chosen])
    steps = min(training.recipe.max_steps, MAX_STEPS)
    short = replace(training.recipe, max_steps=steps, min_steps=min(training.recipe.min_steps, steps))
    views = replace(training, recipe=short).fit(rows)
    samples = training.samples(test[views.present[codes[test]] | (codes[test] == left_out)])
    seen = [codes[rows] != left_out for rows in samples]
    of_views = [views.log_probabilities(training.cells(rows)) for rows in samples]
    known = {name: np.concatenate([p[name][s] for p, s in zip(of_views, seen, strict=True)]) for name in of_views[0]}
    told = np.concatenate([r[s] for r, s in zip(samples, seen, strict=True)])
    telling = training.reference.telling(told)
    mixture = Mixture.of_weight({name: p[telling] for name, p in known.items()}, weight, codes[told[telling]])
    log_p = [mixture(of_sample) for of_sample in of_views]
    # all pooled or none: the one calibration must do for all of them
    pooled = "pooled" in rule.calibrations and min(map(len, samples)) >= MIN_CELLS_TO_POOL
    signs = []
    for rows, of_sample in zip(samples, log_p, strict=True):
        cells = training.cells(rows)
        signs.append(Signs.of(views, cells, of_sample, views.neighbours(cells) if pooled else None))
    large = large_enough(codes, classes, unknown_rate)
    rejection = Rejection.learn(
        ((s.take(k), large[codes[r[k]]]) for s, r, k in zip(signs, samples, seen, strict=True) if k.any()),
        rule.signs[:-1],
        classes,
        rule.by_batch,
    )
    p_values = [rejection.judge(of_sample).p_value for of_sample in signs]
    return WithoutType(views, mixture, rejection, samples, signs, np.concatenate(log_p), np.concatenate(p_values))


def judged_type(
    training: Training,
    train: Codes,
    test: Codes,
    left_out: int,
    unknown_rate: float,
    weight: float,
    rule: Rejection,
) -> tuple[dict[str, Any], LeftOut]:
    """One row of the table, and what the model without the type saw of its cells; parameters as in `without_type`.

    ``caught`` is the share of the type's cells called Unknown, ``interval`` its 95 % interval; ``mistaken_for`` the
    type that most of its cells are called otherwise; ``auroc`` of the p-value against the other cells.
    """
    codes, names = training.reference.codes, training.reference.classes
    judged = without_type(training, train, test, left_out, unknown_rate, weight, rule)
    unseen = codes[judged.rows] == left_out
    caught = int(rejected(judged.p_values[unseen], unknown_rate).sum())
    of_cells = seen_without(judged, unseen, left_out)
    called = np.bincount(of_cells.called, minlength=len(names))
    row = {
        "cell_type": names[left_out],
        "cells": int(unseen.sum()),
        "caught": round(caught / int(unseen.sum()), 6),
        "interval": [round(bound, 6) for bound in interval(caught, int(unseen.sum()))],
        "auroc": round(float(roc_auc_score(~unseen, judged.p_values)), 6),
        "mistaken_for": names[int(called.argmax())],
    }
    return row, of_cells


def seen_without(judged: WithoutType, unseen: Flags, left_out: int) -> LeftOut:
    """What a model that lacks a type saw of its cells, ``unseen`` (cells,) among those that it judged."""
    tails_of = Tails.of(judged.rejection, judged.signs[0].kind)
    far, tails, cuts = (
        np.concatenate(parts)
        for parts in zip(*(measured(judged.rejection, tails_of, signs) for signs in judged.signs), strict=True)
    )
    return LeftOut(
        left_out, judged.p_values[unseen], judged.log_probabilities[unseen], far[unseen], tails[unseen], cuts[unseen]
    )
