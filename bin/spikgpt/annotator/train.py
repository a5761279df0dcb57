"""Training an annotator: hold out, learn the mixture and the calibration, fit on everything."""

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any

import numpy as np
import torch
from sklearn.metrics import f1_score

from spikgpt import __version__
from spikgpt.annotator import cautions as checks
from spikgpt.annotator import leave_out
from spikgpt.annotator import mixture as mixing
from spikgpt.annotator import network as spiking
from spikgpt.annotator.cells import Cells, Codes, Floats
from spikgpt.annotator.conformal import ALLOWANCE, Calibration
from spikgpt.annotator.expression import FEW, MANY
from spikgpt.annotator.mixture import Mixture
from spikgpt.annotator.model import DEPTH_QUANTILE, FORMAT_VERSION, KINDS, Annotator, signs
from spikgpt.annotator.reference import Reference, folds, large_enough
from spikgpt.annotator.reference_markers import ReferenceMarkers
from spikgpt.annotator.verdicts import leave_one_out_lines
from spikgpt.annotator.views import Views, distance_names


@dataclass
class HeldOut:
    """A model of all folds but one, and what it said about that one's cells.

    ``rows`` (held-out cells,) into the reference: those whose type was among the training cells; ``seconds``:
    training and prediction together.
    """

    views: Views
    rows: Codes
    log_probabilities: dict[str, Floats]
    seconds: float


@dataclass
class Training:
    """All that one fit needs; sent to a worker process."""

    reference: Reference
    features: str
    recipe: spiking.Recipe
    shape: dict[str, int | float]
    seed: int

    def cells(self, rows: Codes) -> Cells:
        return Cells.of(self.reference.counts[rows], self.reference.embedding[rows])

    def fit(self, rows: Codes) -> Views:
        return Views.fit(
            self.cells(rows),
            self.reference.codes[rows],
            self.reference.batch_codes[rows],
            classes=len(self.reference.classes),
            features=self.features,
            recipe=self.recipe,
            shape=self.shape,
            seed=self.seed,
        )

    def held_out(self, fold_of: Codes, fold: int) -> HeldOut:
        """Fit on the other folds; predict this one as if it were a sample."""
        start = time.monotonic()
        views = self.fit(np.flatnonzero(fold_of != fold))
        rows = np.flatnonzero(fold_of == fold)
        # a type that only this fold has is unseen here: its cells are no calibration cells
        rows = rows[views.present[self.reference.codes[rows]]]
        log_p = views.log_probabilities(self.cells(rows))
        return HeldOut(views, rows, log_p, time.monotonic() - start)


def train_annotator(
    reference: Reference,
    *,
    scgpt: dict[str, Any],
    unknown_rate: float,
    features: str,
    seed: int,
    threads: int,
    recipe: spiking.Recipe | None = None,
    shape: dict[str, int | float] | None = None,
) -> tuple[Annotator, HeldOut, Codes]:
    """Train on a labelled reference.

    Parameters
    ----------
    scgpt
        ``sha256`` and ``name`` of the checkpoint that made the embeddings.
    threads
        Processes that fit folds side by side; the result does not depend on it.
    recipe, shape
        How the network is trained, and fields of its architecture that differ from the defaults.

    Returns
    -------
    The annotator; the held-out model and the mixed log-probabilities that the benchmark compares with; the fold
    of every cell.
    """
    recipe = recipe or spiking.Recipe()
    training = Training(reference, features, recipe, shape or {}, seed)
    fold_of, kind = folds(reference, seed)
    numbers = [int(fold) for fold in np.unique(fold_of)]
    everything = np.arange(len(reference.codes))
    progress(f"{len(everything)} cells, {len(reference.classes)} types; {len(numbers)} folds by {kind}")
    held, views = _fit_all(training, fold_of, numbers, everything, threads)

    rows = np.concatenate([part.rows for part in held])
    codes = reference.codes[rows]
    log_p = {
        name: np.concatenate([part.log_probabilities[name] for part in held]) for name in held[0].log_probabilities
    }
    mixture = mixing.learn(log_p, codes)
    progress(f"embedding view weighs {mixture.weight:g}; calibrating")
    calibrations = _calibrate(training, held, mixture, fold_of, unknown_rate)
    largest = max(held, key=lambda part: len(part.rows))
    missing = _leave_out(training, largest, fold_of, unknown_rate, mixture.weight, threads)
    for line in leave_one_out_lines(missing):
        progress(line)
    leak = checks.depth_leak(reference.depth, reference.codes, seed)
    told = checks.reference_warnings(reference, kind, unknown_rate, leak)
    for line in told:
        progress(f"warning: {line}")
    mixed = mixture(log_p)
    counted = large_enough(reference.codes, len(reference.classes), unknown_rate)[codes]

    cells = np.bincount(reference.codes, minlength=len(reference.classes))
    network = views.embedding.network if views.embedding else None
    config = {
        "format_version": FORMAT_VERSION,
        "spikgpt_version": __version__,
        "classes": reference.classes,
        "class_cells": {name: int(n) for name, n in zip(reference.classes, cells, strict=True)},
        "features": features,
        "seed": seed,
        "unknown_rate": float(unknown_rate),
        "genes": reference.genes,
        "scgpt": {**scgpt, "embedding_size": int(reference.embedding.shape[1])},
        "architecture": network.shape.as_dict() if network else None,
        "recipe": recipe.as_dict(),
        "markers_per_type": [FEW, MANY],
        "mixture": {"weight": mixture.weight, "scale": mixture.scale},
        "calibration": {
            "kinds": list(calibrations),
            "cells": int(counted.sum()),
            "folds": len(numbers),
            "folds_by": kind,
            "allowance": 1.0 if kind == "batch" else ALLOWANCE,
            "distances": distance_names(features),
        },
        "depth": {
            "low": float(np.quantile(reference.depth, DEPTH_QUANTILE)),
            "median": float(np.median(reference.depth)),
            "leak": leak,
        },
        "training": {
            "cells": len(everything),
            "genes": len(reference.genes),
            "batches": {
                name: int(n) for name, n in zip(reference.batches, np.bincount(reference.batch_codes), strict=True)
            },
        },
        "leave_one_out": missing,
        "held_out": held_out_figures(reference, mixed, log_p, codes),
        "warnings": told,
        "ontology": reference.ontology,
        "markers": ReferenceMarkers.choose(
            reference.counts, reference.genes, reference.codes, reference.classes, reference.depth
        ).as_dict(),
        "tensors_sha256": "",
        "digest": "",
    }
    largest.log_probabilities["mixed"] = mixture(largest.log_probabilities)
    return Annotator(views, mixture, calibrations, config), largest, fold_of


