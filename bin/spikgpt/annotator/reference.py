"""The labelled reference: reading it, checking it, splitting it."""

from dataclasses import dataclass, field
from pathlib import Path

import anndata as ad
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from spikgpt import UNKNOWN
from spikgpt.annotator.cells import Codes
from spikgpt.base.errors import UserError
from spikgpt.base.h5ad import MESSAGES
from spikgpt.base.ontology import terms_of

MIN_CELLS_OF_GENE = 3
"""Genes seen in fewer reference cells are left out: they cannot tell types apart."""
MIN_CELLS = 30
"""Fewest cells of a reference: below, nothing can be held out to calibrate on."""
STRATIFIED_FOLDS = 3
MAX_FOLDS = 5
COVERED = 0.8
"""Folds are whole batches when at least this share of cells has its type in another fold too."""


@dataclass
class Reference:
    """Cells of the reference, rows sorted by batch and barcode.

    ``counts`` (cells, genes) raw counts of the kept ``genes``; ``embedding`` (cells, embedding_size);
    ``codes`` (cells,) into ``classes``; ``batch_codes`` (cells,) into ``batches``; ``depth`` (cells,) counts.
    ``ontology``: Cell Ontology term of the classes that have one; ``messages``: what the import of the reference told.
    """

    counts: sp.csr_matrix
    genes: list[str]
    embedding: NDArray[np.float32]
    codes: Codes
    classes: list[str]
    batch_codes: Codes
    batches: list[str]
    depth: NDArray[np.float64]
    without_known_gene: int
    ontology: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)


def read_embedding(paths: list[Path], cells: int, where: str) -> NDArray[np.float32]:
    """Fragments of an embedding, in order of their names, as one ``(cells, embedding_size)`` matrix."""
    parts = [np.load(path, mmap_mode="r", allow_pickle=False) for path in sorted(paths, key=lambda path: path.name)]
    found = sum(len(part) for part in parts)
    if found != cells:
        raise UserError(
            "The embedding has another number of cells than the matrix.",
            where=where,
            found=f"{found} rows of embedding",
            expected=f"{cells}",
            fix="embed every cell of this file, each once",
        )
    return np.concatenate(parts, dtype=np.float32)


def read_reference(path: Path, embeddings: list[Path], classes: list[str] | None = None) -> Reference:
    """Read ``norm.h5ad`` of the reference and its embedding, and check that it can be learned from."""
    data = ad.read_h5ad(path)
    embedding = read_embedding(embeddings, data.n_obs, str(path))
    labels = data.obs["cell_type"].astype(str).to_numpy()
    batches = data.obs["batch"].astype(str).to_numpy()
    order = np.lexsort((data.obs_names.astype(str).to_numpy(), batches))
    known = np.asarray(np.isfinite(embedding).all(axis=1))
    order = order[known[order]]
    labels, batches = labels[order], batches[order]
    counts = sp.csr_matrix(data.layers["counts"])[order].astype(np.float32)
    keep = np.flatnonzero(np.asarray((counts > 0).sum(axis=0)).ravel() >= MIN_CELLS_OF_GENE)
    counts = counts[:, keep].tocsr()
    counts.sort_indices()
    names = sorted(set(labels)) if classes is None else classes
    check(labels, str(path))
    place = {name: number for number, name in enumerate(names)}
    found_batches = sorted(set(batches))
    batch_place = {name: number for number, name in enumerate(found_batches)}
    return Reference(
        counts,
        data.var_names[keep].astype(str).tolist(),
        embedding[order],
        np.array([place[label] for label in labels], dtype=np.int64),
        names,
        np.array([batch_place[batch] for batch in batches], dtype=np.int64),
        found_batches,
        np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel(),
        int((~known).sum()),
        terms_of(data.obs),
        [str(message) for message in data.uns.get(MESSAGES, [])],
    )


