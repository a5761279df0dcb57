"""What is written down about a training: config.json of the model folder."""

from typing import Any

import numpy as np
from sklearn.metrics import f1_score

from spikgpt import __version__
from spikgpt.annotator.expression import FEW, MANY
from spikgpt.annotator.folder_files import FORMAT_VERSION
from spikgpt.annotator.mixture import Mixture
from spikgpt.annotator.network import Recipe
from spikgpt.annotator.probabilities import expected_calibration_error
from spikgpt.annotator.reference_markers import ReferenceMarkers
from spikgpt.annotator.rejection import Rejection
from spikgpt.annotator.training_set import Reference
from spikgpt.annotator.views import Views, distance_names
from spikgpt.base.arrays import Codes, Floats

DEPTH_QUANTILE = 0.01
"""A rejected cell below this quantile of the reference's depth, and below half its sample's median, has
`low_quality`: nothing that shallow was among the cells it was judged against."""


def config(
    reference: Reference,
    views: Views,
    mixture: Mixture,
    rejection: Rejection,
    *,
    scgpt: dict[str, Any],
    unknown_rate: float,
    features: str,
    seed: int,
    recipe: Recipe,
    calibration_cells: int,
    folds: int,
    folds_by: str,
    leak: dict[str, float] | None,
    leave_one_out: list[dict[str, Any]],
    levels: dict[str, Any],
    held_out: dict[str, Any],
    grave: list[str],
    warnings: list[str],
) -> dict[str, Any]:
    """The fields of `spikgpt.annotator.folder_files.FIELDS`, but for the digests, which saving fills in."""
    cells = np.bincount(reference.codes, minlength=len(reference.classes))
    batch_cells = np.bincount(reference.batch_codes)
    markers = ReferenceMarkers.choose(
        reference.counts, reference.genes, reference.codes, reference.classes, reference.depth
    )
    return {
        "format_version": FORMAT_VERSION,
        "spikgpt_version": __version__,
        "classes": reference.classes,
        "class_cells": {name: int(n) for name, n in zip(reference.classes, cells, strict=True)},
        "features": features,
        "seed": seed,
        "unknown_rate": float(unknown_rate),
        "genes": reference.genes,
        "scgpt": {**scgpt, "embedding_size": int(reference.embedding.shape[1])},
        "architecture": views.embedding.network.shape.as_dict() if views.embedding else None,
        "recipe": recipe.as_dict(),
        "markers_per_type": [FEW, MANY],
        "mixture": {"weight": mixture.weight, "scale": mixture.scale},
        "calibration": {
            "kinds": list(rejection.calibrations),
            "cells": calibration_cells,
            "folds": folds,
            "folds_by": folds_by,
            "samples": max(len(kind.likeness) for kind in rejection.calibrations.values()),
            "distances": distance_names(features),
        },
        "depth": {
            "low": float(np.quantile(reference.depth, DEPTH_QUANTILE)),
            "median": float(np.median(reference.depth)),
            "leak": leak,
        },
        "training": {
            "cells": len(reference.codes),
            "genes": len(reference.genes),
            "batches": {name: int(n) for name, n in zip(reference.batches, batch_cells, strict=True)},
            **({"coarse_labels": learned_as(reference)} if reference.coarse_labels else {}),
        },
        "leave_one_out": leave_one_out,
        "levels": levels,
        "held_out": held_out,
        "grave": grave,
        "warnings": warnings,
        "ontology": reference.ontology,
        "species": reference.species,
        "markers": markers.as_dict(),
        "tensors_sha256": "",
        "digest": "",
    }


def learned_as(reference: Reference) -> list[dict[str, Any]]:
    """Each coarse label, its ``file``, and as which types its cells were learned; see `with_finer_labels`."""
    assert reference.coarse is not None
    out = []
    for number, label in enumerate(reference.coarse_labels):
        cells = np.bincount(reference.codes[reference.coarse == number], minlength=len(reference.classes))
        types = {name: int(n) for name, n in zip(reference.classes, cells, strict=True) if n}
        out.append({"file": label.file, "label": label.name, "learned_as": types})
    return out


def held_out_figures(
    classes: list[str], codes: Codes, mixed: Floats, log_p: dict[str, Floats], labels: Codes
) -> dict[str, Any]:
    """Metrics of the held-out cells: of all, of each view, of each type.

    ``codes`` (cells,) see `spikgpt.annotator.training_set.Reference.settled`; ``labels`` (cells,), by which the types
    are told, see `labels` there; ``mixed`` (cells, classes) log-probabilities, ``log_p`` those of each view. The
    calibration error is that of cells with a label.
    """

    def scores(values: Floats) -> dict[str, float]:
        predicted = values.argmax(1)
        f1 = f1_score(codes, predicted, average="macro", labels=np.unique(codes), zero_division=0)
        return {"accuracy": round(float((predicted == codes).mean()), 6), "macro_f1": round(float(f1), 6)}

    predicted = mixed.argmax(1)
    told = labels >= 0
    error = expected_calibration_error(np.exp(mixed[told].max(1)), (predicted == codes)[told])
    per_type = {}
    for number, name in enumerate(classes):
        of_type = labels == number
        wrong = predicted[of_type & (predicted != codes)]
        per_type[name] = {
            "cells": int(of_type.sum()),
            "recall": round(float((predicted == codes)[of_type].mean()), 6) if of_type.any() else None,
            "most_often_mistaken_for": classes[int(np.bincount(wrong).argmax())] if len(wrong) else None,
        }
    return {
        "cells": len(codes),
        **scores(mixed),
        "expected_calibration_error": round(error, 6),
        "views": {name: scores(values) for name, values in sorted(log_p.items())},
        "types": per_type,
    }
