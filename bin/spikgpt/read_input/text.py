"""Dense tables of text, cells x genes or genes x cells."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from scipy import sparse

from spikgpt.base import genes as gene_names
from spikgpt.base import guards
from spikgpt.base.errors import UserError
from spikgpt.base.h5ad import matrix_blocks
from spikgpt.read_input.raw_counts import CHUNK, fault, not_raw
from spikgpt.read_input.sources import Read, Source, unzipped


def _row_blocks(path: Path, separator: str, width: int) -> Iterator[pd.DataFrame]:
    """The rows of a table after the first, the first column as their index, some at a time."""
    with unzipped(path) as stream:
        yield from pd.read_csv(
            stream, sep=separator, header=None, skiprows=1, index_col=0, chunksize=max(1, CHUNK // width),
            dtype={0: str}, keep_default_na=False, na_values=["", "NA", "NaN", "nan"], encoding="utf-8-sig",
        )  # fmt: skip


def read_text(path: Path) -> Read:
    """Dense csv or tsv, cells x genes or genes x cells, the first row and column being names.

    Read in blocks of rows, each made sparse and looked at: a scaled matrix is refused at its first block.
    """
    if (content := guards.content_of(path)) and not (content == "gzip" and path.suffix == ".gz"):
        raise UserError(
            "The table is not a text file.",
            where=str(path),
            found=content,
            expected="comma- or tab-separated text, packed with gzip where its name ends in .gz",
            fix="Export it as CSV, or give the file the ending of what it is.",
        )
    with unzipped(path) as stream:
        first, second = (guards.read_line(stream, path.name) for _ in range(2))
    lines = [first.decode("utf-8-sig"), second.decode("utf-8")]
    if not lines[1].strip():
        raise UserError(
            "The table is empty.",
            where=str(path),
            found="no line after the header" if lines[0].strip() else "no text",
            expected="names in the first row and first column, counts elsewhere",
            fix="Check that the table was written whole.",
        )
    separator = max(("\t", ",", ";"), key=lines[0].count)
    fields = [next(csv.reader([line.rstrip("\r\n")], delimiter=separator)) for line in lines]
    if separator not in lines[0]:
        raise UserError(
            "The table has one column only.",
            where=str(path),
            found=lines[0].strip()[:80],
            expected="comma- or tab-separated: names in the first row and first column, counts elsewhere",
            fix="Separate the columns by commas or tabs.",
        )
    header = [name.strip() for name in fields[0]]
    # R's write.table leaves the corner out: one name fewer than there are columns
    width = len(fields[1])
    if width not in (len(header), len(header) + 1):
        raise UserError(
            "The table's rows differ in length.",
            where=f"{path.name}, line 2",
            found=f"{width} columns where the header has {len(header)}",
            expected="the same number of columns in every row",
            fix="Write the table again, with a name for every column.",
        )
    columns = header if width == len(header) + 1 else header[1:]
    if "" in columns:
        raise UserError(
            "The table has a column without a name.",
            where=f"{path.name}, column {len(header) - len(columns) + columns.index('') + 1}",
            found="an empty name in the first line",
            expected="names in the first row and first column, counts elsewhere",
            fix="Name the column or remove it; commas at the end of each line are an empty column.",
        )
    row_names: list[str] = []
    blocks: list[sparse.csr_matrix] = []
    for chunk in _row_blocks(path, separator, width):
        text = [i for i, kind in enumerate(chunk.dtypes) if kind.kind not in "iufb"]
        if text:
            value = next(str(v) for v in chunk.iloc[:, text[0]] if not _is_number(v))
            raise UserError(
                "The table has something other than numbers in it.",
                where=f"{path.name}, column {columns[text[0]]!r}",
                found=repr(value[:60]),
                expected="counts; names in the first row and the first column only",
                fix="Drop columns of labels or descriptions, or put them into another file.",
            )
        values = chunk.to_numpy()
        found = fault(values)
        if found is not None and not found.startswith("fractions"):
            raise not_raw(found, path.name)
        row_names += [str(name) for name in chunk.index]
        blocks.append(sparse.csr_matrix(values))
    loaded = sparse.csr_matrix(sparse.vstack(blocks, format="csr"))
    guards.check_shape(loaded.shape[0], loaded.shape[1], path.name)
    genes_in_rows = gene_names.known_share(row_names) > gene_names.known_share(columns)
    messages = [f"The table has {'genes' if genes_in_rows else 'cells'} in rows."]
    if genes_in_rows:
        loaded, row_names, columns = sparse.csr_matrix(loaded.T), columns, row_names
    return Read(
        Source(loaded.shape, loaded.nnz, lambda: (block for _, block in matrix_blocks(loaded))),
        barcodes=row_names,
        names=columns,
        format="csv" if separator != "\t" else "tsv",
        counts_from="table",
        where=path.name,
        messages=messages,
    )


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
