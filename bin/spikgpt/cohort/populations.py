"""Clusters of the cohort that the reference seems to lack."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.stats import binom

from spikgpt import UNKNOWN
from spikgpt.annotator.reference_markers import ReferenceMarkers
from spikgpt.base.columns import UNKNOWN_REASONS
from spikgpt.cohort.evidence import Judged, MarkerEvidence, cluster_names, commonest
from spikgpt.cohort.second_opinion import Likeness

POPULATION_SHARE = 0.25
"""A cluster is an unknown population when at least this share of it is Unknown, and twice the expected rate, ..."""
POPULATION_ALPHA = 0.001
"""... and so many are less likely than this when each is Unknown with the expected rate."""
POPULATION_MARKERS = 10

DOUBLET_TOP = 0.1
"""Cells with the highest doublet scores of each sample: a cluster should hold about its share of them ..."""
DOUBLET_SHARE = 0.3
"""... and is pointed out when this share of its own cells is among them."""
BOTH_TYPES = 0.7
"""A cluster that shows this share of the markers of two types, of at least `BOTH_MARKERS` each, may be doublets."""
BOTH_MARKERS = 5
OWN_MARKERS = 3
"""A cluster with fewer markers of its own (twice the expression elsewhere, p_adj below 0.01) may be ambient RNA."""
KNOWN_MARKERS = 0.8
"""A population that shows this share of a type's markers, `OWN_MARKERS` of them as markers of its own, is probably that
type. In six samples of PBMC, with an annotator that rejected too many, the five populations that were types of the
reference show 8 to 10 of 10, rare pDC 4 of 8. Of 29 clusters whose type was left out of the reference two show as much
of another's: CD8 T cells of NK cells', CD14 monocytes of CD16 monocytes'."""
RARE_CELLS = 50
"""Of a nearest type with fewer cells in the reference, whose markers are partly luck, half of them suffice."""

POPULATION_COLUMNS = (
    "cluster",
    "cells",
    "unknown_cells",
    "unknown_percent",
    "expected_unknown",
    "p_value",
    "samples",
    "cells_per_sample",
    "nearest_type",
    "nearest_percent",
    "nearest_markers_found",
    "nearest_markers_missing",
    "probably",
    "reference_cells",
    "markers",
    "looks_like",
    "looks_like_score",
    "nearest_profile",
    "nearest_profile_source",
    "nearest_profile_correlation",
    "qc_flags",
)


def rejected(cells: pd.DataFrame) -> np.ndarray:
    """Cells that are Unknown for what they are, bool (cells,): poor quality or genes are no sign of a new type."""
    reasons = cells["spikgpt_unknown_reason"].astype(str)
    unknown = cells["spikgpt_cell_type"].astype(str) == UNKNOWN
    return (unknown & reasons.isin([reason.name for reason in UNKNOWN_REASONS if reason.of_the_cell])).to_numpy()


def find_populations(cells: pd.DataFrame, rates: np.ndarray | float) -> dict[str, float]:
    """Clusters with far more rejected cells than the rate allows, and the p-value of each.

    Where every cell belongs to a type of the reference, about the rate's share of them is rejected, independently: the
    upper tail of the binomial distribution tests each cluster, by Bonferroni over clusters. Where rates differ their
    mean is taken, which makes the tail wider (Hoeffding, Ann Math Stat 27, 1956). Cells of a batch are not
    independent, and any shift makes the excess significant in a large cluster; hence the share that is asked for too.

    Parameters
    ----------
    cells
        See `spikgpt.cohort.tables.read_cohort`.
    rates
        Expected share of Unknown cells in each cell's sample, (cells,) or one for all; see
        `spikgpt.cohort.annotators.unknown_rates`.
    """
    cluster = cells["spikgpt_cluster"].astype(str).to_numpy()
    rejects = rejected(cells)
    names = cluster_names(cells)
    of_cells = np.broadcast_to(rates, len(cells))
    found = {}
    for name in names:
        inside = cluster == name
        size, unknown = int(inside.sum()), int(rejects[inside].sum())
        rate = float(of_cells[inside].mean())
        p = float(binom.sf(unknown - 1, size, rate)) * len(names)
        if unknown >= max(POPULATION_SHARE, 2 * rate) * size and p < POPULATION_ALPHA:
            found[name] = p
    return found


