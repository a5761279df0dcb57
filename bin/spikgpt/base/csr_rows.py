"""The rows of a CSR matrix in an h5ad, read with h5py alone.

Apart from `spikgpt.base.h5ad`: importing anndata and pandas takes 0.3 s of CPU, and an embedding needs neither.
"""

from collections.abc import Iterator

import h5py
import numpy as np
from scipy import sparse

ORTHOLOG = "human_ortholog"
"""Column of `var` where the genes are not human ones: the human gene that each is the one ortholog of, "" for none. A
file without it has human genes."""


class CsrRows:
    """A group in AnnData's `csr_matrix` encoding.

    Read with h5py: anndata 0.12.2's own backed slices fail with scipy 1.17.
    """

    def __init__(self, matrix: h5py.Group) -> None:
        if matrix.attrs["encoding-type"] != "csr_matrix":
            raise ValueError(f"{matrix.name} is a {matrix.attrs['encoding-type']}, not a csr_matrix")
        self.matrix, self.indptr = matrix, matrix["indptr"][:]
        self.shape = int(matrix.attrs["shape"][0]), int(matrix.attrs["shape"][1])

    def rows(self, start: int, stop: int) -> sparse.csr_matrix:
        """Rows ``[start, stop)``."""
        first, last = int(self.indptr[start]), int(self.indptr[stop])
        pointers = self.indptr[start : stop + 1] - first
        block = (self.matrix["data"][first:last], self.matrix["indices"][first:last], pointers)
        return sparse.csr_matrix(block, shape=(stop - start, self.shape[1]))


def csr_blocks(matrix: h5py.Group, elements: int) -> Iterator[tuple[int, sparse.csr_matrix]]:
    """Rows of a CSR matrix in an h5ad, a block at a time.

    Parameters
    ----------
    matrix
        See `CsrRows`.
    elements
        Values per block at most; a row with more comes alone.

    Yields
    ------
    First row of the block, and the block.
    """
    stored = CsrRows(matrix)
    for start, stop in row_ranges(stored.indptr, elements):
        yield start, stored.rows(start, stop)


def row_ranges(indptr: np.ndarray, elements: int) -> Iterator[tuple[int, int]]:
    """First and last row (the latter not included) of blocks with at most so many values each."""
    start = 0
    while start < len(indptr) - 1:
        stop = int(np.searchsorted(indptr, indptr[start] + elements, side="right")) - 1
        stop = max(stop, start + 1)
        yield start, stop
        start = stop
