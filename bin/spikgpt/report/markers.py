"""Marker genes over clusters and types, as heat maps."""

import pandas as pd

from spikgpt.report.content import Section, labels, number
from spikgpt.report.inputs import Inputs
from spikgpt.report.plots import heat_map


def _heat_map(inputs: Inputs, of: str, id: str, name: str, description: str) -> Section | None:
    table = inputs.tables.get("marker_expression.tsv")
    if table is None:
        return None
    mine = table[table["of"] == of]
    if not len(mine):
        return None
    rows = mine["group"] if of == "type" else mine["group"] + " " + mine["cell_type"]
    shown = labels(dict.fromkeys(rows))
    genes = labels(dict.fromkeys(mine["gene"]))
    values: dict[str, dict[str, float | int | None]] = {}
    for row, gene, share in zip(rows, mine["gene"], pd.to_numeric(mine["pct"]), strict=True):
        values.setdefault(shown[row], {})[genes[gene]] = number(round(float(share), 1))
    return heat_map(id, name, description, values, xlab="Gene", ylab=of.capitalize(), zlab="% of cells", most=100)


def markers_of_clusters(inputs: Inputs) -> Section | None:
    """The share of each cluster's cells that show a marker."""
    return _heat_map(
        inputs,
        "cluster",
        "spikgpt_marker_clusters",
        "Markers per cluster",
        "Share of each cluster's cells that show a gene: the three best markers of every cluster, then genes that tell "
        "lineages of blood apart. A cluster should show the genes of its label and not those of another lineage, as a "
        "CD4 T cluster with CD8A and CD8B would. Means are in tables/marker_expression.tsv.",
    )


def markers_of_types(inputs: Inputs) -> Section | None:
    """The share of each type's cells that show a marker."""
    return _heat_map(
        inputs,
        "type",
        "spikgpt_marker_types",
        "Markers per cell type",
        "The same genes over the cells of each label, in whatever cluster they are.",
    )
