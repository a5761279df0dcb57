"""Training an annotator: hold out, learn the mixture and the calibration, fit on everything."""

import sys
from typing import Any

import numpy as np

from spikgpt.annotator.annotation import Annotator
from spikgpt.annotator.cautions import depth_leak, grave_cautions, reference_warnings
from spikgpt.annotator.folds import folds, large_enough
from spikgpt.annotator.held_out import (
    HeldOut,
    Training,
    held_out_signs,
    joined_log_probabilities,
    mix_by_the_other_folds,
)
from spikgpt.annotator.joined import joined_warnings
from spikgpt.annotator.leave_out import leave_one_out_table
from spikgpt.annotator.levels import LeftOut, Levels
from spikgpt.annotator.missing_types import leave_one_out_lines
from spikgpt.annotator.mixture import Mixture
from spikgpt.annotator.network import Recipe, SpikingTransformer
from spikgpt.annotator.realised import figures as level_figures
from spikgpt.annotator.realised import held_out_answers, left_out_row
from spikgpt.annotator.record import config, held_out_figures
from spikgpt.annotator.rejection import Rejection
from spikgpt.annotator.training_set import Reference
from spikgpt.annotator.tree import grow_tree
from spikgpt.annotator.views import distance_names
from spikgpt.annotator.workers import Job, results
from spikgpt.base.arrays import Codes
from spikgpt.base.threads import one_thread


@one_thread()
def train_annotator(
    reference: Reference,
    *,
    scgpt: dict[str, Any],
    unknown_rate: float,
    features: str,
    seed: int,
    threads: int,
    recipe: Recipe | None = None,
    shape: dict[str, int | float] | None = None,
    network_kind: type[SpikingTransformer] = SpikingTransformer,
    leave_one_out: bool = True,
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
    network_kind
        The network of the embedding view. A folder of an annotator with another than the default cannot be
        loaded; the bench compares them.
    leave_one_out
        Whether to make the leave-one-type-out table, which takes about a third of the time.

    Returns
    -------
    The annotator; the largest fold's held-out model, which the benchmark compares with; the fold of
    every cell ``(cells,)``.

    Raises
    ------
    MemoryError
        A worker process was killed.
    """
    recipe = recipe or Recipe()
    fold_of, folds_by = folds(reference, seed)
    training = Training(reference, features, recipe, shape or {}, network_kind, seed, folds_by == "batch")
    numbers = [int(fold) for fold in np.unique(fold_of)]
    everything = np.arange(len(reference.codes))
    progress(f"{len(everything)} cells, {len(reference.classes)} types; {len(numbers)} folds by {folds_by}")
    jobs: list[Job] = [(training.fit, everything), *((training.held_out, fold_of, fold) for fold in numbers)]
    views, *held = results(jobs, threads)
    largest = max(held, key=lambda part: len(part.rows))

    rows, log_p = np.concatenate([part.rows for part in held]), joined_log_probabilities(held)
    truth = reference.codes.copy()
    truth[rows] = reference.settled(rows, np.mean(list(log_p.values()), axis=0))
    mixture = Mixture.fit(log_p, truth[rows])
    progress(f"embedding view weighs {mixture.weight:g}; calibrating")
    calibrates = large_enough(reference.codes, len(reference.classes), unknown_rate)[reference.codes]
    judged = list(held_out_signs(training, held, mixture, calibrates))
    rejection = Rejection.learn(
        judged,
        distance_names(features),
        len(reference.classes),
        training.by_batch,
    )

    mixed = mix_by_the_other_folds(held, truth)
    truth[rows] = reference.settled(rows, mixed)
    tree = grow_tree(
        reference.classes, reference.ontology, reference.levels, reference.codes[rows], mixed, views.type_profiles()
    )
    progress(tree.told)
    missing: list[dict[str, Any]] = []
    left_out: list[LeftOut] = []
    if leave_one_out:
        progress("leaving out types in turn")
        found = leave_one_out_table(training, largest, fold_of, unknown_rate, mixture.weight, rejection, threads)
        left_out = [cells for _, cells in found]
        for row, cells in found:
            others = Levels.learn(tree, truth[rows], mixed, [one for one in left_out if one is not cells])
            missing.append(row | left_out_row(tree, others, cells, unknown_rate))
        for line in leave_one_out_lines(missing):
            progress(line)
    levels = Levels.learn(tree, truth[rows], mixed, left_out)
    told_on, answers = held_out_answers(tree, rejection, held, judged, truth, left_out, unknown_rate)
    on_levels = level_figures(
        tree, reference.classes, answers, mixed.argmax(1), truth[told_on], reference.codes[told_on]
    )
    leak = depth_leak(reference.depth, reference.codes, seed)
    warnings = [*reference_warnings(reference, folds_by, unknown_rate, leak), *joined_warnings(reference, tree)]
    figures = held_out_figures(reference.classes, truth[rows], mixed, log_p, reference.codes[rows])
    grave = grave_cautions(figures, unknown_rate)
    for line in (*grave, *warnings):
        progress(f"warning: {line}")

    written = config(
        reference,
        views,
        mixture,
        rejection,
        scgpt=scgpt,
        unknown_rate=unknown_rate,
        features=features,
        seed=seed,
        recipe=recipe,
        calibration_cells=int(calibrates[rows].sum()),
        folds=len(numbers),
        folds_by=folds_by,
        leak=leak,
        leave_one_out=missing,
        levels={**levels.as_dict(reference.classes), "held_out": on_levels},
        held_out=figures,
        grave=grave,
        warnings=warnings,
    )
    return Annotator(views, mixture, rejection, written), largest, fold_of


def progress(text: str) -> None:
    print(f"train_annotator: {text}", file=sys.stderr, flush=True)
