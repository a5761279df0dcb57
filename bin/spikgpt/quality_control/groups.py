"""Groups of like cells in an unfiltered sample, so that quality is judged among cells of one kind.

1. Leiden clusters, too fine on purpose.
2. From the deepest cluster down, each is fitted as a mixture of the expression programmes found so far. One that they
   do not explain brings a programme of its own, and makes a group. That is how debris is told from a rare type: debris
   is a mixture of the sample's cells, a small type is not.
3. Every cell goes to the programme that makes its counts most likely, whatever its depth.

Clusters judged by their own medians alone, as ddqc does (Subramanian et al. 2022, Genome Biology 23:267), keep debris
that makes a cluster of its own. docs/benchmarks.md has what each constant was measured on.
"""

import random

import numpy as np
import pandas as pd
from scipy import sparse

from spikgpt.base.genes import mitochondrial_genes
from spikgpt.base.groups import class_members
from spikgpt.base.h5ad import Stored
from spikgpt.base.threads import one_thread
from spikgpt.base.variable_genes import HIGHLY_VARIABLE, dispersions

LARGEST_GRAPH = 10_000
"""Cells that are clustered at most; more are drawn from, and each of the others goes to its likeliest programme."""
FEWEST_CELLS = 20
"""With fewer cells there are no groups, as there are no medians to compare with."""
SEEN_IN = 3
FEWEST_VARIABLE = 10
COMPONENTS = 30
NEIGHBOURS = 10
LEAST_SHARED = 1 / 15
"""Of two cells' neighbours, for an edge (Jaccard; the bound that Seurat prunes at)."""
RESOLUTION = 2.0
ITERATIONS = 5
SMALLEST_CLUSTER = 5
"""Cells of a cluster that can bring a programme, and of a group."""
OWN_SHARE = 0.10
"""Of a cluster's counts, beyond what the deeper programmes explain and beyond Poisson noise, for a programme of its
own. Simulated debris has up to 0.01, debris made of a real library's empty droplets 0.06; small types (glia, red cells,
plasma cells, platelets) 0.17 to 0.84."""
OF_THE_SAMPLE = 0.05
"""Share of the sample's sum in the profile that a cell is compared with: no gene is impossible in a group."""
HALF = float(np.log(2))
NAMING_GENES = 3

COLUMNS = ("group", "group_genes", "in_bounds", "no_programme_log_odds")
"""What `find_groups` adds to the metrics of a cell."""


