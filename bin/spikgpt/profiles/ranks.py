"""Ranks of a cell's counts, and correlations that come from them, on sparse matrices.

Every row is worked out by itself, one stored value after the other: the bytes do not depend on which cells share a
block, nor on their order.
"""

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def count_ranks(counts: sp.csr_matrix) -> sp.csr_matrix:
    """Rank of each count among the cell's counts that are not 0, equal ones sharing their mean; same sparsity.

    ``counts`` (cells, genes) without stored zeros.
    """
    row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    order = np.lexsort((counts.data, row))
    value, of = counts.data[order], row[order]
    first = np.ones(len(order), dtype=bool)
    first[1:] = (value[1:] != value[:-1]) | (of[1:] != of[:-1])
    starts = np.flatnonzero(first)
    sizes = np.diff(np.append(starts, len(order)))
    ranks = np.empty(len(order))
    # a tie's mean rank within its cell: those before it, and the middle of its own
    ranks[order] = np.repeat(starts - counts.indptr[:-1][of[starts]] + (sizes + 1) / 2, sizes)
    return sp.csr_matrix((ranks, counts.indices, counts.indptr), shape=counts.shape)


def standard_ranks(values: Floats) -> Floats:
    """Row-wise ranks, ties sharing their mean, with mean 0 and standard deviation 1; a constant row is 0."""
    ranks = pd.DataFrame(values).rank(axis=1).to_numpy(dtype=np.float64, copy=True)
    ranks -= ranks.mean(1, keepdims=True)
    return ranks / np.maximum(ranks.std(1, keepdims=True), 1e-9)


def spearman(counts: sp.csr_matrix, profiles: Floats) -> Floats:
    """Spearman's correlation ``(cells, profiles)`` of each cell with each profile; 0 for a cell without a count.

    Parameters
    ----------
    counts
        (cells, genes) without stored zeros.
    profiles
        `standard_ranks` of the profiles, (profiles, genes).
    """
    genes = counts.shape[1]
    stored = np.diff(counts.indptr)
    absent = genes - stored
    # above the rank that the zeros share; a profile's ranks have mean 0, so what all genes have in common drops out
    above = count_ranks(counts)
    above.data += np.repeat(absent - (absent + 1) / 2, stored)
    squares = sp.csr_matrix((above.data**2, above.indices, above.indptr), shape=above.shape)
    ones = np.ones(genes)
    mean = (above @ ones) / genes
    sd = np.sqrt(np.maximum((squares @ ones) / genes - mean**2, 0.0))
    return np.asarray(above @ profiles.T) / (np.maximum(sd, 1e-9) * genes)[:, None]
