"""What speaks for a cluster's label, and against it: one row per cluster of the cohort.

Counts of cells come from the labels; the markers are those of the reference (`spikgpt.annotator.reference_markers`),
looked for in the query. A query is sequenced more or less deeply than the reference, so both are brought to one depth
first: that of the markers' choice, or the median of the cluster's cells where that is less. Cells above it are thinned
(in expectation, nothing is drawn), and the reference's shares are known at smaller depths too.
"""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem
from scipy.stats import norm

from spikgpt import UNKNOWN
from spikgpt.annotator.lineages import WrongLineage
from spikgpt.annotator.missing_types import rejected_types
from spikgpt.annotator.reference_markers import ReferenceMarkers, seen, thinning
from spikgpt.base.columns import REASON_NAMES
from spikgpt.base.h5ad import MEASURED, csr_blocks
from spikgpt.cohort.clusters import cluster_order
from spikgpt.cohort.second_opinion import NOT_COMPARED, Conflicts, Likeness, contradicted

EVIDENCE_COLUMNS = (
    "cluster",
    "cells",
    "cell_type",
    "percent",
    "median_confidence",
    "runner_up",
    "runner_up_percent",
    "unknown_cells",
    "unknown_percent",
    "expected_unknown",
    "reasons",
    "rejected_types",
    "nearest_type",
    "nearest_percent",
    "depth",
    "markers_found",
    "markers_missing",
    "markers_unclear",
    "markers_not_measured",
    "wrong_lineage",
    "second_opinion",
    "second_opinion_score",
    "second_opinion_contradicts",
    "cells_contradicted",
)

MARKER_ALPHA = 0.01
"""A marker is found only where it is seen in more cells than in the rest of the cohort, at this level."""
MIN_REST = 10
"""Cells of other types that the cohort must have for that comparison; with fewer the reference's shares stand alone."""
MIN_CLUSTER = 10
"""A smaller cluster is not judged by markers: its shares say nothing."""
_BLOCK_ELEMENTS = 4_000_000

Judged = dict[tuple[str, str], "MarkerEvidence"]


@dataclass
class MarkerEvidence:
    """Markers of one type in one cluster, each list best first; ``depth`` at which they were compared.

    All lists are empty where nothing could be judged: the type has no markers, the cluster is small, or shallower
    than any depth that the reference's shares are known for.
    """

    depth: float = np.nan
    found: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)
    not_measured: list[str] = field(default_factory=list)

    @property
    def tested(self) -> int:
        return len(self.found) + len(self.missing) + len(self.unclear)


def verdict(own: float, cells: int, rest: float, rest_cells: int, inside: float, outside: float) -> str:
    """Whether a marker is ``found``, ``missing`` or ``unclear``.

    ``missing``: the share of the cluster's cells that show it is nearer to what the reference shows outside of the
    type than inside (below the middle of the two). Otherwise it is ``found`` where more cells show it than in the rest
    of the cohort (one-sided two-proportion z-test, `MARKER_ALPHA`), and ``unclear`` where not: ambient RNA, or another
    tissue, shows it everywhere.

    Parameters
    ----------
    own, rest
        Shares of the cluster's cells and of the rest's that show the gene, at one depth.
    cells, rest_cells
        How many cells they are of.
    inside, outside
        The reference's shares of the type and of the other types, at the same depth.
    """
    if own < (inside + outside) / 2:
        return "missing"
    if rest_cells < MIN_REST:
        return "found"
    pooled = (own * cells + rest * rest_cells) / (cells + rest_cells)
    error = np.sqrt(max(pooled * (1 - pooled), 1e-12) * (1 / cells + 1 / rest_cells))
    return "found" if norm.sf((own - rest) / error) < MARKER_ALPHA else "unclear"


