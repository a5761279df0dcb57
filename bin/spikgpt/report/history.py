"""This run beside earlier ones: the medians of their samples, from the tables `samples.tsv` of their results."""

from pathlib import Path

import numpy as np
import pandas as pd

from spikgpt.base.errors import UserError
from spikgpt.cohort.samples import SAMPLE_FIGURES
from spikgpt.report.content import Section, short, text
from spikgpt.report.inputs import Inputs
from spikgpt.report.plots import Points, TableColumn, lines, table

FOLLOWED = {
    "cells_kept": ("Cells", "Cells kept per sample", 0),
    "median_genes": ("Genes", "Median genes per kept cell", 0),
    "median_pct_counts_mt": ("Mitochondrial %", "Median mitochondrial share of a kept cell's counts", 1),
    "percent_doublets": ("Doublets %", "Predicted doublets among cells in", 1),
    "percent_ambient": ("Ambient %", "Ambient RNA among the counts, with --ambient decontx", 1),
    "percent_unknown": ("Unknown %", "Rejected cells", 1),
}
"""Figures that are followed: title, what it is, decimals."""

FEWEST_RUNS = 5
"""Earlier runs from which on a figure outside of all of theirs is pointed out: with n alike runs it happens by chance
to 2 in n + 1."""
LAST_RUNS = 30
"""Earlier runs that are compared, the last by name."""


def read_history(path: str | Path) -> pd.DataFrame:
    """The samples of earlier runs: `run`, then `SAMPLE_FIGURES`; numbers are float64, missing ones NaN.

    Raises
    ------
    UserError
        The table lacks a column, or a field that should be a number is none.
    """
    found = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    for column in ("run", *SAMPLE_FIGURES):
        if column not in found:
            raise _strange(", ".join(found.columns), f"a column {column}")
    for column in SAMPLE_FIGURES[1:]:
        values = pd.to_numeric(found[column], errors="coerce")
        wrong = values.isna() & ~found[column].isin(("", "nan"))
        if wrong.any():
            at = found[wrong].iloc[0]
            raise _strange(f"{at[column]!r} in column {column} of run {at['run']}, sample {at['sample']}", "a number")
        found[column] = values.astype(np.float64)
    return found


def _strange(found: str, expected: str) -> UserError:
    return UserError(
        "A table of earlier results is not one of this pipeline",
        where="--history, tables/samples.tsv",
        found=found,
        expected=expected,
        fix="remove the folder of that run from --history, or make its results anew",
    )


def _medians(inputs: Inputs) -> pd.DataFrame | None:
    """Median over samples of each figure, a row per run: the last `LAST_RUNS` earlier ones by name, then this one."""
    now = inputs.tables.get("samples.tsv")
    if inputs.history is None or now is None or not len(now):
        return None
    figures = list(FOLLOWED)
    earlier = inputs.history.groupby("run")[figures].median().sort_index().tail(LAST_RUNS)
    this = {name: _median(pd.to_numeric(now[name], errors="coerce")) for name in figures}
    return pd.concat([earlier, pd.DataFrame(this, index=["this run"])])


def _median(values: pd.Series) -> float:
    """NaN, without a warning, where nothing was measured."""
    values = values.dropna()
    return float(values.median()) if len(values) else np.nan


def trend_table(inputs: Inputs) -> Section | None:
    """Each figure of this run beside the range of the earlier runs' medians."""
    medians = _medians(inputs)
    if medians is None:
        return None
    rows = {}
    for name, (title, _, decimals) in FOLLOWED.items():
        earlier, this = medians[name].iloc[:-1].dropna(), medians[name].iloc[-1]
        if not len(earlier):
            continue
        outside = len(earlier) >= FEWEST_RUNS and not earlier.min() <= this <= earlier.max() and not np.isnan(this)
        rows[title] = {
            "now": _told(this, decimals),
            "median": _told(earlier.median(), decimals),
            "range": f"{_told(earlier.min(), decimals)} to {_told(earlier.max(), decimals)}",
            "runs": len(earlier),
            "outside": ("higher than ever" if this > earlier.max() else "lower than ever") if outside else "",
        }
    if not rows:
        return None
    return table(
        "spikgpt_trend",
        "Beside earlier runs",
        "The median over this run's samples, and over the samples of each earlier run (--history). Runs of other "
        "tissues or protocols differ for good reasons. tables/samples.tsv has each sample.",
        rows,
        {
            "now": TableColumn("This run", "Median over its samples"),
            "median": TableColumn("Earlier runs", "Median of their medians"),
            "range": TableColumn("Range", "Their lowest to their highest median"),
            "runs": TableColumn("Runs", f"Earlier runs with this figure, at most the last {LAST_RUNS} by name"),
            "outside": TableColumn("", f"Outside of the range of at least {FEWEST_RUNS} earlier runs"),
        },
        first="Figure",
        decimals=0,
    )


def trend_lines(inputs: Inputs) -> Section | None:
    """Each figure over the runs, as a percentage of the earlier runs' median, so that one axis serves all."""
    medians = _medians(inputs)
    if medians is None or len(medians) < 3:
        return None
    curves: dict[str, Points] = {}
    for name, (title, _, _) in FOLLOWED.items():
        usual = _median(medians[name].iloc[:-1])
        if usual > 0:
            share = 100 * medians[name] / usual
            curves[title] = [[at, float(value)] for at, value in enumerate(share) if not np.isnan(value)]
    if not curves:
        return None
    names = ", ".join(f"{at} {short(run)}" for at, run in enumerate(medians.index))
    return lines(
        "spikgpt_trend_lines",
        "Earlier runs in order",
        f"Each run's median over samples, in percent of the earlier runs' median. Runs by name: {names}.",
        curves,
        xlab="run",
        ylab="% of the earlier runs' median",
        ymin=0,
    )


def _told(value: float, decimals: int) -> str:
    return "not measured" if np.isnan(value) else text(f"{value:,.{decimals}f}")
