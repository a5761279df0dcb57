"""Which cells are of low quality: thresholds, bounds among cells of one group, and the reason for each cell."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from spikgpt.base.errors import UserError
from spikgpt.quality_control.groups import FEWEST_CELLS, HALF

DEFAULTS: dict[str, float] = {
    "min_genes": 200,
    "min_cells": 0,
    "max_mito_percentage": 0,
    "no_programme_odds": 20,
    "log1p_total_counts_nmads": 5,
    "log1p_n_genes_by_counts_nmads": 5,
    "pct_counts_in_top_20_genes_nmads": 5,
    "pct_counts_mt_nmads": 3,
}
"""Thresholds where the samplesheet gives none. 0 switches a rule off. Numbers of genes and of median absolute
deviations are those of nf-core/scdownstream; odds of 20 to 1 are commonly called strong evidence (Kass & Raftery
1995)."""

FEWEST_COUNTS_FOR_TOP = 100
"""The share of the top 20 genes of fewer counts says how few they are, which other rules ask."""


@dataclass(frozen=True)
class Thresholds:
    """`DEFAULTS` with what the samplesheet gives in their place."""

    values: dict[str, float]
    min_genes_given: bool
    """Given, min_genes holds for every cell; the default gives way where a whole group has fewer genes."""
    given: tuple[str, ...] = ()
    """Names of the thresholds that the samplesheet gives, sorted."""


@dataclass(frozen=True)
class MadRule:
    """Cells further from their group's centre than so many MADs are removed."""

    metric: str
    sides: str
    """both, or upper: only cells above are removed."""
    leeway: float
    """The least distance from the centre that counts as far, in the metric's unit, whatever the MAD."""

    @property
    def logged(self) -> bool:
        """Counts and genes are judged as log1p, percentages as they are."""
        return not self.metric.startswith("pct_")


MAD_RULES: dict[str, MadRule] = {
    # leeway: a factor of 2 in counts or genes either way, 10 points of a percentage in the 20 top
    # genes, 5 in mitochondrial counts. Where nearly all cells are alike the MAD comes close to 0, and
    # without it half of the cells would be outliers.
    "log1p_total_counts": MadRule("total_counts", "both", HALF),
    "log1p_n_genes_by_counts": MadRule("n_genes_by_counts", "both", HALF),
    "pct_counts_in_top_20_genes": MadRule("pct_counts_in_top_20_genes", "upper", 10.0),
    "pct_counts_mt": MadRule("pct_counts_mt", "upper", 5.0),
}

REASONS = (
    "other_species", "no_counts", "min_genes", "max_mito_percentage", "no_programme", *MAD_RULES, "predicted_doublet",
    "min_cells",
)  # fmt: skip
"""Why a cell is removed, in the order the rules are asked: a cell has the first reason that holds.

Doublets come late so that a low-quality cell is never reported as a doublet; min_cells removes cells only
where it leaves the sample without a gene.
"""

BOUND_FIGURES = ("centre", "mad", "lower", "upper")

NORMAL_MAD = 1.4826
"""A normal standard deviation over its MAD."""
MEDIAN_ERROR = 1.2533
"""Standard error of a normal median over that of the mean, sqrt(pi / 2)."""


def thresholds_from(given: dict[str, Any], where: str) -> Thresholds:
    """The thresholds of a sample: `DEFAULTS`, overridden by what the samplesheet gives.

    Raises
    ------
    UserError
        At an unknown name, or at a value that is no number from 0.
    """
    unknown = sorted(set(given) - set(DEFAULTS))
    if unknown:
        raise UserError(
            f"There is no threshold called {unknown[0]!r}.",
            where=where,
            found=unknown[0],
            expected=", ".join(DEFAULTS),
            fix="Correct its name in the samplesheet.",
        )
    chosen = dict(DEFAULTS)
    given = {name: value for name, value in given.items() if value is not None and value != ""}
    for name, value in given.items():
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = -1.0
        if not (np.isfinite(number) and number >= 0):
            raise UserError(
                f"The threshold {name} is not a number from 0.",
                where=where,
                found=repr(value),
                expected="a number from 0",
                fix="Correct it in the samplesheet; 0 switches the rule off.",
            )
        chosen[name] = number
    return Thresholds(chosen, "min_genes" in given, tuple(sorted(given)))


