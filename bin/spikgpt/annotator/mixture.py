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


def learn(views: dict[str, Floats], codes: Codes) -> Mixture:
    """Weight and temperature of least negative log-likelihood on held-out cells ``(cells, classes)``.

    This is stacking with one weight [Wolpert, Neural Networks 5, 1992]: a checkpoint that tells the types apart
    better is leaned on more.
    """
    if len(views) == 1:
        return Mixture(1.0 if "embedding" in views else 0.0, best_scale(blended(views, 0.5), codes))
    made = []
    for weight in WEIGHTS:
        logits = blended(views, weight)
        scale = best_scale(logits, codes)
        log_p = log_softmax(scale * logits)
        made.append((-float(log_p[np.arange(len(codes)), codes].mean()), Mixture(weight, scale)))
    return min(made, key=lambda candidate: candidate[0])[1]


def expected_calibration_error(confidence: Floats, right: NDArray[np.bool_], bins: int = 15) -> float:
    """Mean absolute difference of confidence and accuracy over equal-width bins, weighted by cells."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    total = 0.0
    for number in np.unique(place):
        inside = place == number
        total += abs(float(confidence[inside].mean()) - float(right[inside].mean())) * float(inside.sum())
    return total / max(len(confidence), 1)
