"""Quality of cells: metrics, and which cells are removed by which rule."""

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spikgpt.base.errors import UserError
from spikgpt.base.h5ad import Stored, write_part

DEFAULTS: dict[str, float] = {
    "min_genes": 200,
    "min_cells": 0,
    "max_mito_percentage": 0,
    "log1p_total_counts_nmads": 5,
    "log1p_n_genes_by_counts_nmads": 5,
    "pct_counts_in_top_20_genes_nmads": 5,
    "pct_counts_mt_nmads": 3,
}
"""Thresholds where the samplesheet gives none; those of nf-core/scdownstream. 0 switches a rule off."""

FEWEST_FOR_MADS = 20
"""With fewer cells a median absolute deviation says nothing, and the MAD rules rest."""


@dataclass(frozen=True)
class MadRule:
    """Cells further from the sample's median than so many MADs are removed."""

    metric: str
    """The metric, logged by `log1p` where its name says so."""
    both_sides: bool
    leeway: float
    """The least distance from the median that counts as far, in the metric's unit, whatever the MAD."""


MAD_RULES: dict[str, MadRule] = {
    # leeway: a factor of 2 in counts or genes either way, 10 points of a percentage in the 20 top
    # genes, 5 in mitochondrial counts. Where nearly all cells are alike the MAD comes close to 0, and
    # without it half of the cells would be outliers.
    "log1p_total_counts": MadRule("total_counts", True, float(np.log(2))),
    "log1p_n_genes_by_counts": MadRule("n_genes_by_counts", True, float(np.log(2))),
    "pct_counts_in_top_20_genes": MadRule("pct_counts_in_top_20_genes", True, 10.0),
    "pct_counts_mt": MadRule("pct_counts_mt", False, 5.0),
}

REASONS = (
    "no_counts", "min_genes", "max_mito_percentage", *MAD_RULES, "predicted_doublet", "min_cells",
)  # fmt: skip
"""Why a cell is removed, in the order the rules are asked: a cell has the first reason that holds.

Doublets come late so that a low-quality cell is never reported as a doublet; min_cells removes cells only
where it leaves the sample without a gene.
"""


def thresholds_from(given: dict[str, Any], where: str) -> dict[str, float]:
    """The thresholds of a sample: `DEFAULTS`, overridden by what the samplesheet gives.

    Raises
    ------
    UserError
        At an unknown name, or at a value that is no number from 0.
    """
    unknown = sorted(set(given) - set(DEFAULTS))
    if unknown:
        raise UserError(
            f"There is no threshold called {unknown[0]!r}.",
            where=where,
            found=unknown[0],
            expected=", ".join(DEFAULTS),
            fix="Correct its name in the samplesheet.",
        )
    chosen = dict(DEFAULTS)
    for name, value in given.items():
        if value is None or value == "":
            continue
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = -1.0
        if not (np.isfinite(number) and number >= 0):
            raise UserError(
                f"The threshold {name} is not a number from 0.",
                where=where,
                found=repr(value),
                expected="a number from 0",
                fix="Correct it in the samplesheet; 0 switches the rule off.",
            )
        chosen[name] = number
    return chosen


def removal_reasons(
    metrics: pd.DataFrame, predicted_doublet: np.ndarray, thresholds: dict[str, float]
) -> tuple[np.ndarray, dict[str, dict[str, float | None]]]:
    """Why each cell goes: the first rule of `REASONS` that it breaks, "" for a cell that stays.

    MAD bounds are ``median +- nmads * MAD`` over the sample's cells with counts (the plain MAD, as in
    nf-core/scdownstream and Germain et al. 2020), but never nearer to the median than the rule's leeway.

    Returns
    -------
    reasons
        object array of str, shape (cells,).
    bounds
        metric -> {"median", "mad", "lower", "upper"} for the MAD rules in use, in the metric's own unit
        (not logged); None where there is no bound.
    """
    total = metrics["total_counts"].to_numpy()
    counted = total > 0
    breaks: dict[str, np.ndarray] = {"no_counts": ~counted}
    breaks["min_genes"] = metrics["n_genes_by_counts"].to_numpy() < thresholds["min_genes"]
    limit = thresholds["max_mito_percentage"]
    mito = metrics["pct_counts_mt"].to_numpy()
    breaks["max_mito_percentage"] = (mito > limit) if limit > 0 else np.zeros(len(metrics), dtype=bool)
    bounds: dict[str, dict[str, float | None]] = {}
    for name, rule in MAD_RULES.items():
        breaks[name] = np.zeros(len(metrics), dtype=bool)
        nmads = thresholds[f"{name}_nmads"]
        if nmads <= 0 or counted.sum() < FEWEST_FOR_MADS:
            continue
        logged = name.startswith("log1p_")
        values = metrics[rule.metric].to_numpy(dtype=np.float64)
        values = np.log1p(values) if logged else values
        median = float(np.median(values[counted]))
        mad = float(np.median(np.abs(values[counted] - median)))
        far = max(nmads * mad, rule.leeway)
        low, high = median - far, median + far
        breaks[name] = (values > high) | ((values < low) if rule.both_sides else False)
        unit = np.expm1 if logged else float
        bounds[name] = {
            "median": round(float(unit(median)), 6),
            "mad": round(mad, 6),
            "lower": round(max(float(unit(low)), 0.0), 6) if rule.both_sides else None,
            "upper": round(float(unit(high)), 6),
        }
    breaks["predicted_doublet"] = np.asarray(predicted_doublet, dtype=bool)
    breaks["min_cells"] = np.zeros(len(metrics), dtype=bool)
    reasons = np.full(len(metrics), "", dtype=object)
    for reason in REASONS:
        reasons[breaks[reason] & (reasons == "")] = reason
    return reasons, bounds


