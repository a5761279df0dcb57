"""Tables of the cohort as a script reads them: tab-separated text with stable bytes.

Fields are as they are in the h5ad; one that holds a tab, a quote or a line break is quoted as in
RFC 4180. Numbers have six significant digits, counts all of theirs. `docs/output.md` lists the columns.
"""

import gzip
from collections.abc import Iterable
from pathlib import Path

import h5py
import pandas as pd
from anndata.io import read_elem

from spikgpt import UNKNOWN
from spikgpt.cohort import CELL_SEPARATOR, OBS_COLUMNS, name_before

REMOVED_COLUMNS = ("sample", "barcode", "reason")

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


def read_cohort(h5ad: str | Path) -> tuple[pd.DataFrame, dict]:
    """`obs` of the cohort with `sample` and `barcode` (the name as it came in) first, and the run's facts."""
    with h5py.File(h5ad) as file:
        obs = read_elem(file["obs"])
        facts = read_elem(file["uns/spikgpt"])
    barcodes = [cell.rsplit(CELL_SEPARATOR, 1)[0] for cell in obs.index]
    obs.insert(1, "barcode", barcodes)
    return obs[["sample", "barcode", *OBS_COLUMNS[1:]]].reset_index(drop=True), facts


def composition(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells of each type in each sample, zeros included: sample, cell_type, cells, percent."""
    counts = pd.crosstab(cells["sample"].astype(str), cells["spikgpt_cell_type"].astype(str))
    types = [*sorted(set(counts.columns) - {UNKNOWN}), UNKNOWN]
    counts = counts.reindex(columns=types, fill_value=0).sort_index()
    long = counts.stack().rename("cells").reset_index()
    long.columns = ["sample", "cell_type", "cells"]
    long["percent"] = 100 * long["cells"] / long.groupby("sample")["cells"].transform("sum")
    return long


def removed_cells(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Cells that quality control removed, samples by name, each in its own order."""
    files = sorted((name_before(path, ".removed.tsv.gz"), Path(path)) for path in paths)
    frames = [pd.DataFrame(columns=list(REMOVED_COLUMNS), dtype=str)]
    frames += [read_tsv(path)[list(REMOVED_COLUMNS)] for _, path in files]
    return pd.concat(frames, ignore_index=True)


def read_tsv(path: str | Path) -> pd.DataFrame:
    """A table as text: nothing is guessed to be a number or missing."""
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
