"""Two references given together, beside each alone, on one query: what `bench/levels.py` tells of mixed granularity."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from library.pairs import Cells
from library.splits import Side, every, side, split
from library.task import RATE
from library.terms import TERMS
from sections.levels import FLAT, OWN
from spikgpt import UNKNOWN
from spikgpt.annotator.annotation import Annotator
from spikgpt.annotator.joined import profiles_of, reciprocal_pairs
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
    "pbmc3k, its T cells as one type, and Kang control without CD8 T": ("pbmc3k_coarse", "kang_without_cd8"),
}
"""What is given together, by the name of the row."""
QUERY = "pbmc4k"
COLUMNS = ("reference", "method", "cells", "right", "as_deep", "above", "unknown", "types")
NEAREST = (
    ("pbmc3k, fine", "Kang control"), ("pbmc3k, fine", "pbmc4k"), ("pbmc3k", "pbmc4k"), ("Kang control", "pbmc4k"),
    ("10x v2", "10x v3"), ("pbmc3k", "10x v2"), ("baron lib1", "baron lib2"), ("baron libs 1 and 2", "mouse 1"),
    ("pbmc4k", "donor 101"), ("pbmc3k, fine", "donor 101"), ("pbmc3k", "baron lib1"),
)  # fmt: skip
"""Data sets whose types are held against each other, by the names of `library.pairs`; the last are two tissues."""
NEAREST_COLUMNS = ("one", "other", "type", "nearest", "correlation", "related")
T_CELLS = ("Naive CD4 T", "Memory CD4 T", "CD8 T")


def files(data: Path) -> dict[str, Side]:
    """Each file's cells, with its authors' labels; T cells have one label in one of them, one lacks CD8 T."""
    pbmc3k, kang = (ad.read_h5ad(data / f"{name}.h5ad") for name in ("pbmc3k", "kang_ifnb2k"))
    labels = pbmc3k.obs["cell_type"].astype(str)
    control = (kang.obs["batch"].astype(str) == "CTRL").to_numpy()
    return {
        "pbmc3k": side(pbmc3k, labels, every(pbmc3k)),
        "pbmc3k_coarse": side(pbmc3k, labels.replace(dict.fromkeys(T_CELLS, "T cell")), every(pbmc3k)),
        "kang": side(kang, kang.obs["cell_type"], control),
        "kang_without_cd8": side(
            kang, kang.obs["cell_type"], control & (kang.obs["cell_type"].astype(str) != "CD8 T").to_numpy()
        ),
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
        "right": float(right[emitted].mean()) if emitted.any() else None,
        "as_deep": float((at_or_below & emitted).mean()),
        "above": float((above & emitted).mean()),
        "unknown": float((~emitted).mean()),
    }


def rows(
    data: Path,
    model: Path,
    folder: Path,
    query: Cells,
    embed: Callable[[Side], np.ndarray],
    train: Callable[[Reference], Annotator],
) -> Iterator[dict]:
    """Figures of every reference on the query, flat and on levels."""
    for name, cells in files(data).items():
        write(cells, folder / f"{name}.h5ad")
    for name, parts in REFERENCES.items():
        annotator = train(imported([folder / f"{part}.h5ad" for part in parts], model, embed))
        asked = query.side
        table, _ = annotator.annotate(asked.counts, asked.genes, query.embedding, list(asked.barcodes), RATE)
        for method, label, term in (
            (FLAT, "spikgpt_cell_type", TERM),
            (OWN, "spikgpt_level_cell_type", "spikgpt_level_term_id"),
        ):
            answers, terms = (table[column].to_numpy(dtype=object) for column in (label, term))
            told = {"reference": name, "method": method, "types": len(annotator.classes)}
            yield told | judged(asked.labels, terms, answers)


def nearest(sides: Mapping[str, Side]) -> Iterator[dict]:
    """Types of two data sets that are each other's nearest by `spikgpt.annotator.joined`, whatever their correlation.

    ``related``: one type, or one stands above the other in the Cell Ontology.
    """
    for one, other in NEAREST:
        both = split("", sides[one], sides[other])
        names, profiles = [], []
        for cells in (both.reference, both.query):
            types, codes = np.unique(cells.labels.astype(str), return_inverse=True)
            names.append(types.tolist())
            profiles.append(profiles_of(sp.csr_matrix(cells.counts), codes, len(types)))
        for pair in reciprocal_pairs(*profiles, least=-1.0):
            found = names[0][pair.one], names[1][pair.other]
            terms = [TERMS[name] for name in found]
            related = terms[0] in ancestors(terms[1]) or terms[1] in ancestors(terms[0])
            yield dict(zip(NEAREST_COLUMNS, (one, other, *found, pair.correlation, related), strict=True))
