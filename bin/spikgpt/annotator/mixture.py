"""How much each view counts, learned on held-out reference cells."""

from dataclasses import dataclass

import numpy as np

from spikgpt.annotator.probabilities import best_scale, log_softmax
from spikgpt.base.arrays import Codes, Floats

WEIGHTS = tuple(round(0.1 * step, 1) for step in range(1, 10))


@dataclass(frozen=True)
class Mixture:
    """``log p = log_softmax(scale * (weight * embedding + (1 - weight) * expression))``.

    ``weight`` is the share of the embedding view; ``scale`` the inverse temperature.
    """

    weight: float
    scale: float

    @classmethod
    def fit(cls, views: dict[str, Floats], codes: Codes) -> "Mixture":
        """Weight and temperature of least negative log-likelihood on held-out cells.

        ``views``: log-probabilities ``(cells, classes)`` of each view; ``codes`` (cells,). This is stacking with one
        weight [Wolpert, Neural Networks 5, 1992]: a checkpoint that tells the types apart better is leaned on more.
        """
        if len(views) == 1:
            return cls.of_weight(views, 1.0 if "embedding" in views else 0.0, codes)
        candidates = [cls.of_weight(views, weight, codes) for weight in WEIGHTS]
        return min(candidates, key=lambda mixture: -float(mixture(views)[np.arange(len(codes)), codes].mean()))

    @classmethod
    def of_weight(cls, views: dict[str, Floats], weight: float, codes: Codes) -> "Mixture":
        """The best temperature at a given weight."""
        return cls(weight, best_scale(blended(views, weight), codes))

    def __call__(self, views: dict[str, Floats]) -> Floats:
        """Mixed log-probabilities ``(cells, classes)``."""
        return log_softmax(self.scale * blended(views, self.weight))


def blended(views: dict[str, Floats], weight: float) -> Floats:
    """Weighted sum of the views' log-probabilities; a lone view stands for itself."""
    if len(views) == 1:
        return next(iter(views.values()))
    return weight * views["embedding"] + (1 - weight) * views["expression"]