def judge_markers(
    h5ad: str | Path, cells: pd.DataFrame, reference: ReferenceMarkers, pairs: Iterable[tuple[str, str]]
) -> Judged:
    """Look for a type's reference markers in a cluster, for each pair of cluster and type, in one pass over the counts.

    The rest of the cohort, that a marker is compared with, is every cell outside of the cluster whose best match is
    another type: other clusters of the same type show its markers too.

    Parameters
    ----------
    h5ad
        The cohort, with ``layers/counts``.
    cells
        See `spikgpt.cohort.tables.read_cohort`; in the order of the h5ad.
    pairs
        Cluster and type; a pair that cannot be judged gets empty lists.
    """
    cluster = cells["spikgpt_cluster"].astype(str).to_numpy()
    match = cells["spikgpt_best_match"].astype(str).to_numpy()
    totals = cells["total_counts"].to_numpy(dtype=np.float64)
    wanted = sorted(set(pairs))
    out: Judged = {pair: MarkerEvidence() for pair in wanted}
    with h5py.File(h5ad) as file:
        genes = {gene: at for at, gene in enumerate(read_elem(file["var"]).index.astype(str))}
        measured = read_elem(file[f"varm/{MEASURED}"])
        needed = {m.gene for _, name in wanted for m in reference.types.get(name, [])} & genes.keys()
        columns = sorted(genes[gene] for gene in needed)
        # samples x markers of the reference: whether the sample measured the gene
        has = measured.to_numpy()[columns].T.astype(np.int64)
        of_sample = measured.columns.get_indexer(cells["sample"].astype(str))
        place = {gene: columns.index(genes[gene]) for gene in needed}
        plans = []
        for name, of in wanted:
            inside = cluster == name
            markers = [m for m in reference.types.get(of, []) if m.gene in place]
            found = out[name, of]
            found.not_measured = [m.gene for m in reference.types.get(of, []) if m.gene not in place]
            depth = min(reference.depths[0], float(np.median(totals[inside]))) if inside.any() else 0.0
            if inside.sum() < MIN_CLUSTER or not markers or depth < reference.depths[-1]:
                continue
            found.depth = depth
            rest = ~inside & (match != of)
            sums = np.zeros((2, len(markers)))
            plans.append((found, markers, inside, rest, np.array([place[m.gene] for m in markers]), sums))
        if plans:
            print(f"markers of the reference in {len(plans)} pairs of cluster and type", file=sys.stderr)
            for start, block in csr_blocks(file["layers/counts"], _BLOCK_ELEMENTS):
                part = slice(start, start + block.shape[0])
                few = block[:, columns].toarray()
                for found, _, inside, rest, at, sums in plans:
                    kept = thinning(totals[part], found.depth)[:, None]
                    for row, members in enumerate((inside[part], rest[part])):
                        sums[row] += seen(few[members][:, at], kept[members]).sum(0)
    for found, markers, inside, rest, at, sums in plans:
        # of each marker, the cells whose sample measured it
        own, others = (np.bincount(of_sample[cells], minlength=len(has)) @ has[:, at] for cells in (inside, rest))
        for number, marker in enumerate(markers):
            if own[number] < MIN_CLUSTER:
                found.not_measured.append(marker.gene)
                continue
            expected = marker.at(found.depth, reference.depths)
            shares = sums[:, number] / np.maximum([own[number], others[number]], 1)
            said = verdict(shares[0], int(own[number]), shares[1], int(others[number]), *expected)
            getattr(found, said).append(marker.gene)
    return out


def commonest(values: pd.Series, but: str | None = None) -> tuple[str, float]:
    """The commonest text, other than one, and its percentage of all; ties to the first in the alphabet.

    Without any, the empty text and 0.
    """
    counts = values.astype(str).value_counts().sort_index()
    others = counts.drop(but, errors="ignore") if but is not None else counts
    if others.empty:
        return "", 0.0
    return str(others.idxmax()), float(100 * others.max() / counts.sum())


def cluster_names(cells: pd.DataFrame) -> list[str]:
    """The cohort's clusters in order, without the cells that have none."""
    return [name for name in cluster_order(cells["spikgpt_cluster"].astype(str)) if name]


