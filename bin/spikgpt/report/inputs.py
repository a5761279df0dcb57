"""What the report is made from: the steps' statistics and the cohort's tables."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from spikgpt.base.columns import OBS, OBS_COLUMNS
from spikgpt.base.tsv import read_tsv
from spikgpt.cohort.clusters import MAP, MAP_BEFORE
from spikgpt.cohort.tables import REMOVED_COLUMNS, STATISTICS, cells_per_step, read_statistics

_NUMBERS = tuple(column.name for column in OBS if column.kind in ("integer", "number", "0 to 1"))

Stats = dict[str, Any]


@dataclass
class Inputs:
    """Everything the report shows, as read.

    Attributes
    ----------
    samples
        Names of all samples of the samplesheet, sorted.
    run
        `run.json`: version and parameters.
    sheet
        Rows of the samplesheet, as the input check read them.
    stats
        Step (`spikgpt.cohort.tables.STATISTICS`) to sample to statistics.
    embeddings
        Statistics of every chunk that was embedded, the reference's among them.
    reference
        `reference.json`; None without a reference.
    cells
        `cells.tsv.gz`; no rows when no sample has a cell left.
    tables
        Further tables by file name, as text.
    qc
        Sample to QC metrics of its called cells, before any filter.
    umap
        Coordinates of the cells, in the order of `cells`, and where batches were integrated those without it; None
        without them.
    annotator
        `config.json` of the annotator that gives labels; None when there was none to read, or none gave any.
    facility
        title, project, customer, contact, text: those that were given.
    logo
        The facility's logo as a data URI, "" without one.
    history
        `spikgpt.report.history.read_history`; None without earlier runs.
    comparison
        Messages of the comparison of conditions.
    differential
        `differential_expression.json`; None without a contrast.
    """

    samples: list[str]
    run: Stats
    sheet: list[Stats] = field(default_factory=list)
    stats: dict[str, dict[str, Stats]] = field(default_factory=lambda: {kind: {} for kind in STATISTICS})
    embeddings: list[Stats] = field(default_factory=list)
    reference: Stats | None = None
    cells: pd.DataFrame = field(default_factory=lambda: pd.DataFrame())
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    qc: dict[str, pd.DataFrame] = field(default_factory=dict)
    umap: pd.DataFrame | None = None
    annotator: Stats | None = None
    facility: Stats = field(default_factory=dict)
    logo: str = ""
    history: pd.DataFrame | None = None
    comparison: list[str] = field(default_factory=list)
    differential: Stats | None = None

    @property
    def unknown_rate(self) -> float:
        return float(self.run["parameters"]["unknown_rate"])

    @cached_property
    def _cells_by_sample(self) -> dict[str, pd.DataFrame]:
        return {str(sample): cells for sample, cells in self.cells.groupby("sample", sort=False)}

    def of_sample(self, sample: str) -> pd.DataFrame:
        """The sample's annotated cells."""
        return self._cells_by_sample.get(sample, self.cells.iloc[:0])

    def values(self, column: str) -> dict[str, np.ndarray]:
        """A column of the annotated cells by sample, float64 (cells,); samples without a cell are left out."""
        by_sample = {sample: self.of_sample(sample)[column].to_numpy(dtype=np.float64) for sample in self.samples}
        return {sample: values for sample, values in by_sample.items() if len(values)}

    @cached_property
    def steps(self) -> dict[str, dict[str, int]]:
        """Cells per step and sample, see `check_numbers`."""
        return check_numbers(self)

    def sample_embeddings(self) -> list[Stats]:
        """Statistics of the samples' chunks, without the reference's."""
        return [chunk for chunk in self.embeddings if chunk.get("sample") in self.samples]


