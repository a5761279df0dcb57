"""What quality control removed: of which types, and by which bounds."""

from collections.abc import Iterator

import pandas as pd

from spikgpt.quality_control.rules import DEFAULTS, MAD_RULES, REASONS
from spikgpt.report.content import Section, number, text
from spikgpt.report.inputs import Inputs
from spikgpt.report.plots import TableColumn, table

FEWEST = 15
"""Cells of a type or group from which on a loss is a warning."""
MOST_LOST = 0.5
"""Of a type or group..."""
HARDLY_TOUCHED = 0.1
"""... while the sample loses less than this: nobody would look for it."""
NOT_TOLD = "type cannot be told"


def removed_types_table(inputs: Inputs) -> Section | None:
    """Cells kept and removed of each nearest type, all samples together."""
    by_type = inputs.tables.get("removed_by_type.tsv", pd.DataFrame())
    if not len(by_type):
        return None
    counts = by_type.astype(dict.fromkeys(("cells", "kept", "removed", *REASONS), int))
    counts = counts.groupby("nearest_type")[["cells", "kept", "removed", *REASONS]].sum()
    if not counts["removed"].sum():
        return None
    # the empty type sorts first and is shown last
    counts = counts.loc[[*(name for name in counts.index if name), *([""] if "" in counts.index else [])]]
    rows = {
        text(name) if name else NOT_TOLD: {
            "cells": int(row["cells"]),
            "kept": int(row["kept"]),
            "lost": number(100 * row["removed"] / row["cells"]),
            "doublets": int(row["predicted_doublet"]),
            "reasons": _reasons({reason: int(row[reason]) for reason in REASONS if reason != "predicted_doublet"}),
        }
        for name, row in counts.iterrows()
    }
    return table(
        "spikgpt_removed",
        "Removed cells by type",
        "The nearest type of every cell that went in, all samples together: the best match of a kept cell, and of a "
        "removed one the type that fits its expression best. Removed cells are counted here only. A type that loses "
        "far more than the others may be filtered because it differs, not because it is damaged; "
        "tables/removed_by_type.tsv has every sample. Types of damaged cells are rough, and without the annotator's "
        "expression view they cannot be told.",
        rows,
        {
            "cells": TableColumn("Cells", "Kept and removed"),
            "kept": TableColumn("Kept", "Annotated cells with this best match"),
            "lost": TableColumn("Removed %", "Share of these cells that was removed", decimals=1),
            "doublets": TableColumn("Doublets", "Removed as predicted doublets"),
            "reasons": TableColumn("Other reasons", "Cells removed by each of the other rules"),
        },
        first="Nearest type",
        decimals=0,
    )


def bounds_table(inputs: Inputs) -> Section | None:
    """The bounds that each sample's cells were judged by, as ranges over its groups of cells."""
    bounds = inputs.tables.get("qc_thresholds.tsv", pd.DataFrame())
    if not len(bounds):
        return None
    shown = {
        "min_genes": ("min_genes", "lower", "Fewest genes", "min_genes: cells with fewer are removed"),
        "counts_low": ("log1p_total_counts", "lower", "Fewest counts", "log1p_total_counts, lower bound"),
        "counts_high": ("log1p_total_counts", "upper", "Most counts", "log1p_total_counts, upper bound"),
        "genes_low": ("log1p_n_genes_by_counts", "lower", "Fewest genes (MAD)", "log1p_n_genes_by_counts, lower bound"),
        "genes_high": ("log1p_n_genes_by_counts", "upper", "Most genes", "log1p_n_genes_by_counts, upper bound"),
        "top": ("pct_counts_in_top_20_genes", "upper", "Top 20 genes, %", "pct_counts_in_top_20_genes, upper bound"),
        "mito": ("pct_counts_mt", "upper", "Mitochondrial, %", "pct_counts_mt, upper bound"),
        "mito_max": ("max_mito_percentage", "upper", "Mitochondrial at most, %", "max_mito_percentage"),
        "half": ("no_programme", "lower", "Small", "no_programme: asked of cells with fewer counts only"),
    }  # fmt: skip
    values = bounds.assign(
        lower=pd.to_numeric(bounds["lower"].replace("", None)), upper=pd.to_numeric(bounds["upper"].replace("", None))
    )
    rows = {}
    for sample, own in values.groupby("sample"):
        groups = own.loc[own["group"] != "all", "group"].nunique()
        given = own.loc[own["source"] == "samplesheet"].drop_duplicates("rule")
        told = ", ".join(f"{text(rule)} {text(value)}" for rule, value in given[["rule", "threshold"]].to_numpy())
        row: dict[str, str | int | None] = {"groups": groups, "given": told or "defaults"}
        for key, (rule, side, _, _) in shown.items():
            row[key] = _range(own.loc[own["rule"] == rule, side].dropna())
        rows[text(sample)] = row
    used = [key for key in shown if any(row[key] is not None for row in rows.values())]
    return table(
        "spikgpt_bounds",
        "Bounds of quality control",
        "Cells are judged within groups of like cells; a range gives the strictest and the mildest bound of a "
        "sample's groups. An empty field is a rule that is switched off, or a sample of too few cells. "
        f"Defaults: {defaults_text()}. "
        "tables/qc_thresholds.tsv has each group, its genes, whether a threshold is a default, the doublet rate and "
        "score, and the cells that each rule removed.",
        rows,
        {
            "groups": TableColumn("Groups", "Groups of like cells"),
            "given": TableColumn(
                "Thresholds",
                "What the samplesheet gives in the place of a default; median absolute deviations of rules on counts, "
                "genes, top 20 genes and pct_counts_mt",
            ),
            **{key: TableColumn(shown[key][2], shown[key][3]) for key in used},
        },
        first="Sample",
        decimals=0,
    )


