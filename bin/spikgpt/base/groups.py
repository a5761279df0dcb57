"""Sums and means of values over classes of cells."""

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from spikgpt.base.arrays import Floats


def class_members(codes: NDArray[np.integer], classes: int) -> sp.csr_matrix:
    """Who belongs to which class, ``(classes, cells)`` float64: its product with values of cells sums each class.

    Parameters
    ----------
    codes
        Class of each cell ``(cells,)``, ``0 .. classes - 1``; a cell of a negative code belongs to none.
    """
    cells = np.flatnonzero(codes >= 0)
    return sp.csr_matrix((np.ones(len(cells)), (codes[cells], cells)), shape=(classes, len(codes)))


def class_means(values: NDArray[Any], codes: NDArray[np.integer], classes: int) -> Floats:
    """Mean ``(classes, features)`` of dense values ``(cells, features)`` in each class; 0 for a class without cells.

    numpy's mean, class by class: the product with `class_members` would add up in another order, to other last bits.
    """
    means = np.zeros((classes, values.shape[1]))
    for k in np.unique(codes):
        means[k] = values[codes == k].mean(0, dtype=np.float64)
    return means


def evenly(total: int, most: int) -> np.ndarray:
    """Positions of at most `most` of `total` rows, evenly spaced; int64."""
    return np.unique(np.linspace(0, total - 1, min(total, most)).round().astype(np.int64))
