"""Cells that were rejected, why, and whether they are a type of their own."""

from spikgpt import UNKNOWN
from spikgpt.base.colours import REASON_COLOURS
from spikgpt.base.columns import REASON_NAMES, UNKNOWN_REASONS
from spikgpt.report.content import Group, Section, text
from spikgpt.report.inputs import Inputs
from spikgpt.report.plots import TableColumn, bars, histogram, lines, markup, table

GROUP = Group("spikgpt_unknown", "Unknown cells", "Cells that were rejected, why, and whether they are a type.")


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
        "Why cells were rejected. Many that fit no type point to a type that the reference lacks; many between types, "
        "to types that it splits too finely; many too shallow, to the library.",
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
        "Populations outside of the reference",
        f"Clusters in which far more cells are {UNKNOWN} than unknown_rate allows. Markers say what they may be; the "
        "quality column says what else could explain them, and is empty when nothing does.",
    )
    if not len(populations):
        nothing = "No such cluster: rejected cells are spread thinly."
        return markup(id, name, description, f"<div class='alert alert-success py-2'>{nothing}</div>")
    rows = {
        f"Cluster {text(row.cluster)}": {
            "cells": int(row.cells),
            "unknown": int(row.unknown_cells),
            "expected": float(row.expected_unknown),
            "samples": int(row.samples),
            "nearest": f"{text(row.nearest_type)} ({float(row.nearest_percent):.0f} %)",
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
            "Samples", "Samples with cells in it; a population seen in one sample alone needs more proof"
        ),
        "nearest": TableColumn("Nearest type", "Commonest best match of its rejected cells"),
        "markers": TableColumn("Markers", "Genes higher than in all other cells, best first"),
        "missing": TableColumn("Missing", "Markers of the nearest type that the cluster does not show"),
        "flags": TableColumn("Quality", "What else could explain the cluster"),
    }
    return table(id, name, description, rows, columns, first="Cluster", decimals=0)


def p_value_lines(inputs: Inputs) -> Section | None:
    """Distribution of the p-values, per sample."""
    curves = {sample: histogram(values) for sample, values in inputs.values("spikgpt_p_value").items()}
    if not curves:
        return None
    return lines(
        "spikgpt_p_values",
        "p-values",
        "Conformal p-value that a cell belongs to the reference at all. Flat is what cells of known types give; a peak "
        f"left of the dashed line (unknown_rate {inputs.unknown_rate:.3g}) is cells outside of the reference.",
        curves,
        xlab="p-value",
        ylab="% of cells",
        xmin=0,
        xmax=1,
        ymin=0,
        x_lines=[{"value": inputs.unknown_rate, "color": "#555555", "dash": "dash"}],
    )
