"""Tables of the cohort as a script reads them: tab-separated text with stable bytes.

Fields are as they are in the h5ad; one that holds a tab, a quote or a line break is quoted as in
RFC 4180. Numbers have six significant digits, counts all of theirs. `docs/output.md` lists the columns.
"""

import gzip
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem
from scipy.stats import binom

from spikgpt import UNKNOWN
from spikgpt.cohort import CELL_SEPARATOR, OBS_COLUMNS, cluster_order, name_before

REMOVED_COLUMNS = ("sample", "barcode", "reason")

STEPS = ("barcodes", "called", "after ambient", "after doublets", "after filters", "annotated", UNKNOWN)
"""Steps of `cells_per_step`: each but the last keeps at most what the one before left; annotated and Unknown are
what is left after filters."""

STATISTICS = ("import", "called", "ambient", "doublets", "filter", "norm", "annotation")
"""Kinds of the steps' JSON files `<sample>.<kind>.json`."""

FLOAT_FORMAT = "%.6g"

POPULATION_SHARE = 0.25
"""A cluster is an unknown population when at least this share of it is Unknown ..."""

POPULATION_ALPHA = 0.001
"""... and so many are less likely than this when each is Unknown with the expected rate."""

POPULATION_MARKERS = 10

POPULATION_COLUMNS = (
    "cluster",
    "cells",
    "unknown_cells",
    "unknown_percent",
    "expected_unknown",
    "p_value",
    "samples",
    "cells_per_sample",
    "nearest_type",
    "nearest_percent",
    "markers",
    "qc_flags",
)


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


def unknown_populations(cells: pd.DataFrame, markers: pd.DataFrame, unknown_rate: float) -> pd.DataFrame:
    """Clusters with far more rejected cells than the rate allows.

    Where every cell belongs to a type of the reference, about `unknown_rate` of them are Unknown,
    independently: the upper tail of the binomial distribution tests each cluster, by Bonferroni
    over clusters. Cells that were rejected for their quality or their genes are no sign of a new
    type and do not count.

    Parameters
    ----------
    cells
        See `read_cohort`.
    markers
        See `spikgpt.markers.find_markers`.
    unknown_rate
        Expected share of Unknown cells.

    Returns
    -------
    `POPULATION_COLUMNS`, by falling number of Unknown cells; no rows when there is none.
    samples is their number, cells_per_sample `name=cells` by falling count; nearest_type is the
    commonest best match of the Unknown cells; qc_flags names what else could explain the cluster.
    """
    cluster = cells["spikgpt_cluster"].astype(str)
    rejected = (cells["spikgpt_cell_type"].astype(str) == UNKNOWN) & ~cells["spikgpt_unknown_reason"].astype(str).isin(
        ["low_gene_match", "low_quality"]
    )
    names = [name for name in cluster_order(cluster) if name]
    rows = []
    for name in names:
        inside = (cluster == name).to_numpy()
        size, unknown = int(inside.sum()), int(rejected[inside].sum())
        p = float(binom.sf(unknown - 1, size, unknown_rate)) * len(names)
        if unknown < POPULATION_SHARE * size or p >= POPULATION_ALPHA:
            continue
        nearest = _commonest(cells.loc[inside & rejected.to_numpy(), "spikgpt_best_match"])
        per_sample = cells.loc[inside, "sample"].astype(str).value_counts()
        per_sample = per_sample.sort_index().sort_values(ascending=False, kind="stable")
        genes = markers.loc[markers["cluster"].astype(str) == name, "gene"].astype(str)
        rows.append(
            (
                name,
                size,
                unknown,
                100 * unknown / size,
                unknown_rate * size,
                min(p, 1.0),
                int((per_sample > 0).sum()),
                ", ".join(f"{s}={n}" for s, n in per_sample.items() if n),
                nearest[0],
                nearest[1],
                ", ".join(genes[:POPULATION_MARKERS]),
                "; ".join(quality_flags(cells, inside)),
            )
        )
    rows.sort(key=lambda row: -row[2])
    return pd.DataFrame(rows, columns=list(POPULATION_COLUMNS))


def _commonest(values: pd.Series) -> tuple[str, float]:
    """The commonest text and its percentage; ties to the first in the alphabet."""
    counts = values.astype(str).value_counts().sort_index()
    return str(counts.idxmax()), float(100 * counts.max() / counts.sum())


