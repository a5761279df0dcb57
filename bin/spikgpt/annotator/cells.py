"""The cells of a sample, and work on blocks of them: what is dense stays small, and threads share the blocks.

Blocks are the same whatever the number of threads, and their results come in order: no byte depends on the cores.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from spikgpt.base.arrays import Codes, Flags, Floats, Floats32
from spikgpt.base.threads import pin_thread

Result = TypeVar("Result")
Other = TypeVar("Other")
Item = TypeVar("Item")

AT_ONCE = 1_000
"""Cells whose dense values are in memory at a time, in each thread: few enough for a processor's cache."""

_threads: ContextVar[int] = ContextVar("threads", default=1)


@contextmanager
def working_threads(number: int) -> Iterator[None]:
    """While open, `in_turn` has this many threads. numpy and scipy let others work while they compute."""
    before = _threads.set(number)
    try:
        yield
    finally:
        _threads.reset(before)


def in_turn(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """``work`` on each item, results in the order of the items."""
    number = _threads.get()
    if number == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(number, initializer=pin_thread) as pool:
        yield from pool.map(work, items)


def row_blocks(cells: int) -> Iterator[slice]:
    """Rows of at most `AT_ONCE` cells each, in order; one empty block for no cell."""
    for start in range(0, max(cells, 1), AT_ONCE):
        yield slice(start, min(start + AT_ONCE, cells))


def side_by_side(work: Callable[[], Result], other: Callable[[], Other]) -> tuple[Result, Other]:
    """The results of two works that do not need each other, at the same time where there are threads."""
    if _threads.get() == 1:
        return work(), other()
    with ThreadPoolExecutor(1, initializer=pin_thread) as pool:
        # a thread of its own would not know how many threads there are
        job = pool.submit(copy_context().run, other)
        return work(), job.result()


def dense(values: sp.csr_matrix | NDArray[Any], rows: slice | Codes) -> NDArray[Any]:
    """Rows of a dense or sparse matrix, dense."""
    part = values[rows]
    return part.toarray() if sp.issparse(part) else part  # type: ignore[union-attr]


@dataclass
class Cells:
    """Cells of one sample, sorted by barcode, every embedding finite.

    ``stored`` (any cells, any genes) raw counts as the sample has them: a large matrix is neither sorted nor cut, but
    asked for a part. ``order`` (cells,) the row of each cell in it, ``columns`` (annotator's genes,) the column of each
    gene, -1 where the sample did not measure it; ``embedding`` (cells, embedding_size) float32.
    """

    stored: sp.csr_matrix
    order: Codes
    columns: Codes
    embedding: Floats32
    _on: tuple[Codes, sp.csr_matrix] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, counts: sp.csr_matrix, embedding: Floats32) -> "Cells":
        """All cells and genes of ``counts`` (cells, genes) as they are."""
        return cls(counts, np.arange(counts.shape[0]), np.arange(counts.shape[1]), embedding)

    def __len__(self) -> int:
        return len(self.order)

    @property
    def measured(self) -> Flags:
        """Which of the annotator's genes the sample has, ``(genes,)``."""
        return self.columns >= 0

    def take(self, rows: Codes) -> "Cells":
        return Cells(self.stored, self.order[rows], self.columns, self.embedding[rows])

    def counts(self, rows: slice = slice(None)) -> sp.csr_matrix:
        """Counts ``(cells of rows, annotator's genes)``, float32; 0 where a gene was not measured."""
        ours = np.flatnonzero(self.measured)
        part = self.stored[self.order[rows]][:, self.columns[ours]].astype(np.float32)
        indices = ours.astype(part.indices.dtype)[part.indices]
        return sp.csr_matrix((part.data, indices, part.indptr), shape=(part.shape[0], len(self.columns)))

    def on(self, genes: Codes) -> sp.csr_matrix:
        """Counts ``(cells, genes)`` of some of the measured genes, float32; kept until others are asked for, as one
        thing after another is judged on the same."""
        if self._on is None or not np.array_equal(self._on[0], genes):
            columns = self.columns[genes]
            parts = in_turn(lambda rows: self.stored[self.order[rows]][:, columns], row_blocks(len(self)))
            self._on = (genes, sp.vstack(list(parts), format="csr").astype(np.float32))
        return self._on[1]

    @cached_property
    def depth(self) -> Floats:
        """Counts ``(cells,)`` of each cell on the annotator's genes: sums of whole numbers, exact in any order."""
        weight = np.zeros(self.stored.shape[1])
        weight[self.columns[self.measured]] = 1.0
        parts = in_turn(lambda rows: self.stored[self.order[rows]] @ weight, row_blocks(len(self)))
        return np.concatenate(list(parts))
