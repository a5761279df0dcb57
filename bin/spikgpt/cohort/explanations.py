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
from spikgpt.annotator.attribution import GeneSums, against_the_mean, gene_gradients
from spikgpt.annotator.batch import offset_of_sums, type_sums
from spikgpt.annotator.cells import Cells
from spikgpt.annotator.reference_markers import ReferenceMarkers
from spikgpt.annotator.views import EmbeddingView
from spikgpt.base.arrays import Codes, Flags, Floats
from spikgpt.base.columns import LOW_GENE_MATCH
from spikgpt.base.groups import class_members, evenly
from spikgpt.base.h5ad import BLOCK, MEASURED, ORTHOLOG, csr_blocks
from spikgpt.cohort.clusters import cluster_order
from spikgpt.scgpt.checkpoint import Checkpoint
from spikgpt.scgpt.embed import Embedder

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
"""Genes of a cluster in the table, as many as `bench/explanations.py` judges the method by."""
ASKED = 50
"""Cells of a cluster whose gradients are taken: each is a pass through scGPT and back. `bench/explanations.py` has
fewer and all beside it: 20 found fewer markers in pancreas and in blood, the two sets that it was chosen on."""
_ROWS = 65_536


def explanations(
    h5ad: str | Path,
    cells: pd.DataFrame,
    annotator: Annotator | None,
    checkpoint: Checkpoint | None,
    max_genes: int = 1200,
    seed: int = 0,
) -> pd.DataFrame:
    """The rows of `EXPLANATION_COLUMNS`: clusters in order, genes by their attribution.

    A cluster is explained by those of its cells that have its label. An Unknown cluster has no label to explain, and
    neither the tissue profiles nor the lesson of a taught type are a mixture of views: clusters with a label of theirs
    have no row.

    Parameters
    ----------
    h5ad
        The cohort, with ``layers/counts`` and ``obsm/X_scGPT``.
    cells
        See `spikgpt.cohort.tables.read_cohort`; in the order of the h5ad.
    annotator
        The one that gives labels, if there is one.
    checkpoint
        The scGPT checkpoint that made the embedding; an annotator of expression alone needs none.
    max_genes, seed
        As the cells were embedded.
    """
    # a cell that the tissue profiles labelled has no p-value
    own = cells["spikgpt_p_value"].notna().to_numpy()
    clusters, groups = explained(cells, [] if annotator is None else annotator.own_classes, own)
    if annotator is None or not clusters:
        return pd.DataFrame(columns=list(EXPLANATION_COLUMNS))
    print(f"genes that the labels of {len(clusters)} clusters rest on", file=sys.stderr)
    read = own.copy()
    if annotator.config["features"] != "expression":
        read &= cells["spikgpt_unknown_reason"].astype(str).to_numpy() != LOW_GENE_MATCH.name
    labels = np.array([annotator.own_classes.index(label) for _, label in clusters], dtype=np.int64)
    contrast = annotator.mixture.scale * against_the_mean(annotator.views.present, labels)
    weight = annotator.mixture.weight
    with h5py.File(h5ad) as file:
        genes = read_elem(file["var"]).index.astype(str).tolist()
        place = pd.Index(genes).get_indexer(pd.Index(annotator.genes))
        attributions, means = _of_expression(file, cells, annotator, place, read, groups, (1 - weight) * contrast)
        if annotator.views.embedding is not None:
            assert checkpoint is not None
            embedder = Embedder(checkpoint, _human_symbols(file), sample="cohort", max_tokens=max_genes, seed=seed)
            best = pd.Index(annotator.own_classes).get_indexer(cells["spikgpt_best_match"].astype(str))
            attributions += _of_embedding(
                file, cells, annotator.views.embedding, embedder, np.where(read, best, -1), groups, weight * contrast
            )
    return _table(clusters, labels, np.bincount(groups[groups >= 0]), attributions, means, genes, place, annotator)


