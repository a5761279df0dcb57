"""What every way of labelling cells tells of a sample: cells, `Unknown` cells by reason, confidence."""

from typing import Any

import pandas as pd

from spikgpt import UNKNOWN
from spikgpt.base.columns import REASON_NAMES

MANY_UNKNOWN = 0.5
"""Share of `Unknown` in a sample from which on its tissue may not be that of what labelled it."""


def label_counts(table: pd.DataFrame) -> dict[str, Any]:
    """``cells``, ``unknown``, ``unknown_by_reason`` and ``median_confidence`` (None without cells) of a sample.

    ``table``: one row a cell, with the columns `spikgpt.base.columns.LABELS`.
    """
    unknown = table["spikgpt_cell_type"] == UNKNOWN
    reasons = table.loc[unknown, "spikgpt_unknown_reason"].value_counts()
    return {
        "cells": len(table),
        "unknown": int(unknown.sum()),
        "unknown_by_reason": {name: int(reasons.get(name, 0)) for name in REASON_NAMES},
        "median_confidence": round(float(table["spikgpt_confidence"].median()), 6) if len(table) else None,
    }
