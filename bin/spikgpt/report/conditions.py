"""Conditions compared: the share of each type in every replicate, and the test of the difference."""

import pandas as pd

from spikgpt.base.colours import series_colours
from spikgpt.cohort.conditions import Replicates, replicates
from spikgpt.report.content import Section, labels, number, text
from spikgpt.report.inputs import Inputs
from spikgpt.report.plots import TableColumn, category_scatter, table

MOST_POINTS = 3000
"""Points at most, as on the map: MultiQC draws each as a series of its own, and more make a browser slow."""
SPREAD = 0.6
"""Part of a type's place on the axis over which its conditions are spread."""


def _found(inputs: Inputs) -> Replicates | None:
    """The replicates, from the cells; None where no conditions were compared."""
    if not len(inputs.tables.get("conditions.tsv", ())):
        return None
    columns = ["sample", "donor", "condition", "spikgpt_cell_type"]
    cells = inputs.cells[columns].astype(str).value_counts(sort=False).rename("cells").reset_index()
    return replicates(cells.rename(columns={"spikgpt_cell_type": "cell_type"}))


def _order(tested: pd.DataFrame) -> list[str]:
    """Types by their p-value, those not tested by their cells."""
    keys = pd.to_numeric(tested["p_value"]).fillna(2), -tested["cells"].astype(int)
    return list(tested.assign(p=keys[0], n=keys[1]).sort_values(["p", "n"], kind="stable")["cell_type"])


def conditions_points(inputs: Inputs) -> Section | None:
    """A point for the share of each type in each donor or sample."""
    found = _found(inputs)
    if found is None:
        return None
    percent = found.percent()
    shown = _order(inputs.tables["conditions.tsv"])[: max(MOST_POINTS // len(percent), 1)]
    conditions = found.conditions
    names = labels(conditions)
    colours = dict(zip(conditions, series_colours(len(conditions)), strict=True))
    step = SPREAD / len(conditions)
    places = {condition: step * (at - (len(conditions) - 1) / 2) for at, condition in enumerate(conditions)}
    rows = labels(f"{replicate}, {condition}" for condition, replicate in percent.index)
    data = {
        rows[f"{replicate}, {condition}"]: [
            {
                "x": round(at + places[condition], 3),
                "y": round(float(percent.at[(condition, replicate), cell_type]), 4),
                "color": colours[condition],
                "group": names[condition],
            }
            for at, cell_type in enumerate(shown)
        ]
        for condition, replicate in percent.index
    }
    left_out = len(percent.columns) - len(shown)
    return category_scatter(
        "spikgpt_conditions_points",
        "Composition by condition",
        f"Share of each cell type in every {found.of}, a point each: of all cells, Unknown ones too. Types with the "
        f"smallest p-value come first{f'; {left_out} further types are not shown' if left_out else ''}. A difference "
        "that rests on one point is none.",
        data,
        list(labels(shown).values()),
        xlab="Cell type",
        ylab="% of cells",
    )


def conditions_table(inputs: Inputs) -> Section | None:
    """The test of each type's share."""
    tested = inputs.tables.get("conditions.tsv")
    if tested is None or not len(tested):
        return None
    by_type = tested.set_index("cell_type").loc[_order(tested)]
    rows = {
        text(name): {
            "cells": int(row["cells"]),
            "replicates": text(row["replicates"]),
            "mean": text(row["mean_percent"]),
            "test": text(row["test"] or "not tested"),
            "statistic": number(float(row["statistic"])) if row["test"] else None,
            "p": f"{float(row['p_value']):.3g}" if row["test"] else None,
            "fdr": f"{float(row['fdr']):.3g}" if row["test"] else None,
        }
        for name, row in by_type.iterrows()
    }
    return table(
        "spikgpt_conditions",
        "Conditions compared",
        "Does the share of a type differ between conditions? Donors (without them, samples) are the replicates, as in "
        "propeller: arcsine of the square root of the share, a linear model, its variance moderated over the types. "
        "Conditions with fewer than two replicates are not tested. Shares add up to one: a type that grows makes the "
        "others shrink. Batches are not adjusted for. tables/conditions.tsv and tables/pseudobulk/ have the numbers.",
        rows,
        {
            "cells": TableColumn("Cells", "Cells with this label", decimals=0),
            "replicates": TableColumn("Replicates", "Of each condition"),
            "mean": TableColumn("Mean %", "Share of the type in each condition, mean over its replicates"),
            "test": TableColumn("Test", "t for two conditions, F for more; paired: donors have several conditions"),
            "statistic": TableColumn("Statistic", "Moderated t or F; t above 0: more in the second condition"),
            "p": TableColumn("p", "Two-sided p-value"),
            "fdr": TableColumn("FDR", "False discovery rate over the types (Benjamini and Hochberg)"),
        },
        first="Label",
        decimals=2,
    )
