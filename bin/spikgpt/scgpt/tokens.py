"""A cell's counts as scGPT reads them: gene tokens and expression bins, nothing drawn from neighbours."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikgpt.base.errors import UserError


def cell_generator(tokens: NDArray[np.int64], counts: NDArray[np.float32], seed: int) -> np.random.Generator:
    """The cell's own random numbers: they depend on its counts and the seed, not on its name or on other cells.

    Parameters
    ----------
    tokens, counts
        The cell's known genes in the order of their tokens, and their counts; shape (genes,).
    """
    content = tokens.astype("<i8").tobytes() + counts.astype("<f4").tobytes() + f"{seed}".encode()
    return np.random.default_rng(np.frombuffer(hashlib.sha256(content).digest(), dtype="<u4"))


def bin_bounds(counts: NDArray[np.float32], n_bins: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The lowest and highest bin that each value may fall in, both included.

    scGPT cuts at ``n_bins - 1`` quantiles of the cell's non-zero values. Counts are full of ties:
    where one value spans several quantiles, all bins between them are its own.

    Parameters
    ----------
    counts
        float32 (genes,), all above 0, at least one.
    n_bins
        51 in every published checkpoint: bins 1 to 50, and 0 for unexpressed genes.

    Returns
    -------
    lowest, highest
        int64 (genes,), 1 to ``n_bins - 1``.
    """
    edges = np.quantile(counts, np.linspace(0, 1, n_bins - 1))
    highest = np.searchsorted(edges, counts, side="right")
    lowest = np.minimum(np.searchsorted(edges, counts, side="left") + 1, highest)
    return lowest, highest


def expected_bins(counts: NDArray[np.float32], n_bins: int) -> NDArray[np.float32]:
    """The mean of the bins that scGPT would draw from, so that equal counts get equal values.

    scGPT draws anew for each tied count; bench/bins.py measures that annotation gains nothing by it.
    Parameters and errors as `bin_bounds`; float32 (genes,).
    """
    lowest, highest = bin_bounds(counts, n_bins)
    return ((lowest + highest) / 2).astype(np.float32)


@dataclass
class CellTokens:
    """One cell as the model reads it, ``<cls>`` first."""

    tokens: NDArray[np.int64]
    values: NDArray[np.float32]
    truncated: bool


def tokenise(
    gene_tokens: NDArray[np.int64],
    counts: NDArray[np.float32],
    *,
    cls_token: int,
    pad_value: float,
    n_bins: int,
    max_tokens: int,
    seed: int,
) -> CellTokens | None:
    """Tokens and bins of one cell, as scGPT's ``embed_data`` makes them, but the same every time.

    Genes are ordered by token, so that their order in the file does not matter. Rows that share a
    token are one gene: their counts are summed. Bins are those of all known genes, before a cell
    with too many is cut to a random subset.

    Parameters
    ----------
    gene_tokens
        int64 (entries,): vocabulary id of each stored count, -1 where the gene is not known.
    counts
        float32 (entries,): raw counts, finite and not negative.
    max_tokens
        Longest sequence with ``<cls>``, the ``max_length`` of ``embed_data``.
    seed
        Of the subset (`cell_generator`).

    Returns
    -------
    None when the cell has no count on a known gene.
    """
    known = (gene_tokens >= 0) & (counts > 0)
    tokens, gene = np.unique(gene_tokens[known], return_inverse=True)
    if not len(tokens):
        return None
    summed = np.bincount(gene, weights=counts[known]).astype(np.float32)
    values = expected_bins(summed, n_bins)
    truncated = len(tokens) > max_tokens - 1
    if truncated:
        kept = np.sort(cell_generator(tokens, summed, seed).permutation(len(tokens))[: max_tokens - 1])
        tokens, values = tokens[kept], values[kept]
    return CellTokens(
        np.concatenate([[cls_token], tokens]),
        np.concatenate([np.array([pad_value], dtype=np.float32), values]),
        truncated,
    )


def check_counts(counts: NDArray[np.float32], where: str) -> None:
    """UserError when a stored count is negative, infinite or not a number."""
    if len(counts) and not (np.isfinite(counts).all() and counts.min() >= 0):
        bad = counts[~np.isfinite(counts) | (counts < 0)][0]
        raise UserError(
            "The counts hold a value that no count can have.",
            where=where,
            found=str(bad),
            expected="finite numbers, 0 or more",
            fix="Give raw counts, not scaled or corrected values.",
        )
