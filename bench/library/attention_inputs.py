"""What three kinds of attention get to choose between: prototypes of types, modules of genes, neighbouring cells."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from library.splits import Side
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.neighbors import NearestNeighbors
from spikgpt.annotator.batch import batch_offset
from spikgpt.annotator.cells import Cells
from spikgpt.annotator.expression import SD_FLOOR, ExpressionView, marker_scores
from spikgpt.annotator.ranks import scaled
from spikgpt.base.files import whole_file
from spikgpt.base.genes import Spelling
from spikgpt.base.groups import class_means
from spikgpt.scgpt.checkpoint import Checkpoint
from spikgpt.scgpt.embed import Embedder
from torch import Tensor

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]

GENES_OF_MODULE = 20
"""Marker genes of each type's module."""
CELLS_PER_PROTOTYPE = 3
"""Fewest cells that a prototype is the mean of, where a type has as many in a batch."""


@dataclass
class Material:
    """A reference, with a type left out or none, and its query.

    ``missing`` that type; ``classes`` of the others; ``codes``, ``batches``, ``train`` (reference cells,), ``train``
    False for held-out cells; ``counts`` (cells, genes) on shared genes, ``cls`` (cells, width) and ``modules``
    (cells, modules, width) of both sides, reference first; ``truth`` (query cells,).
    """

    missing: str | None
    classes: NDArray[np.object_]
    codes: Codes
    batches: Codes
    train: NDArray[np.bool_]
    counts: tuple[sp.csr_matrix, sp.csr_matrix]
    cls: tuple[Floats32, Floats32]
    modules: tuple[Floats32, Floats32]
    truth: NDArray[np.object_]


@dataclass
class Prepared:
    """What every variant is given, by part: training cells, held-out cells of the reference, and the query.

    ``expression`` log-probabilities of the expression view for the last two; ``cls`` (cells, width) and ``modules``
    (cells, modules * width) standardised on the training cells, the batch offset of held-out cells and query taken
    off as the product does, by the types that the expression view calls; ``codes``, ``batches`` of the reference.
    """

    missing: str | None
    classes: NDArray[np.object_]
    codes: dict[str, Codes]
    batches: dict[str, Codes]
    expression: dict[str, Floats]
    cls: dict[str, Floats32]
    modules: dict[str, Floats32]
    truth: NDArray[np.object_]

    @classmethod
    def of(cls, material: Material) -> "Prepared":
        rows = {"train": np.flatnonzero(material.train), "held": np.flatnonzero(~material.train)}
        codes = {part: material.codes[of_part] for part, of_part in rows.items()}
        batches = {part: material.batches[of_part] for part, of_part in rows.items()}
        batches["query"] = np.zeros(len(material.truth), dtype=np.int64)
        reference, query = material.counts
        seen = np.flatnonzero(np.asarray((reference > 0).sum(0)).ravel() >= 3)  # as training drops genes
        reference, query = reference[:, seen].tocsr(), query[:, seen].tocsr()
        classes = len(material.classes)
        view = ExpressionView.fit(reference[rows["train"]], codes["train"], classes)
        cells = {"held": (reference[rows["held"]], material.cls[0]), "query": (query, material.cls[1])}
        expression = {part: view.log_probabilities(Cells.of(*of_part)) for part, of_part in cells.items()}
        predicted = {part: log_p.argmax(1) for part, log_p in expression.items()}

        def features(both: tuple[Floats32, Floats32]) -> dict[str, Floats32]:
            own, asked = (side.reshape(len(side), -1) for side in both)
            parts = {"train": own[rows["train"]], "held": own[rows["held"]], "query": asked}
            return standardised(parts, codes["train"], predicted, classes)

        return cls(
            material.missing, material.classes, codes, batches, expression, features(material.cls),
            features(material.modules), material.truth,
        )  # fmt: skip


def standardised(
    parts: dict[str, Floats32], codes: Codes, predicted: dict[str, Codes], classes: int
) -> dict[str, Floats32]:
    """Features ``(cells, features)`` of each part as the embedding view standardises them.

    By mean and standard deviation of the training cells, whose types are ``codes``; of the other parts the batch offset
    is taken off, by their ``predicted`` types.
    """
    mean, sd = parts["train"].mean(0, dtype=np.float64), np.maximum(parts["train"].std(0, dtype=np.float64), 1e-6)
    values = {part: (of_part - mean) / sd for part, of_part in parts.items()}
    type_means = class_means(values["train"], codes, classes)
    cells = np.bincount(codes, minlength=classes).astype(float)
    for part, types in predicted.items():
        values[part] = values[part] - batch_offset(values[part], types, type_means, cells)
    return {part: of_part.astype(np.float32) for part, of_part in values.items()}


# --- genes --------------------------------------------------------------------------------------------


def modules(
    counts: sp.csr_matrix, genes: Sequence[str], codes: Codes, classes: int, known: Collection[str]
) -> list[list[str]]:
    """Of each type its `GENES_OF_MODULE` best markers among the genes that scGPT knows.

    ``counts`` (cells, genes), ``codes`` (cells,), ``known`` symbols. The markers are those of the expression view:
    the largest Welch-like t of the type against all others.
    """
    spelling = Spelling(known)
    readable = np.flatnonzero([(spelling.of(gene) or "") in known for gene in genes])
    scores = marker_scores(scaled(counts, "length"), codes, classes, SD_FLOOR["length"])[:, readable]
    best = [np.argsort(-of_type, kind="stable")[:GENES_OF_MODULE] for of_type in scores]
    return [[genes[at] for at in readable[of_type]] for of_type in best]


