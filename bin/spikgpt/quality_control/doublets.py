"""Doublets by Scrublet, the same whatever the order of the cells."""

import sys
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy import ndimage, sparse

from spikgpt.base.h5ad import Stored
from spikgpt.base.threads import one_thread
from spikgpt.base.variable_genes import Moments, dispersions

RATE_PER_CELL = 0.008 / 1000
"""Doublets expected for every cell recovered, as a share of the cells (10x Genomics: 0.8 % per 1,000 cells)."""
LARGEST_RATE = 0.2
"""A sample of more cells than that rate stands for was put together from several libraries."""
LARGEST_BLOCK = 10_000
"""Cells scored in one go: the time of the exact neighbour search grows with their square."""
FEWEST_CELLS = 100
FEWEST_GENES = 100
COMPONENTS = 30
FEWEST_VARIABLE = 10
VARIABLE_MEANS = (0.0125, 3)
VARIABLE_DISPERSION = 0.5
"""scanpy's bounds of a variable gene's log1p mean and standardised dispersion."""
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


@one_thread("scanpy")
def detect_doublets(cells: Stored, seed: int, skip: bool = False) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Score every cell as a doublet with Scrublet (Wolock et al. 2019, Cell Systems 8:281), by scanpy.

    The expected rate comes from the number of cells; cells are sorted by barcode first, so that the
    simulated doublets do not depend on their order in the file. More than 10,000 cells are scored in random
    blocks of at most so many, on the variable genes of all of them: in memory are these genes alone. A cell is
    called a doublet above the `valley` of the simulated doublets' scores, unless that would call an implausible
    share of the cells.

    Parameters
    ----------
    cells
        Raw counts of called cells.

    Returns
    -------
    table
        barcode, doublet_score (float32, NaN where not computed), predicted_doublet (bool); row order of `cells`.
    stats
        cells, run (bool), expected_rate, threshold, predicted, predicted_rate, blocks, messages.
    """
    total = len(cells.obs)
    table = pd.DataFrame(
        {
            "barcode": cells.barcodes,
            "doublet_score": np.full(total, np.nan, dtype=np.float32),
            "predicted_doublet": np.zeros(total, dtype=bool),
        }
    )
    blocks = -(-total // LARGEST_BLOCK)
    stats: dict[str, Any] = {
        "cells": total, "run": False, "expected_rate": round(expected_rate(total), 6), "threshold": None,
        "predicted": 0, "predicted_rate": 0.0, "blocks": blocks, "messages": [],
    }  # fmt: skip
    if skip:
        stats["messages"].append("Doublet detection was switched off (--skip_doublets).")
        return table, stats
    seen, variable = variable_genes(cells)
    if total < FEWEST_CELLS or seen < FEWEST_GENES:
        few = f"{total} cells" if total < FEWEST_CELLS else f"{seen} genes seen in 3 cells"
        least = FEWEST_CELLS if total < FEWEST_CELLS else FEWEST_GENES
        stats["messages"].append(f"Doublets were not looked for: {few}, fewer than {least}.")
        return table, stats
    if variable.size < FEWEST_VARIABLE:
        stats["messages"].append(f"Doublets were not looked for: fewer than {FEWEST_VARIABLE} variable genes.")
        return table, stats
    matrix = sparse.csr_matrix(sparse.vstack([block[:, variable] for _, block in cells.blocks()], format="csr"))
    ordered = np.argsort(table["barcode"].to_numpy(), kind="stable")
    if blocks > 1:
        ordered = np.random.default_rng(seed).permutation(ordered)
    scores = np.full(total, np.nan)
    simulated = []
    for at, block in enumerate(np.array_split(ordered, blocks)):
        print(f"doublets: block {at + 1} of {blocks}", file=sys.stderr)
        scores[block], of_simulated = _scores(matrix[block].astype(np.float32), stats["expected_rate"], seed)
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
    if above.mean() > max(PLAUSIBLE_RATE, PLAUSIBLE_TIMES * expected_rate(total)):
        stats["messages"].append(
            f"Scrublet's threshold ({threshold:.3f}) would call {above.mean():.0%} of the cells doublets where "
            f"{expected_rate(total):.1%} are expected, so no cell was called one; the scores are in obs."
        )
        return table, stats
    table["predicted_doublet"] = above
    predicted = int(above.sum())
    stats |= {
        "threshold": round(threshold, 6),
        "predicted": predicted,
        "predicted_rate": round(predicted / total, 6),
    }
    return table, stats


def variable_genes(cells: Stored) -> tuple[int, np.ndarray]:
    """The genes that Scrublet looks at, as scanpy chooses them for it: seen in 3 cells, and variable.

    Returns
    -------
    How many genes were seen in 3 cells, and the positions of the variable ones among all.
    """
    seen, shares = np.zeros(len(cells.var), dtype=np.int64), Moments([""], len(cells.var))
    counted = [np.zeros(0)]
    for _, block in cells.blocks():
        seen += block.getnnz(axis=0)
        totals = np.asarray(block.sum(axis=1, dtype=np.float64)).ravel()
        counted.append(totals[totals > 0])
        factors = np.repeat(1 / np.maximum(totals, 1), np.diff(block.indptr))
        shares.add(sparse.csr_matrix((block.data * factors, block.indices, block.indptr), block.shape), "")
    often = seen >= 3
    if not often.any():
        return 0, np.zeros(0, dtype=np.int64)
    # every cell scaled to the median total
    scale = float(np.median(np.concatenate(counted)))
    found = dispersions(len(cells.obs), shares.total[0] * often * scale, shares.squares[0] * often * scale**2)
    least, most = VARIABLE_MEANS
    mean, dispersion = found["means"], found["dispersions_norm"].fillna(0)
    return int(often.sum()), found.index[(mean > least) & (mean < most) & (dispersion > VARIABLE_DISPERSION)].to_numpy()


def _scores(counts: sparse.csr_matrix, rate: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scrublet's scores of the cells and of its simulated doublets, from counts of variable genes."""
    import scanpy as sc

    # one part of a large sample may lack a gene of the sample: its z-score would be 0 / 0
    adata = ad.AnnData(X=counts[:, counts.getnnz(axis=0) > 0])
    adata.obs_names = [str(i) for i in range(adata.n_obs)]
    doublets = sc.pp.scrublet_simulate_doublets(adata, random_seed=seed)
    for made in (adata, doublets):
        sc.pp.normalize_total(made, target_sum=1e6)
    # A threshold is given because scanpy's own needs scikit-image; `valley` replaces it. Exact neighbours: the
    # approximate ones of scanpy 1.11 fail with SciPy 1.17 above some 2,700 cells.
    # The rate of doublets detectable at that threshold is 0; it is divided by, and not used.
    components = min(COMPONENTS, adata.n_vars - 1, adata.n_obs - 1)
    with np.errstate(invalid="ignore"):
        sc.pp.scrublet(
            adata, doublets, expected_doublet_rate=rate, n_prin_comps=components,
            use_approx_neighbors=False, threshold=1.0, random_state=seed, verbose=False,
        )  # fmt: skip
    return (
        adata.obs["doublet_score"].to_numpy(dtype=np.float64),
        np.asarray(adata.uns["scrublet"]["doublet_scores_sim"]),
    )
