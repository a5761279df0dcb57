"""From logits to probabilities that can be believed: log-softmax, temperature, calibration error."""

import numpy as np

from spikgpt.base.arrays import Codes, Flags, Floats

ABSENT = -1e3
"""Logit of a class that had no training cell: exp(-1000) is 0."""


def log_softmax(logits: Floats) -> Floats:
    """Row-wise log-softmax; a row of finite numbers and -inf stays without NaN."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def best_scale(logits: Floats, codes: Codes) -> float:
    """Factor on ``logits`` (cells, classes) of least negative log-likelihood: the inverse temperature [1].

    [1] Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_scale: float) -> float:
        log_p = log_softmax(np.exp(log_scale) * logits)
        return -float(log_p[np.arange(len(codes)), codes].mean())

    minimum = minimize_scalar(loss, bounds=(np.log(0.05), np.log(100.0)), method="bounded")
    return round(float(np.exp(minimum.x)), 6)


def expected_calibration_error(confidence: Floats, right: Flags, bins: int = 15) -> float:
    """Mean absolute difference of confidence and accuracy over equal-width bins, weighted by cells.

    ``confidence``, ``right`` (cells,).
    """
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    total = 0.0
    for number in np.unique(bin_of):
        inside = bin_of == number
        total += abs(float(confidence[inside].mean()) - float(right[inside].mean())) * float(inside.sum())
    return total / max(len(confidence), 1)
