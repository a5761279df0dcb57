"""Cell calling of unfiltered droplet matrices by EmptyDrops."""

from typing import Any

import anndata as ad
import numpy as np
from scipy import sparse

from spikgpt.base.errors import UserError
from spikgpt.base.threads import one_thread

AMBIENT_UMIS = 100
"""Barcodes with at most so many UMIs are empty droplets, and make the ambient profile (Lun et al. 2019, `lower`)."""
LARGEST_EXPECTED = 45_000
"""Cells that one library is expected to hold at most when their number is not given."""
MAX_PERCENTILE = 0.99
RETAIN_RATIO = 10
"""A barcode with a tenth of the 99th percentile of the expected cells' UMIs is a cell untested (OrdMag)."""
FDR = 0.01
KNEE_POINTS = 200


def expected_cells(totals: np.ndarray) -> int:
    """The number of cells that agrees best with itself, by the OrdMag rule of Cell Ranger 7.

    For x expected cells, OrdMag finds as many cells as barcodes with at least a tenth of the 99th percentile
    of the x largest totals; x is chosen to make (found - x)^2 / x smallest
    (10x Genomics, "Cell Ranger's Gene Expression Algorithm: Calling Cell Barcodes").

    Parameters
    ----------
    totals
        UMIs per barcode; shape (barcodes,); at least one above `AMBIENT_UMIS`.
    """
    ordered = np.sort(totals)[::-1]
    top = min(LARGEST_EXPECTED, int((totals > AMBIENT_UMIS).sum()))
    candidates = np.unique(np.rint(np.geomspace(min(50, top), top, 2000)).astype(np.int64))
    # the 99th percentile of the x largest is the total at rank x / 100
    tenth = ordered[np.rint(candidates * 0.01).astype(np.int64)] / 10
    found = np.searchsorted(-ordered, -np.maximum(np.rint(tenth), 1), side="right")
    loss = (found - candidates) ** 2 / candidates
    return int(candidates[int(np.argmin(loss))])


def knee_curve(totals: np.ndarray, called: np.ndarray) -> list[dict[str, float]]:
    """At most 200 points of the barcode rank plot, ranks evenly spaced on a log scale.

    Returns
    -------
    list
        ``{"rank", "umis", "share_called"}``, the share among the barcodes from this rank to the next point.
    """
    order = np.argsort(-totals, kind="stable")
    ordered, is_cell = totals[order], called[order]
    ranks = np.unique(np.rint(np.geomspace(1, totals.size, KNEE_POINTS)).astype(np.int64))
    ends = np.append(ranks[1:], totals.size + 1)
    return [
        {
            "rank": int(rank),
            "umis": int(ordered[rank - 1]),
            "share_called": round(float(is_cell[rank - 1 : end - 1].mean()), 6),
        }
        for rank, end in zip(ranks, ends, strict=True)
    ]


@one_thread("cell_filter")
def call_cells(
    matrix: sparse.csr_matrix, expected: int | None, seed: int, where: str
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Which barcodes hold a cell: EmptyDrops (Lun et al. 2019, Genome Biology 20:63) by `cell_filter`.

    The ambient profile comes from the barcodes with at most 100 UMIs, smoothed by Good-Turing. Barcodes with
    at least a tenth of the UMIs of the 99th percentile of the expected cells are cells; the others above
    100 UMIs are tested against the profile (multinomial as in Cell Ranger and STARsolo, 10,000 simulations,
    Benjamini-Hochberg FDR below 1 %). The package's Dirichlet variant fails on genes that the ambient
    profile gives no chance, and finds no overdispersion where it runs.

    `cell_filter` takes the ambient barcodes by rank, 45,000 to 90,000 unless told, and keeps the wrong
    barcodes when a matrix has fewer; here the ranks are always those of the barcodes with at most 100 UMIs.

    Parameters
    ----------
    matrix
        Raw counts, int32 CSR, barcodes x genes, empty droplets included.
    expected
        Number of cells loaded for; None estimates it (`expected_cells`).

    Returns
    -------
    called
        bool, shape (barcodes,).
    ambient
        int64, shape (genes,): counts of the barcodes with at most 100 UMIs.
    stats
        Numbers and thresholds of the call, and the knee curve.

    Raises
    ------
    UserError
        When the matrix has hardly any empty droplets, so that there is nothing to compare cells with.
    """
    from cell_filter import empty_drops

    totals = np.asarray(matrix.sum(axis=1, dtype=np.int64)).ravel()
    empty = totals <= AMBIENT_UMIS
    ambient = np.asarray(matrix[empty].sum(axis=0, dtype=np.int64)).ravel()
    above = int((~empty).sum())
    stats: dict[str, Any] = {"barcodes": int(totals.size), "ambient_umis": AMBIENT_UMIS}
    if above == 0:
        called = np.zeros(totals.size, dtype=bool)
        return called, ambient, {
            **stats, "cells": 0, "expected_cells": expected or 0, "expected_cells_given": expected is not None,
            "retain_umis": None, "lowest_called_umis": None, "tested": 0, "called_by_test": 0,
            "knee": knee_curve(totals, called), "messages": [f"No barcode has more than {AMBIENT_UMIS} UMIs."],
        }  # fmt: skip
    if empty.sum() < max(100, 0.2 * above) or np.unique(ambient[ambient > 0]).size < 5:
        raise UserError(
            "The unfiltered matrix has too few empty droplets to call cells from.",
            where=where,
            found=f"{int(empty.sum())} of {totals.size} barcodes with a count have at most {AMBIENT_UMIS} UMIs",
            expected="the raw matrix of the quantifier, with its thousands of empty droplets",
            fix="If cells were called already, give this matrix in the samplesheet's column filtered.",
        )
    given = expected is not None
    expected = min(expected or expected_cells(totals), totals.size)
    # its Good-Turing estimate divides into arrays of the matrix's dtype: whole numbers would come to nothing
    indexed = ad.AnnData(X=matrix.astype(np.float64))
    indexed.obs_names = [str(i) for i in range(totals.size)]
    # a gene of cells that the ambient profile lacks has probability 0 and logarithm -inf: meant; where it lacks
    # none, 0 / 0 for the genes it lacks is never used
    with np.errstate(divide="ignore", invalid="ignore"):
        kept, details = empty_drops(
            indexed, min_umi_threshold=AMBIENT_UMIS + 1, n_expected_cells=expected, max_percentile=MAX_PERCENTILE,
            max_min_ratio=RETAIN_RATIO, amb_ind_min=above, amb_ind_max=totals.size, fdr_threshold=FDR, seed=seed,
            method="multinomial",
        )  # fmt: skip
    called = np.zeros(totals.size, dtype=bool)
    called[kept.obs_names.astype(np.int64)] = True
    called &= totals > AMBIENT_UMIS
    ordered = np.sort(totals)[::-1]
    retain = max(int(ordered[int(np.round(expected * (1.0 - MAX_PERCENTILE)))] / RETAIN_RATIO), AMBIENT_UMIS + 1)
    tested = int(details["obs_totals"].size)
    return (
        called,
        ambient,
        {
            **stats,
            "cells": int(called.sum()),
            "expected_cells": int(expected),
            "expected_cells_given": given,
            "retain_umis": retain,
            "lowest_called_umis": int(totals[called].min()) if called.any() else None,
            "tested": tested,
            "called_by_test": int((details["fdr"] < FDR).sum()),
            "knee": knee_curve(totals, called),
            "messages": [],
        },
    )
