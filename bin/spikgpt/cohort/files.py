"""The annotated h5ad files: one of each sample, and one of all.

Every function gives the same result whatever order its samples come in: samples are taken
in the order of their names, genes of the cohort in the order of theirs.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from anndata.io import read_elem, write_elem

from spikgpt import UNKNOWN
from spikgpt.base.colours import cell_type_colours
from spikgpt.base.columns import (
    AGREEMENT,
    JUDGE_COLUMNS,
    LEVELS,
    OBS_COLUMNS,
    OPINION,
    OPINION_SCORE,
    QUALITY,
    REASON_NAMES,
    SAMPLE_COLUMNS,
)
from spikgpt.base.h5ad import (
    BLOCK,
    COMPRESSION,
    MEASURED,
    ORTHOLOG,
    constant,
    csr_blocks,
    gene_frame,
    genes_of,
    new_h5ad,
    stored,
    write_csr,
    write_frame,
)
from spikgpt.base.names import CELL_SEPARATOR, by_sample
from spikgpt.base.ontology import TERM
from spikgpt.base.variable_genes import Moments, highly_variable
from spikgpt.cohort.clusters import CELL_TYPES_KEY, CLUSTERS_KEY, INTEGRATED, MAP, MAP_BEFORE
from spikgpt.cohort.proteins import join_proteins, write_sample_proteins

EMBEDDINGS = ("X_scGPT", "X_umap", "X_integrated", "X_umap_unintegrated")
"""`obsm` of the annotated files; the last two where batches were integrated."""


def _categorical(values: Any, categories: Sequence[str]) -> pd.Categorical:
    """Values as text with these categories; a value that is none of them is an error, not NaN."""
    texts = pd.Series(values).astype(object).where(lambda v: v.notna(), "").astype(str)
    strange = set(texts) - set(categories)
    if strange:
        raise ValueError(f"values beyond the expected ones: {sorted(strange)[:5]}")
    return pd.Categorical(texts, categories=list(categories))


def annotated_obs(
    obs: pd.DataFrame, annotation: pd.DataFrame, opinions: pd.DataFrame, cohort: pa.Table, sample: str
) -> pd.DataFrame:
    """The contract's `obs` of one sample.

    Parameters
    ----------
    obs
        `obs` of the normalised h5ad: sample columns and QC.
    annotation
        The sample's annotation, one row per row of `obs`, with a column `barcode`.
    opinions
        Its second opinions, likewise.
    cohort
        The table of `cluster_cohort`, or this sample's part of it.
    sample
        Name of the sample.

    Returns
    -------
    Data frame indexed by barcode with `OBS_COLUMNS`: text columns categorical, counts int64,
    other numbers float32, `predicted_doublet` bool.
    """
    mine = cohort.filter(pc.equal(cohort["sample"], sample)).to_pandas()
    for name, table in (("annotation", annotation), ("second opinion", opinions), ("cohort", mine)):
        if not np.array_equal(table["barcode"].to_numpy(dtype=object), obs.index.to_numpy(dtype=object)):
            raise ValueError(f"{sample}: the cells of the {name} are not those of the h5ad")
    types = json.loads(cohort.schema.metadata[CELL_TYPES_KEY])
    made = pd.DataFrame(index=pd.Index(obs.index.astype(str), name="barcode"))
    for column in SAMPLE_COLUMNS:
        texts = obs[column].astype(object).where(obs[column].notna(), "").astype(str)
        made[column] = _categorical(texts.to_numpy(), sorted(set(texts)))
    for metric in QUALITY:
        values = obs[metric.name]
        if metric.kind == "integer":
            made[metric.name] = values.round().astype(np.int64).to_numpy()
        elif metric.kind == "True/False":
            made[metric.name] = values.fillna(False).astype(bool).to_numpy()
        else:
            made[metric.name] = values.astype(np.float32).to_numpy()
    made["spikgpt_cell_type"] = _categorical(annotation["spikgpt_cell_type"], [*types, UNKNOWN])
    # empty where the tissue profiles could not judge a cell
    unjudged = [""] if (annotation["spikgpt_best_match"] == "").any() else []
    made["spikgpt_best_match"] = _categorical(annotation["spikgpt_best_match"], [*types, *unjudged])
    for column in ("spikgpt_confidence", "spikgpt_p_value"):
        made[column] = annotation[column].astype(np.float32).to_numpy()
    made["spikgpt_unknown_reason"] = _categorical(annotation["spikgpt_unknown_reason"], ["", *REASON_NAMES])
    made[TERM] = _categorical(annotation[TERM], sorted(set(annotation[TERM])))
    for column in (level.name for level in LEVELS):
        made[column] = _categorical(annotation[column], sorted(set(annotation[column])))
    made[AGREEMENT] = annotation[AGREEMENT].astype(np.float32).to_numpy()
    for column in JUDGE_COLUMNS.values():
        made[column] = _categorical(annotation[column], sorted(set(annotation[column])))
    made[OPINION] = _categorical(opinions[OPINION], sorted(set(opinions[OPINION])))
    made[OPINION_SCORE] = opinions[OPINION_SCORE].astype(np.float32).to_numpy()
    made["spikgpt_cluster"] = _categorical(mine["spikgpt_cluster"], json.loads(cohort.schema.metadata[CLUSTERS_KEY]))
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
    opinions: pd.DataFrame,
    cohort: pa.Table,
    facts: Mapping[str, Any],
    sample: str,
    extra: Mapping[str, str],
    proteins: str | Path | None = None,
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
    annotation, opinions, cohort, sample
        See `annotated_obs`.
    facts
        See `run_facts`.
    extra
        The samplesheet's own columns and this sample's values; they follow those of the contract.
    proteins
        `<sample>.protein.h5ad`; None where the sample has no antibody or hashtag counts.
    """
    with stored(h5ad) as cells:
        obs = annotated_obs(cells.obs, annotation, opinions, cohort, sample)
        for column, value in extra.items():
            obs[column] = constant(value, len(obs))
        if len(embedding) != len(obs):
            raise ValueError(f"{sample}: {len(obs)} cells, {len(embedding)} embeddings")
        mine = cohort.filter(pc.equal(cohort["sample"], sample))
        with new_h5ad(path) as out:
            write_frame(out, "obs", obs)
            write_frame(out, "var", genes_of(cells.var))
            # copied as they are compressed
            cells.file.copy("X", out)
            for key in cells.layers:
                cells.file.copy(key, out["layers"])
            write_elem(out, "obsm/X_scGPT", embedding.astype(np.float32), dataset_kwargs=COMPRESSION)
            for key, values in cohort_places(mine).items():
                write_elem(out, f"obsm/{key}", values, dataset_kwargs=COMPRESSION)
            write_elem(out, "uns", {"spikgpt": dict(facts), **category_colours(obs)})
            if proteins is not None:
                write_sample_proteins(out, proteins, obs.index)


