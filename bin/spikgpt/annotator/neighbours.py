"""Nearest cells of a sample, and values pooled or averaged with theirs.

One cell's counts are mostly noise: pooled with the nearest cells of its own sample, a missing or an extra programme
shows. A sample too small to pool (`MIN_CELLS_TO_POOL`) is judged cell by cell.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy.sparse as sp

from spikgpt.annotator.cells import Cells, dense, in_turn, row_blocks
from spikgpt.base.arrays import Codes, Floats, Floats32

NEIGHBOURS = 15
"""Cells that a cell is pooled with."""
MIN_CELLS_TO_POOL = 3 * (NEIGHBOURS + 1)
OWN_SHARE = 0.3
"""Weight of a cell's own value when it is averaged with its neighbours of the same call."""
COMPONENTS = 40
CELLS_FOR_COMPONENTS = 5_000
"""Principal components are found on at most this many cells, evenly spread over a larger sample."""
CELLS_TO_SEARCH = 2_000
"""Cells whose nearest ones are looked for at a time, in each thread."""
GENES_AT_ONCE = 64
"""Genes whose pooled values of all cells are dense at a time, in each thread."""


def nearest(values: sp.csr_matrix | Floats32, groups: Codes | None = None) -> Codes:
    """The `NEIGHBOURS` nearest cells of each cell ``(cells, NEIGHBOURS)``, in its own sample's components.

    With ``groups``, cells are looked for in the same group where it is large enough to pool.
    """
    from sklearn.neighbors import NearestNeighbors

    cells = values.shape[0]
    scores = scores_on(values, *principal_components(values)).astype(np.float32)
    groups = np.zeros(cells, dtype=np.int64) if groups is None else groups
    neighbours = np.empty((cells, NEIGHBOURS), dtype=np.int64)
    numbers, sizes = np.unique(groups, return_counts=True)
    everywhere = np.arange(cells)
    for number, size in zip(numbers, sizes, strict=True):
        rows = np.flatnonzero(groups == number)
        among = rows if size >= MIN_CELLS_TO_POOL else everywhere
        search = NearestNeighbors(n_neighbors=NEIGHBOURS + 1, algorithm="brute").fit(scores[among])
        parts = np.array_split(rows, -(-len(rows) // CELLS_TO_SEARCH))
        queries = [scores[part] for part in parts]
        near = in_turn(partial(search.kneighbors, return_distance=False), queries)
        index = among[np.concatenate(list(near))]
        # drop the cell itself; identical cells may push it off its own first place
        itself = index == rows[:, None]
        itself[~itself.any(1), -1] = True
        neighbours[rows] = index[~itself].reshape(len(rows), NEIGHBOURS)
    return neighbours


def principal_components(values: sp.csr_matrix | Floats32) -> tuple[Floats, Floats]:
    """Mean ``(features,)`` and loadings ``(components, features)``, signs fixed, of values ``(cells, features)``.

    At most `COMPONENTS`, found on at most `CELLS_FOR_COMPONENTS`.
    """
    from sklearn.utils.extmath import randomized_svd

    cells = values.shape[0]
    some = dense(values, np.linspace(0, cells - 1, min(cells, CELLS_FOR_COMPONENTS)).round().astype(np.int64))
    centre = some.mean(axis=0, dtype=np.float64)
    number = min(COMPONENTS, min(some.shape) - 1)
    if number < 1:
        return centre, np.zeros((0, some.shape[1]))
    _, _, loadings = randomized_svd(some - centre.astype(np.float32), number, n_iter=4, random_state=0, flip_sign=True)
    return centre, loadings.astype(np.float64)


def scores_on(values: sp.csr_matrix | Floats32, centre: Floats, loadings: Floats) -> Floats:
    """Scores ``(cells, components)`` of ``values`` (cells, features) on ``loadings`` (components, features)."""

    def of_block(rows: slice) -> Floats:
        return (dense(values, rows) - centre) @ loadings.T

    return np.concatenate(list(in_turn(of_block, row_blocks(values.shape[0]))))


def smoothed(values: Floats, predicted: Codes, neighbours: Codes | None) -> Floats:
    """`OWN_SHARE` of a cell's own value, the rest the mean of its neighbours of the same call; ``(cells,)``."""
    if neighbours is None:
        return values
    same = predicted[neighbours] == predicted[:, None]
    number = same.sum(1)
    mean = np.where(same, values[neighbours], 0.0).sum(1) / np.maximum(number, 1)
    return np.where(number > 0, OWN_SHARE * values + (1 - OWN_SHARE) * mean, values)


@dataclass
class PooledLogs:
    """log1p of counts per 10,000 on some genes, a few genes at a time.

    With ``neighbours`` (cells, k), each cell's counts are pooled with theirs first. ``counts`` (cells, genes) by
    column, ``pools`` (cells, cells) who is pooled, ``total`` (cells,). Dense and pooled before the logarithm, so not
    `spikgpt.base.normalisation.log1p_cp10k`.
    """

    counts: sp.csc_matrix
    pools: sp.csr_matrix | None
    total: Floats

    @classmethod
    def of(cls, cells: Cells, genes: Codes, neighbours: Codes | None) -> "PooledLogs":
        total, pools = cells.depth, None
        if neighbours is not None:
            total = total + total[neighbours].sum(1)
            pools = pools_of(neighbours)
        return cls(cells.on(genes).astype(np.float32).tocsc(), pools, np.maximum(total, 1.0))

    def blocks(self) -> Iterator[slice]:
        """The genes that are dense at a time, in order."""
        for start in range(0, self.counts.shape[1], GENES_AT_ONCE):
            yield slice(start, min(start + GENES_AT_ONCE, self.counts.shape[1]))

    def values(self, genes: slice) -> Floats:
        """Of all cells, ``(cells, genes)``."""
        pooled = self.counts[:, genes].toarray()
        if self.pools is not None:
            pooled = self.pools @ pooled  # whole numbers: exact in any order
        values = pooled.astype(np.float64)
        values *= (1e4 / self.total)[:, None]
        return np.log1p(values, out=values)


def pools_of(neighbours: Codes) -> sp.csr_matrix:
    """``(cells, cells)``: 1 for the cell itself, and 1 for each of its neighbours."""
    cells, k = neighbours.shape
    index = np.concatenate([np.arange(cells)[:, None], neighbours], axis=1).ravel()
    ones, ends = np.ones(len(index), dtype=np.float32), np.arange(0, len(index) + 1, k + 1)
    return sp.csr_matrix((ones, index, ends), shape=(cells, cells))
