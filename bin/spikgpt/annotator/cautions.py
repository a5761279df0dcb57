"""What a user should know about a reference before trusting an annotator that learned from it."""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.naive_bayes import GaussianNB

from spikgpt.annotator.folds import cells_needed
from spikgpt.annotator.lineages import lineage_columns, lineage_of, lineage_seen, wrong_lineages
from spikgpt.annotator.training_set import Reference
from spikgpt.base.arrays import Codes, Floats
from spikgpt.base.groups import class_means

DEPTH_FOLDS = 5
DEPTH_MIN_CELLS = 10
"""Types with fewer cells take no part in the check of depth."""
DEPTH_LEAKS = 0.4
"""How far from chance (0) to perfect (1) depth alone may tell types apart before it is warned of.

Types do differ in RNA content. Measured with `depth_leak` on real sets whose labels are sound: 0.11 (cell lines),
0.12 (PBMC of three technologies), 0.13 (pancreas), 0.17 to 0.27 (four sets of PBMC).
"""

POOR_F1 = 0.5
"""A reference whose own held-out cells are told apart with a lower macro-F1 gives labels that cannot be trusted ..."""
POOR_RECALL = 0.3
"""... nor can those of a type of which less than this share is recognised."""


def depth_leak(depth: Floats, codes: Codes, seed: int) -> dict[str, float] | None:
    """How well the number of counts alone tells the types apart.

    A normal distribution of log counts for each type, all types equally likely, in 5-fold stratified cross-validation
    (scikit-learn's `GaussianNB`). Where types were sequenced apart, or cut to different depths, an annotator learns
    depth, and calls a deeper query by it.

    Parameters
    ----------
    depth
        Counts of each cell ``(cells,)``.
    codes
        Type of each cell ``(cells,)``.

    Returns
    -------
    ``balanced_accuracy``, ``chance`` (one over the number of types) and ``leak``: 0 at chance, 1 where depth alone
    names every cell. None with fewer than two types of `DEPTH_MIN_CELLS` cells.
    """
    large = np.flatnonzero(np.bincount(codes) >= DEPTH_MIN_CELLS)
    taken = np.isin(codes, large)
    if len(large) < 2:
        return None
    x, y = np.log(np.maximum(depth[taken], 1.0))[:, None], codes[taken]
    model = GaussianNB(priors=np.full(len(large), 1 / len(large)))
    folds = StratifiedKFold(DEPTH_FOLDS, shuffle=True, random_state=seed)
    accuracy = float(balanced_accuracy_score(y, cross_val_predict(model, x, y, cv=folds)))
    chance = 1 / len(large)
    return {
        "balanced_accuracy": round(accuracy, 6),
        "chance": round(chance, 6),
        "leak": round((accuracy - chance) / (1 - chance), 6),
    }


def spellings(labels: Sequence[str]) -> list[list[str]]:
    """Groups of labels that differ only by case, punctuation, a plural s or the word cell."""
    groups: dict[str, list[str]] = defaultdict(list)
    for label in sorted(set(labels)):
        words = [word.removesuffix("s") for word in re.findall(r"[^\W_]+|\+", label.lower())]
        # a label of punctuation alone, or of the one word cell, stands for itself
        groups["".join(word for word in words if word != "cell") or label].append(label)
    return [same for same in groups.values() if len(same) > 1]


def reference_warnings(
    reference: Reference, kind: str, unknown_rate: float, leak: dict[str, float] | None
) -> list[str]:
    """Warnings for model card, report and log.

    Parameters
    ----------
    kind
        What was held out: ``batch`` or ``stratified``; see `spikgpt.annotator.folds.folds`.
    leak
        See `depth_leak`.
    """
    out = list(reference.messages)
    cells = np.bincount(reference.codes, minlength=len(reference.classes))
    needed = cells_needed(unknown_rate)
    small = [f"{name} ({n})" for name, n in zip(reference.classes, cells, strict=True) if n < needed]
    if small:
        out.append(
            f"Too few cells for an unknown rate of {unknown_rate:g} (at least {needed} needed to see it in a "
            f"type): {', '.join(small)}. The rate does not speak for them: expect their cells to be called Unknown "
            "more often."
        )
    if len(reference.batches) == 1:
        out.append(
            "The reference has one batch: the share of Unknown was calibrated on cells of the same batch, so how types "
            "differ between batches is not known, and fewer unseen cells are caught than with several. Give "
            "--batch_key where the reference has batches."
        )
    elif kind == "stratified":
        out.append(
            "Types hardly recur across the batches of the reference, so calibration cells were held out at "
            "random instead of by batch; a new sample may have more Unknown than the rate."
        )
    out += lineage_warnings(reference)
    for same in spellings(reference.classes):
        out.append(
            f"{' and '.join(repr(label) for label in same)} look like one cell type spelt in different ways; they are "
            "kept apart."
        )
    if leak is not None and leak["leak"] >= DEPTH_LEAKS:
        out.append(
            f"The number of counts alone tells the types apart: balanced accuracy {leak['balanced_accuracy']:.2f}, "
            f"chance {leak['chance']:.2f}. The types may have been sequenced, filtered or cut to depth apart; held-out "
            "figures flatter the annotator then, and a query of another depth is mislabelled. Bring the types to one "
            "depth, or take them from one experiment."
        )
    if reference.without_known_gene:
        out.append(f"{reference.without_known_gene} cells were left out: they have no gene that scGPT knows.")
    return out


def lineage_warnings(reference: Reference) -> list[str]:
    """Types whose cells show genes that their own name excludes; see `spikgpt.annotator.lineages.wrong_lineages`."""
    columns = lineage_columns(reference.genes)
    number = len(reference.classes)
    # what was guessed of a coarse label is no fault of the labels
    own = np.flatnonzero(reference.labels(np.arange(len(reference.codes))) >= 0)
    codes = reference.codes[own]
    shares = class_means(lineage_seen(reference.counts[own], columns).astype(np.float64), codes, number)
    shares[:, [not own for own in columns]] = np.nan
    lineages = {name: lineage_of(name, reference.ontology.get(name)) for name in reference.classes}
    cells = np.bincount(codes, minlength=number).tolist()
    return [
        f"Of the {cells[reference.classes.index(wrong.group)]} cells labelled {wrong.group!r}, {wrong.sentence()}. The "
        "annotator learns to call such cells by this name; check the labels."
        for wrong in wrong_lineages(lineages, cells, shares)
    ]


def grave_cautions(held_out: dict[str, Any], unknown_rate: float) -> list[str]:
    """What forbids to trust the labels of an annotator, by its own held-out cells.

    Types with fewer cells than calibration needs are left to their own warning: a recall of a handful says little.

    Parameters
    ----------
    held_out
        See `spikgpt.annotator.record.held_out_figures`.
    """
    out = []
    if held_out["macro_f1"] < POOR_F1:
        out.append(
            f"The annotator hardly tells the types of its own reference apart: macro-F1 {held_out['macro_f1']:.2f} on "
            "held-out cells. Its labels cannot be trusted. Check the labels of the reference, or merge types that "
            "expression does not tell apart."
        )
    lost = [
        f"{name} (recall {row['recall']:.2f}, most often called {row['most_often_mistaken_for']})"
        for name, row in held_out["types"].items()
        if row["cells"] >= cells_needed(unknown_rate) and row["recall"] < POOR_RECALL
    ]
    if lost:
        out.append(
            f"Of these types of the reference most held-out cells are called something else: {', '.join(lost)}. That a "
            "query has few or none of them says nothing."
        )
    return out