def read_json(path: str | Path) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def read_inputs(
    samples: str | Path,
    run: str | Path,
    stats: Iterable[str | Path],
    tables: str | Path,
    qc: Iterable[str | Path],
    annotator: str | Path | None,
) -> Inputs:
    """Read the report's inputs; tables and statistics that a run did not make may be absent.

    Parameters
    ----------
    samples, run
        `samples.json` and `run.json` of the input check.
    stats
        JSON files of the steps, told apart by their names.
    tables
        Folder of the cohort's tables.
    qc
        `<sample>.qc.parquet`.
    annotator
        Folder of the annotator that gives labels, if there is one.
    """
    sheet = read_json(samples)
    made = Inputs(sorted(row["sample"] for row in sheet), read_json(run), sheet)
    files = sorted(map(Path, stats))
    made.stats = read_statistics(files)
    for path in files:
        if path.name == "reference.json":
            made.reference = read_json(path)
        elif re.fullmatch(r".+\.\d+\.embedding\.json", path.name):
            made.embeddings.append(read_json(path))
    folder = Path(tables)
    for path in sorted(folder.glob("*.tsv")):
        made.tables[path.name] = read_tsv(path)
    removed = folder / "removed_cells.tsv.gz"
    made.tables[removed.name] = read_tsv(removed) if removed.is_file() else pd.DataFrame(columns=list(REMOVED_COLUMNS))
    made.cells = _read_cells(folder / "cells.tsv.gz")
    places = folder / "cohort_cells.parquet"
    if places.is_file():
        maps = [name for name in (*MAP, *MAP_BEFORE) if name in pq.read_schema(places).names]
        made.umap = pd.read_parquet(places, columns=["sample", "barcode", *maps])
        if not made.umap["barcode"].equals(made.cells["barcode"].rename("barcode")):
            raise ValueError("cohort_cells.parquet and cells.tsv.gz are not of the same cells")
    if (folder / "conditions.json").is_file():
        made.comparison = read_json(folder / "conditions.json")["messages"]
    if (folder / "differential_expression.json").is_file():
        made.differential = read_json(folder / "differential_expression.json")
        genes = folder / "differential_expression.tsv.gz"
        made.tables[genes.name] = read_tsv(genes)
    for path in sorted(map(Path, qc)):
        made.qc[path.name.removesuffix(".qc.parquet")] = pd.read_parquet(path)
    labels = [stats.get("labels_from") for stats in made.stats["annotation"].values()]
    by_profiles = bool(labels) and all(source == "profiles" for source in labels)
    if annotator is not None and not by_profiles and (Path(annotator) / "config.json").is_file():
        made.annotator = read_json(Path(annotator) / "config.json")
    return made


def _read_cells(path: Path) -> pd.DataFrame:
    if not path.is_file():
        empty = pd.DataFrame(columns=["sample", "barcode", *OBS_COLUMNS[1:]], dtype=str)
        return empty.astype(dict.fromkeys(_NUMBERS, float))
    texts = dict.fromkeys(("sample", "barcode", *OBS_COLUMNS), "string[pyarrow]")
    kinds = {**texts, **dict.fromkeys(_NUMBERS, "float64")}
    kinds["predicted_doublet"] = "bool"
    keep: dict[str, list[str]] = {column: [] for column in kinds} | {column: [""] for column in _NUMBERS}
    cells = pd.read_csv(path, sep="\t", dtype=kinds, keep_default_na=False, na_values=keep)
    for column in texts.keys() - {*_NUMBERS, "predicted_doublet"}:
        cells[column] = cells[column].astype(object)
    return cells


def check_numbers(inputs: Inputs) -> dict[str, dict[str, int]]:
    """Cells per step and sample, checked to add up, and why cells were removed.

    Returns
    -------
    Sample to the steps of `spikgpt.cohort.tables.cells_per_step`, and one entry `removed: <reason>` per reason.

    Raises
    ------
    ValueError
        A step has more or fewer cells than the step before left it.
    """
    removed = inputs.tables["removed_cells.tsv.gz"]
    steps: dict[str, dict[str, int]] = {sample: {} for sample in inputs.samples}
    for row in cells_per_step(inputs.samples, inputs.stats, removed, inputs.cells).itertuples(index=False):
        steps[row.sample][row.step] = int(row.cells)
    reasons = sorted(set(removed["reason"]))
    gone = pd.crosstab(removed["sample"], removed["reason"]).reindex(
        index=inputs.samples, columns=reasons, fill_value=0
    )
    for sample, counts in gone.iterrows():
        steps[str(sample)] |= {f"removed: {reason}": int(counts[reason]) for reason in reasons}
    return steps
