"""Two references given together, beside each alone, on one query: what `bench/levels.py` tells of mixed granularity."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from library.pairs import Cells
from library.splits import Side, every, side
from library.terms import TERMS
from spikgpt import UNKNOWN
from spikgpt.annotator.training_set import Reference
from spikgpt.base.cell_ontology import ancestors
from spikgpt.base.h5ad import MESSAGES, REFERENCE_FILES
from spikgpt.base.ontology import TERM, terms_of
from spikgpt.read_input.reference import import_reference

REFERENCES = {
    "pbmc3k": ("pbmc3k",),
    "Kang control": ("kang",),
    "pbmc3k and Kang control": ("pbmc3k", "kang"),
    "pbmc3k, its T cells as one type": ("pbmc3k_coarse",),
    "pbmc3k, its T cells as one type, and Kang control": ("pbmc3k_coarse", "kang"),
}
"""What is given together, by the name of the row."""
QUERY = "pbmc4k"
COLUMNS = ("reference", "method", "cells", "right", "as_deep", "above", "unknown", "types")
T_CELLS = ("Naive CD4 T", "Memory CD4 T", "CD8 T")


def files(data: Path) -> dict[str, Side]:
    """Each file's cells, with its authors' labels; in one of them all T cells but NK have one label."""
    pbmc3k, kang = (ad.read_h5ad(data / f"{name}.h5ad") for name in ("pbmc3k", "kang_ifnb2k"))
    labels = pbmc3k.obs["cell_type"].astype(str)
    control = (kang.obs["batch"].astype(str) == "CTRL").to_numpy()
    return {
        "pbmc3k": side(pbmc3k, labels, every(pbmc3k)),
        "pbmc3k_coarse": side(pbmc3k, labels.replace(dict.fromkeys(T_CELLS, "T cell")), every(pbmc3k)),
        "kang": side(kang, kang.obs["cell_type"], control),
    }


def write(cells: Side, path: Path) -> None:
    """A file as a user has it: raw counts, labels with their terms, batches."""
    terms = [TERMS.get(label, "unknown") for label in cells.labels]
    obs = pd.DataFrame(
        {"cell_type": cells.labels.astype(str), TERM: terms, "batch": cells.batches.astype(str)}, index=cells.barcodes
    )
    ad.AnnData(cells.counts, obs=obs, var=pd.DataFrame(index=cells.genes)).write_h5ad(path)


def imported(paths: list[Path], model: Path, embed: Callable[[Side], np.ndarray]) -> Reference:
    """Files as the pipeline imports, joins and embeds them."""
    import json

    adata, _ = import_reference(paths, "cell_type", "batch", model, 0.3)
    labels, batches = (adata.obs[name].astype(str).to_numpy(dtype=object) for name in ("cell_type", "batch"))
    barcodes = adata.obs_names.astype(str).to_numpy(dtype=object)
    joined = Side(
        adata.layers["counts"].astype(np.float32), adata.var_names.astype(str).tolist(), labels, batches, barcodes
    )
    return Reference.of(
        joined.counts, joined.genes, embed(joined), labels, batches, barcodes, "both", terms_of(adata.obs),
        adata.uns[MESSAGES], files=json.loads(adata.uns.get(REFERENCE_FILES, "{}")),
    )  # fmt: skip


def judged(truth: np.ndarray, terms: np.ndarray, answers: np.ndarray) -> dict:
    """Figures of answers ``(cells,)`` and their terms.

    An answer is right where its term is the true one, stands above it or below it: a finer name than the query's
    authors gave is not contradicted by theirs. ``as_deep``: right, and not above the true one.
    """
    emitted = answers != UNKNOWN
    of_truth = np.array([TERMS[name] for name in truth], dtype=object)
    pairs = list(zip(terms, of_truth, strict=True))
    at_or_below = np.array([true in ancestors(term) for term, true in pairs])
    above = np.array([term in ancestors(true) and term != true for term, true in pairs])
    right = at_or_below | above
    return {
        "cells": len(truth),
        "right": float(right[emitted].mean()),
        "as_deep": float((at_or_below & emitted).mean()),
        "above": float((above & emitted).mean()),
        "unknown": float((~emitted).mean()),
    }


def rows(
    data: Path, model: Path, folder: Path, query: Cells, embed: Callable[[Side], np.ndarray], train: Callable
) -> list[dict]:
    """Figures of every reference on the query, flat and on levels."""
    from levels import FLAT, LEVELS
    from library.task import RATE

    found, made = [], files(data)
    for name, cells in made.items():
        write(replace(cells), folder / f"{name}.h5ad")
    for name, parts in REFERENCES.items():
        annotator = train(imported([folder / f"{part}.h5ad" for part in parts], model, embed))
        asked = query.side
        table, _ = annotator.annotate(asked.counts, asked.genes, query.embedding, list(asked.barcodes), RATE)
        for method, label, term in (
            (FLAT, "spikgpt_cell_type", TERM),
            (LEVELS, "spikgpt_level_cell_type", "spikgpt_level_term_id"),
        ):
            answers, terms = (table[column].to_numpy(dtype=object) for column in (label, term))
            told = {"reference": name, "method": method, "types": len(annotator.classes)}
            found.append(told | judged(asked.labels, terms, answers))
    return found
