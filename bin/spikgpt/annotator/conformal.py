"""Ranks among held-out reference cells: tail probabilities, how two of them are joined, and p-values.

*Fit* (how badly a cell fits its type) and *doubt* (it lies between types) are put on one scale, the upper tail
probability among held-out reference cells, and joined: sqrt(a^2 + b^2), a and b being -log10 of the two. The rank of
the joined score among those of held-out cells is a cross-conformal p-value [1, 2].

[1] Vovk, Gammerman, Shafer, Algorithmic Learning in a Random World, 2005; Bates et al., Annals of Statistics 51, 2023.
[2] Vovk, Annals of Mathematics and Artificial Intelligence 74, 2015.
"""

import numpy as np

from spikgpt.base.arrays import Flags, Floats

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


def joined(fit: Floats, doubt: Floats, of_fit: Floats, of_doubt: Floats) -> tuple[Floats, Flags]:
    """The joined score ``(cells,)``, and where it comes from fit rather than doubt.

    ``fit``, ``doubt`` (cells,); ``of_fit``, ``of_doubt``: the same of the calibration cells, sorted.
    """
    by_fit = tail_strength(fit, of_fit)
    by_doubt = np.minimum(tail_strength(doubt, of_doubt), DOUBT_CAP)
    return np.hypot(by_fit, by_doubt), by_fit >= by_doubt


def log_odds(probability: Floats) -> Floats:
    """Of a probability, bounded at 1 in 10,000: doubt on a scale where a batch moves all cells alike."""
    return np.asarray(np.log((probability + 1e-4) / (1 - probability + 1e-4)), dtype=np.float64)