def explained(cells: pd.DataFrame, classes: list[str], own: Flags) -> tuple[list[tuple[str, str]], Codes]:
    """Clusters with a label of the annotator, in order, with it; and of each cell its cluster among them, -1 for a cell
    with another label or without a cluster. ``own`` (cells,): those that the annotator labelled."""
    cluster, label, majority = (
        cells[name].astype(str).to_numpy()
        for name in ("spikgpt_cluster", "spikgpt_cell_type", "spikgpt_cluster_cell_type")
    )
    mine = own & (label == majority) & (label != UNKNOWN) & (cluster != "") & np.isin(label, classes)
    of = dict(zip(cluster[mine], label[mine], strict=True))
    names = [name for name in cluster_order(pd.Series(cluster)) if name in of]
    return [(name, of[name]) for name in names], np.where(mine, pd.Index(names).get_indexer(cluster), -1)


def _of_expression(
    file: h5py.File,
    cells: pd.DataFrame,
    annotator: Annotator,
    place: Codes,
    read: Flags,
    groups: Codes,
    contrast: Floats,
) -> tuple[Floats, Floats]:
    """What the cohort's genes add to the contrast ``(groups, classes)`` in the expression view, ``(groups, cohort's
    genes)``, a mean over cells; and the log1p counts per 10,000 of each group's cells together. One pass over the
    counts; ``place`` (annotator's genes,) in the cohort, -1 for none."""
    view, number = annotator.views.expression, len(contrast)
    known = np.flatnonzero(place >= 0)
    genes = int(file["layers/counts"].attrs["shape"][1])
    out, counts, depth = (np.zeros((number, genes)) for _ in range(3))
    for _, blocks in groupby(_blocks(file, cells, place, read), key=itemgetter(0)):
        sums: GeneSums | None = None
        for _, columns, measured, block, rows in blocks:
            part = Cells(block, np.arange(len(rows)), columns, np.zeros((0, 0), dtype=np.float32)).counts()
            members = class_members(groups[rows], number)
            counts += (members @ block.astype(np.float64)).toarray()
            depth += np.outer(members @ np.asarray(part.sum(axis=1, dtype=np.float64)).ravel(), measured)
            if view is not None:
                sums = sums or GeneSums(view, columns >= 0, number)
                sums.add(part, groups[rows])
        if sums is not None:
            # a label does not rest on a gene that the sample did not measure
            out[:, place[known]] += np.where(sums.measured, sums.attributions(contrast), 0.0)[:, known]
    size = np.bincount(groups[groups >= 0], minlength=number)
    return out / size[:, None], np.log1p(counts * 1e4 / np.maximum(depth, 1.0))


def _blocks(
    file: h5py.File, cells: pd.DataFrame, place: Codes, read: Flags
) -> Iterator[tuple[str, Codes, Flags, sp.csr_matrix, Codes]]:
    """Cells to read, in blocks, those of a sample one after the other as the cohort has them: the sample; the column of
    each of the annotator's genes, -1 where the sample did not measure it; which of the cohort's genes it measured;
    counts ``(cells, cohort's genes)``; the cells' rows in the cohort."""
    sample = cells["sample"].astype(str).to_numpy()
    has = read_elem(file[f"varm/{MEASURED}"])
    for start, block in csr_blocks(file["layers/counts"], BLOCK):
        inside = sample[start : start + block.shape[0]]
        for name in dict.fromkeys(inside):
            rows = np.flatnonzero((inside == name) & read[start : start + block.shape[0]])
            if len(rows):
                measured = has[name].to_numpy()
                columns = np.where((place >= 0) & measured[place], place, -1)
                yield name, columns, measured, block[rows], start + rows


