"""Matrix market files: the header checked against the file's size, the values in blocks of cells."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import io as scipy_io
from scipy import sparse

from spikgpt.base import guards
from spikgpt.base.errors import UserError
from spikgpt.base.h5ad import BLOCK, matrix_blocks
from spikgpt.read_input.sources import Source, is_gzip, unzipped

LARGEST_IN_MEMORY = 50_000_000
"""Values of a matrix market file that are read at once; a larger one in blocks, if its cells follow each other."""
LARGEST_MARKET_HEADER = 10_000
"""Lines of comments at the head of a matrix market file."""
SUMMED_PARTS = 5
"""Numbers in a line of older STARsolo's Velocyto/matrix.mtx: gene, cell, and spliced, unspliced, ambiguous counts."""


@dataclass
class Header:
    """What the head of a matrix market file says.

    `numbers` is how many its first line of values has: 3 where each is row, column, value.
    """

    rows: int
    columns: int
    values: int
    form: str
    kind: str
    symmetry: str
    numbers: int

    @property
    def by_scipy(self) -> bool:
        """Whether scipy reads it as it is; STARsolo's multi-mapper matrices say `float`, which it does not take."""
        return self.kind != "float" and self.numbers <= 3

    @property
    def plain(self) -> bool:
        return self.form == "coordinate" and self.kind != "pattern" and self.symmetry == "general"


def market_header(path: Path) -> Header:
    """Read and check the head of a matrix market file.

    Raises
    ------
    UserError
        It is no such file, claims more values than its size allows, or has lines of an unknown layout.
    """
    lines = 0
    with unzipped(path) as stream:
        begin = guards.read_line(stream, path.name)
        while (line := guards.read_line(stream, path.name)).startswith(b"%") or (line and not line.strip()):
            lines += 1
            if lines > LARGEST_MARKET_HEADER:
                break
        first = guards.read_line(stream, path.name)
    words = begin.decode("utf-8-sig", "replace").lower().split()
    sizes = line.split()
    if (
        lines > LARGEST_MARKET_HEADER
        or len(words) != 5
        or words[:2] != ["%%matrixmarket", "matrix"]
        or words[2] not in ("coordinate", "array")
        or not all(size.isdigit() for size in sizes)
        or len(sizes) != (3 if words[2] == "coordinate" else 2)
    ):
        raise UserError(
            "The matrix does not begin as a matrix market file.",
            where=f"{path.name}, line 1",
            found=f"{begin[:60].decode('utf-8', 'replace').strip()!r}" + (f", and {lines} comments" if lines else ""),
            expected="%%MatrixMarket matrix coordinate integer general, and a line with rows, columns and values",
            fix="Give the matrix.mtx that the quantifier wrote.",
        )
    rows, columns = int(sizes[0]), int(sizes[1])
    values = int(sizes[2]) if words[2] == "coordinate" else rows * columns
    # a value takes four bytes at least: two places, and what parts them
    room = path.stat().st_size * (guards.LARGEST_RATIO if is_gzip(path) else 1) // 4
    if words[2] == "coordinate" and values > min(room, rows * columns):
        raise UserError(
            "The matrix claims more values than it can hold.",
            where=f"{path.name}, line {lines + 2}",
            found=f"{values:,} values in {rows:,} x {columns:,}, in a file of {guards.gib(path.stat().st_size)}",
            expected="rows, columns and the number of the lines that follow",
            fix="The file may be cut short or edited: copy it again from where the quantifier wrote it.",
        )
    guards.check_shape(max(rows, columns), min(rows, columns), path.name)
    kind = {"double": "real", "unsigned-integer": "integer"}.get(words[3], words[3])
    found = Header(rows, columns, values, words[2], kind, words[4], len(first.split()))
    if found.plain and values and found.numbers not in (3, SUMMED_PARTS):
        raise UserError(
            f"The matrix has {found.numbers} numbers in a line.",
            where=f"{path.name}, line {lines + 3}",
            found=first[:60].decode("utf-8", "replace").strip(),
            expected="row, column and count; or row, column and spliced, unspliced and ambiguous counts (STARsolo)",
            fix="Give the matrix.mtx of the gene counts (STARsolo: Solo.out/Gene or GeneFull).",
        )
    return found


def market_source(path: Path, turned: bool) -> Source:
    """A matrix market file; `turned` where it has genes in rows.

    scipy reads it whole, at 16 bytes a value and more. A large one whose cells follow each other, as
    quantifiers write them, is read in blocks of lines. Three counts in a line are added up.
    """
    head = market_header(path)
    shape = (head.columns, head.rows) if turned else (head.rows, head.columns)
    places = ["gene", "cell"] if turned else ["cell", "gene"]
    counts = ["value"] if head.numbers == 3 else ["spliced", "unspliced", "ambiguous"]

    def lines(used: list[str]) -> Iterator[pd.DataFrame]:
        with unzipped(path) as stream:
            while (line := stream.readline()).startswith(b"%") or not line.strip():  # the last one is that of the sizes
                pass
            yield from pd.read_csv(
                stream, sep=r"\s+", header=None, names=[*places, *counts], usecols=used, chunksize=BLOCK,
                dtype={"cell": np.int64, "gene": np.int32}, index_col=False,
            )  # fmt: skip

    def in_order() -> bool:
        last = 0
        for part in lines(["cell"]):
            order = part["cell"].to_numpy()
            if order[0] < last or (np.diff(order) < 0).any():
                return False
            last = int(order[-1])
        return True

    def by_scipy() -> Iterator[sparse.csr_matrix]:
        with unzipped(path) as stream:
            loaded = scipy_io.mmread(stream)
        for _, block in matrix_blocks(sparse.csr_matrix(loaded.T if turned else loaded)):
            yield block

    def whole() -> Iterator[sparse.csr_matrix]:
        table = pd.concat(list(lines([*places, *counts])), ignore_index=True)
        if len(table) != head.values:
            raise ValueError(f"{len(table)} values where the header says {head.values}")
        at = (table["cell"].to_numpy() - 1, table["gene"].to_numpy() - 1)
        for _, block in matrix_blocks(sparse.csr_matrix((table[counts].to_numpy().sum(axis=1), at), shape)):
            yield block

    def in_blocks() -> Iterator[sparse.csr_matrix]:
        # a cell goes on when the next one begins: its lines may lie in two parts
        first, seen, open_part = 0, 0, None
        for part in lines([*places, *counts]):
            seen += len(part)
            joined = part if open_part is None else pd.concat([open_part, part], ignore_index=True)
            last = shape[0] if seen == head.values else int(joined["cell"].iloc[-1]) - 1
            cells = joined["cell"].to_numpy() - 1
            ends = int(np.searchsorted(cells, last))
            if last > first:
                at = (cells[:ends] - first, joined["gene"].to_numpy()[:ends] - 1)
                values = joined[counts].to_numpy()[:ends].sum(axis=1)
                yield sparse.csr_matrix((values, at), (last - first, shape[1]))
            open_part, first = joined.iloc[ends:], last
        if seen != head.values:
            raise ValueError(f"{seen} values where the header says {head.values}")

    def blocks() -> Iterator[sparse.csr_matrix]:
        if head.plain and head.values > LARGEST_IN_MEMORY and in_order():
            yield from in_blocks()
        elif head.by_scipy:
            yield from by_scipy()
        else:
            yield from whole()

    return Source(shape, head.values, blocks)
