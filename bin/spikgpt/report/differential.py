"""Genes that differ between two groups of samples: a volcano plot for each type, and how many there are."""

import numpy as np
import pandas as pd

from spikgpt.cohort.contrast import FDR, MIN_CELLS
from spikgpt.report.content import Section, labels, text
from spikgpt.report.inputs import Inputs
from spikgpt.report.plots import TableColumn, cell_scatter, table

MOST_TYPES = 12
"""Types that have a volcano plot, those with most genes first."""
MOST_GENES = 250
"""Genes in a volcano plot: 3,000 points in all types together, as on the map of the cells."""
TOP_GENES = 8
"""Genes that the table names."""
_COLOURS = {"higher": "#d55e00", "lower": "#0072b2", "no difference": "#b3b3b3"}


def _genes(inputs: Inputs) -> pd.DataFrame:
    columns = ["log2_fold_change", "p_value", "fdr"]
    genes = inputs.tables["differential_expression.tsv.gz"].copy()
    genes[columns] = genes[columns].replace("", "nan").astype(float)
    different = genes["fdr"] <= FDR
    names = np.where(genes["log2_fold_change"] > 0, "higher", "lower")
    return genes.assign(group=np.where(different, names, "no difference"))


def volcano(inputs: Inputs) -> Section | None:
    """Fold change and p-value of the genes with the smallest p-values, a tab for each type."""
    if not inputs.differential or not inputs.differential["types"]:
        return None
    genes = _genes(inputs).dropna(subset=["p_value", "log2_fold_change"])
    types = sorted(inputs.differential["types"], key=lambda row: -(row["higher"] + row["lower"]))[:MOST_TYPES]
    names = labels(row["cell_type"] for row in types)
    data = []
    for row in types:
        own = genes[genes["cell_type"] == row["cell_type"]].head(MOST_GENES)
        # a p-value of 0 is smaller than a double can tell
        heights = -np.log10(np.maximum(own["p_value"], np.finfo(float).tiny))
        data.append(
            {
                text(gene.gene): [
                    {
                        "x": round(gene.log2_fold_change, 3),
                        "y": round(height, 3),
                        "color": _COLOURS[gene.group],
                        "group": gene.group,
                    }
                ]
                for gene, height in zip(own.itertuples(index=False), heights, strict=True)
            }
        )
    _, treated, control = inputs.differential["contrast"]
    return cell_scatter(
        "spikgpt_volcano",
        "Genes that differ",
        f"{text(treated)} against {text(control)}, type by type: the {MOST_GENES} genes with the smallest p-values. To "
        f"the right: higher in {text(treated)}. In colour: false discovery rate at most {FDR:g}.",
        data,
        list(names.values()),
        xlab="log2 fold change",
        ylab="-log10 p",
    )


def differential_table(inputs: Inputs) -> Section | None:
    """What each type had to be compared, and how many of its genes differ."""
    if not inputs.differential or not inputs.differential["types"]:
        return None
    genes = _genes(inputs)
    rows = {}
    for told in inputs.differential["types"]:
        own = genes[(genes["cell_type"] == told["cell_type"]) & (genes["group"] != "no difference")]
        rows[text(told["cell_type"])] = {
            "treated": told["treated"],
            "control": told["control"],
            "paired": "yes" if told["paired"] else "no",
            "genes": told["genes"],
            "higher": told["higher"],
            "lower": told["lower"],
            "top": text(", ".join(own["gene"].head(TOP_GENES))) or "none",
        }
    column, treated, control = map(text, inputs.differential["contrast"])
    replicate = inputs.differential["types"][0]["replicates"]
    return table(
        "spikgpt_differential",
        "Genes that differ, by type",
        f"PyDESeq2 on the summed counts of each {replicate} and type, {column} {treated} against {control}; sums "
        f"of fewer than {MIN_CELLS} cells and genes that one of these samples did not measure are left out. "
        "tables/differential_expression.tsv.gz has every gene. Labels and tests use the same counts: a gene that moves "
        "cells from one label to another can look like a difference.",
        rows,
        {
            "treated": TableColumn(treated, f"{replicate.capitalize()}s of {treated}"),
            "control": TableColumn(control, f"{replicate.capitalize()}s of {control}"),
            "paired": TableColumn("Paired", "Whether donors with both are compared with themselves"),
            "genes": TableColumn("Genes tested", "With enough counts, and measured by all samples"),
            "higher": TableColumn("Higher", f"In {treated}, false discovery rate at most {FDR:g}"),
            "lower": TableColumn("Lower", f"In {treated}, false discovery rate at most {FDR:g}"),
            "top": TableColumn("Genes", "Those with the smallest p-values"),
        },
        first="Label",
        decimals=0,
    )
