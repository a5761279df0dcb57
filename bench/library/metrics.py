"""Figures of one method on one query; every one over the same cells for every method."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score, roc_auc_score
from spikgpt.annotator.probabilities import expected_calibration_error

MIN_TYPE_CELLS = 30
"""Types with fewer query cells do not count for the worst class."""
RATE = 0.05

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


def caught_at_rate(belongs: Floats, unseen: Bools, rate: float = RATE) -> float:
    """Share of unseen cells rejected where exactly ``rate`` of the seen ones are; ties shared out evenly."""
    threshold = float(np.quantile(belongs[~unseen], rate, method="inverted_cdf"))
    below, at = belongs < threshold, belongs == threshold
    wanted = rate * (~unseen).sum() - (below & ~unseen).sum()
    share = np.clip(wanted / max((at & ~unseen).sum(), 1), 0, 1)
    return float(((below & unseen).sum() + share * (at & unseen).sum()) / unseen.sum())


def oscr(belongs: Floats, right: Bools, unseen: Bools) -> float:
    """Area under correct classification rate against false positive rate over thresholds [Dhamija et al., 2018]."""
    values = np.unique(belongs)[::-1]
    known, new = belongs[~unseen & right], np.sort(belongs[unseen])
    known = np.sort(known)
    ccr = (len(known) - np.searchsorted(known, values, side="left")) / (~unseen).sum()
    fpr = (len(new) - np.searchsorted(new, values, side="left")) / unseen.sum()
    return float(np.trapezoid(np.r_[0.0, ccr], np.r_[0.0, fpr]))


def figures(
    truth: NDArray[np.object_],
    known_types: set[str],
    best: NDArray[np.object_],
    belongs: Floats,
    probability: Floats | None,
    unknown: Bools | None,
) -> dict[str, float | int | str | None]:
    """All metrics.

    Parameters
    ----------
    truth, best
        True and predicted type of each query cell.
    known_types
        Types of the reference; other cells are unseen.
    belongs
        Score by which the method ranks cells as belonging to the reference, larger is surer.
    probability
        Confidence of the best match, where the method gives a probability.
    unknown
        Rejected by the method's own rule, where it has one.
    """
    seen = np.isin(truth, list(known_types))
    right = best == truth
    types = sorted(set(truth[seen]))
    out: dict[str, float | int | str | None] = {
        "known_cells": int(seen.sum()),
        "unseen_cells": int((~seen).sum()),
        "accuracy": float(right[seen].mean()),
        "macro_f1": float(f1_score(truth[seen], best[seen], average="macro", labels=types, zero_division=0)),
        "ece": None,
        "false_unknown": None,
        "worst_class_false_unknown": None,
        "worst_class": None,
        "accuracy_kept": None,
        "unseen_unknown": None,
        "auroc": None,
        "caught_at_5": None,
        "oscr": None,
    }
    if probability is not None:
        out["ece"] = expected_calibration_error(probability[seen], right[seen])
    if unknown is not None:
        out["false_unknown"] = float(unknown[seen].mean())
        large = [(float(unknown[truth == t].mean()), t) for t in types if (truth == t).sum() >= MIN_TYPE_CELLS]
        if large:
            out["worst_class_false_unknown"], out["worst_class"] = max(large)
        kept = seen & ~unknown
        out["accuracy_kept"] = float(right[kept].mean()) if kept.any() else None
    if (~seen).sum() >= MIN_TYPE_CELLS:
        out["auroc"] = float(roc_auc_score(seen, belongs))
        out["caught_at_5"] = caught_at_rate(belongs, ~seen)
        out["oscr"] = oscr(belongs, right, ~seen)
        if unknown is not None:
            out["unseen_unknown"] = float(unknown[~seen].mean())
    return out