def pairs_to_judge(populations: Mapping[str, float], reference: ReferenceMarkers) -> list[tuple[str, str]]:
    """Every population with every type that has markers: it may show those of two at once."""
    return [(name, of) for name in populations for of in reference.types]


def unknown_populations(
    cells: pd.DataFrame,
    populations: Mapping[str, float],
    markers: pd.DataFrame,
    judged: Judged,
    rates: np.ndarray | float,
    likeness: Mapping[str, Likeness],
    reference: ReferenceMarkers,
    reference_cells: Mapping[str, int],
) -> pd.DataFrame:
    """The table of the clusters that `find_populations` found.

    Parameters
    ----------
    cells
        See `spikgpt.cohort.tables.read_cohort`.
    markers
        See `spikgpt.cohort.markers.find_markers`.
    judged
        `spikgpt.cohort.evidence.judge_markers` of the pairs of `pairs_to_judge`; a pair may be missing.
    rates
        See `find_populations`.
    likeness
        What the rejected cells of each population look like, see `spikgpt.cohort.second_opinion`.
    reference
        Markers of the reference's types, and which types are related.
    reference_cells
        Cells of each type in the reference.

    Returns
    -------
    `POPULATION_COLUMNS`, by falling number of Unknown cells; no rows when there is none. samples is their number,
    cells_per_sample `name=cells` by falling count; nearest_type is the commonest best match of the rejected cells;
    probably is the type of the reference that the population seems to be after all (`known_type`), with its
    reference_cells, both empty where it seems to be outside of the reference. qc_flags names
    what else could explain the cluster.
    """
    cluster = cells["spikgpt_cluster"].astype(str).to_numpy()
    rejects = rejected(cells)
    doublet_like = _highest_doublet_scores(cells)
    of_cells = np.broadcast_to(rates, len(cells))
    rows = []
    for name, p in populations.items():
        inside = cluster == name
        size, unknown = int(inside.sum()), int(rejects[inside].sum())
        nearest = commonest(cells.loc[inside & rejects, "spikgpt_best_match"])
        per_sample = cells.loc[inside, "sample"].astype(str).value_counts()
        per_sample = per_sample.sort_index().sort_values(ascending=False, kind="stable")
        own = markers[markers["cluster"].astype(str) == name]
        near = judged.get((name, nearest[0]))
        mine = {of: found for (at, of), found in judged.items() if at == name}
        both = two_unrelated_types(mine, reference)
        flags = quality_flags(cells, inside, doublet_like) + marker_flags(own, both)
        probably = "" if both else known_type(own, mine, nearest[0], reference_cells)
        rows.append(
            (
                name,
                size,
                unknown,
                100 * unknown / size,
                float(of_cells[inside].mean()) * size,
                p,
                int((per_sample > 0).sum()),
                ", ".join(f"{s}={n}" for s, n in per_sample.items() if n),
                *nearest,
                ", ".join(near.found) if near else "",
                ", ".join(near.missing) if near else "",
                probably,
                str(reference_cells[probably]) if probably else "",
                ", ".join(own["gene"].astype(str)[:POPULATION_MARKERS]),
                likeness[name].opinion,
                likeness[name].score,
                likeness[name].profile,
                likeness[name].source,
                likeness[name].correlation,
                "; ".join(flags),
            )
        )
    rows.sort(key=lambda row: -row[2])
    return pd.DataFrame(rows, columns=list(POPULATION_COLUMNS))


def _highest_doublet_scores(cells: pd.DataFrame) -> pd.Series:
    """1 for cells among the `DOUBLET_TOP` with the highest scores of their sample, 0 for others, NaN without a score.

    By rank within the sample: Scrublet's scores of different samples are not on one scale. Predicted doublets are
    gone by now; what is left of a cluster of doublets still scores high.
    """
    ranks = cells.groupby(cells["sample"].astype(str))["doublet_score"].rank(pct=True)
    return (ranks > 1 - DOUBLET_TOP).astype(float).where(ranks.notna())


