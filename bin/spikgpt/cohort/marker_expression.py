"""What every cluster and every type shows of marker genes: mean and share of cells, for a dot plot or a heat map."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from spikgpt.annotator.lineages import LINEAGES

BEST = 3
"""Markers of each cluster that are looked at in all: as many as a page holds for forty clusters."""

EXPRESSION_COLUMNS = ("of", "group", "cell_type", "cells", "gene", "gene_of", "mean", "pct")


@dataclass(frozen=True)
class Group:
    """Cells that are looked at together: a cluster with its label, or all cells of a type."""

    of: Literal["cluster", "type"]
    name: str
    cell_type: str
    cells: int


def genes_to_show(markers: pd.DataFrame, genes: Sequence[str]) -> dict[str, str]:
    """The best markers of each cluster, cluster by cluster, then the genes that tell lineages of blood apart.

    Parameters
    ----------
    markers
        See `spikgpt.cohort.markers.find_markers`.
    genes
        Genes of the cohort.

    Returns
    -------
    Gene to what it is a gene of, e.g. `cluster 0, cluster 3` or `CD8 T lineage`.
    """
    known = set(genes)
    of: dict[str, list[str]] = {}
    for cluster, mine in markers.groupby("cluster", sort=False):
        for gene in mine["gene"].head(BEST):
            of.setdefault(gene, []).append(f"cluster {cluster}")
    for lineage in LINEAGES:
        for gene in lineage.genes:
            if gene in known:
                of.setdefault(gene, []).append(f"{lineage.name} lineage")
    return {gene: ", ".join(names) for gene, names in of.items()}


def expression_table(
    markers: pd.DataFrame,
    groups: Sequence[Group],
    genes: Sequence[str],
    cells: np.ndarray,
    total: np.ndarray,
    above: np.ndarray,
) -> pd.DataFrame:
    """The rows of `EXPRESSION_COLUMNS`: every group with every gene of `genes_to_show`.

    Parameters
    ----------
    markers
        See `spikgpt.cohort.markers.find_markers`.
    groups
        In the order of the rows of the arrays.
    genes
        In the order of their columns.
    cells, total, above
        float64 (groups, genes): cells whose sample measured the gene, the sum of their log1p CP10k, and how many of
        them have a count.

    Returns
    -------
    mean is that of log1p CP10k, pct the percentage of cells with a count; both of cells whose sample measured the gene,
    and NaN where there is none.
    """
    shown = genes_to_show(markers, genes)
    place = {gene: at for at, gene in enumerate(genes)}
    columns = [place[gene] for gene in shown]
    with np.errstate(invalid="ignore", divide="ignore"):
        means, shares = total[:, columns] / cells[:, columns], 100 * above[:, columns] / cells[:, columns]
    rows = [
        (group.of, group.name, group.cell_type, group.cells, gene, of, means[row, column], shares[row, column])
        for row, group in enumerate(groups)
        for column, (gene, of) in enumerate(shown.items())
    ]
    return pd.DataFrame(rows, columns=list(EXPRESSION_COLUMNS))