@dataclass(frozen=True)
class Bounds:
    """Of one metric, each (groups,) float64, logged where the rule is: centre, MAD, and how far from it is far."""

    centre: np.ndarray
    mad: np.ndarray
    far: np.ndarray

    @property
    def lower(self) -> np.ndarray:
        return self.centre - self.far

    @property
    def upper(self) -> np.ndarray:
        return self.centre + self.far


def group_bounds(values: np.ndarray, group: np.ndarray, groups: int, nmads: float, rule: MadRule) -> Bounds:
    """Bounds ``centre +- max(nmads * MAD, leeway)`` of each group, those of small groups drawn to the sample's.

    - The centre is the group's median, drawn to the sample's by empirical Bayes: with weight t / (t + e), where e is
      the squared standard error of the group's median and t the variance of the groups' medians beyond such errors.
    - The MAD is that of the group and `FEWEST_CELLS` cells with the sample's: the MAD of all cells' distances from
      their own group's median, which for percentages p is taken in units of sqrt(p (100 - p)).

    Parameters
    ----------
    values
        Of the cells that bounds are taken from; float64 (cells,).
    group
        Group of these cells, 0 to `groups` - 1; a group may have none.
    """
    overall = float(np.median(values))
    size = np.bincount(group, minlength=groups).astype(np.float64)
    median = np.array([np.median(values[group == g]) if size[g] else overall for g in range(groups)])
    distance = np.abs(values - median[group])
    unit = np.ones(groups)
    if not rule.logged:
        unit = np.sqrt(np.clip(median, 0.5, 99.5) * (100 - np.clip(median, 0.5, 99.5)))
    shared = np.median(distance / unit[group])
    own = np.array([np.median(distance[group == g]) if size[g] else 0.0 for g in range(groups)])
    mad = (size * own + FEWEST_CELLS * shared * unit) / (size + FEWEST_CELLS)
    error = (MEDIAN_ERROR * NORMAL_MAD * mad) ** 2 / np.maximum(size, 1)
    between = max(float(np.mean((median - overall) ** 2 - error)), 0.0)
    weight = between / (between + error) if between > 0 else np.zeros(groups)
    centre = weight * median + (1 - weight) * overall
    return Bounds(centre, mad, np.maximum(nmads * mad, rule.leeway))


