"""Is a population of one kind? Split in two by half of its genes, and by the other half: do the two splits agree?

What tells two types apart stands in both halves of the genes; noise in one half says nothing of the other. Each half of
the population's variable genes (log1p CP10k) gives five principal components, and 2-means on them a split. The adjusted
Rand index of the two splits, median over `HALVINGS` ways to halve the genes, is the *agreement*.

Measured on Baron's library 3, pbmc3k and pbmc4k by their authors' types of 25 cells or more, which were in view when
the bounds were set: of 46 mixtures of equal parts of two types 41 are found, and 39 of those where one is a fifth; the
others are of near relatives (T cells and NK cells, monocytes and dendritic cells, acinar and ductal cells). Of the 18
types themselves one is found to be two, ductal cells, a part of which leads in genes of large ducts (IGFBP3, MGST1,
TFF1).
`make bench-teach` measures it anew.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from spikgpt.annotator.distances import dispersed_genes
from spikgpt.annotator.neighbours import principal_components, scores_on
from spikgpt.base.arrays import Codes, Floats, Floats32
from spikgpt.base.normalisation import log1p_cp10k

AGREE = 0.85
"""Agreement from which on a population is two."""
LEAST_PART = 0.1
"""Share of the smaller part from which on: a few strangers are no second population, and any cluster has some."""
HALVINGS = 5
GENES, SEEN = 1000, 3
"""Variable genes that are halved, among those that so many of the cells show."""
COMPONENTS = 5
MOST_CELLS = 2_000
"""More cells are not looked at; evenly spread."""
TOLD = 5
"""Genes of each part that are named."""


@dataclass(frozen=True)
class Parts:
    """Two parts of a population: ``agreement``; ``share`` of the smaller one; ``genes`` that lead in it, and in the
    other."""

    agreement: float
    share: float
    genes: tuple[list[str], list[str]]

    @property
    def mixed(self) -> bool:
        """Whether the population is two."""
        return self.agreement >= AGREE and self.share >= LEAST_PART


def two_parts(counts: sp.csr_matrix, genes: list[str]) -> Parts:
    """Of raw counts ``(cells, genes)`` of a population; needs four cells."""
    rows = np.linspace(0, counts.shape[0] - 1, min(counts.shape[0], MOST_CELLS)).round().astype(np.int64)
    counts = sp.csr_matrix(counts[rows]).astype(np.float32)
    seen = np.flatnonzero(np.asarray((counts > 0).sum(axis=0)).ravel() >= SEEN)
    depth = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    chosen = seen[dispersed_genes(counts[:, seen], GENES)]
    if len(chosen) < 4 * COMPONENTS:
        return Parts(0.0, 0.0, ([], []))
    values = log1p_cp10k(counts[:, chosen], depth).toarray()
    agreements = []
    for halving in range(HALVINGS):
        order = np.random.default_rng(halving).permutation(len(chosen))
        agreements.append(adjusted_rand_score(split(values[:, order[::2]]), split(values[:, order[1::2]])))
    part = split(values)
    if part.mean() > 0.5:
        part = 1 - part
    difference = values[part == 1].mean(axis=0) - values[part == 0].mean(axis=0)
    order = np.argsort(-difference, kind="stable")
    names = np.asarray(genes, dtype=object)[chosen]
    return Parts(
        round(float(np.median(agreements)), 6),
        round(float(part.mean()), 6),
        (names[order[:TOLD]].tolist(), names[order[::-1][:TOLD]].tolist()),
    )


def split(values: Floats | Floats32) -> Codes:
    """Part of each cell ``(cells,)``, 0 or 1, of values ``(cells, genes)``."""
    centre, loadings = principal_components(np.asarray(values, dtype=np.float32))
    scores = scores_on(np.asarray(values, dtype=np.float32), centre, loadings[:COMPONENTS])
    return np.asarray(KMeans(2, n_init=10, random_state=0).fit(scores).labels_, dtype=np.int64)
