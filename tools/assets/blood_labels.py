"""Labels of blood cells, checked cell by cell by the genes of their lineage.

A cluster's name is not each cell's: a quarter of the "Naive CD4 T" of the common tutorial on 10x's 3k PBMC show CD8A or
CD8B. A single cell shows few of its genes, so each cell is judged with its nearest neighbours, in an embedding that
was made without the genes in question: else cells that show CD8A would be neighbours for that alone.
"""

from dataclasses import dataclass

import anndata as ad
import numpy as np
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from spikgpt.annotator.lineages import LINEAGES, NUMBER_OF, lineage_columns, lineage_seen
from spikgpt.scgpt.checkpoint import Checkpoint
from spikgpt.scgpt.embed import Embedder

NEIGHBOURS = 30
"""T cells of the same batch that a T cell is pooled with."""
PUREST = 0.005
"""No neighbourhood counts as purer: 30 cells cannot tell one stray cell in a hundred from none."""
CERTAIN = 0.9
"""A cell is kept where its type has this probability, and dropped between the types."""
CLEAREST = 0.1
"""Share of T cells, those with the most CD8 around them, that tell how often a CD8 T cell shows CD8A or CD8B."""
RARE = {"pDC": "pDC", "Platelet": "platelet"}
"""Types that are too rare to be a cluster of their own everywhere, and the lineage whose genes tell them."""
RARE_NEIGHBOURS = 5
RARE_SHARE = 0.5
"""A cell that shows the genes of a rare type is of it where more than this share of its nearest neighbours does too."""
T_CELLS = ("CD4 T", "CD8 T", "T")
NO_T_CELLS = ("B", "Mono CD14", "Mono CD16")
"""Types that show how often ambient RNA brings CD8A or CD8B."""
DROPPED = ""
"""Label of a cell that is left out."""


@dataclass
class Blood:
    """One batch: counts ``(cells, genes)``, ``embedding`` with all genes and ``blind`` without those of lineages."""

    name: str
    counts: sp.csr_matrix
    genes: list[str]
    barcodes: list[str]
    embedding: np.ndarray
    blind: np.ndarray

    def shows(self, lineage: str) -> np.ndarray:
        """Which cells show a gene of the lineage, bool ``(cells,)``."""
        return np.asarray(lineage_seen(self.counts, lineage_columns(self.genes))[:, NUMBER_OF[lineage]])


def embed(name: str, data: ad.AnnData, checkpoint: Checkpoint, threads: int) -> Blood:
    genes, barcodes = data.var_names.astype(str).tolist(), data.obs_names.astype(str).tolist()
    counts = sp.csr_matrix(data.X).astype(np.float32)
    blind = np.flatnonzero(~np.isin(genes, [gene for lineage in LINEAGES for gene in lineage.genes]))

    def embedded(columns: np.ndarray) -> np.ndarray:
        symbols = [genes[column] for column in columns]
        embedder = Embedder(checkpoint, symbols, sample=name, max_tokens=1200, seed=0, threads=threads)
        return np.nan_to_num(embedder.embed(counts[:, columns].tocsr(), barcodes))

    return Blood(name, counts, genes, barcodes, embedded(np.arange(len(genes))), embedded(blind))


def neighbours(embedding: np.ndarray, number: int) -> np.ndarray:
    """The nearest other cells of each, ``(cells, number)``."""
    found = NearestNeighbors(n_neighbors=number + 1).fit(embedding).kneighbors(embedding, return_distance=False)
    return np.asarray(found[:, 1:])


