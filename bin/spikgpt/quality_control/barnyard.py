"""Barcodes of a matrix with two genomes: which species each is of, and which hold cells of both.

The import keeps the counts on genes of the other genomes in `OTHER_COUNTS`; other steps see the genes of one species.
"""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd

from spikgpt.base.h5ad import OTHER_COUNTS

GENOME_COLUMNS = ("barcode", "counts", OTHER_COUNTS, "pct_other_genomes", "call")
OWN, OTHER, MIXED = "own", "other", "mixed"
QUANTILE = 0.1
"""A barcode holds cells of both where its counts of each species are at least this quantile of that species' barcodes:
the rule of Cell Ranger (10x Genomics, gem_classification.csv)."""
LEAST_SHARE = 0.1
"""And at least this share of its counts are of the lesser species: a quantile of a handful of small barcodes would be
reached by the ambient RNA of any cell (tests/python/test_barnyard.py). Where each species has some barcodes it changes
nothing (bench/species.py)."""


def species_calls(own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """`OWN`, `OTHER` or `MIXED` for each barcode.

    Parameters
    ----------
    own, other
        Counts on genes of the sample's species, and of the other genomes; shape (barcodes,).

    Returns
    -------
    object (barcodes,); without a count of either species `OWN`.
    """
    calls = np.where(other > own, OTHER, OWN).astype(object)
    if (calls == OTHER).any() and (calls == OWN).any():
        enough_own = own >= np.quantile(own[calls == OWN], QUANTILE)
        enough_other = other >= np.quantile(other[calls == OTHER], QUANTILE)
        both = np.minimum(own, other) >= LEAST_SHARE * (own + other)
        calls[enough_own & enough_other & both & (own + other > 0)] = MIXED
    return calls


def genome_table(barcodes: np.ndarray, own: np.ndarray, other: np.ndarray) -> pd.DataFrame:
    """`GENOME_COLUMNS` of each barcode: counts of the sample's species and of the other genomes, the latter's share in
    per cent, and the call."""
    total = own + other
    share = np.divide(100.0 * other, total, out=np.zeros(len(total)), where=total > 0)
    columns = (barcodes, own, other, np.round(share, 4), species_calls(own, other))
    return pd.DataFrame(dict(zip(GENOME_COLUMNS, columns, strict=True)))


def write_genomes(table: pd.DataFrame, path: Path) -> None:
    """As gzipped TSV; the same table gives the same bytes."""
    path.write_bytes(gzip.compress(table.to_csv(sep="\t", index=False, lineterminator="\n").encode("utf-8"), mtime=0))


def told(table: pd.DataFrame, skip: bool) -> list[str]:
    """What the report says of the calls."""
    number = table["call"].value_counts()
    mixed, other = int(number.get(MIXED, 0)), int(number.get(OTHER, 0))
    return [
        f"The matrix has counts of another genome: {other:,} of {len(table):,} barcodes are cells of the other species "
        f"and were removed; {mixed:,} hold cells of both, and "
        + ("stay, as doublets are not removed (--skip_doublets)." if skip else "were removed as doublets.")
    ]
