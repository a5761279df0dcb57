"""The model folder of an annotator: config.json, model.safetensors, and the model card beside them."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from spikgpt.annotator.annotation import Annotator
from spikgpt.annotator.judges import LINEAR, LinearJudge
from spikgpt.annotator.levels import Levels
from spikgpt.annotator.mixture import Mixture
from spikgpt.annotator.network import Architecture
from spikgpt.annotator.rejection import Calibration, Rejection
from spikgpt.annotator.taught import Lesson
from spikgpt.annotator.training_set import FEATURES
from spikgpt.annotator.views import Arrays, Views, named, unnamed
from spikgpt.base.errors import UserError
from spikgpt.base.files import read_json_object, whole_file, write_json
from spikgpt.base.h5ad import ORTHOLOG, stored
from spikgpt.base.species import HUMAN, SPECIES

FORMAT_VERSION = 3
"""Raised where an older folder can no longer be read. 2: held-out cells are kept sample by sample. 3: levels above the
types."""
TAUGHT_VERSION = 4
"""Of a folder with types that were taught, which a version that knows none of them must refuse."""
CONFIG, TENSORS, CARD = "config.json", "model.safetensors", "README.md"

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
    "levels": dict,
    "grave": list,
    "warnings": list,
    "ontology": dict,
    "species": str,
    "markers": dict,
    "tensors_sha256": str,
    "digest": str,
}
"""Fields of config.json and their types; all must be there."""

INNER_FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "scgpt": {"name": str, "sha256": str, "embedding_size": int},
    "mixture": {"weight": float, "scale": float},
    "calibration": {"kinds": list, "cells": int, "folds": int, "folds_by": str, "samples": int, "distances": list},
    "depth": {"low": float, "median": float},
    "training": {"cells": int, "genes": int, "batches": dict},
    "levels": {"source": str, "told": str, "nodes": list, "least_log_p": list, "far": list, "held_out": dict},
    "markers": {"depths": list, "types": dict, "related": list},
}
"""The same for the fields of those that are objects and that annotation reads."""
TAUGHT_FIELDS: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "taught_by": str,
    "taught_on": str,
    "clusters": list,
    "samples": dict,
    "learned_against": int,
    "table_sha256": str,
    "annotator_sha256": str,
    "mixture": dict,
    "held_out": dict,
}
"""The same for each entry of ``taught``, which a folder of `TAUGHT_VERSION` has beside `FIELDS`."""


def save_annotator(annotator: Annotator, folder: Path) -> None:
    """Write config.json and model.safetensors; the model card is written by `spikgpt.annotator.card`.

    The annotator's config gets the digests of what was written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arrays = annotator.views.arrays()
    for kind, calibration in annotator.rejection.calibrations.items():
        arrays |= named(f"calibration.{kind}", calibration)
    for at, lesson in enumerate(annotator.lessons):
        arrays |= {f"taught.{at}.{name}": values for name, values in lesson.arrays().items()}
    for name, judge in annotator.judges.items():
        arrays |= named(f"judges.{name}", judge)
    arrays = {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
    with whole_file(folder / TENSORS) as partial:
        partial.write_bytes(save(arrays))  # save_file would leave it readable to its owner alone
    annotator.config["tensors_sha256"] = file_sha256(folder / TENSORS)
    annotator.config["digest"] = digest(annotator.config)
    write_json(folder / CONFIG, annotator.config)


def load_annotator(folder: Path, scgpt_sha256: str | None) -> Annotator:
    """Read a model folder, checking every field.

    Parameters
    ----------
    scgpt_sha256
        Of the checkpoint which made the sample's embeddings; None for an annotator that uses no embedding.

    Raises
    ------
    UserError
        A file is missing, edited or truncated, has another format version, or the checkpoint is not the annotator's.
    """
    config = read_config(folder)
    trained_with = config["scgpt"]["sha256"]
    if config["features"] != "expression" and scgpt_sha256 != trained_with:
        raise UserError(
            "This annotator was trained on embeddings of another scGPT checkpoint.",
            where=str(folder / CONFIG),
            found=f"scGPT checkpoint with sha256 {scgpt_sha256}",
            expected=f"sha256 {trained_with} ({config['scgpt']['name']})",
            fix="give --scgpt_model that checkpoint, or train an annotator anew with --reference",
        )
    tensors = folder / TENSORS
    if file_sha256(tensors) != config["tensors_sha256"]:
        raise damaged(tensors, "its sha256 is not the one in config.json")
    try:
        arrays: Arrays = load_file(tensors)
        shape = config["architecture"]
        views = Views.from_arrays(arrays, None if shape is None else Architecture(**shape))
        calibrations = {
            kind: unnamed(f"calibration.{kind}", Calibration, arrays) for kind in config["calibration"]["kinds"]
        }
        # an annotator of before there were judges has none
        judges = {
            name: unnamed(f"judges.{name}", LinearJudge, arrays) for name in LINEAR if f"judges.{name}.genes" in arrays
        }
        mixture = Mixture(**config["mixture"])
        taught = config.get("taught", [])
        own = config["classes"][: len(config["classes"]) - len(taught)]
        Levels.from_dict(config["levels"], own)
        if len(views.present) != len(own) or [*own, *(one["name"] for one in taught)] != config["classes"]:
            raise ValueError(f"{len(views.present)} classes in the tensors, {len(own)} named")
        lessons = [lesson_of(arrays, at, one) for at, one in enumerate(taught)]
        told = config["calibration"]
        rejection = Rejection(calibrations, [*told["distances"], "doubt"], len(own), told["folds_by"] == "batch")
    except (KeyError, RuntimeError, TypeError, ValueError, SafetensorError) as error:
        raise damaged(tensors, f"it does not fit config.json: {error}") from error
    return Annotator(views, mixture, rejection, config, lessons, judges)


def lesson_of(arrays: Arrays, at: int, told: dict[str, Any]) -> Lesson:
    """A taught type from its tensors and its entry in the config; KeyError where one is missing."""
    prefix = f"taught.{at}."
    own = {name[len(prefix) :]: values for name, values in arrays.items() if name.startswith(prefix)}
    return Lesson.from_arrays(told["name"], Mixture(**told["mixture"]), own)


def check_species(species: str, h5ad: Path, folder: Path) -> None:
    """UserError where an annotator of human cells is given a sample of another species, or the other way round."""
    with stored(h5ad) as cells:
        human = ORTHOLOG not in cells.var
    if human != (species == HUMAN):
        raise UserError(
            f"The annotator is of {SPECIES[species].spoken} cells, and the sample is not.",
            where=str(folder / CONFIG),
            found=f"{h5ad.name}: genes of {'human' if human else 'another species'}",
            expected=f"genes of {SPECIES[species].spoken}",
            fix="train an annotator on labelled cells of the sample's species (--reference)",
        )


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
    if version not in (FORMAT_VERSION, TAUGHT_VERSION):
        raise UserError(
            "This annotator has a format that this version of SpikGPT does not read.",
            where=str(path),
            found=f"format_version {version}",
            expected=f"format_version {FORMAT_VERSION}, or {TAUGHT_VERSION} with taught types",
            fix="train it again with --reference, or use the SpikGPT version that made it",
        )
    check_fields(config, FIELDS, path, "")
    for name, inner in INNER_FIELDS.items():
        check_fields(config[name], inner, path, f"{name}.")
    if version == TAUGHT_VERSION:
        check_fields(config, {"taught": list}, path, "")
        for at, one in enumerate(config["taught"]):
            check_fields(one if isinstance(one, dict) else {}, TAUGHT_FIELDS, path, f"taught[{at}].")
    if config["features"] not in FEATURES:
        raise damaged(path, f"features {config['features']}")
    if digest(config) != config["digest"]:
        raise damaged(path, "its digest does not fit its content")
    if config["species"] not in SPECIES:
        raise damaged(path, f"species {config['species']}")
    return config
