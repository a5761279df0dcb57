"""The annotator: what a model folder holds, and what it says about the cells of a sample."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from spikgpt import UNKNOWN
from spikgpt.annotator import network as spiking
from spikgpt.annotator.cells import Cells, Codes, Floats, side_by_side
from spikgpt.annotator.conformal import Calibration, p_values
from spikgpt.annotator.distances import smoothed
from spikgpt.annotator.mixture import Mixture
from spikgpt.annotator.views import FEATURES, Arrays, Views, named, unnamed
from spikgpt.base.columns import LOW_CONFIDENCE, LOW_GENE_MATCH, LOW_QUALITY, OUTSIDE_REFERENCE, REASON_NAMES
from spikgpt.base.errors import UserError
from spikgpt.base.files import read_json_object, whole_file, write_json
from spikgpt.base.ontology import TERM, labels_to_terms

FORMAT_VERSION = 1
CONFIG, TENSORS, CARD = "config.json", "model.safetensors", "README.md"

DEPTH_QUANTILE = 0.01
"""A rejected cell below this quantile of the reference's depth, and below half its sample's median, has
`low_quality`: nothing that shallow was among the cells it was judged against."""

WARN_UNKNOWN = 0.5
"""Share of Unknown in a sample from which on its tissue may not be the reference's."""

KINDS = ("pooled", "single")
"""Calibrations: cells pooled with neighbours, and cell by cell for samples too small to pool."""

FIELDS: dict[str, type | tuple[type, ...]] = {
    "format_version": int,
    "spikgpt_version": str,
    "classes": list,
    "class_cells": dict,
    "features": str,
    "seed": int,
    "unknown_rate": float,
    "genes": list,
    "scgpt": dict,
    "architecture": (dict, type(None)),
    "recipe": dict,
    "markers_per_type": list,
    "mixture": dict,
    "calibration": dict,
    "depth": dict,
    "training": dict,
    "held_out": dict,
    "leave_one_out": list,
    "warnings": list,
    "ontology": dict,
    "markers": dict,
    "tensors_sha256": str,
    "digest": str,
}
"""Fields of config.json and their types; all must be there."""

INNER_FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "scgpt": {"name": str, "sha256": str, "embedding_size": int},
    "mixture": {"weight": float, "scale": float},
    "calibration": {"kinds": list, "cells": int, "folds": int, "folds_by": str, "allowance": float, "distances": list},
    "depth": {"low": float, "median": float},
    "training": {"cells": int, "genes": int, "batches": dict},
    "markers": {"depths": list, "types": dict},
}
"""The same for the fields of those that are objects and that annotation reads."""


