"""All samples together: clusters and map on the embedding, and the annotated h5ad files.

Every function gives the same result whatever order its samples come in: samples are taken
in the order of their names, genes of the cohort in the order of theirs.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import scipy.sparse as sp
from anndata.io import read_elem, write_elem

from spikgpt import UNKNOWN
from spikgpt.layout import BLOCK, COMPRESSION, csr_blocks, gene_frame, new_h5ad, stored, write_csr, write_frame
from spikgpt.ontology import TERM
from spikgpt.report.palette import cell_type_colours
from spikgpt.variable_genes import Moments, highly_variable

SAMPLE_COLUMNS = ("sample", "batch", "donor", "condition")
QC_COLUMNS = ("n_genes_by_counts", "total_counts", "pct_counts_mt", "doublet_score", "predicted_doublet")
LABEL_COLUMNS = (
    "spikgpt_cell_type",
    "spikgpt_best_match",
    "spikgpt_confidence",
    "spikgpt_p_value",
    "spikgpt_unknown_reason",
    TERM,
)
CLUSTER_COLUMNS = ("spikgpt_cluster", "spikgpt_cluster_cell_type")
OBS_COLUMNS = (*SAMPLE_COLUMNS, *QC_COLUMNS, *LABEL_COLUMNS, *CLUSTER_COLUMNS)
"""Columns of `obs` in every annotated h5ad, in this order."""

UNKNOWN_REASONS = ("low_confidence", "outside_reference", "low_gene_match", "low_quality")
"""Why a cell is Unknown; the empty text where it is not."""

CELL_SEPARATOR = ":"
"""Joins barcode and sample to a cell's name in the cohort; a sample's name never holds it."""

NEIGHBOURS = 15
"""Neighbours per cell in the graph of the cohort (scanpy's default)."""

LARGEST_GRAPH = 100_000
"""Cells in that graph at most: time and memory of graph, clusters and map grow faster than the cells."""

_ROWS = 50_000

SMALLEST_MAP = 10
"""Fewer cells than this have no UMAP: its spectral start needs a graph that is larger than it is wide."""

CELL_TYPES_KEY = b"spikgpt_cell_types"
"""Metadata of `cohort_cells.parquet`: the cohort's cell types, so that each sample has the same colours."""


def name_before(path: str | Path, ending: str) -> str:
    """The sample that a file `<sample><ending>` belongs to; ValueError when it ends otherwise."""
    name = Path(path).name
    if not name.endswith(ending) or name == ending:
        raise ValueError(f"{name} is not named <sample>{ending}")
    return name.removesuffix(ending)


def by_sample(paths: Iterable[str | Path], ending: str) -> dict[str, Path]:
    """Files `<sample><ending>`, by sample, in the order of the samples' names."""
    found = {name_before(path, ending): Path(path) for path in paths}
    return dict(sorted(found.items()))


def embedding_chunks(paths: Iterable[str | Path]) -> dict[str, list[Path]]:
    """The chunks of each sample's embedding in the order of their cells, samples in the order of names.

    Parameters
    ----------
    paths
        Files `<sample>.<first cell>.embedding.npy` in any order, each float32 of shape
        (cells of the chunk, dimensions).

    Raises
    ------
    ValueError
        A name is not of that form, or chunks of a sample overlap or leave a gap.
    """
    chunks: dict[str, dict[int, Path]] = {}
    for path in map(Path, paths):
        match = re.fullmatch(r"(.+)\.(\d+)\.embedding\.npy", path.name)
        if match is None:
            raise ValueError(f"{path.name} is not named <sample>.<first cell>.embedding.npy")
        chunks.setdefault(match[1], {})[int(match[2])] = path
    for parts in chunks.values():
        expected = 0
        for start, path in sorted(parts.items()):
            if start != expected:
                raise ValueError(f"{path.name} begins at cell {start}, expected {expected}")
            expected += len(np.load(path, mmap_mode="r"))
    return {sample: [path for _, path in sorted(chunks[sample].items())] for sample in sorted(chunks)}


def read_embeddings(paths: Iterable[str | Path]) -> dict[str, np.ndarray]:
    """Embeddings of whole samples from the files of their chunks, see `embedding_chunks`.

    Returns
    -------
    Sample name to float32 array (cells, dimensions), in the order of names.
    """
    chunks = embedding_chunks(paths)
    return {sample: np.concatenate([np.load(path) for path in parts]) for sample, parts in chunks.items()}


def joined_embeddings(paths: Iterable[str | Path], cells: Mapping[str, int]) -> np.ndarray:
    """The embeddings of all samples in the order of `cells`, one chunk in memory beside them.

    Parameters
    ----------
    cells
        Number of cells of each sample.

    Returns
    -------
    float32 (all cells, dimensions).

    Raises
    ------
    ValueError
        A sample has no embedding, or one for another number of cells.
    """
    chunks = embedding_chunks(paths)
    if set(chunks) != set(cells):
        raise ValueError("h5ad, embedding and annotation are not of the same samples")
    width = np.load(next(iter(chunks.values()))[0], mmap_mode="r").shape[1]
    joined, at = np.empty((sum(cells.values()), width), dtype=np.float32), 0
    for sample, number in cells.items():
        found = sum(len(np.load(path, mmap_mode="r")) for path in chunks[sample])
        if found != number:
            raise ValueError(f"{sample}: {number} cells, {found} embeddings")
        for path in chunks[sample]:
            part = np.load(path)
            joined[at : at + len(part)] = part
            at += len(part)
    return joined


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


def cluster_embedding(embedding: np.ndarray, *, resolution: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Leiden clusters and a UMAP of cells by their embedding, with scanpy.

    Neighbours by Euclidean distance of the standardised embedding; Leiden as in igraph
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
        Of the draw, Leiden and UMAP.

    Returns
    -------
    clusters, umap
        str (cells,): "0" is the largest cluster; "" for cells without an embedding.
        float32 (cells, 2): NaN for those; fewer than ten cells get the first two
        standardised dimensions in place of a UMAP.
    """
    cells = len(embedding)
    clusters = np.full(cells, "", dtype=object)
    umap = np.full((cells, 2), np.nan, dtype=np.float32)
    present = np.flatnonzero(np.isfinite(embedding).all(axis=1))
    if len(present) == 0:
        return clusters, umap
    z = embedding[present]
    standardise(z)
    if len(z) <= LARGEST_GRAPH:
        membership, umap[present] = _graph_clusters(z, resolution=resolution, seed=seed)
    else:
        drawn = np.sort(np.random.default_rng(seed).choice(len(z), LARGEST_GRAPH, replace=False))
        print(f"clusters and map of {len(drawn)} cells drawn from {len(z)}", file=sys.stderr)
        found = _graph_clusters(z[drawn], resolution=resolution, seed=seed)
        membership, umap[present] = place_by_neighbours(z, drawn, *found, seed=seed)
    # numbered by size; equal sizes by their first cell
    names, first, sizes = np.unique(membership, return_index=True, return_counts=True)
    ranks = {int(names[at]): rank for rank, at in enumerate(np.lexsort((first, -sizes)))}
    clusters[present] = [str(ranks[int(member)]) for member in membership]
    return clusters, umap


def _graph_clusters(z: np.ndarray, *, resolution: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Leiden membership (int) and map (float32, two columns) of cells by their standardised embedding."""
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
        float32 (cells, dimensions), standardised.
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
) -> pa.Table:
    """Clusters, map and majority labels of all samples' cells.

    Parameters
    ----------
    h5ads, embeddings, annotations
        `<sample>.norm.h5ad`, `<sample>.<start>.embedding.npy`, `<sample>.annotation.parquet`.
    resolution, seed
        See `cluster_embedding`.

    Returns
    -------
    Table with one row per cell, samples in the order of their names and cells in the order of
    their h5ad: sample, barcode, umap_1, umap_2 (float32), spikgpt_cluster,
    spikgpt_cluster_cell_type. Its metadata names the cohort's cell types.

    Raises
    ------
    ValueError
        The files do not belong together.
    """
    cells_by_sample = {sample: read_barcodes(p) for sample, p in by_sample(h5ads, ".norm.h5ad").items()}
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
    clusters, umap = cluster_embedding(joined, resolution=resolution, seed=seed)
    labels = pd.concat(labels_by_sample.values(), ignore_index=True).astype(str)
    majority = majority_labels(clusters, labels["spikgpt_cell_type"].to_numpy(dtype=object))
    table = pa.table(
        {
            "sample": pa.array(
                np.repeat(list(cells_by_sample), [len(b) for b in cells_by_sample.values()]), pa.string()
            ),
            "barcode": pa.array(np.concatenate(list(cells_by_sample.values())), pa.string()),
            "umap_1": umap[:, 0],
            "umap_2": umap[:, 1],
            "spikgpt_cluster": pa.array(clusters, pa.string()),
            "spikgpt_cluster_cell_type": pa.array([majority[c] for c in clusters], pa.string()),
        }
    )
    types = sorted({*labels["spikgpt_cell_type"], *labels["spikgpt_best_match"]} - {UNKNOWN})
    return table.replace_schema_metadata({CELL_TYPES_KEY: json.dumps(types).encode()})


def cluster_order(names: Iterable[str]) -> list[str]:
    """Cluster names in the order of their numbers, cells without a cluster ("") last."""
    return sorted(set(names), key=lambda name: (name == "", int(name) if name else 0))


def _categorical(values: Any, categories: Sequence[str]) -> pd.Categorical:
    """Values as text with these categories; a value that is none of them is an error, not NaN."""
    texts = pd.Series(values).astype(object).where(lambda v: v.notna(), "").astype(str)
    strange = set(texts) - set(categories)
    if strange:
        raise ValueError(f"values beyond the expected ones: {sorted(strange)[:5]}")
    return pd.Categorical(texts, categories=list(categories))


def annotated_obs(obs: pd.DataFrame, annotation: pd.DataFrame, cohort: pa.Table, sample: str) -> pd.DataFrame:
    """The contract's `obs` of one sample.

    Parameters
    ----------
    obs
        `obs` of the normalised h5ad: sample columns and QC.
    annotation
        The sample's annotation, one row per row of `obs`, with a column `barcode`.
    cohort
        The table of `cluster_cohort`.
    sample
        Name of the sample.

    Returns
    -------
    Data frame indexed by barcode with `OBS_COLUMNS`: text columns categorical, counts int64,
    other numbers float32, `predicted_doublet` bool.
    """
    mine = cohort.filter(pc.equal(cohort["sample"], sample)).to_pandas()
    for name, table in (("annotation", annotation), ("cohort", mine)):
        if not np.array_equal(table["barcode"].to_numpy(dtype=object), obs.index.to_numpy(dtype=object)):
            raise ValueError(f"{sample}: the cells of the {name} are not those of the h5ad")
    types = json.loads(cohort.schema.metadata[CELL_TYPES_KEY])
    made = pd.DataFrame(index=pd.Index(obs.index.astype(str), name="barcode"))
    for column in SAMPLE_COLUMNS:
        texts = obs[column].astype(object).where(obs[column].notna(), "").astype(str)
        made[column] = _categorical(texts.to_numpy(), sorted(set(texts)))
    for column in ("n_genes_by_counts", "total_counts"):
        made[column] = obs[column].round().astype(np.int64).to_numpy()
    for column in ("pct_counts_mt", "doublet_score"):
        made[column] = obs[column].astype(np.float32).to_numpy()
    made["predicted_doublet"] = obs["predicted_doublet"].fillna(False).astype(bool).to_numpy()
    made["spikgpt_cell_type"] = _categorical(annotation["spikgpt_cell_type"], [*types, UNKNOWN])
    made["spikgpt_best_match"] = _categorical(annotation["spikgpt_best_match"], types)
    for column in ("spikgpt_confidence", "spikgpt_p_value"):
        made[column] = annotation[column].astype(np.float32).to_numpy()
    reasons = ["", *UNKNOWN_REASONS]
    made["spikgpt_unknown_reason"] = _categorical(annotation["spikgpt_unknown_reason"], reasons)
    made[TERM] = _categorical(annotation[TERM], sorted(set(annotation[TERM])))
    made["spikgpt_cluster"] = _categorical(
        mine["spikgpt_cluster"], cluster_order(cohort["spikgpt_cluster"].to_pylist())
    )
    made["spikgpt_cluster_cell_type"] = _categorical(
        mine["spikgpt_cluster_cell_type"],
        [*types, UNKNOWN, *([""] if "" in mine["spikgpt_cluster"].to_numpy() else [])],
    )
    return made[list(OBS_COLUMNS)]


def run_facts(run: Mapping[str, Any], annotation_stats: Mapping[str, Any]) -> dict[str, Any]:
    """What `uns["spikgpt"]` says about the run that made a file.

    Parameters
    ----------
    run
        `run.json`: version and parameters.
    annotation_stats
        `<sample>.annotation.json`: sha256 of annotator and scGPT checkpoint.
    """
    parameters = {name: value for name, value in sorted(run["parameters"].items()) if value is not None}
    return {
        "version": str(run["version"]),
        "parameters": parameters,
        "seed": int(parameters.get("seed", 0)),
        "annotator_sha256": str(annotation_stats["annotator_sha256"]),
        "scgpt_sha256": str(annotation_stats["scgpt_sha256"]),
    }


def write_sample(
    path: str | Path,
    h5ad: str | Path,
    embedding: np.ndarray,
    annotation: pd.DataFrame,
    cohort: pa.Table,
    facts: Mapping[str, Any],
    sample: str,
) -> None:
    """Write the annotated h5ad of one sample in the contract's layout, compressed.

    Parameters
    ----------
    path
        The file to write.
    h5ad
        `<sample>.norm.h5ad`.
    embedding
        float32 (cells, dimensions), NaN rows for cells without one.
    annotation, cohort, sample
        See `annotated_obs`.
    facts
        See `run_facts`.
    """
    with stored(h5ad) as cells:
        obs = annotated_obs(cells.obs, annotation, cohort, sample)
        if len(embedding) != len(obs):
            raise ValueError(f"{sample}: {len(obs)} cells, {len(embedding)} embeddings")
        mine = cohort.filter(pc.equal(cohort["sample"], sample)).to_pandas()
        with new_h5ad(path) as out:
            write_frame(out, "obs", obs)
            write_frame(out, "var", gene_frame(cells.symbols, cells.var["gene_id"].astype(str)))
            # copied as they are compressed
            cells.file.copy("X", out)
            for key in cells.layers:
                cells.file.copy(key, out["layers"])
            write_elem(out, "obsm/X_scGPT", embedding.astype(np.float32), dataset_kwargs=COMPRESSION)
            places = mine[["umap_1", "umap_2"]].to_numpy(dtype=np.float32)
            write_elem(out, "obsm/X_umap", places, dataset_kwargs=COMPRESSION)
            write_elem(out, "uns", {"spikgpt": dict(facts), **category_colours(obs)})


def category_colours(obs: pd.DataFrame) -> dict[str, np.ndarray]:
    """scanpy's `uns` entries that give each cell type the colour it has in the report."""
    made = {}
    for column in ("spikgpt_cell_type", "spikgpt_best_match", "spikgpt_cluster_cell_type"):
        categories = list(obs[column].cat.categories)
        colours = cell_type_colours(categories)
        made[f"{column}_colors"] = np.array([colours[c] for c in categories], dtype=object)
    return made


def _cohort_genes(files: Sequence[h5py.File]) -> pd.DataFrame:
    """The union of the samples' genes, by symbol; an Ensembl id from the first sample that has one."""
    ids: dict[str, str] = {}
    for file in files:
        var = read_elem(file["var"])
        for symbol, gene_id in zip(var.index, var["gene_id"].astype(str), strict=True):
            if not ids.get(symbol):
                ids[symbol] = gene_id
    symbols = sorted(ids)
    return gene_frame(symbols, [ids[s] for s in symbols])


def join_cohort(path: str | Path, h5ads: Iterable[str | Path]) -> None:
    """Join annotated samples to one h5ad, a block of cells at a time.

    Cells are named `<barcode>:<sample>`; samples follow each other by name, genes are the
    union by symbol, by name; a gene that a sample does not have counts zero there. `var` says which genes are
    highly variable within batches (`spikgpt.variable_genes`). Peak memory is `obs`, one block and two numbers per
    batch and gene, whatever the size of the matrices. anndata's `concat_on_disk` does not do: in 0.12.2 it writes
    uncompressed, and copies a single file without renaming its cells.

    Parameters
    ----------
    path
        The file to write.
    h5ads
        `<sample>.h5ad` of `write_sample`, all of one run.
    """
    samples = by_sample(h5ads, ".h5ad")
    files = [h5py.File(file) for file in samples.values()]
    try:
        genes = _cohort_genes(files)
        columns, frames = [], []
        for sample, file in zip(samples, files, strict=True):
            columns.append(genes.index.get_indexer(read_elem(file["var"]).index).astype(np.int32))
            frame = read_elem(file["obs"])
            frame.index = pd.Index([f"{barcode}{CELL_SEPARATOR}{sample}" for barcode in frame.index], name="cell")
            frames.append(frame)
        obs = join_obs(frames)
        batches = [str(frame["batch"].iloc[0]) for frame in frames]
        moments = Moments(sorted(set(batches)), len(genes))

        def moved(key: str) -> Iterator[sp.csr_matrix]:
            """The blocks of all files, their columns moved to the cohort's."""
            for file, column, batch in zip(files, columns, batches, strict=True):
                for _, block in csr_blocks(file[key], BLOCK):
                    parts = (block.data, column[block.indices], block.indptr)
                    block = sp.csr_matrix(parts, shape=(block.shape[0], len(genes)))
                    if key == "X":
                        # back to CP10k
                        moments.add(block.expm1(), batch)
                    yield block

        with new_h5ad(path) as out:
            write_frame(out, "obs", obs)
            for key in ("X", *(f"layers/{name}" for name in sorted(files[0]["layers"]))):
                print(f"joining {key} of {len(obs)} cells", file=sys.stderr)
                values = sum(len(file[key]["indices"]) for file in files)
                write_csr(out, key, moved(key), len(genes), files[0][key]["data"].dtype, values)
            write_frame(out, "var", genes.join(highly_variable(moments, list(genes.index)).set_axis(genes.index)))
            write_elem(out, "uns", {"spikgpt": read_elem(files[0]["uns/spikgpt"]), **category_colours(obs)})
            for key in ("obsm/X_scGPT", "obsm/X_umap"):
                shape = (len(obs), files[0][key].shape[1])
                joined = out.create_dataset(key, shape, dtype=np.float32, chunks=True, **COMPRESSION)
                joined.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
                start = 0
                for file in files:
                    for first in range(0, len(file[key]), 65536):
                        rows = file[key][first : first + 65536]
                        joined[start + first : start + first + len(rows)] = rows
                    start += len(file[key])
    finally:
        for file in files:
            file.close()


def join_obs(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Rows of all frames; categories are the union in their order (samples' columns and ontology terms: sorted)."""
    joined = pd.DataFrame(index=pd.Index(np.concatenate([f.index.to_numpy() for f in frames]), name="cell"))
    for column in OBS_COLUMNS:
        parts = [frame[column] for frame in frames]
        if isinstance(parts[0].dtype, pd.CategoricalDtype):
            union = list(dict.fromkeys(c for part in parts for c in part.cat.categories))
            if column in (*SAMPLE_COLUMNS, TERM):
                union = sorted(union)
            elif column == "spikgpt_cluster_cell_type" and "" in union:
                union = [*(c for c in union if c != ""), ""]
            texts = np.concatenate([part.astype(object).to_numpy() for part in parts])
            joined[column] = pd.Categorical(texts, categories=union)
        else:
            joined[column] = np.concatenate([part.to_numpy() for part in parts])
    return joined


def write_cohort_cells(path: str | Path, table: pa.Table) -> None:
    """Write the table of `cluster_cohort`."""
    pq.write_table(table, path)
