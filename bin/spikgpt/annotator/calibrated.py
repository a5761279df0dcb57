"""What a reference teaches but for levels: views, how they are mixed, and when a cell is Unknown."""

import sys
from dataclasses import dataclass

import numpy as np

from spikgpt.annotator.folds import folds, large_enough
from spikgpt.annotator.held_out import HeldOut, Training, held_out_signs, joined_log_probabilities
from spikgpt.annotator.mixture import Mixture
from spikgpt.annotator.network import Recipe, SpikingTransformer
from spikgpt.annotator.rejection import Rejection, Signs
from spikgpt.annotator.training_set import Reference
from spikgpt.annotator.views import Views, distance_names
from spikgpt.annotator.workers import Job, results
from spikgpt.base.arrays import Codes, Flags, Floats


@dataclass
class Calibrated:
    """Views of a whole reference, the models ``held`` of its folds, and what was learned of the latter's cells.

    ``fold_of`` (cells,) and ``folds_by`` see `spikgpt.annotator.folds.folds`; ``log_p`` (held-out cells, classes) of
    each view, fold after fold; ``judged`` see `held_out_signs`; ``calibrates`` (cells,), those of large enough types.
    """

    training: Training
    fold_of: Codes
    folds_by: str
    views: Views
    held: list[HeldOut]
    log_p: dict[str, Floats]
    mixture: Mixture
    judged: list[tuple[Signs, Flags]]
    calibrates: Flags
    rejection: Rejection

    @property
    def rows(self) -> Codes:
        """The held-out cells, fold after fold."""
        return np.concatenate([part.rows for part in self.held])


def calibrated(
    reference: Reference,
    *,
    unknown_rate: float,
    features: str,
    seed: int,
    threads: int,
    recipe: Recipe,
    shape: dict[str, int | float],
    network_kind: type[SpikingTransformer],
) -> Calibrated:
    """Fit on everything and on all folds but one each; mix and calibrate by the cells held out.

    Parameters as in `spikgpt.annotator.train.train_annotator`.
    """
    fold_of, folds_by = folds(reference, seed)
    training = Training(reference, features, recipe, shape, network_kind, seed, folds_by == "batch")
    numbers = [int(fold) for fold in np.unique(fold_of)]
    everything = np.arange(len(reference.codes))
    progress(f"{len(everything)} cells, {len(reference.classes)} types; {len(numbers)} folds by {folds_by}")
    jobs: list[Job] = [(training.fit, everything), *((training.held_out, fold_of, fold) for fold in numbers)]
    views, *held = results(jobs, threads)

    rows, log_p = np.concatenate([part.rows for part in held]), joined_log_probabilities(held)
    told = reference.telling(rows)
    mixture = Mixture.fit({name: values[told] for name, values in log_p.items()}, reference.codes[rows[told]])
    progress(f"embedding view weighs {mixture.weight:g}; calibrating")
    calibrates = large_enough(reference.codes, len(reference.classes), unknown_rate)[reference.codes]
    judged = list(held_out_signs(training, held, mixture, calibrates))
    rejection = Rejection.learn(judged, distance_names(features), len(reference.classes), training.by_batch)
    return Calibrated(training, fold_of, folds_by, views, held, log_p, mixture, judged, calibrates, rejection)


def progress(text: str) -> None:
    print(f"train_annotator: {text}", file=sys.stderr, flush=True)
