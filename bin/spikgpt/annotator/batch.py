"""What all predicted types of a sample share of their difference from the reference: that is its batch.

Three corrections, each where its values live:

1. `batch_offset`: taken off the z-scores that the regressions and the network read, before the labels are final.
2. `median_shift`: taken off inside each distance to a type (residuals of genes or of components), in the share that
   the sample's `likeness` allows.
3. `spikgpt.annotator.correction`: of the signs that the p-value ranks.

The first weighs every type of `OFFSET_MIN_CELLS` cells and leaves alone what only one type shows. The second is the
median over types of `MIN_TYPE_CELLS` cells, from one type on.
"""

import numpy as np

from spikgpt.base.arrays import Codes, Floats
from spikgpt.base.groups import class_members

OFFSET_MIN_CELLS = 20
"""A type takes part in the batch offset with at least this many cells in reference and query."""
MIN_TYPE_CELLS = 15
"""A predicted type takes part in the estimate of a batch shift with at least this many cells."""
MIN_TYPES = 3
"""With fewer predicted types of `MIN_TYPE_CELLS` cells a missing type passes for a batch effect: samples of beta cells
alone, of B cells alone or of CD4 T cells alone, with the type missing from the reference, were rejected 1 to 7 % at a
rate of 5 %, and their shift is no larger than that of known types alone. A sample of 137 pancreas cells, likeness 0.71,
131 of them called a dendritic cell of blood, was half corrected and kept 70 % of these labels."""
LIKE, UNLIKE = 0.75, 0.65
"""Likeness from which on a sample is corrected in full, and below which it is not corrected at all.

What differs beyond that is not a batch but other cells: a sample of another tissue must not be corrected until it
fits. Likeness of real samples (median over types, weighted by cells): one tissue across donors, chemistries and
stimulation 0.83 to 0.99; mouse against human pancreas 0.76 to 0.78, labelled with accuracy 0.89 to 0.93; blood against
pancreas and against cell lines 0.37 to 0.81, where what the likeness lets through fails the limits of the signs.
"""


# --- 1: the offset of what regressions and network read -----------------------------------------------


def batch_offset(values: Floats, predicted: Codes, type_means: Floats, class_cells: Floats) -> Floats:
    """What all predicted types share of the difference between sample and reference, ``(features,)``.

    ``values`` (cells, features) of the sample; ``type_means`` (classes, features) and ``class_cells`` (classes,) of the
    reference. Zero with fewer than two types of `OFFSET_MIN_CELLS`: one type cannot tell a batch from itself.
    """
    return offset_of_sums(type_sums(values, predicted, len(class_cells)), predicted, type_means, class_cells)


def type_sums(values: Floats, predicted: Codes, classes: int) -> Floats:
    """Sum ``(classes, features)`` of the cells of each predicted type."""
    return np.asarray(class_members(predicted, classes) @ values)


def offset_of_sums(sums: Floats, predicted: Codes, type_means: Floats, class_cells: Floats) -> Floats:
    """`batch_offset` from the sums ``(classes, features)`` of the predicted types."""
    number = np.bincount(predicted, minlength=len(class_cells))
    cells = np.minimum(number, class_cells)
    types = np.flatnonzero(cells >= OFFSET_MIN_CELLS)
    if len(types) < 2:
        return np.zeros(sums.shape[1])
    differences = np.stack([sums[k] / number[k] - type_means[k] for k in types])
    return shared_offset(differences, np.sqrt(cells[types]))


def shared_offset(differences: Floats, weights: Floats) -> Floats:
    """Empirical-Bayes estimate ``(features,)`` of the offset that all types share.

    ``differences`` (types, features), ``weights`` (types,): weighted mean, shrunk feature by feature by
    ``max(0, 1 - variance of the mean / mean^2)``, so that features on which types disagree keep none.
    """
    share = weights / weights.sum()
    mean = share @ differences
    types = len(weights)
    variance = (share**2) @ (differences - mean) ** 2 * types / (types - 1)
    return mean * np.maximum(0.0, 1.0 - variance / np.maximum(mean**2, 1e-12))


# --- 2: the shift of a distance -----------------------------------------------------------------------


def likeness(sample: Floats, reference: Floats) -> Floats:
    """Correlation ``(classes,)`` of the profiles of a sample's types with the reference's.

    ``sample``, ``reference`` (classes, genes): log1p CP10k of all cells of a type together. A type that the sample
    lacks has a profile of zeros and gets 0.
    """
    sample = sample - sample.mean(1, keepdims=True)
    reference = reference - reference.mean(1, keepdims=True)
    scale = np.sqrt((sample**2).sum(1) * (reference**2).sum(1))
    return np.asarray((sample * reference).sum(1) / np.maximum(scale, 1e-12))


def share_of_correction(likeness: float, predicted: Codes) -> float:
    """How much of a correction a sample gets by its likeness: 0 up to `UNLIKE`, 1 from `LIKE` on, linear between.

    Where the cells ``predicted`` (cells,) have fewer than `MIN_TYPES` types of `MIN_TYPE_CELLS` cells, 0 below `LIKE`:
    a batch is what several types share, and one type alone that is unlike the reference's is another type.
    """
    if likeness < LIKE and large_types(predicted) < MIN_TYPES:
        return 0.0
    return float(np.clip((likeness - UNLIKE) / (LIKE - UNLIKE), 0.0, 1.0))


def large_types(predicted: Codes) -> int:
    """How many of the types that the cells ``predicted`` (cells,) are called have `MIN_TYPE_CELLS` cells."""
    return int((np.bincount(predicted) >= MIN_TYPE_CELLS).sum())


def types_to_compare(predicted: Codes, class_cells: Floats) -> Codes:
    """Classes with enough cells in both the sample and the reference."""
    cells = np.bincount(predicted, minlength=len(class_cells))
    return np.flatnonzero(np.minimum(cells, class_cells) >= MIN_TYPE_CELLS)


def median_shift(differences: Floats) -> Floats:
    """Median over types ``(types, ...)``; zero without any."""
    if len(differences) == 0:
        return np.zeros(differences.shape[1:])
    return np.asarray(np.median(differences, axis=0))


def weighted_quantile(values: Floats, weights: Floats, at: float = 0.5) -> float:
    """The least of ``values`` (n,) with at least the share ``at`` of the ``weights`` (n,) up to it."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    place = int(np.searchsorted(total, at * total[-1]))
    return float(values[order][min(place, len(order) - 1)])