@one_thread()
def find_groups(cells: Stored, seed: int) -> pd.DataFrame:
    """The group of every cell.

    Cells are sorted by barcode first, and of more than 10,000 that many are drawn from the sorted list: the order in
    the file changes nothing. Mitochondrial genes take no part.

    Parameters
    ----------
    cells
        Raw counts of called cells, before any filter; read in blocks.
    seed
        Of the draw, the principal components and Leiden.

    Returns
    -------
    DataFrame
        In the row order of `cells`: group (int64; 1 is the largest, 0 a cell without a count beside mitochondrial
        ones), group_genes (categorical text: three genes that tell the group from the sample), in_bounds (bool: takes
        part in the medians of its group), no_programme_log_odds (float64: by how much the sample's sum explains the
        cell's counts better than its group does, log likelihood ratio).
    """
    own = ~mitochondrial_genes(cells.symbols)
    totals = np.zeros(len(cells.obs), dtype=np.int64)
    for start, block in cells.blocks():
        totals[start : start + block.shape[0]] = block @ own.astype(np.int64)
    counted = np.flatnonzero(totals > 0)
    ordered = counted[np.argsort(cells.barcodes[counted].astype(str), kind="stable")]
    if ordered.size > LARGEST_GRAPH:
        ordered = ordered[np.sort(np.random.default_rng(seed).choice(ordered.size, LARGEST_GRAPH, replace=False))]
    landmarks = _rows(cells, ordered, own)
    membership = clusters(landmarks, seed)
    member = class_members(membership, membership.max(initial=-1) + 1)
    # sums of whole numbers, exact in float64
    pooled = np.asarray((member @ landmarks).todense())
    bulk = pooled.sum(axis=0) / max(pooled.sum(), 1)
    shares = pooled / np.maximum(pooled.sum(axis=1, keepdims=True), 1)
    brings = programmes(pooled, membership, totals[ordered])
    brings = _shared_programmes(landmarks, shares, bulk, brings, own)
    del landmarks
    profiles = shares[brings]
    group, log_odds = _likeliest(cells, profiles, bulk, own)
    in_bounds = np.zeros(len(cells.obs), dtype=bool)
    in_bounds[ordered] = ~_debris(membership, brings, group[ordered], np.log1p(totals[ordered]))
    # numbered by size; equal sizes by the order of their clusters
    sizes = np.bincount(group[counted], minlength=len(brings))
    rank = np.empty(len(brings), dtype=np.int64)
    rank[np.lexsort((np.arange(len(brings)), -sizes))] = np.arange(1, len(brings) + 1)
    number = np.zeros(len(cells.obs), dtype=np.int64)
    number[counted] = rank[group[counted]]
    log_odds[totals == 0] = 0.0
    names = _telling_genes(profiles, bulk, np.asarray(cells.symbols, dtype=object))
    by_number = np.array(["", *[names[at] for at in np.argsort(rank)]], dtype=object)
    return pd.DataFrame(
        {
            "group": number,
            "group_genes": pd.Categorical(by_number[number]),
            "in_bounds": in_bounds,
            "no_programme_log_odds": log_odds,
        }
    )


def _rows(cells: Stored, rows: np.ndarray, genes: np.ndarray) -> sparse.csr_matrix:
    """These rows of the matrix in this order, the counts of other genes than `genes` (bool) left out; all columns."""
    place = np.full(len(cells.obs), -1, dtype=np.int64)
    place[rows] = np.arange(rows.size)
    parts, places = [sparse.csr_matrix((0, len(cells.var)), dtype=np.int32)], [np.zeros(0, dtype=np.int64)]
    for start, block in cells.blocks():
        inside = place[start : start + block.shape[0]]
        part = block[inside >= 0]
        part.data[~genes[part.indices]] = 0
        part.eliminate_zeros()
        parts.append(part)
        places.append(inside[inside >= 0])
    return sparse.vstack(parts, format="csr")[np.argsort(np.concatenate(places))]


# --- clusters -----------------------------------------------------------------------------------------


def clusters(counts: sparse.csr_matrix, seed: int) -> np.ndarray:
    """Leiden clusters of cells; int64 (cells,), all 0 where there is too little to tell cells apart by.

    Counts at the median total, the 2,000 most variable genes, log1p, 30 principal components, exact 10 nearest
    neighbours, edges weighted by the share of neighbours in common, Leiden by modularity (Traag et al. 2019).

    Parameters
    ----------
    counts
        CSR (cells, genes), a count in every cell.
    """
    alone = np.zeros(counts.shape[0], dtype=np.int64)
    if counts.shape[0] < FEWEST_CELLS:
        return alone
    totals = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    factors = np.repeat(np.median(totals) / totals, np.diff(counts.indptr))
    scaled = sparse.csr_matrix((counts.data * factors, counts.indices, counts.indptr), shape=counts.shape)
    variable = _variable(scaled, counts.getnnz(axis=0) >= SEEN_IN)
    if variable.size < FEWEST_VARIABLE:
        return alone
    import igraph
    from sklearn.decomposition import PCA
    from sklearn.neighbors import NearestNeighbors

    values = scaled[:, variable]
    values.data = np.log1p(values.data)
    components = min(COMPONENTS, values.shape[0] - 1, values.shape[1] - 1)
    places = PCA(components, svd_solver="arpack", random_state=seed).fit_transform(values)
    cells = len(places)
    # a cell is among its own neighbours
    size = min(NEIGHBOURS, cells - 1) + 1
    near = NearestNeighbors(n_neighbors=size, algorithm="brute").fit(places).kneighbors(places, return_distance=False)
    of = sparse.csr_matrix((np.ones(near.size), (np.repeat(np.arange(cells), size), near.ravel())), shape=(cells,) * 2)
    shared = sparse.triu(of @ of.T, 1).tocoo()
    weight = shared.data / (2 * size - shared.data)
    edge = weight >= LEAST_SHARED
    graph = igraph.Graph(n=cells, edges=np.column_stack([shared.row[edge], shared.col[edge]]).tolist())
    igraph.set_random_number_generator(random.Random(seed))
    found = graph.community_leiden(
        "modularity", weights=weight[edge].round(9).tolist(), resolution=RESOLUTION, n_iterations=ITERATIONS
    )
    return np.asarray(found.membership, dtype=np.int64)