def defaults_text() -> str:
    """The default thresholds as one phrase."""
    nmads = {name: f"{DEFAULTS[f'{name}_nmads']:g}" for name in MAD_RULES}
    return (
        f"at least {DEFAULTS['min_genes']:g} genes (fewer in a group whose cells all have fewer), and at most "
        f"{nmads['log1p_total_counts']}, {nmads['log1p_n_genes_by_counts']}, {nmads['pct_counts_in_top_20_genes']} and "
        f"{nmads['pct_counts_mt']} median absolute deviations of counts, genes, share of the top 20 genes and "
        f"mitochondrial share; odds of {DEFAULTS['no_programme_odds']:g} to 1 for debris; no fixed limit of the "
        "mitochondrial share"
    )


def lost_types(inputs: Inputs, sample: str) -> Iterator[str]:
    """Messages (HTML) on types and groups that a sample lost most of, while it lost hardly any other cell."""
    steps = inputs.steps[sample]
    if steps["called"] - steps["after filters"] >= HARDLY_TOUCHED * steps["called"]:
        return
    by_type = inputs.tables.get("removed_by_type.tsv", pd.DataFrame())
    for row in by_type[by_type["sample"] == sample].to_dict("records") if len(by_type) else []:
        if row["nearest_type"] and _grave(int(row["cells"]), int(row["kept"])):
            why = _reasons({reason: int(row[reason]) for reason in REASONS})
            yield f"of {int(row['cells']):,} cells nearest to {text(row['nearest_type'])}, {_kept(row['kept'])}: {why}"
    stats = inputs.stats["filter"].get(sample, {})
    for group in stats.get("groups", []):
        if _grave(group["cells"], group["kept"]):
            own = [bound for bound in stats["bounds"] if bound["group"] == group["group"]]
            why = _reasons({bound["rule"]: bound["removed"] for bound in own})
            yield (
                f"of {group['cells']:,} like cells (group {group['group']}, {text(group['genes'])}), "
                f"{_kept(group['kept'])}{': ' if why else ''}{why}"
            )


def _grave(cells: int, kept: int) -> bool:
    return cells >= FEWEST and cells - kept > MOST_LOST * cells


def _kept(cells: int | str) -> str:
    return f"{int(cells):,} {'was' if int(cells) == 1 else 'were'} kept"


def _reasons(removed: dict[str, int]) -> str:
    """Rules with what they removed, most first."""
    most = sorted(((name, cells) for name, cells in removed.items() if cells), key=lambda pair: -pair[1])
    return ", ".join(f"{text(name)} {cells:,}" for name, cells in most)


def _range(values: pd.Series) -> str | None:
    """Numbers from the smallest to the largest, as text; None without any."""
    if not len(values):
        return None
    low, high = f"{values.min():,.0f}", f"{values.max():,.0f}"
    return low if low == high else f"{low} to {high}"