def progress(text: str) -> None:
    print(f"train_annotator: {text}", file=sys.stderr, flush=True)


def _begin_worker() -> None:
    torch.set_num_threads(1)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Else a worker whose parent is killed waits for ever, and with it the task whose output it holds open."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _workers(number: int) -> Iterator[ProcessPoolExecutor]:
    """Processes of one thread each; the server imports the package once for all of them.

    Raises
    ------
    MemoryError
        One of them was killed, which the kernel does where memory is short.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    try:
        with ProcessPoolExecutor(number, mp_context=context, initializer=_begin_worker) as pool:
            yield pool
    except BrokenProcessPool as error:
        raise MemoryError("a worker process was killed") from error


def _fit_all(
    training: Training, fold_of: Codes, numbers: list[int], everything: Codes, threads: int
) -> tuple[list[HeldOut], Views]:
    """The held-out models in order of fold, and the model of all cells."""
    if threads == 1:
        held = [training.held_out(fold_of, fold) for fold in numbers]
        return held, training.fit(everything)
    with _workers(min(threads, len(numbers) + 1)) as pool:
        whole = pool.submit(training.fit, everything)
        parts = [pool.submit(training.held_out, fold_of, fold) for fold in numbers]
        return [part.result() for part in parts], whole.result()


def _leave_out(
    training: Training, held: HeldOut, fold_of: Codes, unknown_rate: float, weight: float, threads: int
) -> list[dict[str, Any]]:
    """The leave-one-type-out table on the split of ``held``."""
    train = np.flatnonzero(fold_of != fold_of[held.rows[0]])
    codes = training.reference.codes
    types = leave_out.types_to_try(codes, train, held.rows, len(training.reference.classes))
    progress(f"leaving out {len(types)} types in turn")
    jobs = [(training, train, held.rows, k, unknown_rate, weight) for k in types]
    if threads == 1 or len(jobs) < 2:
        return [leave_out.try_without(*job) for job in jobs]
    with _workers(min(threads, len(jobs))) as pool:
        parts = [pool.submit(leave_out.try_without, *job) for job in jobs]
        return [part.result() for part in parts]


def _calibrate(
    training: Training, held: list[HeldOut], mixture: Mixture, fold_of: Codes, unknown_rate: float
) -> dict[str, Calibration]:
    """A calibration of each kind that the folds are large enough for, on the types that are large enough."""
    codes = training.reference.codes
    counted = large_enough(codes, len(training.reference.classes), unknown_rate)[codes]
    found: dict[str, list[tuple[Floats, Floats, Codes, Codes]]] = {kind: [] for kind in KINDS}
    for part in held:
        cells = training.cells(part.rows)
        mixed = mixture(part.log_probabilities)
        predicted = mixed.argmax(1)
        for kind in KINDS:
            near = part.views.neighbours(cells) if kind == "pooled" else None
            if kind == "pooled" and near is None:
                continue
            distances, doubt, _ = signs(part.views, cells, mixed, predicted, near)
            kept = counted[part.rows]
            found[kind].append((distances[kept], doubt[kept], predicted[kept], fold_of[part.rows][kept]))
    classes = len(training.reference.classes)
    return {
        kind: Calibration.learn(
            np.concatenate([part[0] for part in parts]),
            np.concatenate([part[1] for part in parts]),
            np.concatenate([part[2] for part in parts]),
            np.concatenate([part[3] for part in parts]),
            classes,
        )
        for kind, parts in found.items()
        if len(parts) == len(held)
    }


def held_out_figures(reference: Reference, mixed: Floats, log_p: dict[str, Floats], codes: Codes) -> dict[str, Any]:
    """Metrics of the held-out cells, for the record: all cells, each view, each type."""

    def scores(values: Floats) -> dict[str, float]:
        predicted = values.argmax(1)
        return {
            "accuracy": round(float((predicted == codes).mean()), 6),
            "macro_f1": round(
                float(f1_score(codes, predicted, average="macro", labels=np.unique(codes), zero_division=0)),
                6,
            ),
        }

    predicted = mixed.argmax(1)
    error = mixing.expected_calibration_error(np.exp(mixed.max(1)), predicted == codes)
    per_type = {}
    for number, name in enumerate(reference.classes):
        own = codes == number
        wrong = predicted[own & (predicted != number)]
        per_type[name] = {
            "cells": int(own.sum()),
            "recall": round(float((predicted[own] == number).mean()), 6) if own.any() else None,
            "most_often_mistaken_for": (reference.classes[int(np.bincount(wrong).argmax())] if len(wrong) else None),
        }
    return {
        "cells": len(codes),
        **scores(mixed),
        "expected_calibration_error": round(error, 6),
        "views": {name: scores(values) for name, values in sorted(log_p.items())},
        "types": per_type,
    }
