"""Labels that the cells already had, beside the pipeline's."""

import pandas as pd

from spikgpt import UNKNOWN
from spikgpt.report.content import Section, labels, number, text
from spikgpt.report.inputs import Inputs
from spikgpt.report.plots import TableColumn, table

MOST_LABELS = 60
"""Labels on an axis of the heat map, the commonest; more cannot be read."""


def own_labels_heatmap(inputs: Inputs) -> Section | None:
    """Of the cells of each own label, the percentage that each of the pipeline's labels has; all samples together."""
    pairs = inputs.tables.get("comparison.tsv")
    if pairs is None or not len(pairs):
        return None
    counts = pairs.assign(cells=pairs["cells"].astype(int)).pivot_table(
        index="own_label", columns="cell_type", values="cells", aggfunc="sum", fill_value=0
    )
    rows = _commonest(counts.sum(axis=1))
    columns = [name for name in _commonest(counts.sum()) if name != UNKNOWN] + [UNKNOWN] * (UNKNOWN in counts)
    shares = 100 * counts.div(counts.sum(axis=1), axis=0)
    data = [[number(round(float(shares.loc[row, column]), 2)) for column in columns] for row in rows]
    their, our = labels(rows), labels(columns)
    left_out = len(counts) - len(rows)
    rest = f" The {left_out} rarest labels are left out." if left_out else ""
    return Section(
        "spikgpt_own_labels",
        "Own labels beside ours",
        "Rows: labels that the cells came with; columns: the pipeline's; colour: percentage of the row's cells. A row "
        f"with one dark field agrees with one type.{rest} "
        "tables/comparison.tsv has each sample, and how the two labels stand to one another in the Cell Ontology.",
        "heatmap",
        data,
        {
            "xcats": list(our.values()),
            "ycats": list(their.values()),
            "pconfig": {
                "xlab": "SpikGPT", "ylab": "Own label", "zlab": "% of the row's cells", "min": 0, "max": 100,
                "square": False, "cluster_rows": False, "cluster_cols": False, "tt_decimals": 1,
                "display_values": False,
            },
        },
    )  # fmt: skip


def _commonest(cells: pd.Series) -> list[str]:
    """Names of the commonest, by name."""
    return sorted(map(str, cells.sort_index().sort_values(ascending=False, kind="stable").index[:MOST_LABELS]))


def agreement_table(inputs: Inputs) -> Section | None:
    """Agreement and kappa per sample."""
    found = inputs.tables.get("agreement.tsv")
    if found is None or not len(found):
        return None
    rows = {
        "All samples" if row["sample"] == "all" else text(row["sample"]): {
            "cells": int(row["cells"]),
            "unknown": int(row["unknown"]),
            "not_comparable": int(row["not_comparable"]),
            "agreement": number(100 * float(row["agreement"])) if row["agreement"] else None,
            "kappa": number(float(row["kappa"])) if row["kappa"] else None,
        }
        for row in found.to_dict("records")
    }
    return table(
        "spikgpt_agreement",
        "Agreement with own labels",
        "Labels agree where they have one name or one term of the Cell Ontology, or where one term is above the other "
        "(a CD4 T cell and a T cell). Kappa takes off what chance would give: 1 is full agreement, 0 none beyond "
        "chance. Own labels may be wrong, too: look at the heat map and at the evidence for the clusters.",
        rows,
        {
            "cells": TableColumn("Cells", "Annotated cells with a label of their own"),
            "unknown": TableColumn(UNKNOWN, "Of these, rejected by the pipeline; not compared"),
            "not_comparable": TableColumn("Not comparable", "Names that differ, one of which means no term"),
            "agreement": TableColumn("Agreement %", "Of the compared cells", decimals=1),
            "kappa": TableColumn("Kappa", "Cohen's kappa, pairs that agree weighted 1", decimals=3),
        },
        first="Sample",
        decimals=0,
    )
