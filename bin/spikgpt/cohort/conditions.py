"""Whether the share of a cell type differs between conditions, with donors or samples as replicates."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from spikgpt import UNKNOWN
from spikgpt.cohort.moderation import moderated_test

CONDITION_COLUMNS = (
    "cell_type", "cells", "replicates", "mean_percent", "test", "statistic", "df", "p_value", "fdr",
)  # fmt: skip
FEWEST = 2
"""Replicates of a condition from which on its spread can be told."""


@dataclass
class Replicates:
    """Cells of each type in each replicate, and how the replicates are arranged.

    Attributes
    ----------
    counts
        Cells (replicates x types), indexed by condition and replicate, both by name; types by name, `Unknown` last.
    of
        What a replicate is: `donor` or `sample`.
    paired
        Whether a donor has several conditions, and so is compared with itself.
    messages
        What a reader of the test must know.
    """

    counts: pd.DataFrame
    of: str
    paired: bool
    messages: list[str] = field(default_factory=list)

    @property
    def conditions(self) -> list[str]:
        return list(dict.fromkeys(self.counts.index.get_level_values(0)))

    def percent(self) -> pd.DataFrame:
        """Percentage of each type among the replicate's cells, `Unknown` ones too."""
        return 100 * self.counts.div(self.counts.sum(axis=1), axis=0)


def replicates(sheet: pd.DataFrame) -> Replicates | None:
    """The replicates of each condition.

    Donors are the replicates where every sample with a condition names one: samples of the same donor and condition are
    added up. Otherwise samples are.

    Parameters
    ----------
    sheet
        sample, donor, condition, cell_type and cells (integer), one row for each sample and type; see
        `spikgpt.cohort.pseudobulk.pseudobulk_sheet`.

    Returns
    -------
    None where the samples do not have two conditions.
    """
    known = sheet[sheet["condition"] != ""]
    if known["condition"].nunique() < 2:
        return None
    messages = []
    left_out = sorted(set(sheet["sample"]) - set(known["sample"]))
    if left_out:
        messages.append(f"Conditions were compared without the samples that have none: {', '.join(left_out)}.")
    of = "donor" if (known["donor"] != "").all() else "sample"
    if of == "sample":
        messages.append(
            "Conditions were compared with samples as replicates, since not every sample has a donor: if some are of "
            "one donor, p-values are too small."
        )
    counts = known.pivot_table(
        index=["condition", of], columns="cell_type", values="cells", aggfunc="sum", fill_value=0
    )
    types = [*sorted(set(counts.columns) - {UNKNOWN}), *([UNKNOWN] if UNKNOWN in counts.columns else [])]
    paired = of == "donor" and bool((known.groupby("donor")["condition"].nunique() > 1).any())
    return Replicates(counts[types].sort_index(), of, paired, messages)


def _design(found: Replicates, rows: pd.MultiIndex) -> tuple[NDArray[np.float64], list[int]]:
    """Intercept, a column for each condition but the first (these are tested), and one for each donor but the first
    where donors are compared with themselves."""
    conditions = rows.get_level_values(0)
    names = list(dict.fromkeys(conditions))
    columns = [np.ones(len(rows)), *(conditions == name for name in names[1:])]
    if found.paired:
        donors = rows.get_level_values(1)
        columns += [donors == donor for donor in sorted(set(donors))[1:]]
    return np.column_stack(columns).astype(np.float64), list(range(1, len(names)))


def _listed(names: Sequence[str], values: Sequence[str]) -> str:
    return "; ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))


def compare_conditions(found: Replicates) -> tuple[pd.DataFrame, list[str]]:
    """Test each type's share for a difference between the conditions.

    As propeller (Phipson et al., Bioinformatics 38:4720, 2022) with `transform="asin"`: shares are transformed by the
    arcsine of their square root, which needs no pseudo-count where a replicate lacks the type, a linear model with the
    condition is fitted to each type, and its variance is moderated over types. Two conditions give a t test, more an F
    test. Donors with several conditions enter the model, so that each is compared with itself. The false discovery rate
    is Benjamini and Hochberg's. Conditions with fewer than `FEWEST` replicates are not tested.

    Returns
    -------
    Table
        `CONDITION_COLUMNS`, a row for each type; the fields of the test are empty where there was none.
    Messages
        Those of `found`, and why something was not tested.
    """
    messages = list(found.messages)
    counts, percent = found.counts, found.percent()
    number = counts.groupby(level=0).size()
    means = percent.groupby(level=0).mean()
    table = pd.DataFrame(
        {
            "cell_type": counts.columns,
            "cells": counts.sum().to_numpy(dtype=np.int64),
            "replicates": _listed(found.conditions, [str(number[name]) for name in found.conditions]),
            "mean_percent": [
                _listed(found.conditions, [f"{means.at[name, cell_type]:.4g}" for name in found.conditions])
                for cell_type in counts.columns
            ],
            "test": "", "statistic": np.nan, "df": np.nan, "p_value": np.nan, "fdr": np.nan,
        }
    )  # fmt: skip
    few = [name for name in found.conditions if number[name] < FEWEST]
    if few:
        messages.append(
            f"Conditions with fewer than {FEWEST} {found.of}s cannot be tested for a different composition: "
            f"{_listed(few, [str(number[name]) for name in few])}."
        )
    rows = counts.index[~counts.index.get_level_values(0).isin(few)]
    if len(set(rows.get_level_values(0))) < 2:
        return table, messages
    design, tested = _design(found, rows)
    if len(rows) <= design.shape[1] or np.linalg.matrix_rank(design) < design.shape[1]:
        messages.append(
            "Composition was not tested: too few donors have more than one condition to compare each with itself."
        )
        return table, messages
    present = counts.loc[rows].sum().to_numpy() > 0
    shares = percent.loc[rows].to_numpy()[:, present].T / 100
    result = moderated_test(np.arcsin(np.sqrt(shares)), design, tested)
    name = "t" if len(tested) == 1 else "F"
    table.loc[present, "test"] = f"paired {name}" if found.paired else name
    table.loc[present, "statistic"] = result.statistic
    table.loc[present, "df"] = result.df
    table.loc[present, "p_value"] = result.p_value
    table.loc[present, "fdr"] = false_discovery_control(result.p_value)
    return table[list(CONDITION_COLUMNS)], messages
