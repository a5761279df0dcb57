"""Tables of text: dense, cells x genes or genes x cells; or long, a line for each gene of each cell."""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from scipy import sparse

from spikgpt.base import guards
from spikgpt.base.errors import UserError
from spikgpt.base.genes import looks_like_ids
from spikgpt.base.h5ad import matrix_blocks
from spikgpt.read_input.features import known_share, select_genes
from spikgpt.read_input.raw_counts import CHUNK, fault, not_raw
from spikgpt.read_input.sources import Read, Source, unzipped

MOST_NAME_COLUMNS = 8
"""Columns of text before the first number: ids, symbols, places on the genome, descriptions."""
NO_CELLS = {"chr", "chrom", "chromosome", "start", "end", "strand", "length", "gene_length", "description"}
"""Columns of featureCounts and the like between the genes' names and the first cell."""
LONG_GENE = ("gene", "gene_id", "gene_name", "geneid", "gene_symbol", "symbol", "feature", "bioproduct")
LONG_CELL = ("cell", "cell_id", "cell_barcode", "barcode", "cell_index", "cb")
LONG_COUNT = (
    "count", "counts", "umi", "umis", "umi_count", "umi_counts", "n_umi", "rsec_adjusted_molecules",
    "dbec_adjusted_molecules", "molecules", "value",
)  # fmt: skip
"""Titles of long tables: of umi_tools count, of BD Rhapsody's Expression_Data.st; the better first."""


@dataclass
class _Layout:
    """How a table is written.

    `first` is the number of its first line of values, from 0; `names` are the columns before the first number, and
    `header` has a title for every column.
    """

    separator: str
    decimal: str
    first: int
    header: list[str]
    names: list[int]

    @property
    def numbers(self) -> list[int]:
        return [
            at
            for at in range(len(self.header))
            if at not in self.names and not (at <= MOST_NAME_COLUMNS and self.header[at].lower() in NO_CELLS)
        ]


def _layout(path: Path) -> _Layout:
    """Look at the first lines of a table."""
    with unzipped(path) as stream:
        start = stream.peek(64)[:64]
        kind = "UTF-16 text" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else guards.kind_of(start)
        if kind:
            raise UserError(
                "The table is not a text file.",
                where=str(path),
                found=kind,
                expected="comma- or tab-separated text in UTF-8, packed with gzip or not",
                fix="Save it as text in UTF-8." if kind == "UTF-16 text" else "Export it as CSV, or give the file the "
                "ending of what it is.",
            )  # fmt: skip
        # BD Rhapsody writes lines about the run before the table, featureCounts its command
        comments, line = 0, guards.read_line(stream, path.name)
        while line.startswith((b"#", b"\xef\xbb\xbf#")):
            comments, line = comments + 1, guards.read_line(stream, path.name)
        lines = [line.decode("utf-8-sig"), *(guards.read_line(stream, path.name).decode("utf-8") for _ in range(2))]
    if not lines[1].strip():
        raise UserError(
            "The table is empty.",
            where=str(path),
            found="no line after the header" if lines[0].strip() else "no text",
            expected="names in the first row and first column, counts elsewhere",
            fix="Check that the table was written whole.",
        )
    separator = max(("\t", ",", ";"), key=lines[0].count)
    if separator not in lines[0]:
        separator = " "
    if separator not in lines[0].strip():
        raise UserError(
            "The table has one column only.",
            where=str(path),
            found=lines[0].strip()[:80],
            expected="comma- or tab-separated: names in the first row and first column, counts elsewhere",
            fix="Separate the columns by commas or tabs.",
        )
    header, *rows = (
        [field.strip() for field in next(csv.reader([line.rstrip("\r\n")], delimiter=separator))]
        for line in lines
        if line.strip()
    )
    # R's write.table leaves the corner out: one title fewer than there are columns
    width = len(rows[0])
    if width not in (len(header), len(header) + 1):
        raise UserError(
            "The table's rows differ in length.",
            where=f"{path.name}, line {comments + 2}",
            found=f"{width} columns where the header has {len(header)}",
            expected="the same number of columns in every row",
            fix="Write the table again, with a name for every column.",
        )
    if width == len(header) + 1:
        header = ["", *header]
    # R's write.csv2 separates by semicolons because a comma is its decimal sign
    comma = separator != "," and any(re.fullmatch(r"\d+,\d+", field) for row in rows for field in row)
    decimal = "," if comma else "."
    texts = [at for at in range(min(width, MOST_NAME_COLUMNS)) if all(not _is_number(row[at], decimal) for row in rows)]
    names = list(range(max([0, *texts]) + 1))
    if "" in header[len(names) :]:
        raise UserError(
            "The table has a column without a name.",
            where=f"{path.name}, column {header.index('', len(names)) + 1}",
            found="an empty name in the first line",
            expected="names in the first row and first column, counts elsewhere",
            fix="Name the column or remove it; commas at the end of each line are an empty column.",
        )
    return _Layout(separator, decimal, comments + 1, header, names)


