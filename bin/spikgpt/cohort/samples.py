"""One row per sample: what a facility follows from run to run."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from spikgpt import UNKNOWN

SAMPLE_FIGURES = (
    "sample", "cells_in", "cells_kept", "median_genes", "median_counts", "median_pct_counts_mt", "percent_doublets",
    "percent_ambient", "median_confidence", "percent_unknown",
)  # fmt: skip


def sample_figures(
    samples: Sequence[str],
    statistics: Mapping[str, Mapping[str, Mapping[str, Any]]],
    steps: pd.DataFrame,
    cells: pd.DataFrame,
) -> pd.DataFrame:
    """Figures of each sample, samples by name; missing (NaN) where a sample has no cell or a step was not run.

    Parameters
    ----------
    samples
        Names of all samples, those without a cell left too.
    statistics, steps, cells
        See `spikgpt.cohort.tables`: `read_statistics`, `cells_per_step`, `read_cohort`.

    Returns
    -------
    `SAMPLE_FIGURES`: cells before and after quality control, medians over the kept cells, percentages of the cells in
    (doublets), of the counts (ambient, as DecontX estimates it) and of the kept cells (Unknown).
    """
    called = steps[steps["step"] == "called"].set_index("sample")["cells"]
    of = {str(name): part for name, part in cells.groupby(cells["sample"].astype(str))}
    rows = []
    for sample in sorted(samples):
        kept = of.get(sample, cells.iloc[:0])
        doublets, ambient = (statistics[kind].get(sample, {}) for kind in ("doublets", "ambient"))
        rows.append(
            (
                sample,
                int(called[sample]),
                len(kept),
                kept["n_genes_by_counts"].median(),
                kept["total_counts"].median(),
                kept["pct_counts_mt"].median(),
                100 * doublets["predicted_rate"] if doublets.get("run") else None,
                ambient["estimated_percent"] if ambient.get("run") else None,
                kept["spikgpt_confidence"].median(),
                100 * float((kept["spikgpt_cell_type"] == UNKNOWN).mean()) if len(kept) else None,
            )
        )
    table = pd.DataFrame(rows, columns=list(SAMPLE_FIGURES))
    return table.astype(dict.fromkeys(SAMPLE_FIGURES[3:], float))
