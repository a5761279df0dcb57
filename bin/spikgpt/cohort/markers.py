"""Marker genes of the clusters, and what clusters and types show of them, from an h5ad that need not fit in memory."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem
from scipy import sparse
from scipy.stats import false_discovery_control, ttest_ind_from_stats

from spikgpt import UNKNOWN
from spikgpt.base.groups import class_members
from spikgpt.base.h5ad import BLOCK, MEASURED, csr_blocks
from spikgpt.cohort.clusters import cluster_order
from spikgpt.cohort.marker_expression import Group, expression_table

TOP = 50
"""Markers per cluster in the table."""

MARKER_COLUMNS = ("cluster", "cell_type", "gene", "gene_id", "score", "log2fc", "pct_in", "pct_out", "p_adj")


def group_moments(matrix: h5py.Group, *groupings: tuple[np.ndarray, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per group and gene: sum, sum of squares and number of cells above zero, in one pass.

    Parameters
    ----------
    matrix
        CSR matrix (cells, genes) in an h5ad.
    groupings
        Each int (cells,), the group of each cell or -1 for none, and its number of groups.

    Returns
    -------
    Three float64 arrays (groups, genes), the groups of each grouping after those of the one before.
    """
    genes = int(matrix.attrs["shape"][1])
    total, squares, above = (np.zeros((sum(number for _, number in groupings), genes)) for _ in range(3))
    for start, block in csr_blocks(matrix, BLOCK):
        rows = slice(start, start + block.shape[0])
        member = sparse.vstack([class_members(codes[rows], number) for codes, number in groupings], format="csr")
        block = block.astype(np.float64)
        for store, values in ((total, block.data), (squares, block.data**2), (above, block.data > 0)):
            block_of = sparse.csr_matrix((values.astype(np.float64), block.indices, block.indptr), block.shape)
            product = (member @ block_of).tocoo()
            store[product.row, product.col] += product.data
    return total, squares, above


