"""Tab-separated text with stable bytes.

A field that holds a tab, a quote or a line break is quoted as in RFC 4180. Numbers have six significant digits,
counts all of theirs.
"""

import csv
import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

FLOAT_FORMAT = "%.6g"


def write_tsv(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table; `.gz` by the path's name, without time stamp or name inside."""
    text = {"sep": "\t", "index": False, "float_format": FLOAT_FORMAT, "lineterminator": "\n"}
    if Path(path).suffix != ".gz":
        table.to_csv(path, encoding="utf-8", **text)
        return
    with open(path, "wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
        for start in range(0, max(len(table), 1), 100_000):
            part = table.iloc[start : start + 100_000]
            packed.write(part.to_csv(header=start == 0, **text).encode("utf-8"))


@contextmanager
def packed_rows(path: str | Path) -> Iterator[Any]:
    """A `csv.writer` of a `.tsv.gz` that is too wide for a data frame; bytes as those of `write_tsv`."""
    with (
        open(path, "wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="") as text,
    ):
        yield csv.writer(text, delimiter="\t", lineterminator="\n")


def read_tsv(path: str | Path) -> pd.DataFrame:
    """A table as text: nothing is guessed to be a number or missing."""
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