def _of_embedding(
    file: h5py.File,
    cells: pd.DataFrame,
    view: EmbeddingView,
    embedder: Embedder,
    best: Codes,
    groups: Codes,
    contrast: Floats,
) -> Floats:
    """What the cohort's genes add to the contrast ``(groups, classes)`` in the embedding view, ``(groups, cohort's
    genes)``: mean over at most `ASKED` cells of each group. ``best`` (cells,): best match of the cells that tell their
    sample's batch offset, -1 for the others."""
    sample = cells["sample"].astype(str).to_numpy()
    # by name, so that the order in which a file has its cells does not choose
    order = np.lexsort((cells["barcode"].astype(str).to_numpy(), sample))
    asked = np.full(len(cells), -1)
    for group in range(len(contrast)):
        mine = order[groups[order] == group]
        asked[mine[evenly(len(mine), ASKED)]] = group
    parts, places = [], []
    for start, block in csr_blocks(file["layers/counts"], BLOCK):
        chosen = np.flatnonzero(asked[start : start + block.shape[0]] >= 0)
        parts.append(block[chosen])
        places.append(file["obsm/X_scGPT"][start : start + block.shape[0]][chosen])
    rows, counts, embedding = np.flatnonzero(asked >= 0), sp.vstack(parts, format="csr"), np.concatenate(places)
    sums = np.zeros((len(contrast), counts.shape[1]))
    for name in dict.fromkeys(sample[rows]):
        offset = _embedding_offset(file, view, np.flatnonzero(sample == name), best)
        for group in dict.fromkeys(asked[rows[sample[rows] == name]]):
            mine = np.flatnonzero((sample[rows] == name) & (asked[rows] == group))
            weights = np.repeat(contrast[[group]], len(mine), axis=0)
            sums[group] += gene_gradients(view, embedder, counts[mine], embedding[mine], offset, weights).sum(0)
    return sums / np.bincount(asked[rows], minlength=len(contrast))[:, None]


def _embedding_offset(file: h5py.File, view: EmbeddingView, rows: Codes, best: Codes) -> Floats:
    """Batch offset ``(embedding_size,)`` of the cells of one sample, which follow each other."""
    classes = len(view.class_cells)
    sums = np.zeros((classes, len(view.mean)))
    for start in range(int(rows[0]), int(rows[-1]) + 1, _ROWS):
        stop = min(start + _ROWS, int(rows[-1]) + 1)
        values = view.standardised(file["obsm/X_scGPT"][start:stop]).astype(np.float64)
        kept = np.flatnonzero(best[start:stop] >= 0)
        sums += type_sums(values[kept], best[start:stop][kept], classes)
    own = best[rows]
    return offset_of_sums(sums, own[own >= 0], view.type_means, view.class_cells)


def _human_symbols(file: h5py.File) -> list[str]:
    """The symbols that scGPT reads: of another species than human, the orthologs'."""
    var = read_elem(file["var"])
    return [str(symbol) for symbol in var.get(ORTHOLOG, var.index)]


def _table(
    clusters: list[tuple[str, str]],
    labels: Codes,
    size: Codes,
    attributions: Floats,
    means: Floats,
    genes: list[str],
    place: Codes,
    annotator: Annotator,
) -> pd.DataFrame:
    """The `TOP` genes of each cluster that speak for its label; attributions, means ``(clusters, cohort's genes)``."""
    bulks = np.full((len(annotator.own_classes), len(genes)), np.nan)
    if annotator.views.profile is not None:
        profile = annotator.views.profile.profiles
        known = np.flatnonzero(place[profile.genes] >= 0)
        bulks[:, place[profile.genes[known]]] = profile.bulks[:, known]
    markers = ReferenceMarkers.from_dict(annotator.config["markers"]).types
    rows = []
    for at, (cluster, label) in enumerate(clusters):
        marked = {marker.gene for marker in markers.get(label, [])}
        others = annotator.views.present & (np.arange(len(annotator.own_classes)) != labels[at])
        best = np.argsort(-attributions[at], kind="stable")[:TOP]
        total = np.maximum(attributions[at], 0.0).sum()
        rows += [
            (
                cluster,
                label,
                int(size[at]),
                rank,
                genes[gene],
                # rounded, so that the last bit of a gradient does not differ between machines
                round(float(attributions[at, gene]), 4),
                round(100 * float(attributions[at, gene]) / total, 2),
                means[at, gene],
                bulks[labels[at], gene],
                bulks[others, gene].mean(),
                "yes" if genes[gene] in marked else "no",
            )
            for rank, gene in enumerate(best[attributions[at, best] > 0], start=1)
        ]
    return pd.DataFrame(rows, columns=list(EXPLANATION_COLUMNS))
