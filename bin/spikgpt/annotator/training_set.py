"""The labelled cells that an annotator learns from: reading and checking them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import anndata as ad
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from spikgpt import UNKNOWN
from spikgpt.base.arrays import Codes, Flags, Floats, Floats32
from spikgpt.base.cell_ontology import ancestors, terms_of_types
from spikgpt.base.errors import UserError
from spikgpt.base.h5ad import LEVELS, MESSAGES, REFERENCE_FILES, SPECIES
from spikgpt.base.names import joined_embeddings, name_before
from spikgpt.base.ontology import terms_of
from spikgpt.base.species import HUMAN

FEATURES = ("both", "embedding", "expression")
"""Which views of a cell an annotator has: its scGPT embedding, its counts, or both."""
MIN_CELLS_OF_GENE = 3
"""Genes seen in fewer reference cells are left out: they cannot tell types apart."""
MIN_CELLS = 30
"""Fewest cells of a reference: below, nothing can be held out to calibrate on."""
STRATIFIED_FOLDS = 3


@dataclass(frozen=True)
class CoarseLabel:
    """A label of a file, and the names of the types below it that other files tell apart and this one does not."""

    file: str
    name: str
    below: tuple[str, ...]


@dataclass
class Reference:
    """Cells of the reference, rows sorted by batch and barcode.

    ``counts`` (cells, genes) raw counts of the kept ``genes``; ``embedding`` (cells, embedding_size), NaN in the row of
    a cell without a gene that scGPT knows, which only an annotator without the embedding keeps;
    ``codes`` (cells,) into ``classes``; ``batch_codes`` (cells,) into ``batches``; ``depth`` (cells,) counts;
    ``without_known_gene``: cells that were left out for want of an embedding.
    ``ontology``: Cell Ontology term of the classes that have one; ``messages``: those of the reference's import;
    ``species`` a key of `spikgpt.base.species.SPECIES`; ``levels``: class to its labels in the columns of
    `--label_levels`, the coarsest first; ``files``: file to its batches where several were joined;
    ``coarse_labels``, ``coarse`` (cells,): those that cells had before `spikgpt.annotator.coarse_labels` made them
    finer, and which of them, -1 for a cell whose label is as it was; None without such.
    """

    counts: sp.csr_matrix
    genes: list[str]
    embedding: Floats32
    codes: Codes
    classes: list[str]
    batch_codes: Codes
    batches: list[str]
    depth: Floats
    without_known_gene: int
    ontology: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    species: str = HUMAN
    levels: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, list[str]] = field(default_factory=dict)
    coarse_labels: list[CoarseLabel] = field(default_factory=list)
    coarse: Codes | None = None

    @classmethod
    def of(
        cls,
        counts: sp.csr_matrix,
        genes: Sequence[str],
        embedding: Floats32,
        labels: Sequence[str],
        batches: Sequence[str],
        barcodes: Sequence[str],
        features: str,
        ontology: dict[str, str] | None = None,
        messages: Sequence[str] = (),
        species: str = HUMAN,
        levels: dict[str, list[str]] | None = None,
        files: dict[str, list[str]] | None = None,
    ) -> "Reference":
        """The cells that an annotator of these features learns from, in any order, as it takes them.

        ``counts`` (cells, genes); ``embedding`` (cells, embedding_size); ``labels``, ``batches`` and ``barcodes``
        (cells,). Genes seen in fewer than `MIN_CELLS_OF_GENE` cells are left out.
        """
        batch_names = np.asarray(batches, dtype=str)
        order = np.lexsort((np.asarray(barcodes, dtype=str), batch_names))
        readable = readable_cells(embedding, features)
        order = order[readable[order]]
        counts = sp.csr_matrix(counts)[order].astype(np.float32)
        keep = np.flatnonzero(np.asarray((counts > 0).sum(axis=0)).ravel() >= MIN_CELLS_OF_GENE)
        counts = counts[:, keep].tocsr()
        counts.sort_indices()
        classes, codes = np.unique(np.asarray(labels, dtype=str)[order], return_inverse=True)
        batch_classes, batch_codes = np.unique(batch_names[order], return_inverse=True)
        return cls(
            counts=counts,
            genes=np.asarray(genes, dtype=str)[keep].tolist(),
            embedding=embedding[order],
            codes=codes.astype(np.int64),
            classes=classes.tolist(),
            batch_codes=batch_codes.astype(np.int64),
            batches=batch_classes.tolist(),
            depth=np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel(),
            without_known_gene=int((~readable).sum()),
            ontology=ontology or {},
            messages=list(messages),
            species=species,
            levels=levels or {},
            files=files or {},
        )

    @cached_property
    def types_of_file(self) -> dict[str, set[int]]:
        """File to the codes of its types, where several files were joined."""
        batch = {name: number for number, name in enumerate(self.batches)}
        return {
            name: set(np.unique(self.codes[np.isin(self.batch_codes, [batch.get(b, -1) for b in batches])]).tolist())
            for name, batches in self.files.items()
        }

    def of_file(self, file: str) -> Flags:
        """Which cells ``(cells,)`` are of a file."""
        return np.isin(np.array(self.batches, dtype=object), self.files[file])[self.batch_codes]

    def coarse_labels_of_files(self) -> list[CoarseLabel]:
        """Labels of a file with types below them, by the Cell Ontology, that other files have and it has not.

        A file that has "T cell" and none of its subtypes says of a T cell no more than that; one that has both says
        that it is none of the subtypes. Empty for a reference of one file.
        """
        terms = terms_of_types(self.classes, self.ontology) if self.files else {}
        out = []
        for file in sorted(self.files):
            own = {self.classes[k] for k in self.types_of_file[file]}
            for name in sorted(own & set(terms)):
                below = [
                    other
                    for other, term in terms.items()
                    if term != terms[name] and terms[name] in ancestors(term) and other not in own
                ]
                if below:
                    out.append(CoarseLabel(file, name, tuple(below)))
        return out

    def take(self, rows: Codes) -> "Reference":
        """Some of the cells, in order, with the types and batches that they have; files are of no account any more."""
        classes, codes = np.unique(self.codes[rows], return_inverse=True)
        batches, batch_codes = np.unique(self.batch_codes[rows], return_inverse=True)
        names = [self.classes[k] for k in classes]
        return replace(
            self,
            counts=self.counts[rows],
            embedding=self.embedding[rows],
            codes=codes.astype(np.int64),
            classes=names,
            batch_codes=batch_codes.astype(np.int64),
            batches=[self.batches[batch] for batch in batches],
            depth=self.depth[rows],
            ontology={name: term for name, term in self.ontology.items() if name in names},
            levels={name: above for name, above in self.levels.items() if name in names},
            files={},
            coarse_labels=[],
            coarse=None,
        )

    def guessed(self, rows: Codes) -> Flags:
        """Which of the cells ``(rows,)`` had a coarse label: their type may be another one below it."""
        return np.zeros(len(rows), dtype=bool) if self.coarse is None else self.coarse[rows] >= 0

    def telling(self, rows: Codes) -> Flags:
        """Which of the cells ``(rows,)`` tell how right a type is: those whose type is not `guessed`, if any."""
        guessed = self.guessed(rows)
        return np.ones(len(rows), dtype=bool) if guessed.all() else ~guessed

    def labels(self, rows: Codes) -> Codes:
        """Types ``(rows,)`` as the files give them; -1 for a cell whose type was `guessed` and is not its label."""
        codes = self.codes[rows].copy()
        for number, label in enumerate(self.coarse_labels):
            assert self.coarse is not None
            own = self.classes.index(label.name) if label.name in self.classes else -1
            codes[(self.coarse[rows] == number) & (codes != own)] = -1
        return codes

    def settled(self, rows: Codes, worth: Floats) -> Codes:
        """True type ``(cells,)`` of the cells ``rows`` in figures: a coarse label counts for all below it.

        That of the cell; where its label was coarse, the type among that and those below with the largest ``worth``
        ``(cells, classes)``, a log-probability.
        """
        out = self.codes[rows].copy()
        for number, label in enumerate(self.coarse_labels):
            assert self.coarse is not None
            at = np.flatnonzero(self.coarse[rows] == number)
            options = np.flatnonzero(np.isin(np.array(self.classes, dtype=object), (label.name, *label.below)))
            out[at] = options[worth[np.ix_(at, options)].argmax(axis=1)]
        return out


def readable_cells(embedding: Floats32, features: str) -> Flags:
    """Which cells ``(cells,)`` an annotator of these features can read.

    Without a gene that scGPT knows a cell has no embedding (a row of NaN); an annotator that looks at expression alone
    does not need one.
    """
    if features == "expression":
        return np.ones(len(embedding), dtype=bool)
    return np.asarray(np.isfinite(embedding).all(axis=1))


def read_embedding(paths: list[Path], sample: str, cells: int, where: str) -> Floats32:
    """The embedding ``(cells, embedding_size)`` of a sample from its chunks, in any order.

    Raises
    ------
    UserError
        The files are not the chunks of this sample, or do not cover its cells once.
    """
    try:
        return joined_embeddings(paths, {sample: cells})
    except ValueError as error:
        raise UserError(
            "The embedding is not that of the cells.",
            where=where,
            found=str(error),
            expected=f"chunks <sample>.<first cell>.embedding.npy of {sample}, {cells} cells in all",
            fix="embed every cell of this file, each once",
        ) from error


def read_reference(path: Path, embeddings: list[Path], features: str = "both") -> Reference:
    """Read ``<name>.norm.h5ad`` of the reference and its embedding, and check that it can be learned from.

    Raises
    ------
    UserError
        See `read_embedding` and `check`.
    """
    data = ad.read_h5ad(path)
    reference = Reference.of(
        data.layers["counts"],
        data.var_names.astype(str).tolist(),
        read_embedding(embeddings, name_before(path, ".norm.h5ad"), data.n_obs, str(path)),
        data.obs["cell_type"].astype(str).tolist(),
        data.obs["batch"].astype(str).tolist(),
        data.obs_names.astype(str).tolist(),
        features,
        terms_of(data.obs),
        [str(message) for message in data.uns.get(MESSAGES, [])],
        str(data.uns.get(SPECIES, HUMAN)),
        json.loads(data.uns[LEVELS]) if LEVELS in data.uns else None,
        json.loads(data.uns[REFERENCE_FILES]) if REFERENCE_FILES in data.uns else None,
    )
    check(np.array(reference.classes, dtype=object)[reference.codes], str(path))
    return reference


def check(labels: NDArray[np.object_], where: str) -> None:
    """Raise UserError for a reference that nothing can be learned from: its labels ``(cells,)``, and where they are."""
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
