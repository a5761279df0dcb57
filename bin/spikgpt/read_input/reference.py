"""The labelled reference: its labelled cells, taken as its authors cleaned them; checked, never filtered by quality."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

from spikgpt.base.genes import vocabulary
from spikgpt.base.h5ad import LEVELS, MESSAGES, REFERENCE_FILES, SPECIES, constant, count_data, matrix_blocks
from spikgpt.base.metrics import cell_metrics
from spikgpt.base.normalisation import normalise
from spikgpt.base.ontology import NO_TERM, TERM
from spikgpt.read_input.joined_reference import by_name, join
from spikgpt.read_input.levels import label_levels
from spikgpt.read_input.reference_file import read_file

NAME = "reference"


def import_reference(
    paths: str | Path | Sequence[str | Path],
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
    paths
        A file, or several that are joined (`spikgpt.read_input.joined_reference`); their order does not matter.
    levels
        Columns with coarser labels, coarse to fine (`spikgpt.read_input.levels`).

    Returns
    -------
    adata
        Layout of norm.h5ad (`spikgpt.base.normalisation.normalise`) with sample "reference"; obs cell_type and
        batch (str categorical; "reference" when there is no `batch_key`), and the metrics of
        `spikgpt.base.metrics.cell_metrics`. All labelled cells of the file (`spikgpt.read_input.labels`), in its order.
        obs cell_type_ontology_term_id where the reference has it for a label; uns messages and species, and
        label_levels where columns were named: as JSON, label to its names; reference_files where several were joined.
    stats
        Content of `reference.json`; `messages` tells what was found while reading it. What the cells and labels
        themselves give to think about is told by training (`spikgpt.annotator.cautions`).

    Raises
    ------
    UserError
        When a column is missing, the labels cannot be used, a cell has no counts, the matrix is not usable (as for any
        sample), or files cannot be joined.
    """
    vocab = vocabulary(scgpt_model)
    ordered = by_name([paths] if isinstance(paths, str | Path) else paths)
    read = [
        read_file(
            path, vocab, label_key, batch_key, min_gene_match, exclude_labels, merge_similar_labels, species, levels,
            len(ordered) > 1,
        )
        for path in ordered
    ]  # fmt: skip
    files: dict[str, dict[str, Any]] = {}
    if len(read) == 1:
        cells = read[0]
    else:
        cells, files = join(read, label_key, min_gene_match, merge_similar_labels)
    coarser = label_levels(cells.levels, levels, cells.labels, cells.where)
    counted = count_data(cells.counts, cells.barcodes, cells.symbols, cells.gene_ids, cells.orthologs)
    metrics = cell_metrics(matrix_blocks(cells.counts), cells.barcodes, cells.symbols)
    counted.obs = metrics.drop(columns="barcode").set_axis(counted.obs_names, axis=0)
    adata = normalise(counted, NAME)
    adata.obs["batch"] = constant(NAME, adata.n_obs) if cells.batches is None else _categorical(cells.batches)
    adata.obs.insert(0, "cell_type", _categorical(cells.labels))
    if cells.terms:
        adata.obs[TERM] = _categorical([cells.terms.get(label, NO_TERM) for label in cells.labels])
    if coarser:
        adata.uns[LEVELS] = json.dumps(coarser, sort_keys=True)
    if files:
        batches = {name: list(of_file["batches"]) for name, of_file in files.items()}
        adata.uns[REFERENCE_FILES] = json.dumps(batches, sort_keys=True)
    adata.uns[MESSAGES] = np.array(cells.messages, dtype=object)
    adata.uns[SPECIES] = cells.species
    sizes = pd.Series(cells.labels).value_counts()
    stats = {
        "sample": NAME,
        **cells.stats,
        "cells": int(adata.n_obs),
        "excluded_labels": cells.excluded,
        "label_key": label_key,
        "batch_key": batch_key or None,
        "classes": {label: int(sizes[label]) for label in sorted(sizes.index)},
        "batches": {str(b): int(n) for b, n in adata.obs["batch"].value_counts().sort_index().items()},
        "ontology": cells.terms,
        "messages": cells.messages,
    }
    return adata, stats | ({"files": files} if files else {})


def _categorical(values: list[str]) -> pd.Categorical:
    return pd.Categorical(values, categories=pd.Index(sorted(set(values)), dtype=object))
