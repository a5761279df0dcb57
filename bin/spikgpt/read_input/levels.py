"""Coarser labels that a reference brings: `--label_levels` names its columns, the coarsest first."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from spikgpt import UNKNOWN
from spikgpt.base.errors import UserError
from spikgpt.base.guards import check_names
from spikgpt.read_input.labels import says_nothing


def label_levels(
    columns: Sequence[pd.Series], keys: Sequence[str], labels: Sequence[str], where: str
) -> dict[str, list[str]]:
    """What each label is called in the coarser columns.

    Parameters
    ----------
    columns
        The columns that `keys` names, of the labelled cells.
    labels
        Of the same cells.

    Returns
    -------
    Label to its names, one a column.

    Raises
    ------
    UserError
        A cell has no name in a column, cells of one label have several, or two columns cut across each other.
    """
    names = []
    for key, column in zip(keys, columns, strict=True):
        values = column.astype(object).where(column.notna(), "").astype(str).str.strip().to_numpy(dtype=object)
        place = f"{where}, --label_levels {key}"
        nothing = np.array([says_nothing(str(value)) for value in values], dtype=bool)
        if nothing.any():
            raise UserError(
                f"{int(nothing.sum())} labelled cells of the reference have no name at a level.",
                where=place,
                found=f"{values[nothing][0] or 'nothing'!s}, at cells labelled {np.asarray(labels)[nothing][0]}",
                expected="a name for every cell that has a label",
                fix="Fill the column, exclude the cells (--exclude_labels), or leave the column out of --label_levels.",
            )
        check_names(sorted(set(values)), "labels", place)
        several = {
            label: Counter(of_label)
            for label, of_label in pd.Series(values).groupby(np.asarray(labels, dtype=object))
            if len(set(of_label)) > 1
        }
        if several:
            label, counts = next(iter(sorted(several.items())))
            told = ", ".join(f"{name} ({number} cells)" for name, number in counts.most_common(4))
            raise UserError(
                "Cells of one label have several names at a coarser level.",
                where=place,
                found=f"{label}: {told}",
                expected="one name for all cells of a label: the label's level above",
                fix="Correct the column, or name another one in --label_levels.",
            )
        if UNKNOWN in values:
            raise UserError(
                f"The reference has a level called {UNKNOWN}.",
                where=place,
                found=f"{int((values == UNKNOWN).sum())} cells",
                expected=f"no such name: {UNKNOWN} is the word for a rejected cell",
                fix="Give these cells another name.",
            )
        names.append(dict(zip(labels, values.tolist(), strict=True)))
    _check_nested(names, keys, where)
    return {label: [of_level[label] for of_level in names] for label in sorted(set(labels))} if names else {}


def _check_nested(names: Sequence[dict[str, str]], keys: Sequence[str], where: str) -> None:
    """Every name of a column must lie within one name of the column before it."""
    for (coarse, coarse_key), (fine, fine_key) in pairwise(zip(names, keys, strict=True)):
        above: dict[str, set[str]] = {}
        for label, name in fine.items():
            above.setdefault(name, set()).add(coarse[label])
        for name, several in sorted(above.items()):
            if len(several) > 1:
                raise UserError(
                    "Two levels of the reference cut across each other.",
                    where=f"{where}, --label_levels {coarse_key},{fine_key}",
                    found=f"{name} of {fine_key} lies in {' and '.join(sorted(several))} of {coarse_key}",
                    expected="columns from coarse to fine, each name within one name of the column before",
                    fix="Give the coarsest column first, or correct the columns.",
                )