def quality_flags(cells: pd.DataFrame, inside: np.ndarray) -> list[str]:
    """What about a cluster's quality could pass for a new type, against all other cells."""
    flags = []
    mine, others = cells[inside], cells[~inside]
    doublets = 100 * float(mine["predicted_doublet"].mean())
    if doublets >= 20:
        flags.append(f"{doublets:.0f} % predicted doublets")
    if len(others):
        depth, usual = float(mine["total_counts"].median()), float(others["total_counts"].median())
        if depth < 0.5 * usual:
            flags.append(f"low depth: median {depth:.0f} counts against {usual:.0f}")
        mito, usual_mito = float(mine["pct_counts_mt"].median()), float(others["pct_counts_mt"].median())
        if mito > max(2 * usual_mito, 10):
            flags.append(f"high mitochondrial share: median {mito:.0f} % against {usual_mito:.0f} %")
    per_sample = mine["sample"].astype(str).value_counts()
    if cells["sample"].nunique() > 1 and per_sample.iloc[0] > 0.95 * len(mine):
        flags.append("nearly all cells from one sample")
    return flags


def removed_cells(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Cells that quality control removed, samples by name, each in its own order."""
    files = sorted((name_before(path, ".removed.tsv.gz"), Path(path)) for path in paths)
    frames = [pd.DataFrame(columns=list(REMOVED_COLUMNS), dtype=str)]
    frames += [read_tsv(path)[list(REMOVED_COLUMNS)] for _, path in files]
    return pd.concat(frames, ignore_index=True)


def read_statistics(paths: Iterable[str | Path]) -> dict[str, dict[str, dict[str, Any]]]:
    """The steps' statistics of the samples: kind to sample to content; embeddings and the reference left out."""
    found: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in STATISTICS}
    for path in sorted(map(Path, paths)):
        if path.name == "reference.json" or re.fullmatch(r".+\.\d+\.embedding\.json", path.name):
            continue
        sample, kind = path.name.removesuffix(".json").rsplit(".", 1)
        found[kind][sample] = json.loads(path.read_text(encoding="utf-8"))
    return found


def cells_per_step(
    samples: Sequence[str],
    statistics: Mapping[str, Mapping[str, Mapping[str, Any]]],
    removed: pd.DataFrame,
    cells: pd.DataFrame,
) -> pd.DataFrame:
    """How many cells of each sample each step left, checked to add up.

    A cell that several rules would remove is counted where `removed` has it; doublets are removed with the
    filters, so "after doublets" is what their removal alone leaves.

    Parameters
    ----------
    samples
        Names of all samples, those without a cell left too.
    statistics
        See `read_statistics`.
    removed, cells
        See `removed_cells` and `read_cohort`.

    Returns
    -------
    sample, step (`STEPS`), cells; samples by name.

    Raises
    ------
    ValueError
        A step has more or fewer cells than the step before left it.
    """
    reasons = pd.crosstab(removed["sample"], removed["reason"])
    labels = pd.crosstab(cells["sample"].astype(str), cells["spikgpt_cell_type"].astype(str) == UNKNOWN)
    rows = []
    for sample in sorted(samples):
        gone = reasons.loc[sample] if sample in reasons.index else pd.Series(dtype=int)
        kept = labels.loc[sample] if sample in labels.index else pd.Series(dtype=int)
        left, all_gone = int(kept.sum()), int(gone.sum())
        barcodes = int(statistics["import"].get(sample, {}).get("barcodes", left + all_gone))
        called = int(statistics["called"].get(sample, {}).get("cells", barcodes))
        ambient = called - int(statistics["ambient"].get(sample, {}).get("cells_emptied", 0))
        doublets = ambient - int(gone.get("predicted_doublet", 0))
        numbers = (barcodes, called, ambient, doublets, left, int(kept.get(False, 0)), int(kept.get(True, 0)))
        falling = all(before >= after for before, after in pairwise(numbers[:5]))
        if called - all_gone != left or not falling:
            raise ValueError(
                f"{sample}: {barcodes} barcodes, {called} called cells, {all_gone} removed, {left} annotated "
                "do not add up"
            )
        rows += [(sample, step, number) for step, number in zip(STEPS, numbers, strict=True)]
    return pd.DataFrame(rows, columns=["sample", "step", "cells"])


def read_tsv(path: str | Path) -> pd.DataFrame:
    """A table as text: nothing is guessed to be a number or missing."""
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
