"""SpikGPT beside others on cells held out of the user's own reference."""

import time

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from spikgpt.annotator.held_out import HeldOut
from spikgpt.annotator.judges import LinearJudge, celltypist, logistic_regression
from spikgpt.annotator.training_set import Reference, readable_cells
from spikgpt.base.arrays import Codes, Floats32
from spikgpt.base.normalisation import log1p_cp10k
from spikgpt.base.threads import one_thread

COLUMNS = [
    "method", "accuracy", "macro_f1", "seconds", "training_cells", "held_out_cells", "held_out_by",
    "emitted_on_levels", "accuracy_on_levels", "at_type",
]  # fmt: skip
EMBEDDING_PENALTY = 0.1
"""C of logistic regression on the scaled embedding: a usual choice, not tuned."""


def regression(train: Floats32, codes: Codes, test: Floats32) -> Codes:
    """Predicted codes of logistic regression on standardised features."""
    mean, sd = train.mean(0), np.maximum(train.std(0), 1e-6)
    model = LogisticRegression(C=EMBEDDING_PENALTY, max_iter=300)
    model.fit(np.clip((train - mean) / sd, -10, 10), codes)
    return np.asarray(model.predict(np.clip((test - mean) / sd, -10, 10)))


@one_thread("celltypist")
def compare(reference: Reference, held: HeldOut, fold_of: Codes, held_out_by: str, seed: int) -> pd.DataFrame:
    """One row a method, all trained and tested on the same cells: the largest fold is held out.

    SpikGPT's row is the model of `train_annotator` that did not see this fold, and neither did the weight and the
    temperature that mix its views. Accuracy and macro-F1 are of the best match, rejection left aside. It alone has
    answers on levels: the share of cells with one, the share of those that are right, and the share called by a type.
    """
    fold = fold_of[held.rows[0]]
    train, test = np.flatnonzero(fold_of != fold), held.rows
    codes = reference.codes[train]

    def by(judge: LinearJudge) -> Codes:
        return judge.calls(log1p_cp10k(reference.counts[test]), np.ones(len(reference.genes), dtype=bool))

    def on_embedding() -> Codes:
        # a cell that scGPT cannot read, which an annotator without the embedding keeps, is an average one to it
        readable = readable_cells(reference.embedding, "embedding")
        known = reference.embedding[train][readable[train]]
        mean = known.mean(0) if len(known) else np.zeros(reference.embedding.shape[1], dtype=np.float32)
        values = np.where(readable[:, None], reference.embedding, mean)
        return regression(values[train], codes, values[test])

    rows = []

    def add(method: str, predicted: Codes, seconds: float, **levels: float) -> None:
        truth = reference.settled(test, np.eye(len(reference.classes))[predicted])
        score = f1_score(truth, predicted, average="macro", labels=np.unique(truth), zero_division=0)
        rows.append(
            {
                "method": method,
                "accuracy": round(float((predicted == truth).mean()), 4),
                "macro_f1": round(float(score), 4),
                "seconds": round(seconds, 1),
                "training_cells": len(train),
                "held_out_cells": len(test),
                "held_out_by": held_out_by,
                **levels,
            }
        )

    assert held.mixed is not None
    assert held.on_levels is not None
    deep = {name: round(value, 4) for name, value in held.on_levels.items()}
    add(
        "SpikGPT",
        held.mixed.argmax(1),
        held.seconds,
        emitted_on_levels=deep["emitted"],
        accuracy_on_levels=deep["right"],
        at_type=deep["at_type"],
    )
    for view in ("embedding", "expression"):
        if view in held.log_probabilities and len(held.log_probabilities) > 1:
            add(f"SpikGPT, {view} view alone", held.log_probabilities[view].argmax(1), float("nan"))
    for method, call in (
        ("logistic regression on genes", lambda: by(logistic_regression(reference, train))),
        ("logistic regression on the embedding", on_embedding),
        ("CellTypist", lambda: by(celltypist(reference, train, seed))),
    ):
        start = time.monotonic()
        predicted = call()
        add(method, predicted, time.monotonic() - start)
    return pd.DataFrame(rows, columns=COLUMNS)
