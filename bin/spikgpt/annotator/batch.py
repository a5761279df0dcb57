"""What all predicted types of a sample share of their difference from the reference: that is its batch.

Three corrections, each where its values live:

1. `batch_offset`: taken off the z-scores that the regressions and the network read, before the labels are final.
2. `median_shift`: taken off inside each distance to a type (residuals of genes or of components).
3. `sign_shift` and `sign_spread`: taken off, and divided by, on the scaled signs that the p-value ranks.

What only one type shows is left alone in all three: it may be biology. The first weighs every type of
`OFFSET_MIN_CELLS` cells, the others take the median over types of `MIN_TYPE_CELLS` cells, at least `MIN_TYPES` of them,
that look like the reference's (`alike`).
"""

import numpy as np

from spikgpt.base.arrays import Codes, Flags, Floats
from spikgpt.base.groups import class_members

OFFSET_MIN_CELLS = 20
"""A type takes part in the batch offset with at least this many cells in reference and query."""
MIN_TYPE_CELLS = 15
"""A predicted type takes part in the estimate of a batch shift with at least this many cells."""
MIN_TYPES = 3
"""Fewer types cannot tell a batch shift from biology; then nothing is taken off."""
MIN_LIKENESS = 0.8
"""A predicted type takes part only where its cells, pooled, correlate this well with the reference's profile of it.

What differs beyond that is not a batch but other cells: a sample of another tissue must not be corrected until it
fits. On real sets, types of one tissue across donors, chemistries and stimulation had 0.83 to 0.99 (median over
types), blood against pancreas, placenta and cell lines 0.37 to 0.80.
"""
SPREAD_FLOOR = 1e-3
"""Keeps the ratio of two spreads finite where a type's doubt does not vary."""


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


def alike(sample: Floats, reference: Floats) -> Flags:
    """Which types ``(classes,)`` look like the reference's: correlation of two profiles at least `MIN_LIKENESS`.

    ``sample``, ``reference`` (classes, genes): log1p CP10k of all cells of a type together. A type that the sample
    lacks has a profile of zeros, and does not look like the reference's.
    """
    sample = sample - sample.mean(1, keepdims=True)
    reference = reference - reference.mean(1, keepdims=True)
    scale = np.sqrt((sample**2).sum(1) * (reference**2).sum(1))
    return np.asarray((sample * reference).sum(1) >= MIN_LIKENESS * np.maximum(scale, 1e-12))


def types_to_compare(predicted: Codes, class_cells: Floats, alike: Flags) -> Codes:
    """Classes ``alike`` (classes,) with enough cells in both the sample and the reference."""
    cells = np.bincount(predicted, minlength=len(class_cells))
    return np.flatnonzero((np.minimum(cells, class_cells) >= MIN_TYPE_CELLS) & alike)


def median_shift(differences: Floats) -> Floats:
    """Median over types ``(types, ...)``, or zero when there are too few types."""
    if len(differences) < MIN_TYPES:
        return np.zeros(differences.shape[1:])
    return np.median(differences, axis=0)


# --- 3: shift and spread of the scaled signs ----------------------------------------------------------


def sign_shift(scaled: Floats, predicted: Codes, reference_medians: Floats, types: Codes) -> Floats:
    """Median over ``types`` of the difference of their medians ``(signs,)``; zero with too few of them.

    ``scaled`` (cells, signs) of the sample; ``reference_medians`` (classes, signs) of held-out reference cells;
    ``types`` see `types_to_compare`.
    """
    medians = type_medians(scaled, predicted, len(reference_medians))
    return median_shift(medians[types] - reference_medians[types])


def type_medians(scaled: Floats, predicted: Codes, classes: int) -> Floats:
    """Median of each predicted type ``(classes, signs)``; 0 without cells."""
    medians = np.zeros((classes, scaled.shape[1]))
    for k in np.unique(predicted):
        medians[k] = np.median(scaled[predicted == k], axis=0)
    return medians


def sign_spread(fit_and_doubt: Floats, predicted: Codes, reference_spreads: Floats, types: Codes) -> Floats:
    """Median over ``types`` of how much wider the sample is ``(2,)``; at least 1, and 1 with too few of them.

    ``fit_and_doubt`` (cells, 2) of the sample; ``reference_spreads`` (classes, 2); ``types`` as in `sign_shift`.
    """
    spreads = type_spreads(fit_and_doubt, predicted, len(reference_spreads))
    if len(types) < MIN_TYPES:
        return np.ones(2)
    ratios = (spreads[types] + SPREAD_FLOOR) / (reference_spreads[types] + SPREAD_FLOOR)
    return np.maximum(np.median(ratios, axis=0), 1.0)


def type_spreads(fit_and_doubt: Floats, predicted: Codes, classes: int) -> Floats:
    """Median absolute deviation of fit and doubt in each predicted type ``(classes, 2)``; 0 without cells."""
    spreads = np.zeros((classes, 2))
    for k in np.unique(predicted):
        values = fit_and_doubt[predicted == k]
        spreads[k] = np.median(np.abs(values - np.median(values, axis=0)), axis=0)
    return spreads
