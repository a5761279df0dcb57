"""Doublets by Scrublet, the same whatever the order of the cells."""

from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy import ndimage, sparse

RATE_PER_CELL = 0.008 / 1000
"""Doublets expected for every cell recovered, as a share of the cells (10x Genomics: 0.8 % per 1,000 cells)."""
LARGEST_RATE = 0.2
"""A sample of more cells than that rate stands for was put together from several libraries."""
LARGEST_BLOCK = 20_000
"""Cells scored in one go: the time of the exact neighbour search grows with their square."""
FEWEST_CELLS = 100
FEWEST_GENES = 100
COMPONENTS = 30
FEWEST_VARIABLE = 10
PLAUSIBLE_RATE = 0.1
PLAUSIBLE_TIMES = 3
"""A threshold that calls more than a tenth of the cells and three times what is expected splits no doublets off."""
BINS = 256


def expected_rate(cells: int) -> float:
    """Share of doublets expected among so many recovered cells of one library."""
    return min(RATE_PER_CELL * cells, LARGEST_RATE)


def valley(scores: np.ndarray) -> float | None:
    """The minimum between the two modes of a distribution, None when smoothing never leaves two.

    Scrublet's rule for its threshold, on the scores of the simulated doublets: the histogram (256 bins) is
    smoothed by a running mean of 3 until it has two maxima (Prewitt & Mendelsohn 1966, as
    skimage.filters.threshold_minimum does it).
    """
    counts, edges = np.histogram(scores, bins=BINS)
    centres = (edges[:-1] + edges[1:]) / 2
    smooth = counts.astype(np.float32)
    for _ in range(10_000):
        smooth = ndimage.uniform_filter1d(smooth, 3)
        step = np.sign(np.diff(smooth))
        moves = np.flatnonzero(step)
        # a maximum is where the last move was up (or none was) and the next is down
        up = np.concatenate([[1.0], step[moves]])
        peaks = moves[(step[moves] < 0) & (up[:-1] > 0)]
        if peaks.size < 3:
            break
    if peaks.size != 2:
        return None
    return float(centres[peaks[0] + int(np.argmin(smooth[peaks[0] : peaks[1] + 1]))])


def detect_doublets(adata: ad.AnnData, seed: int, skip: bool = False) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Score every cell as a doublet with Scrublet (Wolock et al. 2019, Cell Systems 8:281), by scanpy.

    The expected rate comes from the number of cells; cells are sorted by barcode first, so that the
    simulated doublets do not depend on their order in the file. More than 20,000 cells are scored in random
    blocks of at most so many. A cell is called a doublet above the `valley` of the simulated doublets' scores,
    unless that would call an implausible share of the cells.

    Parameters
    ----------
    adata
        Raw counts of called cells, X int32 CSR.

    Returns
    -------
    table
        barcode, doublet_score (float32, NaN where not computed), predicted_doublet (bool); row order of `adata`.
    stats
        cells, run (bool), expected_rate, threshold, predicted, predicted_rate, messages.
    """
    cells = adata.n_obs
    table = pd.DataFrame(
        {
            "barcode": np.asarray(adata.obs_names, dtype=object),
            "doublet_score": np.full(cells, np.nan, dtype=np.float32),
            "predicted_doublet": np.zeros(cells, dtype=bool),
        }
    )
    stats: dict[str, Any] = {
        "cells": cells, "run": False, "expected_rate": round(expected_rate(cells), 6), "threshold": None,
        "predicted": 0, "predicted_rate": 0.0, "messages": [],
    }  # fmt: skip
    if skip:
        stats["messages"].append("Doublet detection was switched off (--skip_doublets).")
        return table, stats
    matrix = sparse.csr_matrix(adata.X)
    genes = int((matrix.getnnz(axis=0) >= 3).sum())
    if cells < FEWEST_CELLS or genes < FEWEST_GENES:
        few = f"{cells} cells" if cells < FEWEST_CELLS else f"{genes} genes seen in 3 cells"
        least = FEWEST_CELLS if cells < FEWEST_CELLS else FEWEST_GENES
        stats["messages"].append(f"Doublets were not looked for: {few}, fewer than {least}.")
        return table, stats

    ordered = np.argsort(table["barcode"].to_numpy(), kind="stable")
    if cells > LARGEST_BLOCK:
        ordered = np.random.default_rng(seed).permutation(ordered)
    scores = np.full(cells, np.nan)
    simulated = []
    for block in np.array_split(ordered, -(-cells // LARGEST_BLOCK)):
        found = _scores(matrix[block].astype(np.float32), expected_rate(cells), seed)
        if found is None:
            stats["messages"].append("Doublets were not looked for: fewer than 10 variable genes.")
            return table, stats
        scores[block], of_simulated = found
        simulated.append(of_simulated)
    table["doublet_score"] = scores.astype(np.float32)
    stats["run"] = True
    threshold = valley(np.concatenate(simulated))
    if threshold is None:
        stats["messages"].append(
            "The scores of simulated doublets have no two modes, so no cell was called one; the scores are in obs."
        )
        return table, stats
    above = scores > threshold
    if above.mean() > max(PLAUSIBLE_RATE, PLAUSIBLE_TIMES * expected_rate(cells)):
        stats["messages"].append(
            f"Scrublet's threshold ({threshold:.3f}) would call {above.mean():.0%} of the cells doublets where "
            f"{expected_rate(cells):.1%} are expected, so no cell was called one; the scores are in obs."
        )
        return table, stats
    table["predicted_doublet"] = above
    predicted = int(above.sum())
    stats |= {
        "threshold": round(threshold, 6),
        "predicted": predicted,
        "predicted_rate": round(predicted / cells, 6),
    }
    return table, stats


def _scores(counts: sparse.csr_matrix, rate: float, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Scrublet's scores of the cells and of its simulated doublets; None with fewer than 10 variable genes."""
    import scanpy as sc

    adata = ad.AnnData(X=counts)
    adata.obs_names = [str(i) for i in range(adata.n_obs)]
    variable = _variable_genes(adata.copy())
    if variable < FEWEST_VARIABLE:
        return None
    # A threshold is given because scanpy's own needs scikit-image; `valley` replaces it. Exact neighbours: the
    # approximate ones of scanpy 1.11 fail with SciPy 1.17 above some 2,700 cells.
    # The rate of doublets detectable at that threshold is 0; it is divided by, and not used.
    with np.errstate(invalid="ignore"):
        sc.pp.scrublet(
            adata, expected_doublet_rate=rate, n_prin_comps=min(COMPONENTS, variable - 1), use_approx_neighbors=False,
            threshold=1.0, random_state=seed, verbose=False,
        )  # fmt: skip
    return (
        adata.obs["doublet_score"].to_numpy(dtype=np.float64),
        np.asarray(adata.uns["scrublet"]["doublet_scores_sim"]),
    )


def _variable_genes(adata: ad.AnnData) -> int:
    """How many genes Scrublet will find variable: it fails with fewer of them than components."""
    import scanpy as sc

    sc.pp.filter_genes(adata, min_cells=3)
    sc.pp.filter_cells(adata, min_genes=3)
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    return int(sc.pp.highly_variable_genes(adata, inplace=False)["highly_variable"].sum())
