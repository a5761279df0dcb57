"""How much each view counts, learned on held-out reference cells."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikgpt.annotator.expression import best_scale, log_softmax

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

WEIGHTS = tuple(round(0.1 * step, 1) for step in range(1, 10))


@dataclass(frozen=True)
class Mixture:
    """``log p = log_softmax(scale * (weight * embedding + (1 - weight) * expression))``.

    ``weight`` is the share of the embedding view; ``scale`` the inverse temperature [Guo et al., ICML 2017].
    """

    weight: float
    scale: float

    def __call__(self, views: dict[str, Floats]) -> Floats:
        """Mixed log-probabilities ``(cells, classes)``."""
        return log_softmax(self.scale * blended(views, self.weight))


def blended(views: dict[str, Floats], weight: float) -> Floats:
    """Weighted sum of the views' log-probabilities; a lone view stands for itself."""
    if len(views) == 1:
        return next(iter(views.values()))
    return weight * views["embedding"] + (1 - weight) * views["expression"]


def learn(views: dict[str, Floats], codes: Codes, classes: int) -> Mixture:
    """Weight and temperature from held-out cells.

    The weight is the smallest share of the embedding whose class-balanced loss is within one standard error
    of the best [Hastie et al., ESL 7.10]: on a new batch the expression view has an offset correction that the
    embedding view lacks, and a gain within the noise does not pay for losing it.
    """
    if len(views) == 1:
        return Mixture(1.0 if "embedding" in views else 0.0, best_scale(blended(views, 0.5), codes))
    cells = np.bincount(codes, minlength=classes)
    balance = len(codes) / (np.count_nonzero(cells) * cells[codes])
    scales, losses = [], []
    for weight in WEIGHTS:
        logits = blended(views, weight)
        scales.append(best_scale(logits, codes))
        log_p = log_softmax(scales[-1] * logits)
        losses.append(-log_p[np.arange(len(codes)), codes] * balance)
    best = int(np.argmin([loss.mean() for loss in losses]))
    for number in range(best + 1):
        worse = losses[number] - losses[best]
        if worse.mean() <= worse.std() / np.sqrt(len(codes)):
            best = number
            break
    return Mixture(WEIGHTS[best], scales[best])


def expected_calibration_error(confidence: Floats, right: NDArray[np.bool_], bins: int = 15) -> float:
    """Mean absolute difference of confidence and accuracy over equal-width bins, weighted by cells."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    total = 0.0
    for number in np.unique(place):
        inside = place == number
        total += abs(float(confidence[inside].mean()) - float(right[inside].mean())) * float(inside.sum())
    return total / max(len(confidence), 1)
