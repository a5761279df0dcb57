"""What a method of the bench is given and what it answers."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from library.splits import Split
from numpy.typing import NDArray

Floats32 = NDArray[np.float32]
RATE = 0.05
"""``unknown_rate`` of every method that has one."""


@dataclass
class Task:
    """A split with the scGPT embeddings of both sides ``(cells, embedding_size)``, and a seed.

    ``whole``: no type was left out of the reference.
    """

    split: Split
    reference_embedding: Floats32
    query_embedding: Floats32
    seed: int
    whole: bool


@dataclass
class Answer:
    """What a method said of every query cell; see `metrics.figures`. Seconds are CPU seconds of one thread."""

    best: NDArray[np.object_]
    belongs: NDArray[np.float64]
    probability: NDArray[np.float64] | None
    unknown: NDArray[np.bool_] | None
    train_seconds: float
    predict_seconds: float
    notes: dict[str, object] = field(default_factory=dict)


def timed(
    fit: Callable[[], object],
    predict: Callable[[object], tuple[NDArray[np.object_], NDArray[np.float64]]],
    rejects_below: float | None = None,
) -> Answer:
    """Fit, then predict best match and probability; the method's own rule rejects below ``rejects_below``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = time.process_time()
        model = fit()
        trained = time.process_time()
        best, probability = predict(model)
        done = time.process_time()
    unknown = None if rejects_below is None else probability < rejects_below
    return Answer(best, probability, probability, unknown, trained - start, done - trained)