def cd8_probability(blood: Blood, t_cells: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Probability of each T cell to be a CD8 T cell rather than a CD4 T cell, ``(T cells,)``.

    With ``o`` the probability that a CD8 T cell shows CD8A or CD8B, and ``e`` that another cell does, the share ``s``
    of the neighbours that do gives the share ``w = (s - e) / (o - e)`` of CD8 T cells among them: the cell's odds
    before its own genes are looked at. These multiply them by ``o / e`` or ``(1 - o) / (1 - e)`` (Bayes).
    """
    shown = blood.shows("CD8 T")
    around = shown[t_cells][neighbours(blood.blind[t_cells], NEIGHBOURS)].mean(1)
    # one cell more of each kind (Laplace): none among a hundred is not never
    elsewhere = float((shown[others].sum() + 1) / (others.sum() + 2))
    own = float(shown[t_cells][around >= np.quantile(around, 1 - CLEAREST)].mean())
    prior = np.clip((around - elsewhere) / (own - elsewhere), PUREST, 1 - PUREST)
    told = np.where(shown[t_cells], own / elsewhere, (1 - own) / (1 - elsewhere))
    odds = prior / (1 - prior) * told
    return np.asarray(odds / (1 + odds))


def rare_cells(blood: Blood, lineage: str) -> np.ndarray:
    """Cells that show the lineage's genes as most of their neighbours do, bool ``(cells,)``."""
    shown = blood.shows(lineage)
    return np.asarray(shown & (shown[neighbours(blood.blind, RARE_NEIGHBOURS)].mean(1) > RARE_SHARE))


def checked(blood: Blood, labels: np.ndarray, naive: np.ndarray, may_be_cd4: np.ndarray) -> np.ndarray:
    """The labels of a batch after the check, `DROPPED` for cells that are left out.

    T cells become CD4 or CD8 T cells by `cd8_probability`, and are dropped between the two; rare types are found by
    their genes wherever they hide; other labels stay.

    Parameters
    ----------
    labels
        Coarse labels, one of `T_CELLS` for T cells.
    naive
        Whether a T cell is ``naive`` or ``memory``; other values drop it.
    may_be_cd4
        A cell with little CD8 around that was not labelled CD4 may be a gamma-delta or an NKT cell: False drops it.
    """
    out = labels.astype(object)
    t_cells = np.flatnonzero(np.isin(labels, T_CELLS))
    probability = cd8_probability(blood, t_cells, np.isin(labels, NO_T_CELLS))
    cd8, cd4 = probability >= CERTAIN, (probability <= 1 - CERTAIN) & may_be_cd4[t_cells]
    known = np.isin(naive[t_cells], ["naive", "memory"])
    side = np.where(cd8, "CD8 T ", np.where(cd4, "CD4 T ", "")).astype(object) + naive[t_cells]
    out[t_cells] = np.where(known & (cd8 | cd4), side, DROPPED)
    for label, lineage in RARE.items():
        out[rare_cells(blood, lineage)] = label
    return out


def voted_maturity(blood: Blood, labels: np.ndarray, stated: np.ndarray) -> np.ndarray:
    """``naive`` or ``memory`` for the T cells whose label does not say, by most of their neighbours.

    A cluster that is called CD8 T and no more counts as memory: its cells are mostly effectors.
    """
    out = stated.astype(object)
    t_cells = np.flatnonzero(np.isin(labels, T_CELLS))
    around = (stated[t_cells] == "naive")[neighbours(blood.blind[t_cells], NEIGHBOURS)].mean(1)
    asked = stated[t_cells] == ""
    out[t_cells[asked]] = np.where(around[asked] >= 0.5, "naive", "memory")
    return out


def transferred(known: list[tuple[Blood, np.ndarray]], asked: Blood) -> tuple[np.ndarray, np.ndarray]:
    """Coarse labels of a batch without any, `DROPPED` where uncertain, and whether its T cells are naive or memory.

    Logistic regression on the embedding of the checked batches, each batch scaled by itself.
    """

    def scaled(blood: Blood) -> np.ndarray:
        return np.asarray(StandardScaler().fit_transform(blood.embedding))

    rows = np.concatenate([scaled(blood) for blood, _ in known])
    labels = np.concatenate([own for _, own in known])
    query = scaled(asked)

    def fitted(wanted: np.ndarray, names: np.ndarray) -> np.ndarray:
        model = LogisticRegression(max_iter=500).fit(rows[wanted], names[wanted].astype(str))
        probability = model.predict_proba(query)
        return np.where(probability.max(1) >= CERTAIN, model.classes_[probability.argmax(1)], DROPPED)

    is_t = np.array([str(label).startswith(("CD4 T", "CD8 T")) for label in labels])
    coarse = np.where(is_t, "T", labels)
    maturity = np.array([str(label).rsplit(" ", 1)[-1] for label in labels], dtype=object)
    return fitted(coarse != DROPPED, coarse), fitted(is_t, maturity)
