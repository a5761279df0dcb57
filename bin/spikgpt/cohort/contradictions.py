"""Clusters and types of the query whose cells show genes that their label excludes.

A cluster is asked by its majority label, a type by the cells that have its label, in whatever cluster they are: a CD4
cluster may hold CD8 cells that are labelled so, and CD4 labels may stand on CD8 cells of many clusters.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem

from spikgpt import UNKNOWN
from spikgpt.annotator.lineages import (
    LINEAGES,
    WrongLineage,
    lineage_columns,
    lineage_of,
    lineage_seen,
    wrong_lineages,
)
from spikgpt.base.groups import class_members
from spikgpt.base.h5ad import MEASURED, csr_blocks
from spikgpt.cohort.clusters import cluster_order

CONTRADICTION_COLUMNS = (
    "of", "group", "cell_type", "cells", "lineage", "genes", "pct", "pct_own", "pct_elsewhere", "pct_wrong",
)  # fmt: skip
_BLOCK_ELEMENTS = 4_000_000

Contradictions = dict[str, dict[str, list[WrongLineage]]]
"""`cluster` and `type` to group to what contradicts its label; groups without are left out."""


def of_clusters_and_types(h5ad: str | Path, cells: pd.DataFrame, terms: Mapping[str, str]) -> Contradictions:
    """Clusters and types many of whose cells show genes that their label excludes, in one pass over the counts.

    See `spikgpt.annotator.lineages.wrong_lineages`; the cohort's other groups tell how many cells show such a gene
    rightly or by ambient RNA.

    Parameters
    ----------
    h5ad
        The cohort, with ``layers/counts``.
    cells
        See `spikgpt.cohort.tables.read_cohort`; in the order of the h5ad.
    terms
        Label to term of the Cell Ontology, for the labels that the reference gives one.
    """
    cluster, label = (cells[name].astype(str) for name in ("spikgpt_cluster", "spikgpt_cell_type"))
    majority = cells["spikgpt_cluster_cell_type"].astype(str).groupby(cluster).first()
    clusters = [name for name in cluster_order(cluster) if name]
    types = sorted(set(label) - {UNKNOWN})
    names, labels = [*clusters, *types], [*(majority[name] for name in clusters), *types]
    codings = (
        (pd.Index(clusters).get_indexer(cluster), len(clusters)),
        (pd.Index(types).get_indexer(label), len(types)),
    )
    with h5py.File(h5ad) as file:
        columns = lineage_columns(read_elem(file["var"]).index.astype(str).tolist())
        has = read_elem(file[f"varm/{MEASURED}"])
        # samples x lineages: whether the sample measured one of the genes; only such cells count
        told = np.array([has.to_numpy()[own].any(axis=0) for own in columns]).T
        of_sample = has.columns.get_indexer(cells["sample"].astype(str))
        sums, sizes = np.zeros((len(names), len(LINEAGES))), np.zeros((len(names), len(LINEAGES)))
        for start, block in csr_blocks(file["layers/counts"], _BLOCK_ELEMENTS):
            part = slice(start, start + block.shape[0])
            counted = told[of_sample[part]]
            seen, at = (lineage_seen(block, columns) & counted).astype(np.float64), 0
            for codes, number in codings:
                members = class_members(codes[part], number)
                sums[at : at + number] += members @ seen
                sizes[at : at + number] += members @ counted.astype(np.float64)
                at += number
    shares = np.divide(sums, sizes, out=np.full_like(sums, np.nan), where=sizes > 0)
    made: Contradictions = {}
    at = 0
    for of, (codes, number) in zip(("cluster", "type"), codings, strict=True):
        rows = slice(at, at + number)
        made[of] = _found(names[rows], labels[rows], codes, shares[rows], terms)
        at += number
    return made


def _found(
    names: Sequence[str], labels: Sequence[str], codes: np.ndarray, shares: np.ndarray, terms: Mapping[str, str]
) -> dict[str, list[WrongLineage]]:
    lineages = {name: lineage_of(label, terms.get(label)) for name, label in zip(names, labels, strict=True)}
    number = np.bincount(codes[codes >= 0], minlength=len(names)).tolist()
    found: dict[str, list[WrongLineage]] = {}
    for wrong in wrong_lineages(lineages, number, shares):
        found.setdefault(wrong.group, []).append(wrong)
    return found


def contradiction_table(cells: pd.DataFrame, found: Contradictions) -> pd.DataFrame:
    """The rows of `CONTRADICTION_COLUMNS`, clusters first; `pct_own` is NaN where no cells are called that lineage."""
    rows = []
    for of, groups in found.items():
        column = "spikgpt_cluster" if of == "cluster" else "spikgpt_cell_type"
        for name, contradictions in groups.items():
            mine = cells[cells[column].astype(str) == name]
            label = name if of == "type" else str(mine["spikgpt_cluster_cell_type"].iloc[0])
            rows += [
                (
                    of, name, label, len(mine), wrong.lineage, "/".join(wrong.genes), 100 * wrong.share,
                    np.nan if wrong.own == 1 else 100 * wrong.own, 100 * wrong.elsewhere, 100 * wrong.estimate,
                )
                for wrong in contradictions
            ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(CONTRADICTION_COLUMNS))


def sentence(row: Mapping[str, str]) -> str:
    """A row of the table, as text, in words."""
    own = float(row["pct_own"]) / 100 if row["pct_own"] else 1.0
    share, elsewhere, estimate = (float(row[name]) / 100 for name in ("pct", "pct_elsewhere", "pct_wrong"))
    genes = tuple(str(row["genes"]).split("/"))
    return WrongLineage(row["group"], row["lineage"], genes, share, own, elsewhere, estimate).sentence()
