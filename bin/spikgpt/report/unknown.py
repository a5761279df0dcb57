"""Rejected cells: why they were rejected, and whether they may be a type of their own."""

from typing import Any

import numpy as np

from spikgpt import UNKNOWN
from spikgpt.base.colours import REASON_COLOURS
from spikgpt.base.columns import REASON_NAMES, UNKNOWN_REASONS
from spikgpt.report.annotators import label_source
from spikgpt.report.content import Group, Section, text
from spikgpt.report.inputs import Inputs
from spikgpt.report.plots import TableColumn, bars, histogram, lines, markup, table

GROUP = Group(
    "spikgpt_unknown", "Unknown cells", "Rejected cells, why they were rejected, and whether they may be a type."
)


def reasons_bars(inputs: Inputs) -> Section | None:
    """Rejected cells per sample, by reason."""
    if not len(inputs.cells):
        return None
    data = {}
    for sample in inputs.samples:
        counts = inputs.of_sample(sample)["spikgpt_unknown_reason"].value_counts()
        data[sample] = {reason: int(counts.get(reason, 0)) for reason in REASON_NAMES}
    categories = {
        reason.name: {"name": f"{reason.meaning} ({reason.name})", "color": REASON_COLOURS[reason.name]}
        for reason in UNKNOWN_REASONS
    }
    return bars(
        "spikgpt_reasons",
        "Unknown by reason",
        "Why cells were rejected. Many cells that fit no type suggest that the reference lacks a type; many between "
        "types, that it splits types too finely; many too shallow to judge, a poor library.",
        data,
        categories,
        hide_zero_cats=False,
    )


def populations_table(inputs: Inputs) -> Section | None:
    """Clusters that may be a type of their own."""
    populations = inputs.tables.get("unknown_populations.tsv")
    if populations is None:
        return None
    id, name, description = (
        "spikgpt_populations",
        f"Populations outside of {label_source(inputs)}",
        f"Clusters in which far more cells are {UNKNOWN} than unknown_rate allows. Some are probably a type of the "
        "reference after all. Their markers suggest what they are; the quality column gives other explanations.",
    )
    if not len(populations):
        nothing = "No such cluster."
        return markup(id, name, description, f"<div class='alert alert-success py-2'>{nothing}</div>")
    rows = {
        f"Cluster {text(row.cluster)}": {
            "cells": int(row.cells),
            "unknown": int(row.unknown_cells),
            "expected": float(row.expected_unknown),
            "samples": int(row.samples),
            "nearest": f"{text(row.nearest_type)} ({float(row.nearest_percent):.0f} %)",
            "probably": f"{text(row.probably)}, of which the reference has {int(row.reference_cells):,} cells"
            if row.probably
            else f"outside of {label_source(inputs)}",
            "looks": likeness_text(row),
            "markers": text(row.markers),
            "missing": text(row.nearest_markers_missing) or "none",
            "flags": text(row.qc_flags) or "none",
        }
        for row in populations.itertuples(index=False)
    }
    columns = {
        "cells": TableColumn("Cells", "Cells of the cluster"),
        "unknown": TableColumn(UNKNOWN, "Rejected cells"),
        "expected": TableColumn("Expected", "Rejected cells that unknown_rate allows"),
        "samples": TableColumn(
            "Samples", "Samples with cells in it; a population of a single sample needs more evidence"
        ),
        "nearest": TableColumn("Nearest type", "Commonest best match of its rejected cells"),
        "probably": TableColumn(
            "Probably",
            "The type of the reference whose markers it shows after all, some as markers of its own: its cells were "
            "rejected because the reference has few of them, or others",
        ),
        "looks": TableColumn(
            "Looks like",
            "Broad class that the bundled tissue profiles name for its rejected cells, with its probability; and the "
            "nearest single profile, with Spearman's correlation",
        ),
        "markers": TableColumn("Markers", "Genes higher than in all other cells, best first"),
        "missing": TableColumn("Missing", "Markers of the nearest type that are missing in the cluster"),
        "flags": TableColumn("Quality", "Other explanations of the cluster"),
    }
    return table(id, name, description, rows, columns, first="Cluster", decimals=0)


def likeness_text(population: Any) -> str:
    """What a population looks like in the tissue profiles (HTML), from its row of `unknown_populations.tsv`."""
    if not population.looks_like:
        return "none of the profiles"
    said = f"{text(population.looks_like)} ({float(population.looks_like_score):.2f})"
    if not population.nearest_profile:
        return said
    return (
        f"{said}; nearest profile {text(population.nearest_profile)}, {text(population.nearest_profile_source)}, "
        f"r {float(population.nearest_profile_correlation):.2f}"
    )


def p_value_lines(inputs: Inputs) -> Section | None:
    """Distribution of the p-values, per sample."""
    # labels from the tissue profiles have none
    known = {sample: values[np.isfinite(values)] for sample, values in inputs.values("spikgpt_p_value").items()}
    curves = {sample: histogram(values) for sample, values in known.items() if len(values)}
    if not curves:
        return None
    return lines(
        "spikgpt_p_values",
        "p-values",
        "Conformal p-value of each cell: small where few cells of the reference, or of the sample, fit so badly. Cells "
        f"left of the dashed line (unknown_rate {inputs.unknown_rate:.3g}) are {UNKNOWN}; a peak there suggests that "
        "the reference lacks a type. Like cells are judged together, so that they have like values: the curve has "
        "bumps, one or more for a cluster, and need not be flat where all types are known.",
        curves,
        xlab="p-value",
        ylab="% of cells",
        xmin=0,
        xmax=1,
        ymin=0,
        x_lines=[{"value": inputs.unknown_rate, "color": "#555555", "dash": "dash"}],
    )
