"""What a reader gives: a stored matrix in blocks of cells with its names, and how damaged files are told."""

import csv
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from spikgpt.base import guards
from spikgpt.base.errors import UserError
from spikgpt.base.h5ad import BLOCK, matrix_blocks, row_ranges
from spikgpt.read_input.features import Features

FORMATS = (
    "10x .h5, .h5ad, .loom, .zarr, .csv[.gz] or .tsv[.gz], or a folder, .tar.gz or .zip with matrix.mtx[.gz], "
    "barcodes.tsv[.gz] and features.tsv[.gz] or genes.tsv[.gz] (docs/usage.md lists every tool's files)"
)


DAMAGE = (
    OSError, EOFError, ValueError, KeyError, TypeError, IndexError, AttributeError, AssertionError, ArithmeticError,
    RuntimeError, MemoryError, tarfile.TarError, zlib.error, lzma.LZMAError, csv.Error,
)  # fmt: skip
"""What the readers raise at a damaged file, or at one that claims to be larger than the memory."""


@dataclass
class Source:
    """A stored matrix, cells x genes, as it can be read in blocks of cells."""

    shape: tuple[int, int]
    values: int
    """How many it stores at most."""
    blocks: Callable[[], Iterator[sparse.csr_matrix]]
    """Begins to read, each time it is called."""


@dataclass
class Read:
    """What a reader found, before genes are unified and values are looked at."""

    source: Source
    barcodes: Sequence[str]
    features: Features
    format: str
    counts_from: str
    where: str
    """What messages on the values call the matrix."""
    symbols_from: str = "file"
    obs: pd.DataFrame | None = None
    other_genomes: dict[str, int] = field(default_factory=dict)
    """Genes of other genomes that are not columns of the source: kind to number."""
    messages: list[str] = field(default_factory=list)
    """On the choice of matrix; those on its features are theirs."""


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """What a damaged file makes the readers raise, as a UserError."""
    try:
        yield
    except UserError:
        raise
    except DAMAGE as error:
        content = guards.content_of(path)
        raise UserError(
            "The matrix cannot be read.",
            where=str(path),
            found=f"{type(error).__name__}: {first_line(error)}" + (f" (the file is {content})" if content else ""),
            expected=FORMATS,
            fix="The file may be damaged or cut short: copy it again and compare sizes or checksums.",
        ) from error


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no details"])[0][:300]


def is_gzip(path: Path) -> bool:
    """By the first two bytes: browsers unpack a .gz and keep its name, and others pack without renaming."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


@contextmanager
def unzipped(path: Path, at_most: int | None = None) -> Iterator[Any]:
    """The bytes of a file, unpacked where it is gzip; an error once they are more than the limit."""
    limit = guards.LARGEST_UNPACKED if at_most is None else at_most
    with gzip.open(path, "rb") if is_gzip(path) else path.open("rb") as stream:
        yield io.BufferedReader(guards.Bounded(stream, limit, path.name), 1 << 20)


def added(sources: Sequence[Source], cells: Sequence[np.ndarray] | None = None, number: int | None = None) -> Source:
    """The sum of matrices that hold parts of the same counts; held in memory, unlike one matrix.

    Parameters
    ----------
    sources
        Of the same genes.
    cells, number
        For each source the row of the sum that each of its cells is, and the rows of the sum; without them all
        sources have the same cells.
    """
    rows = sources[0].shape[0] if number is None else number

    def blocks() -> Iterator[sparse.csr_matrix]:
        total = sparse.csr_matrix((rows, sources[0].shape[1]))
        for place, source in enumerate(sources):
            part = sparse.csr_matrix(sparse.vstack(list(source.blocks()), format="csr"))
            if cells is not None:
                to = sparse.csr_matrix(
                    (np.ones(len(cells[place])), (cells[place], np.arange(len(cells[place])))),
                    shape=(rows, part.shape[0]),
                )
                part = to @ part
            total = total + part
        for _, block in matrix_blocks(sparse.csr_matrix(total)):
            yield block

    return Source((rows, sources[0].shape[1]), sum(source.values for source in sources), blocks)


def csr_blocks(stored: Any, width: int) -> Iterator[sparse.csr_matrix]:
    """Blocks of a group with data, indices and indptr; HDF5 or zarr."""
    indptr = np.asarray(stored["indptr"][:], dtype=np.int64)
    values = int(stored["data"].shape[0])
    if (np.diff(indptr) < 0).any() or indptr[0] != 0 or indptr[-1] != values:
        raise ValueError(f"indptr does not rise from 0 to the {values} values")
    for start, stop in row_ranges(indptr, BLOCK):
        first, last = int(indptr[start]), int(indptr[stop])
        parts = (np.asarray(stored["data"][first:last]), np.asarray(stored["indices"][first:last]))
        block = sparse.csr_matrix((*parts, indptr[start : stop + 1] - first), shape=(stop - start, width))
        # scipy's own loops trust the indices: one outside of the matrix would write outside of the memory
        block.check_format(full_check=True)
        yield block