def _variable(scaled: sparse.csr_matrix, often: np.ndarray) -> np.ndarray:
    """Places of the most variable of the genes seen `often` (bool); sorted."""
    genes = scaled.shape[1]
    total = np.bincount(scaled.indices, weights=scaled.data, minlength=genes) * often
    squares = np.bincount(scaled.indices, weights=scaled.data**2, minlength=genes) * often
    if not often.any():
        return np.zeros(0, dtype=np.int64)
    norm = dispersions(scaled.shape[0], total, squares)["dispersions_norm"].round(6)
    norm = norm[np.isfinite(norm)]
    order = np.lexsort((norm.index.to_numpy(), -norm.to_numpy()))
    return np.sort(norm.index.to_numpy()[order[:HIGHLY_VARIABLE]])


# --- programmes ---------------------------------------------------------------------------------------


def programmes(pooled: np.ndarray, membership: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """The clusters that bring a programme of their own; sorted, at least one where there is a cell.

    Parameters
    ----------
    pooled
        Counts (clusters, genes) of the clusters' cells, added up.
    membership, totals
        Cluster and counts of each cell, (cells,).
    """
    sizes = np.bincount(membership, minlength=len(pooled))
    large = np.flatnonzero(sizes >= SMALLEST_CLUSTER)
    if large.size == 0:
        large = np.arange(len(pooled))
    depth = np.array([np.median(totals[membership == cluster]) for cluster in large])
    shares = pooled / np.maximum(pooled.sum(axis=1, keepdims=True), 1)
    found: list[int] = []
    for cluster in large[np.argsort(-depth, kind="stable")]:
        if not found or own_share(pooled[cluster], shares[found]) >= OWN_SHARE:
            found.append(int(cluster))
    return np.array(sorted(found), dtype=np.int64)


def own_share(counts: np.ndarray, known: np.ndarray) -> float:
    """Share of counts that no mixture of known profiles explains, beyond what Poisson noise leaves over.

    The mixture is fitted by non-negative least squares, each gene weighted by one over its mean in the known profiles,
    as Poisson counts vary.

    Parameters
    ----------
    counts
        (genes,).
    known
        Profiles (programmes, genes), each adding up to 1.
    """
    from scipy.optimize import nnls

    number = counts.sum()
    # the offset keeps genes that no profile has from outweighing all others
    weight = 1 / np.sqrt(known.mean(axis=0) + 1e-5)
    mixed, _ = nnls(weight[:, None] * known.T, weight * counts / number)
    fit = known.T @ mixed if mixed.sum() > 0 else known.mean(axis=0)
    fit = fit / fit.sum()
    return float(np.maximum(counts / number - fit, 0).sum()) - poisson_excess(fit, number)


def poisson_excess(profile: np.ndarray, number: float) -> float:
    """What Poisson counts exceed their expectations by, summed over genes, as a share of all; in expectation.

    The sum over genes of E[max(X - m, 0)] = exp(-m) m^(floor(m) + 1) / floor(m)! for X Poisson of mean
    m = number * profile: half of the mean absolute deviation (Crow 1958, Biometrika 45:556).
    """
    from scipy.special import gammaln

    mean = number * profile[profile > 0]
    floor = np.floor(mean)
    return float(np.exp(-mean + (floor + 1) * np.log(mean) - gammaln(floor + 1)).sum() / number)


# --- cells --------------------------------------------------------------------------------------------


def _log_profiles(profiles: np.ndarray, bulk: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Logs (genes, programmes + 1) of the profiles that cells are compared with; the last is the sample's sum."""
    mixed = np.vstack([(1 - OF_THE_SAMPLE) * profiles + OF_THE_SAMPLE * bulk, bulk])
    logs = np.zeros(mixed.shape)
    # a gene that only cells outside of the drawn ones have is no evidence
    seen = own & (bulk > 0)
    logs[:, seen] = np.log(mixed[:, seen])
    return logs.T


def _shared_programmes(
    landmarks: sparse.csr_matrix, shares: np.ndarray, bulk: np.ndarray, brings: np.ndarray, own: np.ndarray
) -> np.ndarray:
    """Without the programmes that fewer than five cells go to: one cell of very many counts can make a whole cluster's
    sum its own."""
    while len(brings) > 1:
        likelihood = np.asarray(landmarks @ _log_profiles(shares[brings], bulk, own))[:, :-1]
        enough = np.bincount(likelihood.argmax(axis=1), minlength=len(brings)) >= SMALLEST_CLUSTER
        if enough.all() or not enough.any():
            break
        brings = brings[enough]
    return brings


def _likeliest(cells: Stored, profiles: np.ndarray, bulk: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The likeliest programme of every cell (int64), and the log odds of the sample's sum against it (float64).

    Multinomial likelihoods of a cell's counts: each cell for itself, so blocks change nothing.
    """
    logs = _log_profiles(profiles, bulk, own)
    group = np.zeros(len(cells.obs), dtype=np.int64)
    log_odds = np.zeros(len(cells.obs))
    for start, block in cells.blocks() if len(profiles) else ():
        likelihood = np.asarray(block @ logs)
        rows = slice(start, start + block.shape[0])
        group[rows] = likelihood[:, :-1].argmax(axis=1)
        log_odds[rows] = likelihood[:, -1] - likelihood[:, :-1].max(axis=1)
    return group, log_odds


def _debris(membership: np.ndarray, brings: np.ndarray, group: np.ndarray, log_total: np.ndarray) -> np.ndarray:
    """Which cells (bool) are in clusters without a programme, whose cells are small for what they look like.

    Small: half of the clusters' cells have less than half of the counts that their group's cells have.
    """
    sure = np.isin(membership, brings)
    centre = np.full(len(brings), np.median(log_total) if log_total.size else 0.0)
    for at in range(len(brings)):
        inside = sure & (group == at)
        if inside.any():
            centre[at] = np.median(log_total[inside])
    relative = log_total - centre[group] if len(brings) else log_total
    small = np.zeros(membership.max(initial=-1) + 1, dtype=bool)
    for cluster in np.setdiff1d(membership, brings):
        small[cluster] = np.median(relative[membership == cluster]) < -HALF
    return small[membership]


def _telling_genes(profiles: np.ndarray, bulk: np.ndarray, symbols: np.ndarray) -> list[str]:
    """The genes that add most to each profile's divergence from the sample's sum (Kullback-Leibler)."""
    if len(profiles) < 2:
        return [""] * len(profiles)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(profiles > 0, profiles * np.log(profiles / bulk), 0.0).round(9)
    best = [np.lexsort((symbols.astype(str), -row))[:NAMING_GENES] for row in parts]
    return [", ".join(symbols[at] for at in genes if row[at] > 0) for genes, row in zip(best, parts, strict=True)]