def quality_flags(cells: pd.DataFrame, inside: np.ndarray, doublet_like: pd.Series) -> list[str]:
    """What about a cluster's quality could pass for a new type, against all other cells."""
    flags = []
    mine, others = cells[inside], cells[~inside]
    doublets = float(doublet_like[inside].mean())
    if doublets >= DOUBLET_SHARE:
        flags.append(
            f"doublets: {100 * doublets:.0f} % of its cells are among the {100 * DOUBLET_TOP:.0f} % with the highest "
            "doublet scores"
        )
    # each cell against the other cells of its own sample: samples differ in depth, and a cluster may be of one of them
    outside = others.groupby(others["sample"].astype(str))[["total_counts", "pct_counts_mt"]].median()
    usual = outside.reindex(mine["sample"].astype(str))
    depth = float(np.median(mine["total_counts"].to_numpy() / usual["total_counts"].to_numpy()))
    if depth < 0.5:
        flags.append(f"low depth: {100 * depth:.0f} % of the counts of other cells of its samples")
    mito = float(mine["pct_counts_mt"].median())
    usual_mito = float(usual["pct_counts_mt"].median())
    if mito > max(2 * usual_mito, 10):
        flags.append(f"high mitochondrial share: median {mito:.0f} % against {usual_mito:.0f} % in its samples")
    per_sample = mine["sample"].astype(str).value_counts()
    if cells["sample"].nunique() > 1 and per_sample.iloc[0] > 0.95 * len(mine):
        flags.append("nearly all cells from one sample")
    return flags


def two_unrelated_types(judged: Mapping[str, MarkerEvidence], reference: ReferenceMarkers) -> tuple[str, ...]:
    """Two types that a cluster shows most markers of at once, first the clearer one; empty where there are none.

    Related types, of which one has cells that look like the other anyway, are no sign of doublets.

    Parameters
    ----------
    judged
        Type to `spikgpt.cohort.evidence.MarkerEvidence` in this cluster.
    """
    both = [
        (len(found.found) / found.tested, of)
        for of, found in judged.items()
        if found.tested >= BOTH_MARKERS and len(found.found) >= BOTH_TYPES * found.tested
    ]
    names = [of for _, of in sorted(both, key=lambda entry: (-entry[0], entry[1]))]
    related = {tuple(pair) for pair in reference.related}
    pairs = [(one, two) for at, one in enumerate(names) for two in names[at + 1 :]]
    return next((pair for pair in pairs if tuple(sorted(pair)) not in related), ())


def strong_markers(own: pd.DataFrame) -> set[str]:
    """Genes that a cluster shows clearly more than all other cells, of its rows of markers.tsv."""
    strong = (own["log2fc"].astype(float) >= 1) & (own["p_adj"].astype(float) < 0.01)
    return set(own.loc[strong, "gene"].astype(str))


def known_type(
    own: pd.DataFrame, judged: Mapping[str, MarkerEvidence], nearest: str, reference_cells: Mapping[str, int]
) -> str:
    """The type of the reference that a population probably is, or the empty text.

    It shows most of that type's markers, and some of them more than all other cells do, those called by that type among
    them: a new type beside a known one shows what both share, and has other markers of its own.

    Parameters
    ----------
    own
        The cluster's rows of markers.tsv.
    judged
        Type to `spikgpt.cohort.evidence.MarkerEvidence` in this cluster.
    nearest
        The commonest best match of its rejected cells.
    """
    strong = strong_markers(own)
    fits = []
    for of, found in judged.items():
        share = len(found.found) / max(found.tested, 1)
        rare = of == nearest and reference_cells.get(of, RARE_CELLS) < RARE_CELLS
        told = found.tested >= BOTH_MARKERS and share >= (0.5 if rare else KNOWN_MARKERS)
        if told and len(strong.intersection(found.found)) >= OWN_MARKERS:
            fits.append((of != nearest, -share, of))
    return min(fits)[2] if fits else ""


def marker_flags(own: pd.DataFrame, both: tuple[str, ...]) -> list[str]:
    """What a cluster's genes say against a new type: none of its own, or those of two known types at once.

    Parameters
    ----------
    own
        The cluster's rows of markers.tsv.
    both
        Of `two_unrelated_types`.
    """
    flags = []
    if len(strong_markers(own)) < OWN_MARKERS:
        flags.append("hardly a marker of its own: ambient RNA or damaged cells")
    if both:
        flags.append(f"doublets: most markers of {both[0]} and of {both[1]} at once")
    return flags
