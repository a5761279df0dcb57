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
LIKE, UNLIKE, UPPER = 0.5, 0.4, 0.75
"""Likeness from which on a sample is corrected in full, below which not at all, and the quantile over types it is.

What differs beyond that is not a batch but other cells: a sample of another tissue must not be corrected until it
fits. Set with the likeness of all queries of `bench/unknown.py` in view (docs/benchmarks.md, "Unknown at the stated
rate", has its range): they overlap a little between the limits, where the limits of the signs decide. The median over
types would be lower where most cells are of a type that the reference lacks. Without the reference's mean taken off
first, what all cells share rules it, and two thirds of a pancreas were kept as types of blood.
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
    """Correlation ``(classes,)`` of the profiles of a sample's types with the reference's, in what sets types apart.

    ``sample``, ``reference`` (classes, genes): log1p CP10k of all cells of a type together. The mean of the reference's
    types is taken off both, as genes that every cell shows say nothing about tissue or type. A type that sample or
    reference lacks has a profile of zeros and gets 0.
    """
    known = reference.any(axis=1, keepdims=True)
    both = known & sample.any(axis=1, keepdims=True)
    mean = reference.sum(axis=0) / max(int(known.sum()), 1)
    sample, reference = both * (sample - mean), both * (reference - mean)
    sample = sample - sample.mean(1, keepdims=True)
    reference = reference - reference.mean(1, keepdims=True)
    scale = np.sqrt((sample**2).sum(1) * (reference**2).sum(1))
    return np.asarray((sample * reference).sum(1) / np.maximum(scale, 1e-12))


def share_of_correction(likeness: float) -> float:
    """How much of a correction a sample gets by its likeness: 0 up to `UNLIKE`, 1 from `LIKE` on, linear between."""
    return float(np.clip((likeness - UNLIKE) / (LIKE - UNLIKE), 0.0, 1.0))


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
