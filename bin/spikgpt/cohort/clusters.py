"""Leiden clusters and a map of all samples' cells on the embedding, integrated or not; a majority label per cluster."""

import json
import sys
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from anndata.io import read_elem

from spikgpt import UNKNOWN
from spikgpt.base.names import by_sample, joined_embeddings
from spikgpt.base.threads import one_thread
from spikgpt.cohort.integration import components, harmonised

NEIGHBOURS = 15
"""Neighbours per cell in the graph of the cohort (scanpy's default)."""

LARGEST_GRAPH = 100_000
"""Cells in that graph at most: time and memory of graph, clusters and map grow faster than the cells."""

_ROWS = 50_000

SMALLEST_MAP = 10
"""Fewer cells than this have no UMAP: its spectral start needs a graph that is larger than it is wide."""

CELL_TYPES_KEY = b"spikgpt_cell_types"
"""Metadata of `cohort_cells.parquet`: the cohort's cell types, so that each sample has the same colours."""
CLUSTERS_KEY = b"spikgpt_clusters"
"""The cohort's clusters, so that each sample has the same categories."""

INTEGRATED = "integrated"
"""Column of `<sample>.cohort.parquet`, a list of float32 for each cell: `obsm["X_integrated"]`."""
MAP, MAP_BEFORE = ("umap_1", "umap_2"), ("umap_1_unintegrated", "umap_2_unintegrated")
"""Columns of the map, and of the one that the cohort would have without Harmony."""


class Embedded(NamedTuple):
    """Cells as clusters and map see them; a cell without an embedding has NaN, and the cluster "".

    Attributes
    ----------
    clusters
        str (cells,): "0" is the largest cluster.
    umap
        float32 (cells, 2).
    integrated
        float32 (cells, components), what Harmony made of the embedding; None without it.
    unintegrated
        float32 (cells, 2), the map without Harmony; None without it.
    """

    clusters: np.ndarray
    umap: np.ndarray
    integrated: np.ndarray | None = None
    unintegrated: np.ndarray | None = None


def standardise(embedding: np.ndarray) -> None:
    """Each dimension to mean 0 and standard deviation 1 over the cells, in place; constant ones to 0.

    scGPT's CLS embeddings of all cells point nearly the same way (cosine about 0.999): what
    tells cells apart is the small spread around their mean.

    Parameters
    ----------
    embedding
        float32 (cells, dimensions), finite.
    """
    blocks = [slice(start, start + _ROWS) for start in range(0, len(embedding), _ROWS)]
    mean = sum(embedding[rows].sum(axis=0, dtype=np.float64) for rows in blocks) / len(embedding)
    squares = sum(np.square(embedding[rows] - mean).sum(axis=0) for rows in blocks)
    spread = np.sqrt(squares / len(embedding))
    spread[spread < 1e-12] = np.inf
    for rows in blocks:
        embedding[rows] = (embedding[rows] - mean) / spread


@one_thread("scanpy")
def cluster_embedding(
    embedding: np.ndarray, *, resolution: float, seed: int, batches: np.ndarray | None = None
) -> Embedded:
    """Leiden clusters and a UMAP of cells by their embedding, with scanpy.

    Neighbours by Euclidean distance of the standardised embedding or, with batches, of its principal components as
    Harmony corrects them (`spikgpt.cohort.integration`); Leiden as in igraph
    (Traag et al. 2019, https://doi.org/10.1038/s41598-019-41695-z), modularity; UMAP
    (McInnes et al. 2018, https://doi.org/10.48550/arXiv.1802.03426).

    Of more than `LARGEST_GRAPH` cells that many are drawn; the graph, its clusters and the map are theirs, and
    each other cell is put where its nearest ones among them are (`place_by_neighbours`).

    Parameters
    ----------
    embedding
        float32 (cells, dimensions); a row with NaN is a cell without an embedding.
    resolution
        Of Leiden: more gives more clusters.
    seed
        Of the draw, Harmony, Leiden and UMAP.
    batches
        str (cells,), at least two: integrate them by Harmony.

    Returns
    -------
    See `Embedded`; fewer than ten cells get their first two dimensions in place of a UMAP.
    """
    cells = len(embedding)
    clusters = np.full(cells, "", dtype=object)
    umap = np.full((cells, 2), np.nan, dtype=np.float32)
    present = np.flatnonzero(np.isfinite(embedding).all(axis=1))
    if len(present) == 0:
        return Embedded(clusters, umap)
    z = embedding[present]
    standardise(z)
    integrated = unintegrated = None
    if batches is not None:
        unintegrated = umap.copy()
        _, unintegrated[present] = _clusters_of_all(z, resolution=resolution, seed=seed)
        print(f"Harmony on {len(z)} cells", file=sys.stderr)
        z = harmonised(components(z, seed), batches[present].astype(str), seed).astype(np.float32)
        integrated = np.full((cells, z.shape[1]), np.nan, dtype=np.float32)
        integrated[present] = z
    membership, umap[present] = _clusters_of_all(z, resolution=resolution, seed=seed)
    # numbered by size; equal sizes by their first cell
    names, first, sizes = np.unique(membership, return_index=True, return_counts=True)
    ranks = {int(names[at]): rank for rank, at in enumerate(np.lexsort((first, -sizes)))}
    clusters[present] = [str(ranks[int(member)]) for member in membership]
    return Embedded(clusters, umap, integrated, unintegrated)


