"""The genes that the label of each cluster rests on, see `spikgpt.annotator.attribution`."""

import sys
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata.io import read_elem

from spikgpt import UNKNOWN
from spikgpt.annotator.annotation import Annotator
from spikgpt.annotator.attribution import GeneSums, against_the_mean
from spikgpt.annotator.cells import Cells
from spikgpt.annotator.reference_markers import ReferenceMarkers
from spikgpt.base.arrays import Codes, Flags, Floats
from spikgpt.base.columns import LOW_GENE_MATCH
from spikgpt.base.groups import class_members
from spikgpt.base.h5ad import BLOCK, MEASURED, csr_blocks
from spikgpt.cohort.clusters import cluster_order

EXPLANATION_COLUMNS = (
    "cluster",
    "cell_type",
    "cells",
    "rank",
    "gene",
    "attribution",
    "share_percent",
    "mean_in_cluster",
    "mean_in_type",
    "mean_in_other_types",
    "reference_marker",
)
TOP = 20
"""Genes of a cluster in the table, as many as the bench judges the method by."""


def explanations(h5ad: str | Path, cells: pd.DataFrame, annotator: Annotator | None, own: Flags) -> pd.DataFrame:
    """The rows of `EXPLANATION_COLUMNS`: clusters in order, genes by their attribution; one pass over the counts.

    A cluster is explained by those of its cells that have its label. An Unknown cluster has no label to explain, and
    tissue profiles no such sum; an annotator of the embedding alone looks at no gene by itself: they have no row.

    Parameters
    ----------
    h5ad
        The cohort, with ``layers/counts``.
    cells
        See `spikgpt.cohort.tables.read_cohort`; in the order of the h5ad.
    annotator
        The one that gives labels, if there is one.
    own
        Cells that it labelled, (cells,): the tissue profiles may have labelled other samples.
    """
    clusters, groups = explained(cells, [] if annotator is None else annotator.classes, own)
    if annotator is None or annotator.views.expression is None or annotator.views.profile is None or not clusters:
        return pd.DataFrame(columns=list(EXPLANATION_COLUMNS))
    print(f"genes that the labels of {len(clusters)} clusters rest on", file=sys.stderr)
    labels = np.array([annotator.classes.index(label) for _, label in clusters], dtype=np.int64)
    contrast = against_the_mean(annotator.views.expression, labels)
    contrast *= annotator.mixture.scale * (1 - annotator.mixture.weight)
    read = own.copy()
    if annotator.config["features"] != "expression":
        read &= cells["spikgpt_unknown_reason"].astype(str).to_numpy() != LOW_GENE_MATCH.name
    attributions, counts, depth = (np.zeros((len(clusters), len(annotator.genes))) for _ in range(3))
    size = np.zeros(len(clusters))
    for _, blocks in groupby(_blocks(h5ad, cells, annotator.genes, read), key=itemgetter(0)):
        sums = None
        for _, measured, part, rows in blocks:
            sums = sums or GeneSums(annotator.views.expression, measured, len(clusters))
            sums.add(part, groups[rows])
            members = class_members(groups[rows], len(clusters))
            counts += (members @ part.astype(np.float64)).toarray()
            depth += np.outer(members @ np.asarray(part.sum(axis=1, dtype=np.float64)).ravel(), measured)
        # a label does not rest on a gene that the sample did not measure
        assert sums is not None
        attributions += np.where(sums.measured, sums.attributions(contrast), 0.0)
        size += sums.cells
    means = np.log1p(counts * 1e4 / np.maximum(depth, 1.0))
    return _table(clusters, labels, size, attributions / size[:, None], means, annotator)


def _table(
    clusters: list[tuple[str, str]], labels: Codes, size: Floats, attributions: Floats, means: Floats, own: Annotator
) -> pd.DataFrame:
    """The `TOP` genes of each cluster that speak for its label; attributions and means ``(clusters, genes)``."""
    assert own.views.profile is not None
    profile = own.views.profile.profiles
    place = {int(gene): at for at, gene in enumerate(profile.genes)}
    markers = ReferenceMarkers.from_dict(own.config["markers"]).types
    rows = []
    for at, (cluster, label) in enumerate(clusters):
        marked = {marker.gene for marker in markers.get(label, [])}
        others = own.views.present & (np.arange(len(own.classes)) != labels[at])
        best = np.argsort(-attributions[at], kind="stable")[:TOP]
        total = np.maximum(attributions[at], 0.0).sum()
        for rank, gene in enumerate(best[attributions[at, best] > 0], start=1):
            known = place.get(int(gene))
            bulks = np.full(len(own.classes), np.nan) if known is None else profile.bulks[:, known]
            rows.append(
                (
                    cluster,
                    label,
                    int(size[at]),
                    rank,
                    own.genes[gene],
                    attributions[at, gene],
                    100 * attributions[at, gene] / total,
                    means[at, gene],
                    bulks[labels[at]],
                    bulks[others].mean(),
                    "yes" if own.genes[gene] in marked else "no",
                )
            )
    return pd.DataFrame(rows, columns=list(EXPLANATION_COLUMNS))


def explained(cells: pd.DataFrame, classes: list[str], own: Flags) -> tuple[list[tuple[str, str]], Codes]:
    """Clusters with a label of the annotator, in order, with it; and of each cell its cluster among them, -1 for a cell
    with another label or without a cluster."""
    cluster, label, majority = (
        cells[name].astype(str).to_numpy()
        for name in ("spikgpt_cluster", "spikgpt_cell_type", "spikgpt_cluster_cell_type")
    )
    mine = own & (label == majority) & (label != UNKNOWN) & (cluster != "") & np.isin(label, classes)
    of = dict(zip(cluster[mine], label[mine], strict=True))
    names = [name for name in cluster_order(pd.Series(cluster)) if name in of]
    return [(name, of[name]) for name in names], np.where(mine, pd.Index(names).get_indexer(cluster), -1)


def _blocks(
    h5ad: str | Path, cells: pd.DataFrame, genes: list[str], read: Flags
) -> Iterator[tuple[str, Flags, sp.csr_matrix, Codes]]:
    """Cells to read, in blocks, those of a sample one after the other as the cohort has them: the sample, which of the
    annotator's genes it measured, counts ``(cells, annotator's genes)``, and the cells' rows in the cohort."""
    sample = cells["sample"].astype(str).to_numpy()
    with h5py.File(h5ad) as file:
        place = pd.Index(read_elem(file["var"]).index.astype(str)).get_indexer(pd.Index(genes))
        has = read_elem(file[f"varm/{MEASURED}"])
        for start, block in csr_blocks(file["layers/counts"], BLOCK):
            inside = sample[start : start + block.shape[0]]
            for name in dict.fromkeys(inside):
                rows = np.flatnonzero((inside == name) & read[start : start + block.shape[0]])
                if len(rows):
                    columns = np.where((place >= 0) & has[name].to_numpy()[place], place, -1)
                    part = Cells(block, rows, columns, np.zeros((0, 0), dtype=np.float32)).counts()
                    yield name, columns >= 0, part, start + rows