def nearest_types(cells: pd.DataFrame) -> dict[str, tuple[str, float]]:
    """The type whose markers each cluster is judged by, and the percentage of cells with it as their best match.

    A labelled cluster's is its label; an Unknown one's the commonest best match of its rejected cells.
    """
    found = {}
    for name, mine in _by_cluster(cells).items():
        label = str(mine["spikgpt_cluster_cell_type"].iloc[0])
        if label == UNKNOWN:
            found[name] = commonest(mine.loc[mine["spikgpt_cell_type"].astype(str) == UNKNOWN, "spikgpt_best_match"])
        else:
            found[name] = (label, float(100 * (mine["spikgpt_best_match"].astype(str) == label).mean()))
    return found


def evidence_table(
    cells: pd.DataFrame,
    judged: Judged,
    rates: np.ndarray | float,
    likeness: Mapping[str, Likeness],
    conflicts: Conflicts,
    wrong: Mapping[str, list[WrongLineage]],
    by_profiles: np.ndarray | None = None,
) -> pd.DataFrame:
    """The rows of `EVIDENCE_COLUMNS`, clusters in order.

    Parameters
    ----------
    cells
        See `spikgpt.cohort.tables.read_cohort`.
    judged
        Of `judge_markers`, for the pairs of `nearest_types`.
    rates
        Expected share of Unknown cells in each cell's sample, (cells,) or one for all; see
        `spikgpt.cohort.annotators.unknown_rates`.
    likeness
        The second opinion on each cluster, see `spikgpt.cohort.second_opinion.group_opinions`.
    wrong
        Contradictions of each cluster, see `spikgpt.cohort.contradictions.of_clusters_and_types`.
    by_profiles
        Cells that the tissue profiles labelled, (cells,), if any: their labels are not held against them again.
    """
    profiled = np.zeros(len(cells), dtype=bool) if by_profiles is None else by_profiles
    of_cells = np.broadcast_to(rates, len(cells))
    nearest = nearest_types(cells)
    against = contradicted(cells, conflicts) & ~profiled
    cluster = cells["spikgpt_cluster"].astype(str).to_numpy()
    rows = []
    for name, mine in _by_cluster(cells).items():
        label = str(mine["spikgpt_cluster_cell_type"].iloc[0])
        labels = mine["spikgpt_cell_type"].astype(str)
        unknown = int((labels == UNKNOWN).sum())
        reasons = mine["spikgpt_unknown_reason"].astype(str).value_counts()
        runner_up = commonest(mine["spikgpt_best_match"], but=nearest[name][0])
        markers = judged.get((name, nearest[name][0]), MarkerEvidence())
        own = 2 * int(profiled[cluster == name].sum()) > len(mine)
        rows.append(
            (
                name,
                len(mine),
                label,
                100 * float((labels == label).mean()),
                float(mine["spikgpt_confidence"].median()),
                *runner_up,
                unknown,
                100 * unknown / len(mine),
                float(of_cells[cluster == name].mean()) * len(mine),
                ", ".join(f"{reason}={reasons[reason]}" for reason in REASON_NAMES if reasons.get(reason, 0)),
                ", ".join(
                    f"{row['cell_type']}={row['rejected']}/{row['cells']}"
                    for row in rejected_types(mine["spikgpt_best_match"], labels == UNKNOWN)
                ),
                *nearest[name],
                markers.depth,
                *(", ".join(part) for part in (markers.found, markers.missing, markers.unclear, markers.not_measured)),
                "; ".join(entry.sentence() for entry in wrong.get(name, [])),
                likeness[name].opinion,
                likeness[name].score,
                NOT_COMPARED if own else conflicts.between(likeness[name].opinion, label),
                int(against[cluster == name].sum()),
            )
        )
    return pd.DataFrame(rows, columns=list(EVIDENCE_COLUMNS))


def _by_cluster(cells: pd.DataFrame) -> dict[str, pd.DataFrame]:
    cluster = cells["spikgpt_cluster"].astype(str).to_numpy()
    return {name: cells[cluster == name] for name in cluster_names(cells)}
