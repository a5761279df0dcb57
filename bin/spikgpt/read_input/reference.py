"""The labelled reference: its labelled cells, taken as its authors cleaned them; checked, never filtered by quality."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

from spikgpt.base.errors import UserError
from spikgpt.base.genes import vocabulary
from spikgpt.base.guards import check_names
from spikgpt.base.h5ad import LEVELS, MESSAGES, SPECIES, constant, count_data, matrix_blocks
from spikgpt.base.metrics import cell_metrics
from spikgpt.base.normalisation import normalise
from spikgpt.base.ontology import NO_TERM, TERM, label_terms
from spikgpt.read_input.counts import match_stats
from spikgpt.read_input.labels import read_labels
from spikgpt.read_input.levels import label_levels
from spikgpt.read_input.matrix import Matrix, read_matrix

NAME = "reference"
MISSING = {"", "nan", "na", "n/a", "none", "null", "<na>"}


def import_reference(
    path: str | Path,
    label_key: str,
    batch_key: str | None,
    scgpt_model: str | Path,
    min_gene_match: float,
    exclude_labels: Sequence[str] = (),
    merge_similar_labels: bool = False,
    species: str | None = None,
    levels: Sequence[str] = (),
) -> tuple[ad.AnnData, dict[str, Any]]:
    """Read a labelled reference and check that an annotator can be trained on it.

    Parameters
    ----------
    levels
        Columns with coarser labels, coarse to fine (`spikgpt.read_input.levels`).

    Returns
    -------
    adata
        Layout of norm.h5ad (`spikgpt.base.normalisation.normalise`) with sample "reference"; obs cell_type and
        batch (str categorical; "reference" when there is no `batch_key`), and the metrics of
        `spikgpt.base.metrics.cell_metrics`. All labelled cells of the file (`spikgpt.read_input.labels`), in its order.
        obs cell_type_ontology_term_id where the reference has it for a label; uns messages and species, and
        label_levels where columns were named: as JSON, label to its names.
    stats
        Content of `reference.json`; `messages` tells what was found while reading it. What the cells and labels
        themselves give to think about is told by training (`spikgpt.annotator.cautions`).

    Raises
    ------
    UserError
        When a column is missing, the labels cannot be used, a cell has no counts, or the matrix is not usable (as for
        any sample).
    """
    vocab = vocabulary(scgpt_model)
    matrix = read_matrix(path, vocab, species=species)
    gene_totals = np.asarray(matrix.counts.sum(axis=0, dtype=np.int64)).ravel()
    shared = match_stats(matrix, gene_totals, vocab, min_gene_match, str(path))
    where = Path(path).name
    _column(matrix, label_key, "label_key", where)
    found = read_labels(matrix.obs, label_key, exclude_labels, merge_similar_labels, where)
    labels, obs = found.labels, matrix.obs[found.kept]
    counts, barcodes = matrix.counts[found.kept], matrix.barcodes[found.kept]
    # the filter on mitochondrial counts, of which a warning may speak, is not for references
    messages = [*matrix.messages, *(text for text in matrix.warnings if "mitochondrial" not in text), *found.messages]
    terms = found.terms
    if not terms and TERM in obs:
        given = obs[TERM]
        terms, more = label_terms(labels, given.astype(object).where(given.notna(), "").astype(str).tolist())
        messages += more
    batches = (
        _batches(_column(matrix, batch_key, "batch_key", where)[found.kept], batch_key, where) if batch_key else None
    )
    coarser = label_levels(
        [_column(matrix, key, "label_levels", where)[found.kept] for key in levels], levels, labels, where
    )
    empty = np.flatnonzero(np.diff(counts.indptr) == 0)
    if empty.size:
        raise UserError(
            f"{empty.size} cells of the reference have no counts.",
            where=where,
            found=", ".join(str(name) for name in barcodes[empty[:3]]) + (", ..." if empty.size > 3 else ""),
            expected="cells that its authors would keep: the reference is never filtered",
            fix="Drop these cells from the reference.",
        )
    counted = count_data(counts, barcodes, matrix.symbols, matrix.gene_ids, matrix.orthologs)
    metrics = cell_metrics(matrix_blocks(counts), barcodes, matrix.symbols)
    counted.obs = metrics.drop(columns="barcode").set_axis(counted.obs_names, axis=0)
    adata = normalise(counted, NAME)
    adata.obs["batch"] = constant(NAME, adata.n_obs) if batches is None else _categorical(batches)
    adata.obs.insert(0, "cell_type", _categorical(labels))
    if terms:
        adata.obs[TERM] = _categorical([terms.get(label, NO_TERM) for label in labels])
    if coarser:
        adata.uns[LEVELS] = json.dumps(coarser, sort_keys=True)
    adata.uns[MESSAGES] = np.array(messages, dtype=object)
    adata.uns[SPECIES] = matrix.species
    sizes = pd.Series(labels).value_counts()
    stats = {
        "sample": NAME,
        **shared,
        "cells": int(adata.n_obs),
        "excluded_labels": found.excluded,
        "label_key": label_key,
        "batch_key": batch_key or None,
        "classes": {label: int(sizes[label]) for label in sorted(sizes.index)},
        "batches": {str(b): int(n) for b, n in adata.obs["batch"].value_counts().sort_index().items()},
        "ontology": terms,
        "messages": messages,
    }
    return adata, stats


def _categorical(values: list[str]) -> pd.Categorical:
    return pd.Categorical(values, categories=pd.Index(sorted(set(values)), dtype=object))


def _column(matrix: Matrix, key: str, parameter: str, where: str) -> pd.Series:
    """A column of obs, or an error that lists those there are and suggests the nearest."""
    if key in matrix.obs:
        return matrix.obs[key]
    from difflib import get_close_matches

    columns = [str(name) for name in matrix.obs.columns]
    by_lower = {name.lower(): name for name in columns}
    near = get_close_matches(key.lower(), list(by_lower), n=1, cutoff=0.5)
    if not columns:
        fix = "Give the reference as an h5ad (or zarr, loom) with its labels in obs."
    else:
        fix = f"Correct --{parameter}" + (f": did you mean {by_lower[near[0]]}?" if near else " to one of these.")
    raise UserError(
        f"The reference has no column {key!r}.",
        where=f"{where}, --{parameter} {key}",
        found=f"obs columns {', '.join(columns)}" if columns else f"a {matrix.format} file, which has no obs columns",
        expected="a column of obs",
        fix=fix,
    )


def _batches(column: pd.Series, key: str, where: str) -> list[str]:
    missing = column.isna().to_numpy() | column.astype(str).str.strip().str.lower().isin(MISSING).to_numpy()
    if missing.any():
        raise UserError(
            f"{int(missing.sum())} of {len(column)} cells of the reference have no batch.",
            where=f"{where}, obs column {key}",
            found=f"missing for {', '.join(str(name) for name in column.index[missing][:3])}",
            expected="a batch for every cell",
            fix="Fill the column, or leave --batch_key out.",
        )
    batches = column.astype(str).str.strip().tolist()
    check_names(sorted(set(batches)), "batches", f"{where}, obs column {key}")
    return batches