def _rows(path: Path, layout: _Layout) -> Iterator[pd.DataFrame]:
    """The lines of a table, some at a time; columns by number."""
    with unzipped(path) as stream:
        yield from pd.read_csv(
            stream, sep=layout.separator, header=None, skiprows=layout.first, decimal=layout.decimal,
            chunksize=max(1, CHUNK // len(layout.header)), dtype=dict.fromkeys(layout.names, str), index_col=False,
            keep_default_na=False, na_values=["", "NA", "NaN", "nan"], encoding="utf-8-sig",
        )  # fmt: skip


def read_text(path: Path, species: str | None = None) -> Read:
    """Counts from a table, the first row and column being names; or a long one, see `_read_long`.

    Read in blocks of rows, each made sparse and looked at: a scaled matrix is refused at its first block. Lines that
    begin with # before the header are skipped.
    """
    layout = _layout(path)
    titles = [title.lower() for title in layout.header]
    if len(titles) <= MOST_NAME_COLUMNS and all(
        any(title in words for title in titles) for words in (LONG_GENE, LONG_CELL, LONG_COUNT)
    ):
        return _read_long(path, layout, titles, species)
    columns = [layout.header[at] for at in layout.numbers]
    names: list[list[str]] = [[] for _ in layout.names]
    blocks: list[sparse.csr_matrix] = []
    for chunk in _rows(path, layout):
        for at in layout.names:
            names[at] += chunk[at].fillna("").tolist()
        numbers = chunk[layout.numbers]
        text = [at for at in numbers if numbers[at].dtype.kind not in "iufb"]
        if text:
            value = next(str(v) for v in numbers[text[0]] if not _is_number(v, layout.decimal))
            raise UserError(
                "The table has something other than numbers in it.",
                where=f"{path.name}, column {layout.header[text[0]]!r}",
                found=repr(value[:60]),
                expected="counts; names in the first row and the first column only",
                fix="Drop columns of labels or descriptions, or put them into another file.",
            )
        values = numbers.to_numpy()
        found = fault(values)
        if found is not None and not found.startswith("fractions"):
            raise not_raw(found, path.name)
        blocks.append(sparse.csr_matrix(values))
    loaded = sparse.csr_matrix(sparse.vstack(blocks, format="csr"))
    guards.check_shape(loaded.shape[0], loaded.shape[1], path.name)
    in_rows = max(known_share(column) for column in names)
    in_columns = known_share(columns)
    if in_rows == in_columns == 0:
        raise UserError(
            "Neither the rows nor the columns of the table are named as human genes.",
            where=path.name,
            found=f"rows {', '.join(names[-1][:3])}, ...; columns {', '.join(columns[:3])}, ...",
            expected="human gene symbols or Ensembl ids as names of the rows or of the columns",
            fix="Name the genes by symbols or Ensembl ids.",
        )
    messages = [f"The table has {'genes' if in_rows > in_columns else 'cells'} in rows."]
    if in_rows > in_columns:
        loaded = sparse.csr_matrix(loaded.T)
        symbols, ids = _gene_columns(names)
        barcodes = columns
    else:
        # a first column without a title that counts the rows is no name
        barcodes = names[1] if len(names) > 1 and not layout.header[0] else names[0]
        symbols, ids = columns, None
    return Read(
        Source(loaded.shape, loaded.nnz, lambda: (block for _, block in matrix_blocks(loaded))),
        barcodes=barcodes,
        features=select_genes(ids, symbols, None, None, path.name, species),
        format="tsv" if layout.separator == "\t" else "csv",
        counts_from="table",
        where=path.name,
        messages=messages,
    )


def _gene_columns(names: Sequence[list[str]]) -> tuple[list[str], list[str] | None]:
    """The column of symbols, and the one of Ensembl ids where there is another one."""
    ids = next((column for column in names if looks_like_ids(column)), None)
    others = [column for column in names if column is not ids]
    best = max(others, key=known_share, default=None)
    if best is None or (ids is not None and known_share(best) < 0.1):
        return ids or names[0], None
    return best, ids


def _read_long(path: Path, layout: _Layout, titles: list[str], species: str | None) -> Read:
    """A table with a line for each gene of each cell: umi_tools count, BD Rhapsody's Expression_Data.st."""
    gene, cell, count = (
        next(titles.index(word) for word in words if word in titles) for words in (LONG_GENE, LONG_CELL, LONG_COUNT)
    )
    genes: dict[str, int] = {}
    cells: dict[str, int] = {}
    parts = []
    for chunk in _rows(path, _Layout(**{**vars(layout), "names": [gene, cell]})):
        if chunk[count].dtype.kind not in "iuf":
            raise UserError(
                "The table has something other than numbers in it.",
                where=f"{path.name}, column {layout.header[count]!r}",
                found=repr(str(next(v for v in chunk[count] if not _is_number(v, layout.decimal)))[:60]),
                expected="counts",
                fix="Give the table as the quantifier wrote it.",
            )
        rows = [cells.setdefault(str(name), len(cells)) for name in chunk[cell]]
        columns = [genes.setdefault(str(name), len(genes)) for name in chunk[gene]]
        parts.append((chunk[count].to_numpy(), rows, columns))
    guards.check_shape(len(cells), len(genes), path.name)
    loaded = sparse.csr_matrix((len(cells), len(genes)))
    for values, rows, columns in parts:
        loaded = loaded + sparse.csr_matrix((values, (rows, columns)), shape=loaded.shape)
    return Read(
        Source(loaded.shape, loaded.nnz, lambda: (block for _, block in matrix_blocks(loaded))),
        barcodes=list(cells),
        features=select_genes(None, list(genes), None, None, path.name, species),
        format="tsv" if layout.separator == "\t" else "csv",
        counts_from=layout.header[count],
        where=path.name,
        messages=[f"The table has a line for each gene of each cell; its counts are those of {layout.header[count]}."],
    )


def _is_number(value: Any, decimal: str = ".") -> bool:
    try:
        float(str(value).replace(",", ".") if decimal == "," else value)
    except (TypeError, ValueError):
        return False
    return True
