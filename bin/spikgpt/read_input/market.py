"""Matrix market files: the header checked against the file's size, the values in blocks of cells."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import io as scipy_io
from scipy import sparse

from spikgpt.base import guards
from spikgpt.base.errors import UserError
from spikgpt.base.h5ad import BLOCK, matrix_blocks
from spikgpt.read_input.sources import Source, unzipped

LARGEST_IN_MEMORY = 50_000_000
"""Values of a matrix market file that are read at once; a larger one in blocks, if its cells follow each other."""
LARGEST_MARKET_HEADER = 10_000
"""Lines of comments at the head of a matrix market file."""


def market_header(path: Path) -> tuple[int, int, int, str, str, str]:
    """What `scipy.io.mminfo` says: rows, columns, values, and how they are written; checked against the file's size."""
    lines = 0
    with unzipped(path) as stream:
        begin = guards.read_line(stream, path.name)
        while (line := guards.read_line(stream, path.name)).startswith(b"%") or (line and not line.strip()):
            lines += 1
            if lines > LARGEST_MARKET_HEADER:
                break
    if not begin.startswith(b"%%MatrixMarket") or lines > LARGEST_MARKET_HEADER:
        raise UserError(
            "The matrix does not begin as a matrix market file.",
            where=f"{path.name}, line 1",
            found=f"{begin[:40].decode('utf-8', 'replace').strip()!r}" + (f", and {lines} comments" if lines else ""),
            expected="%%MatrixMarket matrix coordinate integer general, and a line with rows, columns and values",
            fix="Give the matrix.mtx that the quantifier wrote.",
        )
    found = scipy_io.mminfo(str(path))
    rows, columns, values, form, *_ = found
    # a value takes four bytes at least: two places, and what parts them
    room = path.stat().st_size * (guards.LARGEST_RATIO if path.suffix == ".gz" else 1) // 4
    if form == "coordinate" and values > min(room, rows * columns):
        raise UserError(
            "The matrix claims more values than it can hold.",
            where=f"{path.name}, line {lines + 2}",
            found=f"{values:,} values in {rows:,} x {columns:,}, in a file of {guards.gib(path.stat().st_size)}",
            expected="rows, columns and the number of the lines that follow",
            fix="The file may be cut short or edited: copy it again from where the quantifier wrote it.",
        )
    guards.check_shape(max(rows, columns), min(rows, columns), path.name)
    return found


def market_source(path: Path, turned: bool) -> Source:
    """A matrix market file; `turned` where it has genes in rows.

    scipy reads it whole, at 16 bytes a value and more. A large one whose cells follow each other, as
    quantifiers write them, is read in blocks of lines.
    """
    rows, columns, values, form, field_of, symmetry = market_header(path)
    shape = (columns, rows) if turned else (rows, columns)
    names = ["gene", "cell"] if turned else ["cell", "gene"]

    def lines(used: list[str]) -> Iterator[pd.DataFrame]:
        with unzipped(path) as stream:
            while stream.readline().startswith(b"%"):  # the last one read is that of the sizes
                pass
            yield from pd.read_csv(
                stream, sep=r"\s+", header=None, names=[*names, "value"], usecols=used, chunksize=BLOCK,
                dtype={"cell": np.int64, "gene": np.int32},
            )  # fmt: skip

    def in_order() -> bool:
        last = 0
        for part in lines(["cell"]):
            order = part["cell"].to_numpy()
            if order[0] < last or (np.diff(order) < 0).any():
                return False
            last = int(order[-1])
        return True

    def whole() -> Iterator[sparse.csr_matrix]:
        with unzipped(path) as stream:
            loaded = scipy_io.mmread(stream)
        for _, block in matrix_blocks(sparse.csr_matrix(loaded.T if turned else loaded)):
            yield block

    def in_blocks() -> Iterator[sparse.csr_matrix]:
        # a cell goes on when the next one begins: its lines may lie in two parts
        first, seen, open_part = 0, 0, None
        for part in lines([*names, "value"]):
            seen += len(part)
            joined = part if open_part is None else pd.concat([open_part, part], ignore_index=True)
            last = shape[0] if seen == values else int(joined["cell"].iloc[-1]) - 1
            cells = joined["cell"].to_numpy() - 1
            ends = int(np.searchsorted(cells, last))
            if last > first:
                coordinates = (cells[:ends] - first, joined["gene"].to_numpy()[:ends] - 1)
                yield sparse.csr_matrix((joined["value"].to_numpy()[:ends], coordinates), (last - first, shape[1]))
            open_part, first = joined.iloc[ends:], last
        if seen != values:
            raise ValueError(f"{seen} values where the header says {values}")

    def blocks() -> Iterator[sparse.csr_matrix]:
        plain = form == "coordinate" and field_of != "pattern" and symmetry == "general"
        yield from in_blocks() if plain and values > LARGEST_IN_MEMORY and in_order() else whole()

    return Source(shape, values, blocks)
