"""Whether clusters show the genes that cells of their broad class are expected to show."""

from typing import Any

import pandas as pd

from spikgpt.cohort.expected_genes import LABEL
from spikgpt.profiles.expected import CONTRADICTS, SUPPORTS
from spikgpt.report.content import Section, labels, text
from spikgpt.report.inputs import Inputs
from spikgpt.report.plots import TableColumn, heat_map, table


def expected_genes_table(inputs: Inputs) -> Section | None:
    """One row per cluster: the class it is asked for, and how many of its expected genes it shows."""
    expected = inputs.tables.get("expected_genes.tsv")
    if expected is None or not len(expected):
        return None
    rows = {
        f"Cluster {text(row.cluster)}": {
            "cells": int(row.cells),
            "label": text(row.cell_type),
            "class": f"{text(row.of)}{'' if row.class_from == LABEL else ' (second opinion)'}",
            "seen": f"{int(row.genes_seen)} of {int(row.genes_tested)}" if int(row.genes_tested) else "not judged",
            "verdict": row.verdict or "not judged",
            "missing": text(row.missing) or "none",
            "found": text(row.seen) or "none",
            "unclear": text(", ".join(filter(None, [row.unclear, row.not_measured]))) or "none",
        }
        for row in expected.rename(columns={"class": "of"}).itertuples()
    }
    return table(
        "spikgpt_expected",
        "Expected genes per cluster",
        "Genes that cells of the label's broad class are expected to show, chosen from the tissue profiles without the "
        f"reference. At least {100 * SUPPORTS:.0f} % of them seen supports the label, less than "
        f"{100 * CONTRADICTS:.0f} % contradicts it; the comparison is at equal sequencing depth. No label is changed "
        "by them, and a few missing genes say little: a class has cells of many kinds. An Unknown cluster is asked for "
        "the class of its second opinion.",
        rows,
        {
            "cells": TableColumn("Cells", "Cells of the cluster"),
            "label": TableColumn("Label", "Majority label of its cells"),
            "class": TableColumn("Asked for", "Broad class whose genes are looked for"),
            "seen": TableColumn("Seen", "Expected genes that the cluster shows, of those that could be looked for"),
            "verdict": TableColumn("Verdict", "Whether this supports or contradicts the label"),
            "missing": TableColumn("Missing", "Shown about as rarely as by other classes"),
            "found": TableColumn("Genes seen", "Shown about as often as expected, and by more cells than elsewhere"),
            "unclear": TableColumn(
                "Unclear", "Shown, but not by more cells than elsewhere; or not measured", hidden=True
            ),
        },
        first="Cluster",
        decimals=0,
    )


def expected_genes_map(inputs: Inputs) -> Section | None:
    """Percentage of each cluster's cells that show the expected genes of the classes found."""
    shown = inputs.tables.get("expected_genes_shown.tsv")
    if shown is None or not len(shown):
        return None
    named = shown.assign(
        row=[f"{c}: {label}" for c, label in zip(shown["cluster"], shown["cell_type"], strict=True)],
        column=[f"{of}: {gene}" for of, gene in zip(shown["class"], shown["gene"], strict=True)],
    )
    rows, columns = labels(pd.unique(named["row"])), labels(pd.unique(named["column"]))
    data: dict[str, dict[str, Any]] = {name: {} for name in rows.values()}
    for entry in named.itertuples(index=False):
        data[rows[entry.row]][columns[entry.column]] = round(float(entry.percent), 1)
    return heat_map(
        "spikgpt_expected_map",
        "Expected genes of the classes found",
        "Percentage of the cells of each cluster that show the best expected genes of the classes found, at "
        f"one depth ({float(shown['depth'].iloc[0]):,.0f} counts). A cluster should show the genes of its own class "
        "and few of others.",
        data,
        xlab="Class and gene",
        ylab="Cluster",
        zlab="% of cells",
        most=100,
    )