def _clusters_of_all(z: np.ndarray, *, resolution: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Leiden membership (int) and map (float32, two columns); see `cluster_embedding` for many cells."""
    if len(z) <= LARGEST_GRAPH:
        return _graph_clusters(z, resolution=resolution, seed=seed)
    drawn = np.sort(np.random.default_rng(seed).choice(len(z), LARGEST_GRAPH, replace=False))
    print(f"clusters and map of {len(drawn)} cells drawn from {len(z)}", file=sys.stderr)
    found = _graph_clusters(z[drawn], resolution=resolution, seed=seed)
    return place_by_neighbours(z, drawn, *found, seed=seed)


def _graph_clusters(z: np.ndarray, *, resolution: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Leiden membership (int) and map (float32, two columns) of cells by their place in `z`."""
    data = ad.AnnData(obsm={"z": z}, shape=(len(z), 0))
    if len(z) < 3:
        # no graph worth the name: one cluster
        membership = np.zeros(len(z), dtype=np.int64)
    else:
        import scanpy as sc

        sc.pp.neighbors(data, n_neighbors=min(NEIGHBOURS, len(z) - 1), use_rep="z", random_state=seed)
        sc.tl.leiden(data, resolution=resolution, random_state=seed, flavor="igraph", n_iterations=2, directed=False)
        membership = data.obs["leiden"].astype(int).to_numpy()
    if len(z) < SMALLEST_MAP:
        places = np.zeros((len(z), 2), dtype=np.float32)
        width = min(2, z.shape[1])
        places[:, :width] = z[:, :width]
        return membership, places
    sc.tl.umap(data, random_state=seed)
    return membership, data.obsm["X_umap"].astype(np.float32)


def place_by_neighbours(
    z: np.ndarray, drawn: np.ndarray, membership: np.ndarray, places: np.ndarray, *, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Clusters and places for all cells from those of some.

    A cell gets the commonest cluster of its 15 nearest drawn cells, ties to the nearest of them, and the mean
    place of those of the 15 that are in it. Nearest ones by nearest-neighbour descent (pynndescent), as in
    scanpy's graph.

    Parameters
    ----------
    z
        float32 (cells, dimensions), as the graph was made of.
    drawn
        int (drawn cells,): rows of `z`.
    membership, places
        Of the drawn cells: int (drawn cells,) and float32 (drawn cells, 2).

    Returns
    -------
    The same for all cells.
    """
    from pynndescent import NNDescent

    index = NNDescent(z[drawn], n_neighbors=2 * NEIGHBOURS, random_state=seed, n_jobs=1)
    index.prepare()
    all_clusters = np.empty(len(z), dtype=np.int64)
    all_places = np.empty((len(z), 2), dtype=np.float32)
    for start in range(0, len(z), _ROWS):
        rows = slice(start, start + _ROWS)
        nearest, _ = index.query(z[rows], k=NEIGHBOURS)
        of = membership[nearest]
        # how many of the 15 are of the same cluster as each: the first with most is the nearest
        times = np.stack([(of == of[:, [at]]).sum(axis=1) for at in range(NEIGHBOURS)], axis=1)
        chosen = of[np.arange(len(of)), times.argmax(axis=1)]
        same = (of == chosen[:, None]).astype(np.float64)
        mean = (places[nearest] * same[:, :, None]).sum(axis=1) / same.sum(axis=1, keepdims=True)
        all_clusters[rows], all_places[rows] = chosen, mean
    all_clusters[drawn], all_places[drawn] = membership, places
    return all_clusters, all_places


def majority_labels(clusters: np.ndarray, labels: np.ndarray) -> dict[str, str]:
    """The commonest label of each cluster, ties to the first in the alphabet.

    Unknown is a cluster's label only where more than half of its cells are Unknown: a tenth of
    rejected cells must not name a cluster whose other cells are split between two siblings.
    Cells without a cluster ("") get no label ("").
    """
    found = {"": ""}
    table = pd.crosstab(pd.Series(clusters, name="c"), pd.Series(labels, name="l"))
    for cluster, counts in table.iterrows():
        if cluster == "":
            continue
        unknown = int(counts.get(UNKNOWN, 0))
        known = counts.drop(UNKNOWN, errors="ignore").sort_index()
        if known.empty or 2 * unknown > int(counts.sum()):
            found[str(cluster)] = UNKNOWN
        else:
            found[str(cluster)] = str(known.idxmax())
    return found


def read_batches(h5ads: Iterable[str | Path]) -> dict[str, np.ndarray]:
    """The batch of every cell of each `<sample>.norm.h5ad`, str (cells,), samples in the order of their names."""
    found = {}
    for sample, path in by_sample(h5ads, ".norm.h5ad").items():
        with h5py.File(path) as file:
            found[sample] = np.asarray(read_elem(file["obs/batch"]).astype(str))
    return found


def read_barcodes(h5ad: Path) -> np.ndarray:
    """Names of an h5ad's cells, without reading the matrix."""
    with h5py.File(h5ad) as file:
        return read_elem(file["obs"]).index.to_numpy(dtype=object)


def cluster_cohort(
    h5ads: Iterable[str | Path],
    embeddings: Iterable[str | Path],
    annotations: Iterable[str | Path],
    *,
    resolution: float,
    seed: int,
    integrate: bool = False,
) -> tuple[pa.Table, np.ndarray | None]:
    """Clusters, map and majority labels of all samples' cells.

    Parameters
    ----------
    h5ads, embeddings, annotations
        `<sample>.norm.h5ad`, `<sample>.<start>.embedding.npy`, `<sample>.annotation.parquet`.
    resolution, seed
        See `cluster_embedding`.
    integrate
        Whether batches are integrated by Harmony first; there must be two.

    Returns
    -------
    cells, integrated
        Table with one row per cell, samples in the order of their names and cells in the order of
        their h5ad: sample, barcode, `MAP` and, where integrated, `MAP_BEFORE` (float32), spikgpt_cluster,
        spikgpt_cluster_cell_type. Its metadata names the cohort's cell types and clusters.
        float32 (cells, components), what Harmony made of the embedding; None without it.

    Raises
    ------
    ValueError
        The files do not belong together.
    """
    files = by_sample(h5ads, ".norm.h5ad")
    cells_by_sample = {sample: read_barcodes(p) for sample, p in files.items()}
    labels_by_sample = {
        sample: pd.read_parquet(path, columns=["barcode", "spikgpt_cell_type", "spikgpt_best_match"])
        for sample, path in by_sample(annotations, ".annotation.parquet").items()
    }
    if set(cells_by_sample) != set(labels_by_sample):
        raise ValueError("h5ad, embedding and annotation are not of the same samples")
    for sample, barcodes in cells_by_sample.items():
        if not np.array_equal(labels_by_sample[sample]["barcode"].to_numpy(dtype=object), barcodes):
            raise ValueError(f"{sample}: the annotation's barcodes are not those of the h5ad")
    joined = joined_embeddings(embeddings, {sample: len(cells) for sample, cells in cells_by_sample.items()})
    print(f"clustering {len(joined)} cells of {len(cells_by_sample)} samples", file=sys.stderr)
    batches = np.concatenate(list(read_batches(files.values()).values())) if integrate else None
    found = cluster_embedding(joined, resolution=resolution, seed=seed, batches=batches)
    labels = pd.concat(labels_by_sample.values(), ignore_index=True).astype(str)
    majority = majority_labels(found.clusters, labels["spikgpt_cell_type"].to_numpy(dtype=object))
    maps = [(MAP, found.umap)] if found.unintegrated is None else [(MAP, found.umap), (MAP_BEFORE, found.unintegrated)]
    table = pa.table(
        {
            "sample": pa.array(
                np.repeat(list(cells_by_sample), [len(b) for b in cells_by_sample.values()]), pa.string()
            ),
            "barcode": pa.array(np.concatenate(list(cells_by_sample.values())), pa.string()),
            **{name: places[:, at] for names, places in maps for at, name in enumerate(names)},
            "spikgpt_cluster": pa.array(found.clusters, pa.string()),
            "spikgpt_cluster_cell_type": pa.array([majority[c] for c in found.clusters], pa.string()),
        }
    )
    types = sorted({*labels["spikgpt_cell_type"], *labels["spikgpt_best_match"]} - {UNKNOWN, ""})
    told = {CELL_TYPES_KEY: types, CLUSTERS_KEY: cluster_order(found.clusters)}
    return table.replace_schema_metadata({key: json.dumps(names).encode() for key, names in told.items()}), (
        found.integrated
    )


def cells_of_samples(table: pa.Table, integrated: np.ndarray | None) -> Iterator[tuple[str, pa.Table]]:
    """The rows of `cluster_cohort` sample by sample, with what Harmony made of each cell's embedding (`INTEGRATED`).

    So that the task that writes a sample's h5ad reads what is its own, and not the cohort's.
    """
    samples = table["sample"].to_numpy(zero_copy_only=False)
    starts = np.flatnonzero(np.r_[True, samples[1:] != samples[:-1]]) if len(samples) else np.array([], dtype=np.int64)
    for start, end in pairwise([*starts.tolist(), len(samples)]):
        part = table.slice(start, end - start)
        if integrated is not None:
            rows = pa.array(np.ascontiguousarray(integrated[start:end]).ravel())
            part = part.append_column(INTEGRATED, pa.FixedSizeListArray.from_arrays(rows, integrated.shape[1]))
        yield str(samples[start]), part


def cluster_order(names: Iterable[str]) -> list[str]:
    """Cluster names in the order of their numbers, cells without a cluster ("") last."""
    return sorted(set(names), key=lambda name: (name == "", int(name) if name else 0))


def write_cohort_cells(path: str | Path, table: pa.Table) -> None:
    """Write the table of `cluster_cohort`, or of `cells_of_samples`."""
    pq.write_table(table, path)
