"""Where answers on levels stopped, and why: the cohort's table of levels."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from spikgpt import UNKNOWN
from spikgpt.annotator.tree import Tree
from spikgpt.base.columns import LABEL_SET, LEAF, LEVEL, LEVEL_NAME, SEPARATOR

COLUMNS = ("sample", "coarse", "cell_type", "level", "best_match", "why", "cells")
SEVERAL, FAR = "several_types", "far_from_type"
"""Why a cell was called at a level above: several types could not be excluded; or it is one of a group of cells that
lie too far from the type they resemble most, as cells of a missing type beside it do, or fits it hardly better than the
cells that the flat rule rejects. Those have that rule's reason, whether a level above holds or none."""


def levels_table(cells: pd.DataFrame, levels: Mapping[str, Any] | None, classes: Sequence[str]) -> pd.DataFrame:
    """Cells by sample, coarse level, answer, levels above the best match, best match and why: `COLUMNS`, by name.

    Parameters
    ----------
    cells
        See `spikgpt.cohort.tables.read_cohort`.
    levels, classes
        Of the annotator's config.json, if there is an annotator. A label that is not of its tree, as the tissue
        profiles give them, is its own coarse level.
    """
    coarse = Tree.from_dict(levels, classes).coarse(classes) if levels is not None else {}
    names = cells[LEVEL_NAME].astype(str)
    rejected = cells["spikgpt_cell_type"].astype(str) == UNKNOWN
    several = cells[LABEL_SET].astype(str).str.contains(SEPARATOR, regex=False)
    why = np.where(several, SEVERAL, FAR).astype(object)
    why = np.where(rejected, cells["spikgpt_unknown_reason"].astype(str), why)
    at = cells[LEVEL].astype(str)
    parts = pd.DataFrame(
        {
            "sample": cells["sample"].astype(str),
            "coarse": names.map(lambda name: coarse.get(name, name)),
            "cell_type": names,
            "level": at,
            "best_match": cells["spikgpt_best_match"].astype(str),
            "why": np.where(at == LEAF, "", why),
        }
    )
    return parts.groupby(list(COLUMNS[:-1]), sort=True).size().rename("cells").reset_index()[list(COLUMNS)]
