"""Independent judges and the labels, cluster by cluster: who agrees, and what those say that do not."""

import pandas as pd

from spikgpt.base.columns import JUDGE_COLUMNS

JUDGE_TABLE_COLUMNS = (
    "cluster", "cell_type", "cells", "judge", "answered", "percent_agree", "other_answer", "percent_other",
)  # fmt: skip
EVERY = "all"
"""In place of a cluster: the cells of all."""


def judges_table(cells: pd.DataFrame) -> pd.DataFrame:
    """Each judge's agreement with the best match of the cells: `JUDGE_TABLE_COLUMNS`.

    First all cells, then the clusters, the largest first; judges in the order of `JUDGE_COLUMNS`, those without an
    answer left out. `percent_agree` is of the cells with an answer that name the cell's best match;
    `other_answer` the type that the others are called most often (the first by name of those as frequent; empty where
    all agree), `percent_other` its share of the cells with an answer.

    Parameters
    ----------
    cells
        See `spikgpt.cohort.tables.read_cohort`.
    """
    frame = pd.DataFrame(
        {
            name: cells[name].astype(str)
            for name in ("spikgpt_cluster", "spikgpt_cluster_cell_type", "spikgpt_best_match", *JUDGE_COLUMNS.values())
        }
    )
    sizes = frame["spikgpt_cluster"].value_counts()
    order = sorted((name for name in sizes.index if name), key=lambda name: (-sizes[name], int(name)))
    groups = [(EVERY, "", frame)]
    for cluster in order:
        mine = frame[frame["spikgpt_cluster"] == cluster]
        groups.append((cluster, mine["spikgpt_cluster_cell_type"].iloc[0], mine))
    rows = []
    for cluster, label, mine in groups:
        for judge, column in JUDGE_COLUMNS.items():
            said = mine[mine[column] != ""]
            if said.empty:
                continue
            others = said.loc[said[column] != said["spikgpt_best_match"], column]
            counts = others.value_counts().sort_index().sort_values(ascending=False, kind="stable")
            rows.append(
                (
                    cluster,
                    label,
                    len(mine),
                    judge,
                    len(said),
                    100 * (1 - len(others) / len(said)),
                    counts.index[0] if len(counts) else "",
                    100 * counts.iloc[0] / len(said) if len(counts) else 0.0,
                )
            )
    return pd.DataFrame(rows, columns=list(JUDGE_TABLE_COLUMNS))
