"""One file of labelled cells: read, its columns and labels checked; never filtered by quality."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from spikgpt.base.errors import UserError
from spikgpt.base.guards import check_names
from spikgpt.base.ontology import TERM, label_terms
from spikgpt.read_input.counts import match_stats
from spikgpt.read_input.labels import read_labels
from spikgpt.read_input.matrix import Matrix, read_matrix

MISSING = {"", "nan", "na", "n/a", "none", "null", "<na>"}


@dataclass
class ReferenceFile:
    """The labelled cells of a file.

    Attributes
    ----------
    where
        Its name, for messages.
    counts
        int32 CSR (cells, genes); ``barcodes`` (cells,), ``labels`` one a cell, ``batches`` one a cell or None.
    symbols, gene_ids, orthologs
        One a gene, as in `spikgpt.read_input.matrix.Matrix`.
    terms
        Label to its term of the Cell Ontology, of those to which the file gives one.
    excluded, absent
        Label to its cells that were left out; names of `exclude_labels` that the file does not have.
    levels
        The columns that --label_levels names.
    stats
        `spikgpt.read_input.counts.match_stats`.
    """

    where: str
    counts: sparse.csr_matrix
    barcodes: np.ndarray
    symbols: list[str]
    gene_ids: list[str]
    orthologs: list[str] | None
    species: str
    labels: list[str]
    terms: dict[str, str]
    excluded: dict[str, int]
    absent: list[str]
    batches: list[str] | None
    levels: list[pd.Series]
    messages: list[str]
    stats: dict[str, Any]


def read_file(
    path: str | Path,
    vocab: frozenset[str],
    label_key: str,
    batch_key: str | None,
    min_gene_match: float,
    exclude_labels: Sequence[str] = (),
    merge_similar_labels: bool = False,
    species: str | None = None,
    levels: Sequence[str] = (),
    one_of_several: bool = False,
) -> ReferenceFile:
    """Read a file of labelled cells and check it; parameters as in `spikgpt.read_input.reference.import_reference`.

    Parameters
    ----------
    one_of_several
        Whether other files follow: then it may have a single type, and lack a label of `exclude_labels`.

    Raises
    ------
    UserError
        When a column is missing, the labels cannot be used, a cell has no counts, or the matrix is not usable (as for
        any sample).
    """
    matrix = read_matrix(path, vocab, species=species)
    gene_totals = np.asarray(matrix.counts.sum(axis=0, dtype=np.int64)).ravel()
    shared = match_stats(matrix, gene_totals, vocab, min_gene_match, str(path))
    where = Path(path).name
    _column(matrix, label_key, "label_key", where)
    found = read_labels(matrix.obs, label_key, exclude_labels, merge_similar_labels, where, one_of_several)
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
    columns = [_column(matrix, key, "label_levels", where)[found.kept] for key in levels]
    empty = np.flatnonzero(np.diff(counts.indptr) == 0)
    if empty.size:
        raise UserError(
            f"{empty.size} cells of the reference have no counts.",
            where=where,
            found=", ".join(str(name) for name in barcodes[empty[:3]]) + (", ..." if empty.size > 3 else ""),
            expected="cells that its authors would keep: the reference is never filtered",
            fix="Drop these cells from the reference.",
        )
    return ReferenceFile(
        where=where,
        counts=counts,
        barcodes=barcodes,
        symbols=matrix.symbols,
        gene_ids=matrix.gene_ids,
        orthologs=matrix.orthologs,
        species=matrix.species,
        labels=labels,
        terms=terms,
        excluded=found.excluded,
        absent=found.absent,
        batches=batches,
        levels=columns,
        messages=messages,
        stats=shared,
    )


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