def find_markers(h5ad: str | Path, top: int = TOP) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`marker_statistics` with `MARKER_COLUMNS` alone: the tables `markers.tsv` and `marker_expression.tsv`."""
    statistics, expression = marker_statistics(h5ad, top)
    return statistics[list(MARKER_COLUMNS)], expression


def marker_statistics(h5ad: str | Path, top: int = TOP) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Genes higher in a cluster than in all other cells.

    Welch's t-test on log1p CP10k, each cluster against the rest, as
    `scanpy.tl.rank_genes_groups(method="t-test")`, with Benjamini-Hochberg over all genes. The
    t-test needs only sums, so that one pass over the file does for any number of cells; a rank
    test would need them all in memory. p-values tell the order, not the truth: the clusters were
    made from the same cells. Of a gene that not every sample measured, the cells of those that did are compared.

    Parameters
    ----------
    h5ad
        The cohort: X, `obs`, `var["gene_id"]` and `varm["measured"]` of the contract.
    top
        Genes per cluster at most; only those with a positive score.

    Returns
    -------
    statistics, expression
        `MARKER_COLUMNS`, clusters by number and genes by falling score (then by name): score is
        Welch's t, log2fc that of mean CP10k, pct_in and pct_out the percentage of cells with the
        gene inside and outside of the cluster, p_adj for the whole list. Besides, p before that
        adjustment, and log2fc_of_one_more, log2fc with 1 added to both means. A cluster of one cell has
        no variance, a single cluster has no rest: no rows.
        What every cluster and type shows of the best of them and of lineage genes, see
        `spikgpt.cohort.marker_expression.expression_table`.
    """
    with h5py.File(h5ad) as file:
        obs = read_elem(file["obs"])
        obs = obs[["sample", "spikgpt_cluster", "spikgpt_cluster_cell_type", "spikgpt_cell_type"]].astype(str)
        var, measured = read_elem(file["var"]), read_elem(file[f"varm/{MEASURED}"])
        names = [name for name in cluster_order(obs["spikgpt_cluster"]) if name]
        codes = pd.Categorical(obs["spikgpt_cluster"], categories=names).codes
        print(f"markers of {len(names)} clusters, {len(obs)} cells", file=sys.stderr)
        labels = sorted(set(obs["spikgpt_cell_type"]), key=lambda name: (name == UNKNOWN, name))
        label_codes = pd.Categorical(obs["spikgpt_cell_type"], categories=labels).codes
        moments = group_moments(file["X"], (codes, len(names)), (label_codes, len(labels)))
    sizes = _cells_that_measured(codes, len(names), obs["sample"], measured)
    total, squares, above = (sums[: len(names)] for sums in moments)
    types = dict(zip(obs["spikgpt_cluster"], obs["spikgpt_cluster_cell_type"], strict=True))
    whole = (total.sum(axis=0), squares.sum(axis=0), above.sum(axis=0), sizes.sum(axis=0))
    frames = [pd.DataFrame(columns=[*MARKER_COLUMNS, "p", "log2fc_of_one_more"])]
    for at, name in enumerate(names):
        inside, outside = sizes[at], whole[3] - sizes[at]
        enough = (inside >= 2) & (outside >= 2)
        if not enough.any():
            continue
        # a gene without cells to compare has a score of 0
        inside, outside = np.where(enough, inside, np.nan), np.where(enough, outside, np.nan)
        mean_in, var_in = _mean_variance(total[at], squares[at], inside)
        mean_out, var_out = _mean_variance(whole[0] - total[at], whole[1] - squares[at], outside)
        with np.errstate(invalid="ignore", divide="ignore"):
            score, p = ttest_ind_from_stats(
                mean_in, np.sqrt(var_in), inside, mean_out, np.sqrt(var_out), outside, equal_var=False
            )
        # equal means without variance: no difference
        score, p = np.nan_to_num(score, nan=0.0), np.nan_to_num(p, nan=1.0)
        p_adj = np.ones(len(p))
        p_adj[enough] = false_discovery_control(p[enough])
        order = np.lexsort((var.index.to_numpy(dtype=str), -score))[:top]
        order = order[score[order] > 0]
        frames.append(
            pd.DataFrame(
                {
                    "cluster": name,
                    "cell_type": types[name],
                    "gene": var.index.to_numpy()[order],
                    "gene_id": var["gene_id"].to_numpy()[order],
                    "score": score[order],
                    "log2fc": np.log2((np.expm1(mean_in) + 1e-9) / (np.expm1(mean_out) + 1e-9))[order],
                    "pct_in": (100 * above[at] / inside)[order],
                    "pct_out": (100 * (whole[2] - above[at]) / outside)[order],
                    "p_adj": p_adj[order],
                    "p": p[order],
                    "log2fc_of_one_more": np.log2((np.expm1(mean_in) + 1) / (np.expm1(mean_out) + 1))[order],
                }
            )
        )
    markers = pd.concat([frame for frame in frames if len(frame)] or frames, ignore_index=True)
    groups = [
        *(Group("cluster", name, types[name], int((codes == at).sum())) for at, name in enumerate(names)),
        *(Group("type", name, name, int((label_codes == at).sum())) for at, name in enumerate(labels)),
    ]
    cells = np.concatenate([sizes, _cells_that_measured(label_codes, len(labels), obs["sample"], measured)])
    shown = expression_table(markers, groups, list(var.index.astype(str)), cells, moments[0], moments[2])
    return markers, shown


def _cells_that_measured(codes: np.ndarray, groups: int, samples: pd.Series, measured: pd.DataFrame) -> np.ndarray:
    """Cells of each group whose sample measured a gene, float64 (groups, genes)."""
    in_sample = pd.crosstab(codes, samples).reindex(index=range(groups), columns=measured.columns, fill_value=0)
    return in_sample.to_numpy(dtype=float) @ measured.to_numpy(dtype=float).T


def _mean_variance(total: np.ndarray, squares: np.ndarray, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sample variance from sums; rounding below zero is zero."""
    mean = total / cells
    return mean, np.maximum(squares - cells * mean**2, 0) / (cells - 1)
