"""Cross-conformal p-values for "this cell belongs to the reference".

Two signs that a cell does not belong are put on one scale, the upper tail probability among held-out reference cells,
and joined: *fit* (how badly it fits its type) and *doubt* (it lies between types). Where a sample moves or spreads all
its predicted types alike, that is its batch: the median move is taken off, the median spread is divided by. The joined
score is sqrt(a^2 + b^2), a and b being -log10 of the two tail probabilities. Its rank among the same score of held-out
reference cells is the p-value [1].

The p-values are approximate, and no theorem bounds the share of known cells rejected here, for four reasons:

- The calibration scores come from the models of the folds, a sample's from the model of all cells (cross-conformal
  prediction [2], not split-conformal).
- Weight and temperature of the mixture were fitted on the labels of the cells that calibrate.
- A score depends on the other cells of its sample, through pooling and the correction of the batch.
- A sample's scores are divided by its spread, which is at least 1; the calibration scores are not divided. So cells
  just like the held-out ones are rejected somewhat less often than the rate: 4.1 % at 5 % with 300 simulated cells of
  calibration and 400 of a sample, 4.5 % with 2,000 of each.

What makes a new sample differ beyond what all types share is not covered at all.

[1] Vovk, Gammerman, Shafer, Algorithmic Learning in a Random World, 2005; Bates et al., Annals of Statistics 51, 2023.
[2] Vovk, Annals of Mathematics and Artificial Intelligence 74, 2015.
"""

from dataclasses import dataclass

import numpy as np

from spikgpt.annotator.batch import sign_shift, sign_spread, type_medians, type_spreads, types_to_compare
from spikgpt.base.arrays import Codes, Flags, Floats

TAIL_FROM = 0.9
"""Quantile above which a tail is taken as exponential: beyond the calibration cells ranks say nothing."""
DOUBT_CAP = 2.0
"""Most that doubt can count, in powers of ten: a tie between two types is no stronger evidence than 1 in 100."""


def p_values(scores: Floats, calibration: Floats) -> Floats:
    """Conformal p-values ``(1 + #{calibration >= score}) / (n + 1)``; large scores do not belong.

    ``calibration`` must be sorted.
    """
    above = len(calibration) - np.searchsorted(calibration, scores, side="left")
    return np.asarray((1.0 + above) / (len(calibration) + 1.0), dtype=np.float64)


def tail_strength(values: Floats, calibration: Floats) -> Floats:
    """``-log10`` of the upper tail probability among sorted ``calibration``, exponential above `TAIL_FROM`."""
    edge = float(np.quantile(calibration, TAIL_FROM))
    excess = calibration[calibration > edge] - edge
    rate = max(float(excess.mean()) if len(excess) else 0.0, 1e-9)
    beyond = np.log10(1 - TAIL_FROM) - (values - edge) / (rate * np.log(10))
    within = np.log10(np.maximum(p_values(values, calibration), 1 - TAIL_FROM))
    return np.where(values > edge, -beyond, -within)


def log_odds(probability: Floats) -> Floats:
    """Of a probability, bounded at 1 in 10,000: doubt on a scale where a batch moves all cells alike."""
    return np.asarray(np.log((probability + 1e-4) / (1 - probability + 1e-4)), dtype=np.float64)


@dataclass
class Calibration:
    """What held-out reference cells showed.

    A *sign* is a distance or, the last one, doubt. ``centre``, ``width`` (signs,): median, and 95th
    percentile minus median, of each; ``type_medians`` (classes, signs) of the scaled signs;
    ``type_spreads`` (classes, 2): median absolute deviation of fit and doubt; ``type_cells`` (classes,);
    ``fit``, ``doubt``, ``score``: sorted values (cells,).
    """

    centre: Floats
    width: Floats
    type_medians: Floats
    type_spreads: Floats
    type_cells: Floats
    fit: Floats
    doubt: Floats
    score: Floats

    @classmethod
    def learn(cls, distances: Floats, doubt: Floats, predicted: Codes, folds: Codes, classes: int) -> "Calibration":
        """Learn from held-out cells: ``distances`` (cells, distances), ``doubt``, ``predicted``, ``folds`` (cells,).

        Each fold is treated as one sample whose reference is the other folds, so that the calibration scores have been
        through the same shift correction as a sample's; not through the division by the spread. A fold of several
        batches gets one shift for all of them.
        """
        signs = np.column_stack([distances, log_odds(doubt)])
        centre = np.median(signs, axis=0)
        width = np.maximum(np.quantile(signs, 0.95, axis=0) - centre, 1e-6)
        scaled = (signs - centre) / width
        everything = np.ones(classes, dtype=bool)
        corrected = scaled.copy()
        for fold in np.unique(folds):
            inside = folds == fold
            cells = np.bincount(predicted[~inside], minlength=classes).astype(float)
            types = types_to_compare(predicted[inside], cells, everything)
            medians = type_medians(scaled[~inside], predicted[~inside], classes)
            corrected[inside] -= sign_shift(scaled[inside], predicted[inside], medians, types)
        pair = fit_and_doubt(corrected)
        calibration = cls(
            centre=centre,
            width=width,
            type_medians=type_medians(scaled, predicted, classes),
            type_spreads=type_spreads(pair, predicted, classes),
            type_cells=np.bincount(predicted, minlength=classes).astype(float),
            fit=np.sort(pair[:, 0]),
            doubt=np.sort(pair[:, 1]),
            score=np.zeros(0),
        )
        calibration.score = np.sort(calibration.join(pair)[0])
        return calibration

    def fit_and_doubt(
        self, distances: Floats, doubt: Floats, predicted: Codes, alike: Flags
    ) -> tuple[Floats, Floats, Floats]:
        """Fit and doubt of a sample ``(cells, 2)``; the shift ``(signs,)`` taken off, the spread ``(2,)`` divided by.

        ``alike`` (classes,) are the predicted types that tell what is batch.
        """
        scaled = (np.column_stack([distances, log_odds(doubt)]) - self.centre) / self.width
        types = types_to_compare(predicted, self.type_cells, alike)
        shift = sign_shift(scaled, predicted, self.type_medians, types)
        pair = fit_and_doubt(scaled - shift)
        spread = sign_spread(pair, predicted, self.type_spreads, types)
        return pair / spread, shift, spread

    def join(self, pair: Floats) -> tuple[Floats, Flags]:
        """The joined score ``(cells,)`` of fit and doubt, and where it comes from fit rather than doubt."""
        by_fit = tail_strength(pair[:, 0], self.fit)
        by_doubt = np.minimum(tail_strength(pair[:, 1], self.doubt), DOUBT_CAP)
        return np.hypot(by_fit, by_doubt), by_fit >= by_doubt


def fit_and_doubt(scaled: Floats) -> Floats:
    """Fit (mean of the distances) and doubt ``(cells, 2)`` of scaled signs."""
    return np.column_stack([scaled[:, :-1].mean(1), scaled[:, -1]])