@dataclass
class Annotator:
    """A trained annotator: the views, how they are mixed, the calibration, and the config for the record.

    ``config`` holds the `FIELDS` that are no array; ``calibrations`` has one entry for each of `KINDS` that the
    reference was large enough for.
    """

    views: Views
    mixture: Mixture
    calibrations: dict[str, Calibration]
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def classes(self) -> list[str]:
        return list(self.config["classes"])

    @property
    def genes(self) -> list[str]:
        return list(self.config["genes"])

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors; the model card is written by `spikgpt.annotator.card`."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays = self.views.arrays()
        for kind, calibration in self.calibrations.items():
            arrays |= named(f"calibration.{kind}", calibration)
        arrays = {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
        with whole_file(folder / TENSORS) as partial:
            partial.write_bytes(save(arrays))  # save_file would leave it readable to its owner alone
        self.config["tensors_sha256"] = file_sha256(folder / TENSORS)
        self.config["digest"] = digest(self.config)
        write_json(folder / CONFIG, self.config)

    @classmethod
    def load(cls, folder: Path, scgpt_sha256: str | None) -> "Annotator":
        """Read a model folder, checking every field.

        ``scgpt_sha256`` is that of the checkpoint which made the query's embeddings; None for an annotator
        that uses no embedding. Raises UserError for a missing, edited or truncated file, another format
        version, and another checkpoint than the annotator's own.
        """
        config = read_config(folder)
        own = config["scgpt"]["sha256"]
        if config["features"] != "expression" and scgpt_sha256 != own:
            raise UserError(
                "This annotator was trained on embeddings of another scGPT checkpoint.",
                where=str(folder / CONFIG),
                found=f"scGPT checkpoint with sha256 {scgpt_sha256}",
                expected=f"sha256 {own} ({config['scgpt']['name']})",
                fix="give --scgpt_model that checkpoint, or train an annotator anew with --reference",
            )
        tensors = folder / TENSORS
        if file_sha256(tensors) != config["tensors_sha256"]:
            raise damaged(tensors, "its sha256 is not the one in config.json")
        try:
            arrays: Arrays = load_file(tensors)
            shape = config["architecture"]
            views = Views.from_arrays(arrays, None if shape is None else spiking.Architecture(**shape))
            calibrations = {
                kind: unnamed(f"calibration.{kind}", Calibration, arrays) for kind in config["calibration"]["kinds"]
            }
            mixture = Mixture(**config["mixture"])
            if len(views.present) != len(config["classes"]):
                raise ValueError(f"{len(views.present)} classes in the tensors, {len(config['classes'])} named")
        except (KeyError, RuntimeError, TypeError, ValueError, SafetensorError) as error:
            raise damaged(tensors, f"it does not fit config.json: {error}") from error
        return cls(views, mixture, calibrations, config)

    def annotate(
        self,
        counts: sp.csr_matrix | Iterable[sp.csr_matrix],
        genes: list[str],
        embedding: NDArray[np.float32],
        barcodes: list[str],
        unknown_rate: float,
    ) -> tuple[pd.DataFrame, dict[str, Any]]:
        """Label the cells of one sample, or call them Unknown.

        Parameters
        ----------
        counts
            Raw counts ``(cells, genes)``, or blocks of their rows in order: then one copy of them is in memory.
        genes
            Symbols of the columns, unique.
        embedding
            scGPT embeddings ``(cells, embedding_size)``; a row of NaN is a cell with no gene that scGPT knows.
        barcodes
            Names of the cells, unique in the sample. The result does not depend on their order.
        unknown_rate
            A cell is Unknown where its p-value is at most this.

        Returns
        -------
        The table, one row a cell in the given order, and figures of the sample. Reasons of an Unknown cell:
        ``low_gene_match`` no gene that scGPT knows (p-value 0); ``low_quality`` shallower than 99 % of the reference
        and than half its sample's median; ``outside_reference`` fits no type; ``low_confidence`` lies between types.
        """
        order = np.argsort(np.array(barcodes, dtype=object), kind="stable")
        matched = np.asarray(np.isfinite(embedding).all(axis=1))
        usable, unmatched = order[matched[order]], order[~matched[order]]
        blocks = [counts] if sp.issparse(counts) else counts
        cells = self._aligned(blocks, genes, embedding, np.concatenate([usable, unmatched]))
        table = pd.DataFrame({"barcode": barcodes})
        number = len(barcodes)
        best, runner_up = np.zeros(number, dtype=np.int64), np.zeros(number, dtype=np.int64)
        confidence, p_value = np.zeros(number), np.zeros(number)
        by_fit = np.zeros(number, dtype=bool)
        figures: dict[str, Any] = {"shift": {}, "spread": {}, "firing_rates": {}, "dead_layers": [], "pooled": False}

        if len(usable):
            judged = cells.take(np.arange(len(usable))) if len(unmatched) else cells
            pooled = "pooled" in self.calibrations
            log_p, neighbours = side_by_side(
                lambda: self._log_probabilities(judged, figures),
                lambda: self.views.neighbours(judged) if pooled else None,
            )
            mixed = self.mixture(log_p)
            ranked = np.argsort(-mixed, axis=1, kind="stable")
            best[usable] = ranked[:, 0]
            runner_up[usable] = ranked[:, min(1, ranked.shape[1] - 1)]
            confidence[usable] = np.exp(mixed.max(1))
            figures["pooled"] = neighbours is not None
            score, from_fit, corrected = self._score(judged, mixed, neighbours)
            figures |= corrected
            rank = p_values(score, self._calibration(figures["pooled"]).score)
            p_value[usable] = np.minimum(self.config["calibration"]["allowance"] * rank, 1.0)
            by_fit[usable] = from_fit
        if len(unmatched) and self.views.expression is not None:
            # Unknown whatever comes out, but the nearest type can still be told from expression
            alone = self.views.expression.log_probabilities(cells.take(np.arange(len(usable), number)))
            ranked = np.argsort(-alone, axis=1, kind="stable")
            best[unmatched], runner_up[unmatched] = ranked[:, 0], ranked[:, min(1, ranked.shape[1] - 1)]

        # rounded, so that the last bit of a sum does not decide between machines
        confidence, p_value = np.round(confidence, 6), np.round(p_value, 6)
        unknown = (p_value <= unknown_rate) | ~matched
        depth = np.empty(number)
        depth[cells.order] = cells.depth
        shallow = (depth < self.config["depth"]["low"]) & (depth < 0.5 * np.median(depth))
        reason = np.where(by_fit, OUTSIDE_REFERENCE.name, LOW_CONFIDENCE.name)
        reason = np.where(shallow, LOW_QUALITY.name, reason)
        reason = np.where(matched, reason, LOW_GENE_MATCH.name)
        names = np.array(self.classes, dtype=object)
        table["spikgpt_cell_type"] = np.where(unknown, UNKNOWN, names[best])
        table["spikgpt_best_match"] = names[best]
        table["spikgpt_confidence"] = confidence.astype(np.float32)
        table["spikgpt_p_value"] = p_value.astype(np.float32)
        table["spikgpt_unknown_reason"] = np.where(unknown, reason, "")
        table["spikgpt_runner_up"] = names[runner_up]
        table[TERM] = labels_to_terms(table["spikgpt_cell_type"], self.config["ontology"])
        return table, self._figures(table, figures)

    def _aligned(
        self, blocks: Iterable[sp.csr_matrix], genes: list[str], embedding: NDArray[np.float32], order: Codes
    ) -> Cells:
        """The cells in ``order``, on the annotator's genes."""
        own = self.genes
        place = {gene: number for number, gene in enumerate(genes)}
        columns = np.array([place.get(gene, -1) for gene in own])
        if columns.max() < 0:
            raise UserError(
                "The sample shares no gene with the annotator.",
                where="genes of the sample",
                found=", ".join(genes[:3]),
                expected=", ".join(own[:3]),
                fix="use gene symbols of the annotator's species (--symbol_col names the column that has them)",
            )
        size = self.config["scgpt"]["embedding_size"]
        if self.config["features"] != "expression" and embedding.shape[1] != size:
            raise UserError(
                "The embeddings are not those of the annotator's scGPT checkpoint.",
                where="embedding of the sample",
                found=f"{embedding.shape[1]} numbers a cell",
                expected=f"{size}",
                fix="embed the sample with the checkpoint that the annotator was trained with",
            )
        return Cells(stacked(list(blocks)), order, columns, embedding[order].astype(np.float32, copy=False))

    def _calibration(self, pooled: bool) -> Calibration:
        return self.calibrations["pooled" if pooled else "single"]

    def _log_probabilities(self, cells: Cells, figures: dict[str, Any]) -> dict[str, Floats]:
        """Of each view; ``figures`` get the firing rates."""
        if self.views.embedding is None:
            return self.views.log_probabilities(cells)
        with spiking.counted_spikes(self.views.embedding.network) as spikes:
            log_p = self.views.log_probabilities(cells)
        figures["firing_rates"] = spiking.firing_rates(spikes)
        figures["dead_layers"] = spiking.dead_layers(figures["firing_rates"])
        return log_p

    def _score(
        self, cells: Cells, mixed: Floats, neighbours: Codes | None
    ) -> tuple[Floats, NDArray[np.bool_], dict[str, dict[str, float]]]:
        """Joined score, whether it comes from fit, and what was corrected."""
        predicted = mixed.argmax(1)
        calibration = self._calibration(neighbours is not None)
        distances, doubt, alike = signs(self.views, cells, mixed, predicted, neighbours)
        pair, moved, wider = calibration.fit_and_doubt(distances, doubt, predicted, alike)
        score, from_fit = calibration.join(pair)
        names = [*self.config["calibration"]["distances"], "doubt"]
        shift = {name: round(float(value), 6) for name, value in zip(names, moved, strict=True)}
        spread = {name: round(float(value), 6) for name, value in zip(("fit", "doubt"), wider, strict=True)}
        return score, from_fit, {"shift": shift, "spread": spread}

    def _figures(self, table: pd.DataFrame, figures: dict[str, Any]) -> dict[str, Any]:
        unknown = table["spikgpt_cell_type"] == UNKNOWN
        reasons = table.loc[unknown, "spikgpt_unknown_reason"].value_counts()
        cells, rejected = len(table), int(unknown.sum())
        warning = None
        if cells and rejected / cells > WARN_UNKNOWN:
            warning = (
                f"{rejected} of {cells} cells are Unknown: the sample may be of another tissue than the "
                f"annotator's reference, which has {', '.join(self.classes[:5])}"
                f"{' and others' if len(self.classes) > 5 else ''}."
            )
        return {
            "cells": cells,
            "unknown": rejected,
            "unknown_by_reason": {name: int(reasons.get(name, 0)) for name in REASON_NAMES},
            "median_confidence": round(float(table["spikgpt_confidence"].median()), 6) if cells else None,
            "tissue_warning": warning,
            **figures,
        }


def stacked(blocks: list[sp.csr_matrix]) -> sp.csr_matrix:
    """The blocks, one below the other; the list is emptied, so that no second copy is kept."""
    if len(blocks) == 1:
        return blocks.pop()
    width = blocks[0].shape[1]
    ends = np.concatenate([[0], *(np.diff(block.indptr) for block in blocks)]).cumsum(dtype=np.int64)
    index = np.int32 if ends[-1] <= np.iinfo(np.int32).max else np.int64
    data, indices = np.empty(ends[-1], dtype=blocks[0].dtype), np.empty(ends[-1], dtype=index)
    first = 0
    while blocks:
        block = blocks.pop(0)
        data[first : first + block.nnz], indices[first : first + block.nnz] = block.data, block.indices
        first += block.nnz
    return sp.csr_matrix((data, indices, ends.astype(index)), shape=(len(ends) - 1, width))


def signs(
    views: Views, cells: Cells, mixed: Floats, predicted: Codes, neighbours: Codes | None
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """What speaks against a cell: distances to its type ``(cells, distances)``, and doubt ``(cells,)``.

    The third are the classes ``(classes,)`` whose cells look like the reference's, so that they can tell what is batch.

    Doubt is one minus the largest probability, averaged with neighbours of the same call.
    """
    doubt = smoothed(1.0 - np.exp(mixed.max(1)), predicted, neighbours)
    alike = views.alike(cells, predicted)
    return views.distances(cells, predicted, neighbours, alike), doubt, alike


def file_sha256(path: Path) -> str:
    """sha256 of a file; a missing one is the user's mistake."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            "A file of the annotator is missing.",
            where=str(path),
            found=", ".join(sorted(p.name for p in path.parent.glob("*"))[:8]) or "nothing there",
            expected=f"a folder with {CONFIG}, {TENSORS} and {CARD}",
            fix="give --annotator the whole folder that a training run published",
        ) from error


def digest(config: dict[str, Any]) -> str:
    """sha256 of the config without its own digest: an edited config is found out."""
    rest = {name: value for name, value in config.items() if name != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


WHOLE = "the folder as a training run wrote it"
AGAIN = "copy the folder again, or train an annotator anew with --reference"


def damaged(path: Path, found: str) -> UserError:
    return UserError(
        "The annotator is damaged or was edited.",
        where=str(path),
        found=found,
        expected=WHOLE,
        fix=AGAIN,
    )


def check_fields(content: dict[str, Any], fields: dict[str, type | tuple[type, ...]], path: Path, prefix: str) -> None:
    """Refuse a missing field, or one of another type."""
    for name, kind in fields.items():
        if name not in content:
            raise damaged(path, f"field {prefix}{name} is missing")
        if not isinstance(content[name], kind) or (isinstance(content[name], bool) and kind is int):
            raise damaged(path, f"field {prefix}{name} is of type {type(content[name]).__name__}")


def read_config(folder: Path) -> dict[str, Any]:
    """config.json with every one of the `FIELDS` checked."""
    path = folder / CONFIG
    file_sha256(path)
    config = read_json_object(
        path, "The annotator is damaged or was edited: its config.json", expected=WHOLE, fix=AGAIN
    )
    version = config.get("format_version")
    if version != FORMAT_VERSION:
        raise UserError(
            "This annotator has a format that this version of SpikGPT does not read.",
            where=str(path),
            found=f"format_version {version}",
            expected=f"format_version {FORMAT_VERSION}",
            fix="train an annotator anew with --reference, or use the SpikGPT version that made it",
        )
    check_fields(config, FIELDS, path, "")
    for name, inner in INNER_FIELDS.items():
        check_fields(config[name], inner, path, f"{name}.")
    if config["features"] not in FEATURES:
        raise damaged(path, f"features {config['features']}")
    if digest(config) != config["digest"]:
        raise damaged(path, "its digest does not fit its content")
    return config
