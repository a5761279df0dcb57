"""The files of an annotator's folder, read and checked without torch."""

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load_file

from spikgpt.annotator.training_set import FEATURES
from spikgpt.base.arrays import Arrays
from spikgpt.base.errors import UserError
from spikgpt.base.files import read_json_object
from spikgpt.base.species import SPECIES

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


def read_tensors(folder: Path, config: dict[str, Any]) -> Arrays:
    """The arrays of model.safetensors by name; UserError where they are not those that config.json was written with."""
    tensors = folder / TENSORS
    if file_sha256(tensors) != config["tensors_sha256"]:
        raise damaged(tensors, "its sha256 is not the one in config.json")
    try:
        arrays: Arrays = load_file(tensors)
    except SafetensorError as error:
        raise damaged(tensors, f"it does not fit config.json: {error}") from error
    return arrays
