"""Counts on two scales, worked out by the count instead of by the gene.

What is meant, for one cell:

- *rank*: ``scipy.stats.rankdata`` of its counts that are not 0, over the number of them; a zero stays 0. Free of depth
  and of any monotone distortion.
- *length*: log1p of counts per 10,000, over the Euclidean length of the cell's vector.

How it is computed: a cell of 20,000 genes has a few dozen different counts. Rank and length are worked out once for
each different count (`ByCount`) and looked up for every gene. The tests hold `scaled` against the two lines above.
"""

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from spikgpt.base.arrays import Codes, Floats32

SCALES = ("rank", "length")
SMALL_COUNTS = 64
"""Each cell has an entry for each count below this; larger ones, which are few, have entries where they occur."""
COUNT_BITS = 32
"""Bits of a number that holds a cell and a count that are the count's."""


def scaled(counts: sp.csr_matrix, scale: str) -> sp.csr_matrix:
    """Whole counts ``(cells, genes)`` on one of the `SCALES`, float32, same sparsity."""
    by_count = ByCount(counts)
    return with_values(counts, by_count.on_scale(scale)[by_count.entries(counts)])


class ByCount:
    """Ranks and lengths of the counts of a matrix ``(cells, genes)`` of whole numbers, by cell and count.

    An entry is a cell and a count; the first ``cells * SMALL_COUNTS`` are those of small counts, in order.
    ``cell``, ``value``, ``size`` (entries,): the cell, the count, and how many of the cell's genes have it; ``rank``
    (entries,) mean rank among the cell's counts that are not 0; ``stored`` (cells,) the number of these.
    """

    def __init__(self, counts: sp.csr_matrix) -> None:
        cells = counts.shape[0]
        row, value = cells_and_counts(counts)
        large = np.flatnonzero(value >= SMALL_COUNTS)
        small_entry = row * SMALL_COUNTS + value
        number = np.bincount(small_entry[value < SMALL_COUNTS], minlength=cells * SMALL_COUNTS)
        number = number.reshape(cells, SMALL_COUNTS)
        number[:, 0] = 0  # a stored zero is a zero
        self.large, sizes = np.unique(pair(row[large], value[large]), return_counts=True)
        row_of = self.large >> COUNT_BITS
        self.cell = np.concatenate([np.repeat(np.arange(cells), SMALL_COUNTS), row_of])
        self.value = np.concatenate([np.tile(np.arange(SMALL_COUNTS), cells), self.large & (2**COUNT_BITS - 1)])
        self.size = np.concatenate([number.ravel(), sizes])
        self.stored = np.bincount(self.cell, self.size, minlength=cells)
        # how many of the cell's counts are less: the small ones, then the large ones before it
        small = np.cumsum(number, axis=1)
        larger = np.cumsum(sizes) - sizes
        first = np.searchsorted(row_of, row_of)
        below = np.concatenate([(small - number).ravel(), small[row_of, -1] + larger - larger[first]])
        # equal counts share the mean of their ranks
        self.rank = below + (self.size + 1) / 2
        self.rank[: cells * SMALL_COUNTS : SMALL_COUNTS] = 0.0

    def on_scale(self, scale: str) -> Floats32:
        """Values ``(entries,)`` on one of the `SCALES`."""
        if scale == "rank":
            return (self.rank / np.maximum(self.stored, 1)[self.cell]).astype(np.float32)
        cells = len(self.stored)
        total = np.maximum(np.bincount(self.cell, self.size * self.value, minlength=cells), 1.0)
        length = np.log1p(self.value * (1e4 / total)[self.cell])
        norm = np.sqrt(np.bincount(self.cell, self.size * length**2, minlength=cells))
        return (length / np.maximum(norm, 1e-12)[self.cell]).astype(np.float32)

    def entries(self, counts: sp.csr_matrix) -> Codes:
        """The entry of each stored count of the same matrix, or of some of its columns."""
        row, value = cells_and_counts(counts)
        entry = row * SMALL_COUNTS + value
        large = np.flatnonzero(value >= SMALL_COUNTS)
        entry[large] = len(self.stored) * SMALL_COUNTS + np.searchsorted(self.large, pair(row[large], value[large]))
        return entry


def cells_and_counts(counts: sp.csr_matrix) -> tuple[Codes, Codes]:
    """Row and value of each stored count."""
    return np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr)), counts.data.astype(np.int64)


def pair(row: Codes, value: Codes) -> Codes:
    """One number for a row and a count, in the order of rows, then of counts."""
    return (row << COUNT_BITS) | value


def with_values(counts: sp.csr_matrix, values: NDArray[np.floating[Any]]) -> sp.csr_matrix:
    """The matrix with these values in place of the stored counts."""
    return sp.csr_matrix((values, counts.indices, counts.indptr), shape=counts.shape)
