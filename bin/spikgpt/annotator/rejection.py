"""When is a cell `Unknown`? The one rule that training, the leave-one-type-out table and annotation apply.

A cell is rejected where its p-value is at most the unknown rate. Top to bottom:

1. `Signs.of`: the distances of a cell to the type it is called, and doubt (one minus its largest probability),
   averaged with its nearest cells where the sample is large enough to pool.
2. `Calibration.fit_and_doubt`: both on the scale of held-out reference cells, less what all types of the sample share.
3. `Calibration.join`: one score; its rank among those of the held-out cells is a p-value.
4. `Rejection.judge`: that rank times the allowance, at most 1.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from spikgpt.annotator.cells import Cells
from spikgpt.annotator.conformal import Calibration, p_values
from spikgpt.annotator.neighbours import smoothed
from spikgpt.annotator.views import Views
from spikgpt.base.arrays import Codes, Flags, Floats

KINDS = ("pooled", "single")
"""Calibrations: cells pooled with neighbours, and cell by cell for samples too small to pool."""
ALLOWANCE = 2.0
"""Factor on the p-values where calibration cells could not be held out by batch.

A new sample's cells fit worse than cells of the reference's own batch even after the shift correction. Over nine
cross-batch pairs of real sets, single-batch calibration called 8.5 % of known cells Unknown at 5 %, and 4.8 % at
half the rate, with 73 % and 60 % of unseen cells caught: an empirical allowance, not a guarantee.
"""


@dataclass
class Signs:
    """What speaks against the cells of a sample.

    ``distances`` (cells, distances) to the type called, in the order of `spikgpt.annotator.views.distance_names`;
    ``doubt`` (cells,); ``predicted`` (cells,) the types called; ``alike`` (classes,) those whose cells look like the
    reference's, so that they can tell what is batch; ``kind``, one of `KINDS`.
    """

    distances: Floats
    doubt: Floats
    predicted: Codes
    alike: Flags
    kind: str

    @classmethod
    def of(cls, views: Views, cells: Cells, log_p: Floats, neighbours: Codes | None) -> "Signs":
        """Of cells with mixed log-probabilities ``log_p`` (cells, classes) and ``neighbours`` (cells, k), if pooled."""
        predicted = log_p.argmax(1)
        doubt = smoothed(1.0 - np.exp(log_p.max(1)), predicted, neighbours)
        alike = views.alike(cells, predicted)
        distances = views.distances(cells, predicted, neighbours, alike)
        return cls(distances, doubt, predicted, alike, "single" if neighbours is None else "pooled")


@dataclass
class Judgement:
    """``p_value`` (cells,), rounded; ``by_fit`` (cells,): whether fit rather than doubt speaks against the cell;
    ``shift`` (signs,) and ``spread`` (2,), what was corrected as the sample's batch."""

    p_value: Floats
    by_fit: Flags
    shift: Floats
    spread: Floats


@dataclass
class Rejection:
    """The rule: a calibration of each of `KINDS` that the reference was large enough for, and the factor on p-values.

    ``allowance`` is 1 where whole batches were held out to calibrate on, otherwise `ALLOWANCE`.
    """

    calibrations: dict[str, Calibration]
    allowance: float

    @classmethod
    def learn(cls, held_out: Iterable[tuple[Signs, Flags, int]], allowance: float, classes: int) -> "Rejection":
        """Learn from held-out reference cells.

        Parameters
        ----------
        held_out
            Signs of the cells of a fold, which of them ``(cells,)`` calibrate, and the fold's number. A kind that some
            fold lacks, being too small to pool, gets no calibration.
        """
        folds = list(held_out)
        numbers = {number for _, _, number in folds}
        calibrations = {}
        for kind in KINDS:
            of_kind = [(signs, counted, number) for signs, counted, number in folds if signs.kind == kind]
            if {number for _, _, number in of_kind} == numbers:
                calibrations[kind] = Calibration.learn(
                    np.concatenate([signs.distances[counted] for signs, counted, _ in of_kind]),
                    np.concatenate([signs.doubt[counted] for signs, counted, _ in of_kind]),
                    np.concatenate([signs.predicted[counted] for signs, counted, _ in of_kind]),
                    np.repeat([number for *_, number in of_kind], [counted.sum() for _, counted, _ in of_kind]),
                    classes,
                )
        return cls(calibrations, allowance)

    def neighbours(self, views: Views, cells: Cells) -> Codes | None:
        """Nearest cells ``(cells, k)`` to pool with; None where sample or reference is too small to pool."""
        return views.neighbours(cells) if "pooled" in self.calibrations else None

    def judge(self, signs: Signs) -> Judgement:
        """p-value of every cell of a sample: is it Unknown?"""
        calibration = self.calibrations[signs.kind]
        pair, shift, spread = calibration.fit_and_doubt(signs.distances, signs.doubt, signs.predicted, signs.alike)
        score, by_fit = calibration.join(pair)
        p_value: Floats = np.minimum(self.allowance * p_values(score, calibration.score), 1.0)
        # rounded, so that the last bit of a sum does not decide between machines
        return Judgement(p_value.round(6), by_fit, shift, spread)


def rejected(p_value: Floats, unknown_rate: float) -> Flags:
    """Which cells ``(cells,)`` are Unknown."""
    return p_value <= unknown_rate
