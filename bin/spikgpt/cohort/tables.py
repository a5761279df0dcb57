"""Tables of the cohort as a script reads them, with the fields of the h5ad; `docs/output.md` lists the columns."""

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

from spikgpt import UNKNOWN
from spikgpt.base.columns import OBS_COLUMNS
from spikgpt.base.h5ad import MEASURED
from spikgpt.base.names import CELL_SEPARATOR, name_before
from spikgpt.base.tsv import read_tsv
from spikgpt.quality_control.rules import BOUND_FIGURES, REASONS

REMOVED_COLUMNS = ("sample", "barcode", "reason", "nearest_type")
BY_TYPE_COLUMNS = ("sample", "nearest_type", "cells", "kept", "removed", "percent_removed", "reason", *REASONS)
BOUND_COLUMNS = (
    "sample", "group", "genes", "cells", "kept", "rule", "threshold", "source", *BOUND_FIGURES, "removed",
)  # fmt: skip

STEPS = ("barcodes", "called", "after ambient", "after doublets", "after filters", "annotated", UNKNOWN)
"""Steps of `cells_per_step`: each but the last keeps at most what the one before left; annotated and Unknown are
what is left after filters."""

STATISTICS = ("import", "called", "ambient", "doublets", "filter", "norm", "annotation", "second_opinion")
"""Kinds of the steps' JSON files `<sample>.<kind>.json`."""


def read_cohort(h5ad: str | Path) -> tuple[pd.DataFrame, dict]:
    """`obs` of the cohort with `sample` and `barcode` (the name as it came in) first, and the run's facts.

    The samplesheet's own columns are the last ones.
    """
    with h5py.File(h5ad) as file:
        obs = read_elem(file["obs"])
        facts = read_elem(file["uns/spikgpt"])
    barcodes = [cell.rsplit(CELL_SEPARATOR, 1)[0] for cell in obs.index]
    obs.insert(1, "barcode", barcodes)
    extra = [column for column in obs if column not in (*OBS_COLUMNS, "barcode")]
    return obs[["sample", "barcode", *OBS_COLUMNS[1:], *extra]].reset_index(drop=True), facts


def composition(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells of each type in each sample, zeros included: sample, cell_type, cells, percent."""
    counts = pd.crosstab(cells["sample"].astype(str), cells["spikgpt_cell_type"].astype(str))
    types = [*sorted(set(counts.columns) - {UNKNOWN}), UNKNOWN]
    counts = counts.reindex(columns=types, fill_value=0).sort_index()
    long = counts.stack().rename("cells").reset_index()
    long.columns = ["sample", "cell_type", "cells"]
    long["percent"] = 100 * long["cells"] / long.groupby("sample")["cells"].transform("sum")
    return long


def genes_measured(h5ad: str | Path) -> pd.DataFrame:
    """Genes of each sample, and how many all samples share: sample, genes, shared, percent_shared.

    `percent_shared` is the part of the cohort's genes that every sample measured.
    """
    with h5py.File(h5ad) as file:
        measured = read_elem(file[f"varm/{MEASURED}"])
    shared = int(measured.all(axis=1).sum())
    return pd.DataFrame(
        {
            "sample": measured.columns.astype(str),
            "genes": measured.sum().to_numpy(dtype=np.int64),
            "shared": shared,
            "percent_shared": 100 * shared / len(measured),
        }
    )


def removed_cells(paths: Iterable[str | Path], types: pd.DataFrame) -> pd.DataFrame:
    """Cells that quality control removed, samples by name, each in its own order.

    Parameters
    ----------
    types
        `spikgpt.annotator.removed.nearest_types` of the same cells, of all samples.
    """
    files = sorted((name_before(path, ".removed.tsv.gz"), Path(path)) for path in paths)
    given = list(REMOVED_COLUMNS[:3])
    frames = [pd.DataFrame(columns=given, dtype=str), *[read_tsv(path)[given] for _, path in files]]
    removed = pd.concat(frames, ignore_index=True)
    joined = removed.merge(types, on=["sample", "barcode"], how="left", validate="one_to_one")
    if len(types) != len(removed) or joined["nearest_type"].isna().any():
        raise ValueError("the nearest types are of other cells than those that were removed")
    return joined


def removed_by_type(cells: pd.DataFrame, removed: pd.DataFrame) -> pd.DataFrame:
    """Cells of each nearest type that stayed and that each rule removed, per sample.

    A kept cell's nearest type is its best match. Where no removed cell's type could be told, that of the kept cells is
    not told either: all types would seem to have lost nothing.

    Parameters
    ----------
    cells, removed
        See `read_cohort` and `removed_cells`.

    Returns
    -------
    `BY_TYPE_COLUMNS`, reason the commonest one; samples and types by name, the empty type last.
    """
    kept = pd.DataFrame(
        {"sample": cells["sample"].astype(str), "nearest_type": cells["spikgpt_best_match"].astype(str), "reason": ""}
    )
    judged = removed[removed["reason"] != "no_counts"]
    if len(judged) and not judged["nearest_type"].ne("").any():
        kept["nearest_type"] = ""
    both = pd.concat([kept, removed[["sample", "nearest_type", "reason"]]], ignore_index=True)
    counts = pd.crosstab([both["sample"], both["nearest_type"]], both["reason"])
    counts = counts.reindex(columns=["", *REASONS], fill_value=0).rename(columns={"": "kept"}).reset_index()
    counts["removed"] = counts[list(REASONS)].sum(axis=1)
    counts["cells"] = counts["kept"] + counts["removed"]
    counts["percent_removed"] = 100 * counts["removed"] / counts["cells"]
    commonest = counts[list(REASONS)].idxmax(axis=1) if len(counts) else pd.Series(dtype=object)
    counts["reason"] = commonest.where(counts["removed"] > 0, "")
    counts["last"] = counts["nearest_type"] == ""
    return counts.sort_values(["sample", "last", "nearest_type"], ignore_index=True)[list(BY_TYPE_COLUMNS)]


def qc_thresholds(statistics: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> pd.DataFrame:
    """The bounds that each rule used, per sample and group of cells: `BOUND_COLUMNS`, samples by name.

    `source` says where the threshold comes from: the samplesheet, the default, or, of the doublet rate, the sample's
    number of cells. The row of `predicted_doublet` has that rate (a share) as its threshold, and Scrublet's score as
    its upper bound; there is none where doublets were not looked for.

    Parameters
    ----------
    statistics
        See `read_statistics`.
    """
    rows = []
    for sample, stats in sorted(statistics["filter"].items()):
        groups = {part["group"]: part for part in stats["groups"]}
        groups["all"] = {"genes": "", "cells": stats["cells_in"], "kept": stats["cells_out"]}
        for bound in stats["bounds"]:
            given = bound["rule"] in stats["given"] or f"{bound['rule']}_nmads" in stats["given"]
            source = "samplesheet" if given else "default"
            rows.append({"sample": sample, **groups[bound["group"]], "source": source, **bound})
        doublets = statistics["doublets"].get(sample, {})
        if doublets.get("run"):
            rows.append(
                {
                    "sample": sample,
                    "group": "all",
                    **groups["all"],
                    "rule": "predicted_doublet",
                    "threshold": doublets["expected_rate"],
                    "source": "number of cells",
                    "upper": doublets["threshold"],
                    "removed": stats["removed"]["predicted_doublet"],
                }
            )
    return pd.DataFrame(rows, columns=list(BOUND_COLUMNS))


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
