"""Ambient RNA: what of a cell's counts came from its surroundings, by DecontX."""

import sys
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
from scipy import sparse

from spikgpt.base.h5ad import Stored, matrix_blocks, new_h5ad, write_csr, write_frame
from spikgpt.base.threads import one_thread

LARGEST_BLOCK = 20_000
"""Cells that are corrected together: the memory grows with their counts."""
FEWEST_CELLS = 100
FEWEST_GENES = 100
SHOWN_GENES = 20
UNCORRECTED = "uncorrected_counts"
"""The layer that keeps the counts as they were."""


@one_thread("scanpy")
def remove_ambient(cells: Stored, out: str | Path, seed: int) -> dict[str, Any]:
    """Write counts without ambient RNA: DecontX (Yang et al. 2020, Genome Biology 21:57) by `pydecontx`.

    DecontX takes a cell's counts for a mixture of its population's expression and that of all others, or of the
    empty droplets where cells were called here (`ambient_counts` in var); populations are found by the package
    itself (UMAP and DBSCAN). It gives each count the probability to be the cell's own. Expected own counts are
    rounded to the nearest whole number, halves to even: a single count stays when it is rather the cell's own
    than not. Nothing is drawn, and counts stay integers, which every later step and model expects.

    More than 20,000 cells are corrected in random blocks of at most so many; cells are sorted by barcode first, so
    that their order in the file changes nothing.

    Parameters
    ----------
    cells
        Raw counts of called cells.
    out
        The h5ad to write: X corrected, layers["uncorrected_counts"] as before, both int32 CSR.

    Returns
    -------
    run (bool), cells, cells_emptied (without a count afterwards), background, populations per block, counts before
    and after, removed_percent, estimated_percent of all counts, contamination (its quantiles over cells, percent),
    genes (those that lost most counts: gene, before, after), messages.
    """
    before = cells.matrix()
    counted = np.diff(before.indptr) > 0
    background = cells.var["ambient_counts"].to_numpy() if "ambient_counts" in cells.var else None
    usable = background is not None and background.sum() > 0
    stats: dict[str, Any] = {
        "cells": len(cells.obs), "run": False, "background": "empty droplets" if usable else "other populations",
        "messages": [],
    }  # fmt: skip
    after = before.copy()
    genes = int((before.getnnz(axis=0) >= 3).sum())
    if counted.sum() < FEWEST_CELLS or genes < FEWEST_GENES:
        few = f"{int(counted.sum())} cells" if counted.sum() < FEWEST_CELLS else f"{genes} genes seen in 3 cells"
        least = FEWEST_CELLS if counted.sum() < FEWEST_CELLS else FEWEST_GENES
        stats["messages"].append(f"Ambient RNA was not removed: {few}, fewer than {least}.")
    else:
        share = np.zeros(len(cells.obs))
        stats["populations"] = []
        barcodes = cells.barcodes[counted].astype(str)
        ordered = np.flatnonzero(counted)[np.argsort(barcodes, kind="stable")]
        blocks = -(-ordered.size // LARGEST_BLOCK)
        if blocks > 1:
            ordered = np.random.default_rng(seed).permutation(ordered)
        for at, block in enumerate(np.array_split(ordered, blocks)):
            print(f"ambient RNA: block {at + 1} of {blocks}", file=sys.stderr)
            own, share[block], populations = _decontaminate(before[block], background if usable else None, seed)
            stats["populations"].append(populations)
            for row, cell in enumerate(block):
                # the same places in both: DecontX keeps every entry
                after.data[after.indptr[cell] : after.indptr[cell + 1]] = own.data[
                    own.indptr[row] : own.indptr[row + 1]
                ]
        stats |= {"run": True, **_figures(before, after, share[counted], cells.symbols)}
    after.eliminate_zeros()
    emptied = int((counted & (np.diff(after.indptr) == 0)).sum())
    stats["cells_emptied"] = emptied
    if emptied:
        stats["messages"].append(f"{emptied} cells have no count left without ambient RNA.")
    with new_h5ad(out) as file:
        write_frame(file, "obs", cells.obs)
        write_frame(file, "var", cells.var)
        for key, matrix in (("X", after), (f"layers/{UNCORRECTED}", before)):
            parts = (block for _, block in matrix_blocks(matrix))
            write_csr(file, key, parts, len(cells.var), np.int32, before.nnz)
    return stats


def _decontaminate(
    counts: sparse.csr_matrix, background: np.ndarray | None, seed: int
) -> tuple[sparse.csr_matrix, np.ndarray, int]:
    """Own counts of each cell (int32, the entries of `counts`), its contaminated share, and the populations."""
    from pydecontx import decontx

    made = ad.AnnData(X=counts.astype(np.float64))
    made.obs_names = [f"cell {i}" for i in range(made.n_obs)]
    empty = None
    if background is not None:
        empty = ad.AnnData(X=sparse.csr_matrix(background[None, :].astype(np.float64)))
        empty.obs_names = ["empty droplets"]
    decontx(made, background=empty, seed=seed, compute_umap=False, verbose=False)
    own = sparse.csr_matrix(made.layers["decontX_counts"])
    own.data = np.rint(own.data).astype(np.int32)
    populations = made.obs["decontX_clusters"].nunique()
    return own, made.obs["decontX_contamination"].to_numpy(dtype=np.float64), int(populations)


def _figures(
    before: sparse.csr_matrix, after: sparse.csr_matrix, share: np.ndarray, symbols: list[str]
) -> dict[str, Any]:
    """What was removed, in all and by gene."""
    was = np.asarray(before.sum(axis=0, dtype=np.int64)).ravel()
    lost = was - np.asarray(after.sum(axis=0, dtype=np.int64)).ravel()
    totals = np.asarray(before.sum(axis=1, dtype=np.float64)).ravel()
    totals = totals[totals > 0]
    most = np.lexsort((np.asarray(symbols, dtype=str), -lost))[:SHOWN_GENES]
    quantiles = {"min": 0.0, "q1": 0.25, "median": 0.5, "q3": 0.75, "max": 1.0}
    return {
        "counts_before": int(was.sum()),
        "counts_after": int(was.sum() - lost.sum()),
        "removed_percent": round(100 * float(lost.sum() / was.sum()), 4),
        "estimated_percent": round(100 * float((share * totals).sum() / totals.sum()), 4),
        "contamination": {name: round(100 * float(np.quantile(share, at)), 4) for name, at in quantiles.items()},
        "genes": [
            {"gene": symbols[i], "before": int(was[i]), "after": int(was[i] - lost[i])} for i in most if lost[i] > 0
        ],
    }
