"""The first judge: Spearman's correlation with every profile, after one correction for what the sample is as a batch.

SingleR (Aran et al., Nature Immunology 20, 2019) has the correlation. The correction follows the class-aware offset of
`spikgpt.annotator.expression`: cells are called once; for each class called, the log ratio of its pooled counts to the
profiles its cells are nearest to tells how the sample differs from the library; what all of these classes share is the
sample's own (protocol, ambient RNA), and is added to the profiles. What one class shows alone may be biology.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from spikgpt.profiles.ranks import Floats, spearman, standard_ranks

VARYING = 3000
"""Genes, those of the library that the sample has and that vary most over the profiles."""
MIN_CELLS = 15
"""A class tells of the batch with at least this many cells, ..."""
MIN_CLASSES = 3
"""... and there is a correction with at least this many such classes: fewer cannot tell batch from biology."""
PSEUDOCOUNT = 1.0
"""Added to counts per 10,000 before their logarithm."""


def log_softmax(logits: Floats) -> Floats:
    """Row-wise."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def per_10k(values: Floats) -> Floats:
    """log1p CP10k ``(genes, profiles)`` of all genes to counts per 10,000 of these genes."""
    linear = np.expm1(values)
    return 1e4 * linear / linear.sum(axis=0)


@dataclass
class Correlation:
    """``genes`` (genes,) places among the library's genes found; ``profiles`` (profiles, genes) counts per 10,000;
    ``codes`` (profiles,) their classes; ``ranks`` (profiles, genes) standard ranks, corrected where they were."""

    genes: NDArray[np.int64]
    profiles: Floats
    codes: NDArray[np.int64]
    ranks: Floats

    @classmethod
    def of(cls, values: Floats, codes: NDArray[np.int64]) -> "Correlation":
        """Without a correction. ``values`` (genes found, profiles) log1p CP10k."""
        profiles = per_10k(values)
        genes = np.sort(np.argsort(-np.log1p(profiles).var(axis=1), kind="stable")[:VARYING])
        return cls(genes, profiles[genes].T, codes, standard_ranks(profiles[genes].T))

    def with_cells(self, counts: sp.csr_matrix) -> Floats:
        """Correlations ``(cells, profiles)``; ``counts`` (cells, genes found)."""
        return spearman(counts[:, self.genes], self.ranks)


class Offset:
    """What the sample's cells tell of their batch, gathered block by block: whole numbers, exact in any order."""

    def __init__(self, judge: Correlation) -> None:
        self.judge = judge
        classes = int(judge.codes.max()) + 1
        self.cells = np.zeros(classes, dtype=np.int64)
        self.nearest = np.zeros((classes, len(judge.codes)), dtype=np.int64)
        self.counts = np.zeros((classes, len(judge.genes)), dtype=np.int64)

    def add(self, counts: sp.csr_matrix) -> None:
        """Cells ``(cells, genes found)``."""
        nearest = self.judge.with_cells(counts).argmax(axis=1)
        called = self.judge.codes[nearest]
        np.add.at(self.cells, called, 1)
        np.add.at(self.nearest, (called, nearest), 1)
        member = sp.csr_matrix(
            (np.ones(len(called), dtype=np.int64), (called, np.arange(len(called)))),
            shape=(len(self.cells), len(called)),
        )
        self.counts += (member @ counts[:, self.judge.genes].astype(np.int64)).toarray()

    def corrected(self) -> tuple[Correlation, int]:
        """The judge with the sample's offset in its profiles, and the number of classes that told it (0: none)."""
        classes = np.flatnonzero((self.cells >= MIN_CELLS) & (self.counts.sum(axis=1) > 0))
        if len(classes) < MIN_CLASSES:
            return self.judge, 0
        pooled = 1e4 * self.counts[classes] / self.counts[classes].sum(axis=1, keepdims=True)
        expected = (self.nearest[classes] @ self.judge.profiles) / self.cells[classes][:, None]
        # both on these genes alone
        expected *= 1e4 / expected.sum(axis=1, keepdims=True)
        ratios = np.log(pooled + PSEUDOCOUNT) - np.log(expected + PSEUDOCOUNT)
        offset = shared(ratios, np.sqrt(self.cells[classes]))
        ranks = standard_ranks(np.log(self.judge.profiles + PSEUDOCOUNT) + offset)
        return Correlation(self.judge.genes, self.judge.profiles, self.judge.codes, ranks), len(classes)


def shared(differences: Floats, weights: Floats) -> Floats:
    """What all classes share of their differences ``(classes, genes)``: an empirical Bayes estimate ``(genes,)``.

    The weighted mean, shrunk gene by gene by ``max(0, 1 - variance of the mean / mean^2)``: a gene on which classes
    disagree keeps nothing. ``weights`` (classes,).
    """
    share = weights / weights.sum()
    mean = share @ differences
    classes = len(weights)
    variance = (share**2) @ (differences - mean) ** 2 * classes / (classes - 1)
    return mean * np.maximum(0.0, 1.0 - variance / np.maximum(mean**2, 1e-12))
