"""The model folder of an annotator: config.json, model.safetensors, and the model card beside them."""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from spikgpt.annotator.annotation import Annotator
from spikgpt.annotator.folder_files import (
    CONFIG,
    TENSORS,
    damaged,
    digest,
    file_sha256,
    read_config,
    read_tensors,
)
from spikgpt.annotator.judges import LINEAR, LinearJudge
from spikgpt.annotator.levels import Levels
from spikgpt.annotator.mixture import Mixture
from spikgpt.annotator.network import Architecture
from spikgpt.annotator.rejection import Calibration, Rejection
from spikgpt.annotator.taught import Lesson
from spikgpt.annotator.views import Views
from spikgpt.base.arrays import Arrays, named, unnamed
from spikgpt.base.errors import UserError
from spikgpt.base.files import whole_file, write_json
from spikgpt.base.h5ad import ORTHOLOG, stored
from spikgpt.base.species import HUMAN, SPECIES


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
    arrays = read_tensors(folder, config)
    try:
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
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise damaged(folder / TENSORS, f"it does not fit config.json: {error}") from error
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
