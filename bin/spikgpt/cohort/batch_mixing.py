"""Whether batches mix in the embedding: scores of neighbourhoods, as it is and after Harmony."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from spikgpt.base.names import by_sample, joined_embeddings
from spikgpt.base.threads import one_thread
from spikgpt.cohort.clusters import standardise

MOST_CELLS = 20_000
"""Cells that are looked at, drawn from all."""
COMPONENTS = 50
PERPLEXITY = 30
LISI_NEIGHBOURS = 3 * PERPLEXITY
KBET_NEIGHBOURS = 50
KBET_ALPHA = 0.05
FEWEST_CELLS = 100
"""A cell type with fewer cells, or fewer than 10 in a second batch, has no row of its own."""
FEWEST_IN_BATCH = 10
ALL = "all"

MIXING_COLUMNS = ("embedding", "cell_type", "cells", "batches", "ilisi", "kbet_acceptance", "clisi")


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
    from scipy.stats import chi2

    expected = np.bincount(batches) / len(batches) * neighbours.shape[1]
    of = batches[neighbours]
    observed = np.stack([(of == batch).sum(axis=1) for batch in range(len(expected))], axis=1)
    statistic = (np.square(observed - expected) / expected).sum(axis=1)
    return float((chi2.sf(statistic, len(expected) - 1) >= KBET_ALPHA).mean())


def scaled_lisi(z: np.ndarray, groups: np.ndarray) -> float:
    """Median local inverse Simpson index of groups (Korsunsky et al. 2019), by harmonypy, scaled as in scib-metrics.

    Returns
    -------
    0 where all neighbours are of one group, 1 where they are of all groups alike.
    """
    from harmonypy import compute_lisi

    found = compute_lisi(z, pd.DataFrame({"group": groups}), ["group"], PERPLEXITY)[:, 0]
    return float((np.nanmedian(found) - 1) / (len(np.unique(groups)) - 1))


def mixing_scores(z: np.ndarray, batches: np.ndarray, labels: np.ndarray, name: str) -> pd.DataFrame:
    """Scores of all cells and of each cell type that several batches have.

    A type is scored among its own cells, so that batches of other composition do not count as unmixed.

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
    `MIXING_COLUMNS`; ilisi, kbet_acceptance and clisi from 0 to 1, clisi of all cells alone.
    """
    from sklearn.neighbors import NearestNeighbors

    rows = []
    for label in [ALL, *sorted(set(labels))]:
        inside = np.ones(len(z), dtype=bool) if label == ALL else labels == label
        names, codes, sizes = np.unique(batches[inside], return_inverse=True, return_counts=True)
        if len(names) < 2 or inside.sum() < FEWEST_CELLS or np.sort(sizes)[-2] < FEWEST_IN_BATCH:
            continue
        part = z[inside]
        nearest = NearestNeighbors(n_neighbors=min(KBET_NEIGHBOURS, len(part) // 2), algorithm="brute").fit(part)
        several = label == ALL and len(set(labels)) > 1
        rows.append(
            (
                name, label, int(inside.sum()), len(names), scaled_lisi(part, codes),
                kbet_acceptance(nearest.kneighbors(part, return_distance=False), codes),
                1 - scaled_lisi(part, labels) if several else np.nan,
            )
        )  # fmt: skip
    return pd.DataFrame(rows, columns=list(MIXING_COLUMNS))


@one_thread()
def batch_mixing(embedding: np.ndarray, batches: np.ndarray, labels: np.ndarray, seed: int) -> pd.DataFrame:
    """How well batches mix in the embedding, and in what Harmony makes of it.

    The first 50 principal components of the standardised embedding; Harmony (Korsunsky et al. 2019, Nature
    Methods 16:1289) by harmonypy. scib-metrics' definitions with harmonypy's LISI and our own kBET: the package
    brings JAX, a third of a gigabyte, and its last release another SciPy than the rest of the pipeline.
    Harmony's result is looked at, and kept nowhere.

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
    See `mixing_scores`; no rows with fewer than two batches.
    """
    from harmonypy import run_harmony
    from sklearn.decomposition import PCA

    present = np.flatnonzero(np.isfinite(embedding).all(axis=1))
    if len(present) > MOST_CELLS:
        present = np.sort(np.random.default_rng(seed).choice(present, MOST_CELLS, replace=False))
    z, batches, labels = embedding[present], batches[present].astype(str), labels[present].astype(str)
    if len(set(batches)) < 2 or len(z) < FEWEST_CELLS:
        return pd.DataFrame(columns=list(MIXING_COLUMNS))
    standardise(z)
    components = min(COMPONENTS, *z.shape)
    z = PCA(components, svd_solver="full", random_state=seed).fit_transform(z.astype(np.float64))
    print(f"batch mixing of {len(z)} cells in {len(set(batches))} batches", file=sys.stderr)
    made = run_harmony(z, pd.DataFrame({"batch": batches}), "batch", random_state=seed, ncores=1, verbose=False)
    corrected = np.asarray(made.Z_corr, dtype=np.float64)
    corrected = corrected if corrected.shape == z.shape else corrected.T
    return pd.concat(
        [mixing_scores(z, batches, labels, "scGPT"), mixing_scores(corrected, batches, labels, "Harmony")],
        ignore_index=True,
    )


def read_and_score(
    h5ads: Iterable[str | Path], embeddings: Iterable[str | Path], annotations: Iterable[str | Path], seed: int
) -> pd.DataFrame:
    """`batch_mixing` of the files of all samples (see `spikgpt.cohort.files.cluster_cohort`), by their obs batch."""
    import h5py
    from anndata.io import read_elem

    batches: dict[str, np.ndarray] = {}
    for sample, path in by_sample(h5ads, ".norm.h5ad").items():
        with h5py.File(path) as file:
            batches[sample] = read_elem(file["obs/batch"]).astype(str)
    cells: Mapping[str, int] = {sample: len(values) for sample, values in batches.items()}
    labels = [
        pd.read_parquet(path, columns=["spikgpt_cell_type"])["spikgpt_cell_type"].to_numpy(dtype=str)
        for path in by_sample(annotations, ".annotation.parquet").values()
    ]
    joined = joined_embeddings(embeddings, cells)
    return batch_mixing(joined, np.concatenate([np.asarray(b) for b in batches.values()]), np.concatenate(labels), seed)
