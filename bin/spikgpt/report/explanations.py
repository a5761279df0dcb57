"""The genes that the labels of clusters rest on, as a heat map and a table."""

from typing import Any

import pandas as pd

from spikgpt.report.content import Section, labels, text
from spikgpt.report.inputs import Inputs
from spikgpt.report.plots import TableColumn, heat_map, table

SHOWN = 4
"""Best genes of each cluster on the heat map."""
WHAT_IT_IS_NOT = (
    "They tell what the annotator looked at and not why a cell is what it is: a gene may stand for others that come "
    "with it, and one that is left out may matter as much."
)


def _genes(inputs: Inputs) -> pd.DataFrame | None:
    """tables/explanations.tsv with a name for each cluster, None without a row."""
    found = inputs.tables.get("explanations.tsv")
    if found is None or not len(found):
        return None
    return found.assign(row=[f"{c}: {label}" for c, label in zip(found["cluster"], found["cell_type"], strict=True)])


def explanation_map(inputs: Inputs) -> Section | None:
    """Share of each cluster's evidence that its genes bring."""
    found = _genes(inputs)
    if found is None:
        return None
    rows = labels(dict.fromkeys(found["row"]))
    genes = labels(dict.fromkeys(found.loc[found["rank"].astype(int) <= SHOWN, "gene"]))
    data: dict[str, dict[str, Any]] = {row: dict.fromkeys(genes.values(), 0.0) for row in rows.values()}
    for entry in found[found["gene"].isin(genes)].itertuples(index=False):
        data[rows[entry.row]][genes[entry.gene]] = round(float(entry.share_percent), 1)
    return heat_map(
        "spikgpt_explanations",
        "What the labels rest on",
        f"The {SHOWN} genes that add most to the log-odds of each cluster's label: percentage of all that speaks for "
        f"it. White: not among the cluster's 20 genes. {WHAT_IT_IS_NOT}",
        data,
        xlab="Gene",
        ylab="Cluster",
        zlab="% of what speaks for the label",
        most=max(value for row in data.values() for value in row.values()),
    )


def explanation_table(inputs: Inputs) -> Section | None:
    """One row per cluster: its genes, those that are higher and those that are lower than in other types."""
    found = _genes(inputs)
    if found is None:
        return None
    rows = {}
    for name, mine in found.groupby("row", sort=False):
        here, elsewhere = (pd.to_numeric(mine[c], errors="coerce") for c in ("mean_in_cluster", "mean_in_other_types"))
        lower = (here < elsewhere).to_numpy()
        rows[text(name)] = {
            "cells": int(mine["cells"].iloc[0]),
            "share": float(pd.to_numeric(mine["share_percent"]).sum()),
            "higher": text(", ".join(mine["gene"][~lower])),
            "lower": text(", ".join(mine["gene"][lower])) or "none",
            "markers": text(", ".join(mine["gene"][mine["reference_marker"] == "yes"])) or "none",
        }
    return table(
        "spikgpt_explanations_table",
        "Genes that the labels rest on",
        "The 20 genes that add most to the log-odds of each cluster's label, best first, over the cells that have it; "
        "a gene counts by being seen or by being absent. An Unknown cluster has no label to explain. All figures: "
        f"tables/explanations.tsv. {WHAT_IT_IS_NOT}",
        rows,
        {
            "cells": TableColumn("Cells", "Cells of the cluster that have its label"),
            "share": TableColumn("Share", "Percentage of all that speaks for the label that these genes bring"),
            "higher": TableColumn("Seen", "Genes that speak for the label and are higher than in the other types"),
            "lower": TableColumn("Absent", "Genes that speak for the label by being lower than in the other types"),
            "markers": TableColumn("Markers", "Those that are markers of the type in the reference"),
        },
        first="Cluster",
        decimals=0,
    )