def removal_reasons(
    metrics: pd.DataFrame,
    predicted_doublet: np.ndarray,
    thresholds: Thresholds,
    other_species: np.ndarray | None = None,
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Why each cell goes: the first rule of `REASONS` that it breaks, "" for a cell that stays.

    - MAD rules: `group_bounds`. A cell has too many counts or genes only where it has for its group and for the
      sample. Only cells with 100 counts beside the left-out families are judged by their top 20 genes.
    - min_genes: the default gives way to the lower bound of the cell's group, a given value holds for every cell.
    - no_programme: the sample's sum explains the cell's counts better than any programme by the odds, and it has less
      than half of its group's counts.

    With fewer than 20 cells with counts only the absolute rules are asked.

    Parameters
    ----------
    metrics
        Of `spikgpt.base.metrics.cell_metrics` with the columns of `spikgpt.quality_control.groups.find_groups`.
    other_species
        bool (cells,): barcodes of another genome (`spikgpt.quality_control.barnyard`), of which no bound is taken; None
        where the matrix has one genome.

    Returns
    -------
    reasons
        object array of str, shape (cells,).
    bounds
        The rules in use: group ("all" where the rule has one bound for the sample), rule, threshold (as given),
        centre, mad, lower, upper in the metric's own unit (mad as it was judged: of log1p for counts and genes),
        removed. None where there is none.
    """
    given = thresholds.values
    cells = len(metrics)
    counted = metrics["total_counts"].to_numpy() > 0
    number = metrics["group"].to_numpy()
    groups = int(number.max(initial=0))
    # a cell without a count beside mitochondrial ones is judged with the largest group
    group = np.maximum(number - 1, 0)
    strangers = np.zeros(cells, dtype=bool) if other_species is None else np.asarray(other_species, dtype=bool)
    base = metrics["in_bounds"].to_numpy() & counted & (number > 0) & ~strangers
    by_group = counted.sum() >= FEWEST_CELLS and base.any()
    breaks = {reason: np.zeros(cells, dtype=bool) for reason in REASONS}
    breaks["other_species"] = strangers
    breaks["no_counts"] = ~counted
    breaks["predicted_doublet"] = np.asarray(predicted_doublet, dtype=bool)
    rows: list[dict[str, Any]] = []

    def values_of(rule: MadRule) -> np.ndarray:
        values = metrics[rule.metric].to_numpy(dtype=np.float64)
        return np.log1p(values) if rule.logged else values

    def bounds_of(name: str) -> Bounds:
        rule = MAD_RULES[name]
        # another rule may ask for the bounds of one that is switched off
        nmads = given[f"{name}_nmads"] or DEFAULTS[f"{name}_nmads"]
        return group_bounds(values_of(rule)[base], group[base], groups, nmads, rule)

    fewest_genes = np.full(max(groups, 1), given["min_genes"])
    if by_group and not thresholds.min_genes_given:
        fewest_genes = np.minimum(fewest_genes, np.expm1(bounds_of("log1p_n_genes_by_counts").lower))
    if given["min_genes"] > 0:
        breaks["min_genes"] = metrics["n_genes_by_counts"].to_numpy() < fewest_genes[group]
        rows += _rows("min_genes", given["min_genes"], groups, lower=fewest_genes)
    limit = given["max_mito_percentage"]
    if limit > 0:
        breaks["max_mito_percentage"] = metrics["pct_counts_mt"].to_numpy() > limit
        rows.append(_row("all", "max_mito_percentage", limit, upper=limit))
    if by_group and given["no_programme_odds"] > 0:
        centre = bounds_of("log1p_total_counts").centre
        small = values_of(MAD_RULES["log1p_total_counts"]) < (centre - HALF)[group]
        odds = metrics["no_programme_log_odds"].to_numpy()
        breaks["no_programme"] = small & (odds > np.log(given["no_programme_odds"]))
        rows += _rows(
            "no_programme", given["no_programme_odds"], groups, centre=np.expm1(centre), lower=np.expm1(centre - HALF)
        )
    for name, rule in MAD_RULES.items():
        nmads = given[f"{name}_nmads"]
        if nmads <= 0 or not by_group:
            continue
        values, found = values_of(rule), bounds_of(name)
        upper = found.upper
        if rule.sides == "both":
            alone = group_bounds(values[base], np.zeros(int(base.sum()), dtype=np.int64), 1, nmads, rule)
            upper = np.maximum(upper, alone.upper)
        high = values > upper[group]
        if name == "pct_counts_in_top_20_genes":
            high &= metrics["counts_for_top_20"].to_numpy() >= FEWEST_COUNTS_FOR_TOP
        low = (values < found.lower[group]) if rule.sides == "both" else np.zeros(cells, dtype=bool)
        breaks[name] = low | high
        unit = np.expm1 if rule.logged else np.asarray
        lower = {"lower": np.maximum(unit(found.lower), 0)} if rule.sides == "both" else {}
        rows += _rows(name, nmads, groups, centre=unit(found.centre), mad=found.mad, upper=unit(upper), **lower)
    reasons = np.full(cells, "", dtype=object)
    for reason in REASONS:
        reasons[breaks[reason] & (reasons == "")] = reason
    for row in rows:
        inside = np.ones(cells, dtype=bool) if row["group"] == "all" else number == row["group"]
        row["removed"] = int((inside & (reasons == row["rule"])).sum())
    return reasons, rows


def _row(group: int | str, rule: str, threshold: float, **bounds: float) -> dict[str, Any]:
    figures = {name: round(float(bounds[name]), 6) if name in bounds else None for name in BOUND_FIGURES}
    return {"group": group, "rule": rule, "threshold": threshold, **figures}


def _rows(rule: str, threshold: float, groups: int, **bounds: np.ndarray) -> list[dict[str, Any]]:
    """A row for each group."""
    return [_row(g + 1, rule, threshold, **{k: v[g] for k, v in bounds.items()}) for g in range(groups)]