def filter_cells(
    cells: Stored,
    metrics: pd.DataFrame,
    doublets: pd.DataFrame,
    thresholds: dict[str, float],
    sample: str,
    out: str | Path,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Write the cells that are neither doublets nor of low quality, a block of them at a time.

    Parameters
    ----------
    cells
        Raw counts; every layer is filtered alike.
    metrics, doublets
        Tables of `cell_metrics` and `spikgpt.quality_control.doublets.detect_doublets`, in the row order of `cells`.
    thresholds
        From `thresholds_from`.
    out
        The h5ad to write, not made when no cell stays: the cells that stay, with the metrics and doublet columns
        in obs; genes are kept, unless min_cells is given (samples are joined by their genes later).

    Returns
    -------
    removed
        sample, barcode, reason.
    stats
        Content of `{sample}.filter.json`: cells_in = cells_out + sum(removed.values()).
    """
    barcodes = cells.barcodes
    for name, table in (("metrics", metrics), ("doublets", doublets)):
        if not np.array_equal(table["barcode"].to_numpy(dtype=object), barcodes):
            raise ValueError(f"the table of {name} is of other cells than the matrix of sample {sample}")
    reasons, bounds = removal_reasons(metrics, doublets["predicted_doublet"].to_numpy(), thresholds)
    stays = reasons == ""
    genes_stay = np.ones(len(cells.var), dtype=bool)
    if thresholds["min_cells"] > 0:
        seen = np.zeros(len(cells.var), dtype=np.int64)
        for start, block in cells.blocks():
            seen += block[stays[start : start + block.shape[0]]].getnnz(axis=0)
        genes_stay = seen >= thresholds["min_cells"]
        if not genes_stay.any():
            reasons[stays] = "min_cells"
            stays = reasons == ""
    if stays.any():
        columns = metrics.drop(columns="barcode").join(doublets.drop(columns="barcode"))
        obs = cells.obs.join(columns.set_axis(cells.obs.index, axis=0))[stays]
        write_part(cells, out, obs, stays, genes_stay)
    removed = pd.DataFrame({"sample": sample, "barcode": barcodes[~stays], "reason": reasons[~stays]})
    messages = []
    if not stays.any():
        messages.append("No cell is left; the sample is skipped.")
    if 0 < (metrics["total_counts"] > 0).sum() < FEWEST_FOR_MADS:
        messages.append(f"Fewer than {FEWEST_FOR_MADS} cells: no MAD rules.")
    stats = {
        "sample": sample,
        "cells_in": len(barcodes),
        "cells_out": int(stays.sum()),
        "removed": {reason: int((reasons == reason).sum()) for reason in REASONS},
        "genes_in": len(cells.var),
        "genes_out": int(genes_stay.sum()),
        "thresholds": thresholds,
        "bounds": bounds,
        "messages": messages,
    }
    return removed, stats


def write_removed(table: pd.DataFrame, path: Path) -> None:
    """Write sample, barcode, reason as gzipped TSV; the same table gives the same bytes."""
    text = table.to_csv(sep="\t", index=False, lineterminator="\n")
    path.write_bytes(gzip.compress(text.encode("utf-8"), mtime=0))
