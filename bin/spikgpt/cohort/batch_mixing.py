"""Whether batches mix in the embedding: scores of neighbourhoods, as it is and after Harmony."""

import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from spikgpt.base.names import by_sample, joined_embeddings
from spikgpt.base.threads import one_thread
from spikgpt.cohort.clusters import read_batches, standardise
from spikgpt.cohort.integration import ALL, FEWEST_CELLS, Integration, components, decide, harmonised

MOST_CELLS = 20_000
"""Cells that are looked at, drawn from all."""
PERPLEXITY = 30
LISI_NEIGHBOURS = 3 * PERPLEXITY
KBET_NEIGHBOURS = 50
KBET_ALPHA = 0.05
FEWEST_IN_BATCH = 10
"""The batches of a cell type with fewer cells than this in a second batch are not scored."""

MIXING_COLUMNS = (
    "embedding", "cell_type", "cells", "batches", "labels", "ilisi", "ilisi_if_mixed", "kbet_acceptance", "clisi",
)  # fmt: skip


def kbet_acceptance(neighbours: np.ndarray, batches: np.ndarray) -> float:
    """Share of neighbourhoods whose batches are no other than all cells' (Buettner et al. 2019, kBET).

    As `scib_metrics.kbet`: a chi-squared test of each cell's neighbours, itself among them, at 5 %.

    Parameters
    ----------
    neighbours
        int (cells, neighbours).
    batches
        int (cells,): codes from 0 without a gap.
    """
    from scipy.special import chdtrc

    expected = np.bincount(batches) / len(batches) * neighbours.shape[1]
    of = batches[neighbours]
    observed = np.stack([(of == batch).sum(axis=1) for batch in range(len(expected))], axis=1)
    statistic = (np.square(observed - expected) / expected).sum(axis=1)
    return float((chdtrc(len(expected) - 1, statistic) >= KBET_ALPHA).mean())


def lisi(z: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Local inverse Simpson index of groups (Korsunsky et al. 2019), by harmonypy, scaled as in scib-metrics.

    Returns
    -------
    float64 (cells,): 0 where all neighbours are of one group, 1 where they are of all groups alike; NaN where the
    index has no value.
    """
    from harmonypy import compute_lisi

    found = compute_lisi(z, pd.DataFrame({"group": groups}), ["group"], PERPLEXITY)[:, 0]
    return (found - 1) / (len(np.unique(groups)) - 1)


def scaled_lisi(z: np.ndarray, groups: np.ndarray) -> float:
    """The median of `lisi`."""
    return float(np.nanmedian(lisi(z, groups)))


def mixing_scores(z: np.ndarray, batches: np.ndarray, labels: np.ndarray, name: str) -> pd.DataFrame:
    """Scores of all cells and of each cell type with at least `FEWEST_CELLS` cells.

    A type's batches are scored among its own cells, so that batches of other composition do not count as unmixed; how
    far its label keeps apart from the others is scored among all cells.

    Parameters
    ----------
    z
        float (cells, dimensions).
    batches, labels
        str (cells,).
    name
        Of the embedding.

    Returns
    -------
    `MIXING_COLUMNS`; ilisi, kbet_acceptance and clisi from 0 to 1, clisi NaN with a single label, the others NaN for a
    type of one batch. ilisi_if_mixed is what ilisi would be if the batches were mixed at random: less than 1 where they
    differ in size. No rows where not even two batches have `FEWEST_IN_BATCH` cells.
    """
    from sklearn.neighbors import NearestNeighbors

    apart = 1 - lisi(z, labels) if len(set(labels)) > 1 else np.full(len(z), np.nan)
    rows = []
    for label in [ALL, *sorted(set(labels))]:
        inside = np.ones(len(z), dtype=bool) if label == ALL else labels == label
        names, codes, sizes = np.unique(batches[inside], return_inverse=True, return_counts=True)
        if inside.sum() < FEWEST_CELLS:
            continue
        between = (np.nan,) * 3
        if len(names) > 1 and np.sort(sizes)[-2] >= FEWEST_IN_BATCH:
            part = z[inside]
            nearest = NearestNeighbors(n_neighbors=min(KBET_NEIGHBOURS, len(part) // 2), algorithm="brute").fit(part)
            between = (
                scaled_lisi(part, codes),
                (1 / float(np.square(sizes / sizes.sum()).sum()) - 1) / (len(names) - 1),
                kbet_acceptance(nearest.kneighbors(part, return_distance=False), codes),
            )
        elif label == ALL:
            break
        rows.append(
            (
                name, label, int(inside.sum()), len(names), len(set(labels)), *between,
                float(np.nanmedian(apart[inside])) if np.isfinite(apart[inside]).any() else np.nan,
            )
        )  # fmt: skip
    return pd.DataFrame(rows, columns=list(MIXING_COLUMNS))


@one_thread()
def batch_mixing(embedding: np.ndarray, batches: np.ndarray, labels: np.ndarray, seed: int) -> pd.DataFrame:
    """How well batches mix in the embedding, and in what Harmony makes of it.

    The first 50 principal components of the standardised embedding, before and after Harmony. scib-metrics' definitions
    with harmonypy's LISI and our own kBET: the package brings JAX, a third of a gigabyte, and its last release another
    SciPy than the rest of the pipeline.

    Parameters
    ----------
    embedding
        float32 (cells, dimensions); a row with NaN is left out.
    batches, labels
        str (cells,).
    seed
        Of the draw of cells and of Harmony.

    Returns
    -------
    See `mixing_scores`; no rows with fewer than two batches or `FEWEST_CELLS` cells.
    """
    present = np.flatnonzero(np.isfinite(embedding).all(axis=1))
    if len(present) > MOST_CELLS:
        present = np.sort(np.random.default_rng(seed).choice(present, MOST_CELLS, replace=False))
    z, batches, labels = embedding[present], batches[present].astype(str), labels[present].astype(str)
    if len(set(batches)) < 2 or len(z) < FEWEST_CELLS:
        return pd.DataFrame(columns=list(MIXING_COLUMNS))
    standardise(z)
    reduced = components(z, seed)
    print(f"batch mixing of {len(z)} cells in {len(set(batches))} batches", file=sys.stderr)
    corrected = harmonised(reduced, batches, seed)
    return pd.concat(
        [mixing_scores(reduced, batches, labels, "scGPT"), mixing_scores(corrected, batches, labels, "Harmony")],
        ignore_index=True,
    )


def read_and_score(
    h5ads: Iterable[str | Path],
    embeddings: Iterable[str | Path],
    annotations: Iterable[str | Path],
    asked: str,
    seed: int,
) -> tuple[pd.DataFrame, Integration]:
    """`batch_mixing` of the files of all samples, by their obs batch, and whether Harmony is used.

    Parameters
    ----------
    h5ads, embeddings, annotations
        See `spikgpt.cohort.clusters.cluster_cohort`.
    asked
        One of `spikgpt.cohort.integration.ASKED`.
    seed
        See `batch_mixing`.
    """
    batches = read_batches(h5ads)
    labels = [
        pd.read_parquet(path, columns=["spikgpt_cell_type"])["spikgpt_cell_type"].to_numpy(dtype=str)
        for path in by_sample(annotations, ".annotation.parquet").values()
    ]
    joined = joined_embeddings(embeddings, {sample: len(values) for sample, values in batches.items()})
    of = np.concatenate(list(batches.values()))
    scores = batch_mixing(joined, of, np.concatenate(labels), seed)
    return scores, decide(asked, scores, len(set(of)))