def cohort_places(mine: pa.Table) -> dict[str, np.ndarray]:
    """The `obsm` entries that come from the cohort, float32 (cells, columns): the map and, where batches were
    integrated, what they were integrated to and the map without it."""
    made = {"X_umap": MAP, "X_umap_unintegrated": MAP_BEFORE}
    places = {
        key: np.stack([mine[name].to_numpy() for name in names], axis=1).astype(np.float32)
        for key, names in made.items()
        if names[0] in mine.column_names
    }
    if INTEGRATED in mine.column_names:
        lists = mine[INTEGRATED].combine_chunks()
        places["X_integrated"] = lists.flatten().to_numpy().reshape(len(mine), -1).astype(np.float32)
    return places


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
    orthologs: dict[str, str] = {}
    for file in files:
        var = genes_of(read_elem(file["var"]))
        for symbol, gene_id in zip(var.index, var["gene_id"], strict=True):
            if not ids.get(symbol):
                ids[symbol] = gene_id
        # samples are of one species: all have the column or none
        if ORTHOLOG in var:
            orthologs |= var[ORTHOLOG].to_dict()
    symbols = sorted(ids)
    return gene_frame(symbols, [ids[s] for s in symbols], [orthologs[s] for s in symbols] if orthologs else None)


def join_cohort(path: str | Path, h5ads: Iterable[str | Path]) -> None:
    """Join annotated samples to one h5ad, a block of cells at a time.

    Cells are named `<barcode>:<sample>`; samples follow each other by name, genes are the
    union by symbol, by name; a gene that a sample did not measure counts zero there, and `varm["measured"]` (bool, a
    column for each sample) and `var["n_samples_measured"]` tell that from a true zero. `var` says which of the genes
    that all samples measured are highly variable within batches (`spikgpt.base.variable_genes`). Peak memory is `obs`,
    one block and two numbers per
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
        measured = pd.DataFrame(index=genes.index)
        for sample, file in zip(samples, files, strict=True):
            columns.append(genes.index.get_indexer(read_elem(file["var"]).index).astype(np.int32))
            measured[sample] = np.isin(np.arange(len(genes)), columns[-1])
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
            genes["n_samples_measured"] = measured.sum(axis=1).astype(np.int64)
            by_all = measured.all(axis=1).to_numpy()
            variable = highly_variable(moments, list(genes.index), candidates=by_all)
            write_frame(out, "var", genes.join(variable.set_axis(genes.index)))
            write_elem(out, f"varm/{MEASURED}", measured, dataset_kwargs=COMPRESSION)
            write_elem(out, "uns", {"spikgpt": joined_facts(files), **category_colours(obs)})
            for key in (f"obsm/{name}" for name in EMBEDDINGS if name in files[0]["obsm"]):
                shape = (len(obs), files[0][key].shape[1])
                joined = out.create_dataset(key, shape, dtype=np.float32, chunks=True, **COMPRESSION)
                joined.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
                start = 0
                for file in files:
                    for first in range(0, len(file[key]), 65536):
                        rows = file[key][first : first + 65536]
                        joined[start + first : start + first + len(rows)] = rows
                    start += len(file[key])
            join_proteins(out, files, [len(frame) for frame in frames])
    finally:
        for file in files:
            file.close()


def joined_facts(files: Sequence[h5py.File]) -> dict[str, Any]:
    """`uns["spikgpt"]` of the cohort: that of every sample, with the digests of all annotators that gave labels."""
    every = [read_elem(file["uns/spikgpt"]) for file in files]
    digests = sorted({str(facts["annotator_sha256"]) for facts in every})
    return {**every[0], "annotator_sha256": ", ".join(digests)}


def join_obs(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Rows of all frames; categories are the union in their order.

    Those of samples' columns, ontology terms and second opinions are sorted.
    """
    joined = pd.DataFrame(index=pd.Index(np.concatenate([f.index.to_numpy() for f in frames]), name="cell"))
    # every sample has the samplesheet's own columns
    extra = [column for column in frames[0] if column not in OBS_COLUMNS]
    for column in [*OBS_COLUMNS, *extra]:
        parts = [frame[column] for frame in frames]
        if isinstance(parts[0].dtype, pd.CategoricalDtype):
            union = list(dict.fromkeys(c for part in parts for c in part.cat.categories))
            if column in (*SAMPLE_COLUMNS, TERM, OPINION, *JUDGE_COLUMNS.values(), *extra):
                union = sorted(union)
            elif column == "spikgpt_cluster_cell_type" and "" in union:
                union = [*(c for c in union if c != ""), ""]
            texts = np.concatenate([part.astype(object).to_numpy() for part in parts])
            joined[column] = pd.Categorical(texts, categories=union)
        else:
            joined[column] = np.concatenate([part.to_numpy() for part in parts])
    return joined