@torch.inference_mode()
def outputs(checkpoint: Checkpoint, tokens: Tensor, values: Tensor) -> Tensor:
    """Outputs of scGPT's last layer at every token ``(tokens, width)`` of one cell, ``<cls>`` first.

    `spikgpt.scgpt.model.ScGPT` computes the last layer at ``<cls>`` alone; here it is computed at each gene too.
    """
    model = checkpoint.model
    x = model.encoder(tokens[None]) + model.value_encoder(values[None])  # (1, tokens, width)
    for layer in model.transformer_encoder.layers:
        x = layer(x, None, cls_only=False)
    return x[0]


def embedded_with_modules(
    checkpoint: Checkpoint, side: Side, sets: list[list[list[str]]], folder: Path
) -> tuple[Floats32, list[Floats32]]:
    """CLS embedding ``(cells, width)`` of a side, and for each set of modules its tokens ``(cells, modules, width)``.

    A module's token is the sum of the last layer's outputs at its genes over the number of its genes: a gene without
    a count has no output and adds nothing. Kept in ``folder`` between runs.
    """
    key = hashlib.sha256(checkpoint.sha256.encode())
    key.update(side.counts.data.tobytes() + side.counts.indices.tobytes() + "\n".join(side.genes).encode())
    key.update(repr(sets).encode())
    path = folder / f"modules_{key.hexdigest()[:24]}.npz"
    if not path.exists():
        embedder = Embedder(checkpoint, side.genes, sample="bench", max_tokens=1200, seed=0, device="cpu", threads=1)
        place = {gene: token for gene, token in zip(side.genes, embedder.gene_tokens, strict=True) if token >= 0}
        members = []
        for one in sets:
            member = torch.zeros(len(checkpoint.vocabulary), len(one))  # (vocabulary, modules)
            for number, genes in enumerate(one):
                member[[place[gene] for gene in genes], number] = 1 / len(genes)
            members.append(member)
        cls, pooled = [], [[] for _ in sets]
        for row, barcode in enumerate(side.barcodes):
            cell = embedder.tokens_of(side.counts, row, barcode)
            assert cell is not None, "a cell of the bench without a gene that scGPT knows"
            tokens = torch.from_numpy(cell.tokens)
            out = outputs(checkpoint, tokens, torch.from_numpy(cell.values))
            cls.append(F.normalize(out[0], dim=0).numpy())
            for member, of_set in zip(members, pooled, strict=True):
                of_set.append((member[tokens].T @ out).numpy())  # (modules, tokens) @ (tokens, width)
        with whole_file(path) as partial:
            np.savez(partial, cls=np.stack(cls), **{f"set{n}": np.stack(of_set) for n, of_set in enumerate(pooled)})
    stored = np.load(path)
    return stored["cls"], [stored[f"set{n}"] for n in range(len(sets))]


# --- prototypes ---------------------------------------------------------------------------------------


@dataclass
class Keys:
    """Prototypes ``cells`` (keys, embedding_size) of types ``codes`` (keys,); ``asked`` (any rows,): the training
    cells that may be asked of them."""

    cells: Floats32
    codes: Codes
    asked: Codes

    def values(self, classes: int) -> Tensor:
        """``(keys, classes)``: the keys of a type share 1, a type without a key has a column of 0."""
        hot = np.eye(classes, dtype=np.float32)[self.codes]
        return torch.from_numpy(hot / np.maximum(hot.sum(0), 1))


def prototypes(values: Floats32, codes: Codes, batches: Codes, per_type: int) -> tuple[Floats32, Codes]:
    """At most ``per_type`` k-means centres of every type in every batch, and their types.

    ``values`` (cells, features), ``codes`` and ``batches`` (cells,).
    """
    cells, types = [], []
    for batch in np.unique(batches):
        for k in np.unique(codes[batches == batch]):
            rows = values[(batches == batch) & (codes == k)]
            number = min(per_type, max(1, len(rows) // CELLS_PER_PROTOTYPE))
            means = KMeans(number, n_init=1, max_iter=20, random_state=0).fit(rows).cluster_centers_
            cells.append(means.astype(np.float32))
            types += [k] * number
    return np.concatenate(cells), np.array(types, dtype=np.int64)


def episodes(values: Floats32, codes: Codes, batches: Codes, per_type: int) -> list[Keys]:
    """Keys that are never of the batch of the cells that ask: of the other batches, or, in a reference of one batch,
    of the other half of its cells, drawn three times."""
    groups = [batches == batch for batch in np.unique(batches)]
    if len(groups) == 1:
        draw = np.random.default_rng(0)
        firsts = [draw.random(len(codes)) < 0.5 for _ in range(3)]
        groups = [half for first in firsts for half in (first, ~first)]
    out = []
    for asked in groups:
        keys, types = prototypes(values[~asked], codes[~asked], batches[~asked], per_type)
        # a cell whose type has no key cannot be answered
        out.append(Keys(keys, types, np.flatnonzero(asked & np.isin(codes, types))))
    return [keys for keys in out if len(keys.asked)]


# --- neighbours ---------------------------------------------------------------------------------------


def with_neighbours(values: Floats32, batches: Codes, k: int) -> Floats32:
    """Each cell and its ``k`` nearest cells of its batch by the embedding: ``(cells, (1 + k) * features)``.

    ``values`` (cells, features), ``batches`` (cells,). In a batch of too few cells the nearest are repeated.
    """
    out = np.empty((len(values), 1 + k, values.shape[1]), dtype=np.float32)
    for batch in np.unique(batches):
        rows = np.flatnonzero(batches == batch)
        number = min(1 + k, len(rows))
        near = NearestNeighbors(n_neighbors=number).fit(values[rows]).kneighbors(values[rows], return_distance=False)
        near[:, 0] = np.arange(len(rows))  # the cell itself, though another may be identical
        out[rows] = values[rows[near[:, np.arange(1 + k) % number]]]
    return out.reshape(len(values), -1)
