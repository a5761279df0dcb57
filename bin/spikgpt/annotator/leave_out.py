"""Which types of this reference would be caught, were they missing from it?

Each type in turn is taken out of the training cells of one held-out model; its held-out cells are then unseen, and
the other held-out cells set the threshold. To keep training short, at most `MAX_TRAINING_CELLS` cells are learned
from, and the network takes at most `MAX_STEPS` steps.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from spikgpt.annotator import mixture as mixing
from spikgpt.annotator.cells import Codes
from spikgpt.annotator.conformal import Calibration, p_values
from spikgpt.annotator.expression import best_scale, log_softmax
from spikgpt.annotator.model import signs
from spikgpt.annotator.reference import large_enough
from spikgpt.annotator.views import Views

MIN_CELLS = 15
"""Types with fewer cells on either side are left out of the table: a share of them would be noise."""
MAX_TRAINING_CELLS = 2000
MAX_STEPS = 120
MAX_TYPES = 20
"""Only the largest types are tried."""


def types_to_try(codes: Codes, train: Codes, test: Codes, classes: int) -> list[int]:
    """Classes with enough training and held-out cells, the largest `MAX_TYPES`, in order of their code."""
    cells = np.bincount(codes[train], minlength=classes)
    enough = np.minimum(cells, np.bincount(codes[test], minlength=classes)) >= MIN_CELLS
    if np.count_nonzero(cells) < 3:  # two types must remain to be told apart
        return []
    largest = [int(k) for k in np.argsort(-cells, kind="stable") if enough[k]][:MAX_TYPES]
    return sorted(largest)


def try_without(
    training: Any, train: Codes, test: Codes, left_out: int, unknown_rate: float, weight: float
) -> dict[str, Any]:
    """One row of the table; ``training`` is a `spikgpt.annotator.train.Training`, ``train`` and ``test`` rows of it;
    ``weight`` that of the embedding view.

    ``caught`` is the share of the type's cells called Unknown where ``unknown_rate`` of the other held-out cells are;
    ``mistaken_for`` the type that most of its cells are called otherwise; ``auroc`` of the p-value against the others.
    """
    codes = training.reference.codes
    rows = train[codes[train] != left_out]
    if len(rows) > MAX_TRAINING_CELLS:
        chosen = np.random.default_rng(training.seed).permutation(len(rows))[:MAX_TRAINING_CELLS]
        rows = np.sort(rows[chosen])
    steps = min(training.recipe.max_steps, MAX_STEPS)
    short = replace(training.recipe, max_steps=steps, min_steps=min(training.recipe.min_steps, steps))
    views: Views = replace(training, recipe=short).fit(rows)
    test = test[views.present[codes[test]] | (codes[test] == left_out)]
    cells = training.cells(test)
    unseen = codes[test] == left_out
    log_p = mixing.blended(views.log_probabilities(cells), weight)
    mixed = log_softmax(best_scale(log_p[~unseen], codes[test][~unseen]) * log_p)
    predicted = mixed.argmax(1)
    distances, doubt, alike = signs(views, cells, mixed, predicted, views.neighbours(cells))
    seen = ~unseen
    classes = len(training.reference.classes)
    counted = seen & large_enough(codes, classes, unknown_rate)[codes[test]]
    counted = counted if counted.any() else seen
    calibration = Calibration.learn(
        distances[counted],
        doubt[counted],
        predicted[counted],
        np.zeros(int(counted.sum()), dtype=np.int64),
        classes,
    )
    score = calibration.join(calibration.fit_and_doubt(distances, doubt, predicted, alike)[0])[0]
    p = p_values(score, calibration.score)
    names = training.reference.classes
    called = np.bincount(predicted[unseen], minlength=len(names))
    return {
        "cell_type": names[left_out],
        "cells": int(unseen.sum()),
        "caught": round(float((p[unseen] <= unknown_rate).mean()), 6),
        "auroc": round(float(roc_auc_score(seen, p)), 6),
        "mistaken_for": names[int(called.argmax())],
    }
