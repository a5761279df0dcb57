"""The cells of a sample that stay, those that go, and why."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spikgpt.base.columns import QC_METRICS
from spikgpt.base.h5ad import Stored, write_part
from spikgpt.quality_control.groups import FEWEST_CELLS
from spikgpt.quality_control.rules import REASONS, Thresholds, removal_reasons


def filter_cells(
    cells: Stored,
    metrics: pd.DataFrame,
    doublets: pd.DataFrame,
    thresholds: Thresholds,
    sample: str,
    out: str | Path,
    out_removed: str | Path,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Write the cells that are neither doublets nor of low quality, and the others, a block of them at a time.

    Parameters
    ----------
    cells
        Raw counts; every layer is filtered alike.
    metrics, doublets
        Tables of `qc_metrics.py` and `spikgpt.quality_control.doublets.detect_doublets`, in the row order of `cells`.
    thresholds
        From `spikgpt.quality_control.rules.thresholds_from`.
    out
        The h5ad to write, not made when no cell stays: the cells that stay, with the metrics and doublet columns
        in obs; genes are kept, unless min_cells is given (samples are joined by their genes later).
    out_removed
        The h5ad of the cells that go, with all genes; of no cell where all stay.

    Returns
    -------
    removed
        sample, barcode, reason.
    stats
        Content of `{sample}.filter.json`: cells_in = cells_out + sum(removed.values()); thresholds, and the names
        of those that the samplesheet gave; groups with their cells before and after; bounds as in `removal_reasons`.
    """
    barcodes = cells.barcodes
    for name, table in (("metrics", metrics), ("doublets", doublets)):
        if not np.array_equal(table["barcode"].to_numpy(dtype=object), barcodes):
            raise ValueError(f"the table of {name} is of other cells than the matrix of sample {sample}")
    strangers = doublets["other_species"].to_numpy() if "other_species" in doublets else None
    reasons, bounds = removal_reasons(metrics, doublets["predicted_doublet"].to_numpy(), thresholds, strangers)
    stays = reasons == ""
    genes_stay = np.ones(len(cells.var), dtype=bool)
    min_cells = thresholds.values["min_cells"]
    if min_cells > 0:
        seen = np.zeros(len(cells.var), dtype=np.int64)
        for start, block in cells.blocks():
            seen += block[stays[start : start + block.shape[0]]].getnnz(axis=0)
        genes_stay = seen >= min_cells
        if not genes_stay.any():
            reasons[stays] = "min_cells"
            stays = reasons == ""
    if stays.any():
        columns = metrics[list(QC_METRICS)].join(doublets[["doublet_score", "predicted_doublet"]])
        obs = cells.obs.join(columns.set_axis(cells.obs.index, axis=0))[stays]
        write_part(cells, out, obs, stays, genes_stay)
    write_part(cells, out_removed, cells.obs[~stays], ~stays)
    removed = pd.DataFrame({"sample": sample, "barcode": barcodes[~stays], "reason": reasons[~stays]})
    messages = []
    if not stays.any():
        messages.append("No cell is left; the sample is skipped.")
    if 0 < (metrics["total_counts"] > 0).sum() < FEWEST_CELLS:
        messages.append(f"Fewer than {FEWEST_CELLS} cells: no MAD rules.")
    stats = {
        "sample": sample,
        "cells_in": len(barcodes),
        "cells_out": int(stays.sum()),
        "removed": {reason: int((reasons == reason).sum()) for reason in REASONS},
        "genes_in": len(cells.var),
        "genes_out": int(genes_stay.sum()),
        "thresholds": thresholds.values,
        "given": list(thresholds.given),
        "groups": [
            {
                "group": group,
                "genes": str(part["group_genes"].iloc[0]),
                "cells": len(part),
                "kept": int(stays[part.index].sum()),
            }
            for group, part in metrics.reset_index(drop=True).groupby("group")
            if group > 0
        ],
        "bounds": bounds,
        "messages": messages,
    }
    return removed, stats


def write_removed(table: pd.DataFrame, path: Path) -> None:
    """Write sample, barcode, reason as gzipped TSV; the same table gives the same bytes."""
    text = table.to_csv(sep="\t", index=False, lineterminator="\n")
    path.write_bytes(gzip.compress(text.encode("utf-8"), mtime=0))
