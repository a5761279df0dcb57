"""What is rejected where a type is missing, in words. Apart from `leave_out`: the report reads it without torch.

A share of the 15 to 50 cells that a row of the leave-one-type-out table has is given with its interval.
"""

from typing import Any

import numpy as np
import pandas as pd

REJECTED_SHARE = 0.8
"""A type of which at least this share of the cells nearest to it is Unknown is named, ..."""
REJECTED_CELLS = 20
"""... where there are at least so many of them."""


def interval(caught: int, cells: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share [JASA 22, 1927]; cells counted as independent, which makes it too narrow."""
    from scipy.stats import binomtest

    found = binomtest(caught, cells).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def rejected_types(best_match: pd.Series, unknown: pd.Series) -> list[dict[str, Any]]:
    """Types that were rejected wholesale, by name: ``cell_type``, ``cells`` nearest to it, ``rejected`` of them.

    ``best_match`` (cells,), empty for none; ``unknown`` (cells,).
    """
    counts = pd.DataFrame({"match": best_match.astype(str), "unknown": np.asarray(unknown, dtype=bool)})
    found = counts.groupby("match")["unknown"].agg(["size", "sum"])
    return [
        {"cell_type": str(name), "cells": int(row["size"]), "rejected": int(row["sum"])}
        for name, row in found.iterrows()
        if name and row["size"] >= REJECTED_CELLS and row["sum"] >= REJECTED_SHARE * row["size"]
    ]


def all_rejected(row: dict[str, Any]) -> str:
    """A row of `rejected_types` as a sentence without its end."""
    if row["rejected"] == row["cells"]:
        return f"all {row['cells']:,} cells nearest to {row['cell_type']} were rejected"
    return f"{row['rejected']:,} of {row['cells']:,} cells nearest to {row['cell_type']} were rejected"


def share_caught(row: dict[str, Any]) -> str:
    """The share of a left-out type that became Unknown, with its interval."""
    low, high = row["interval"]
    return f"{100 * row['caught']:.0f} % ({100 * low:.0f} to {100 * high:.0f} %)"


def share_on_levels(row: dict[str, Any]) -> float | None:
    """The share of a left-out type's cells with a true answer on levels or Unknown; None where it was not measured."""
    return None if row["level_unknown"] is None else float(row["level_unknown"] + row["level_above"])


def leave_one_out_lines(rows: list[dict[str, Any]]) -> list[str]:
    """The table as lines of the training log."""
    return [
        f"without {row['cell_type']}: {share_caught(row)} of {row['cells']} cells Unknown, AUROC {row['auroc']:.3f}; "
        f"nearest to {row['mistaken_for']}"
        for row in rows
    ]