def check(labels: NDArray[np.object_], where: str) -> None:
    """Refuse a reference that nothing can be learned from."""
    names, cells = np.unique(labels.astype(str), return_counts=True)
    if len(names) < 2:
        raise UserError(
            "The reference has a single cell type.",
            where=f"{where}, obs[cell_type]",
            found=", ".join(names) or "no cell",
            expected="at least two types",
            fix="name the column with the cell types by --label_key, or add cells of other types",
        )
    if UNKNOWN in names:
        raise UserError(
            f"The reference has a cell type called {UNKNOWN}.",
            where=f"{where}, obs[cell_type]",
            found=f"{int(cells[names == UNKNOWN][0])} cells",
            expected=f"no such label: {UNKNOWN} is the word for a rejected cell",
            fix="remove those cells from the reference, or give them another name",
        )
    if cells.sum() < MIN_CELLS:
        raise UserError(
            "The reference has too few cells to hold some out for calibration.",
            where=where,
            found=f"{int(cells.sum())} cells",
            expected=f"at least {MIN_CELLS}",
            fix="add cells to the reference",
        )
    if np.sort(cells)[-2] < STRATIFIED_FOLDS:
        raise UserError(
            "The reference has a single cell type with enough cells to learn from.",
            where=f"{where}, obs[cell_type]",
            found=", ".join(f"{n} {c}" for n, c in zip(names, cells, strict=True)),
            expected=f"two types with at least {STRATIFIED_FOLDS} cells each",
            fix="add cells of the small types to the reference",
        )


def folds(reference: Reference, seed: int) -> tuple[Codes, str]:
    """Fold of each cell ``(cells,)``, and ``batch`` or ``stratified``.

    Whole batches are held out where there are several and types recur across them: cells of one batch
    resemble each other more than a new sample's will. Else cells are dealt out at random, type by type.
    """
    codes, batches = reference.codes, reference.batch_codes
    number = len(reference.batches)
    if number > 1:
        # large batches first, each to the fold with the fewest cells yet
        sizes = np.bincount(batches)
        load = np.zeros(min(number, MAX_FOLDS))
        fold_of = np.zeros(number, dtype=np.int64)
        for batch in np.argsort(-sizes, kind="stable"):
            fold_of[batch] = int(load.argmin())
            load[fold_of[batch]] += sizes[batch]
        if recur(codes, fold_of[batches]):
            return fold_of[batches], "batch"
    generator = np.random.default_rng(seed)
    out = np.zeros(len(codes), dtype=np.int64)
    for k in np.unique(codes):
        rows = generator.permutation(np.flatnonzero(codes == k))
        # a random start, or fold 0 would hold every single cell of the tiny types
        out[rows] = (np.arange(len(rows)) + generator.integers(STRATIFIED_FOLDS)) % STRATIFIED_FOLDS
    return out, "stratified"


def recur(codes: Codes, fold_of: Codes) -> bool:
    """Whether every fold has cells of types that the others teach, two types at least, and most cells are such."""
    covered = 0
    for fold in np.unique(fold_of):
        inside = fold_of == fold
        taught = np.unique(codes[~inside])
        own = int(np.isin(codes[inside], taught).sum())
        if len(taught) < 2 or own == 0:
            return False
        covered += own
    return covered >= COVERED * len(codes)


def cells_needed(unknown_rate: float) -> int:
    """Calibration cells that a type needs before a p-value of its own could be as small as the rate."""
    return int(np.ceil(1 / unknown_rate - 1))


def large_enough(codes: NDArray[np.int64], classes: int, unknown_rate: float) -> NDArray[np.bool_]:
    """Which types ``(classes,)`` have the cells that calibration needs; all of them where none has.

    The p-value speaks for these types. A handful of cells of a rare type, held out, fits nothing that was
    learned from the other handful: among the calibration scores they would stand as proof that reference
    cells can look like anything, and so hide types that the reference never held.
    """
    enough = np.bincount(codes, minlength=classes) >= cells_needed(unknown_rate)
    return enough if enough.any() else np.ones(classes, dtype=bool)
