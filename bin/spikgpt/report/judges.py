"""Independent judges beside the labels: the report's table of them."""

import pandas as pd

from spikgpt.base.columns import JUDGE_COLUMNS
from spikgpt.cohort.judges import EVERY
from spikgpt.report.content import Section, number, text
from spikgpt.report.inputs import Inputs
from spikgpt.report.plots import TableColumn, table

SPOKEN = {
    "embedding": "Embedding view",
    "expression": "Expression view",
    "regression": "Logistic regression",
    "celltypist": "CellTypist",
}
LOW = 50.0
"""Percent: where most cells of a cluster are called another type by a judge, its answer is named."""


def judges_table(inputs: Inputs) -> Section | None:
    """Agreement of each judge with the labels, all cells first, then cluster by cluster."""
    given = inputs.tables.get("judges.tsv")
    if given is None or given.empty:
        return None
    judges = [name for name in JUDGE_COLUMNS if (given["judge"] == name).any()]
    rows = {}
    for cluster, part in given.groupby("cluster", sort=False):
        first = part.iloc[0]
        row: dict[str, object] = {"cell_type": text(first["cell_type"]), "cells": int(first["cells"])}
        row |= {line.judge: number(float(line.percent_agree)) for line in part.itertuples()}
        row["others"] = "; ".join(_other(line) for line in part.itertuples() if float(line.percent_agree) < LOW)
        rows["All cells" if cluster == EVERY else f"Cluster {cluster}"] = row
    missing = [name for name in ("regression", "celltypist") if name not in judges]
    note = (
        " This annotator's folder holds no logistic regression or CellTypist: it was trained before they were kept, or "
        "for another purpose. Only the views are compared."
        if missing
        else ""
    )
    return table(
        "spikgpt_judges",
        "Independent judges",
        "Would another method have given the same label? Each judge learned from the same reference; its percentage is "
        "of the cells for which it names the best match. The labels do not depend on it. Judges that agree can be "
        "wrong together: none of them knows a type that the reference lacks. The expression view alone also tells the "
        f"embedding view what the sample's batch offset is.{note} Numbers are in tables/judges.tsv; the column "
        "spikgpt_agreement has the share of judges that agree, cell by cell.",
        rows,
        {
            "cell_type": TableColumn("Label", "Commonest label of the cluster's cells"),
            "cells": TableColumn("Cells", "Cells of the cluster", decimals=0),
            **{name: TableColumn(f"{SPOKEN[name]} %", "Cells for which it names the best match") for name in judges},
            "others": TableColumn("Disagreement", "What a judge calls instead, where it agrees on less than half"),
        },
        first="Cluster",
        decimals=1,
    )


def _other(line: pd.Series) -> str:
    return f"{SPOKEN[line.judge]}: {text(line.other_answer)} ({float(line.percent_other):.0f} %)"
