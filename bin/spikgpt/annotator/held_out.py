"""Models of all folds but one, and what they say about the cells of that one."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from spikgpt.annotator.cells import Cells
from spikgpt.annotator.mixture import Mixture
from spikgpt.annotator.network import Recipe, SpikingTransformer
from spikgpt.annotator.rejection import Signs
from spikgpt.annotator.training_set import Reference
from spikgpt.annotator.views import Views
from spikgpt.base.arrays import Codes, Flags, Floats


@dataclass
class HeldOut:
    """A model of all folds but one, and its log-probabilities of that one's cells.

    ``fold`` its number; ``rows`` (held-out cells,) into the reference: those whose type was among the training cells;
    ``log_probabilities`` (held-out cells, classes) of each view; ``seconds``: training and prediction together;
    ``mixed`` (held-out cells, classes): the views by a mixture of the other folds, see `mix_by_the_other_folds`.
    """

    views: Views
    fold: int
    rows: Codes
    log_probabilities: dict[str, Floats]
    seconds: float
    mixed: Floats | None = None


@dataclass
class Training:
    """All that one fit needs; sent to a worker process.

    ``features``, ``recipe``, ``shape``, ``network_kind``, ``seed`` as in `spikgpt.annotator.train.train_annotator`.
    """

    reference: Reference
    features: str
    recipe: Recipe
    shape: dict[str, int | float]
    network_kind: type[SpikingTransformer]
    seed: int

    def cells(self, rows: Codes) -> Cells:
        return Cells.of(self.reference.counts[rows], self.reference.embedding[rows])

    def fit(self, rows: Codes) -> Views:
        return Views.fit(
            self.cells(rows),
            self.reference.codes[rows],
            self.reference.batch_codes[rows],
            classes=len(self.reference.classes),
            features=self.features,
            recipe=self.recipe,
            shape=self.shape,
            network_kind=self.network_kind,
            seed=self.seed,
        )

    def held_out(self, fold_of: Codes, fold: int) -> HeldOut:
        """Fit on the other folds; predict this one as if it were a sample."""
        start = time.monotonic()
        views = self.fit(np.flatnonzero(fold_of != fold))
        rows = np.flatnonzero(fold_of == fold)
        # a type that only this fold has is unseen here: its cells are no calibration cells
        rows = rows[views.present[self.reference.codes[rows]]]
        log_p = views.log_probabilities(self.cells(rows))
        return HeldOut(views, fold, rows, log_p, time.monotonic() - start)


def joined_log_probabilities(held: list[HeldOut]) -> dict[str, Floats]:
    """Log-probabilities ``(all held-out cells, classes)`` of each view, fold after fold."""
    return {name: np.concatenate([part.log_probabilities[name] for part in held]) for name in held[0].log_probabilities}


def mix_by_the_other_folds(held: list[HeldOut], codes: Codes) -> Floats:
    """Fill in ``mixed`` of every fold, by a mixture that did not see its labels; all of them, fold after fold.

    ``codes`` (cells of the reference,). The mixture that the annotator applies is fitted on all held-out cells; figures
    of it on these cells would be in-sample, if only by a weight and a temperature.
    """
    mixed = []
    for part in held:
        others = [other for other in held if other is not part]
        rows = np.concatenate([other.rows for other in others])
        part.mixed = Mixture.fit(joined_log_probabilities(others), codes[rows])(part.log_probabilities)
        mixed.append(part.mixed)
    return np.concatenate(mixed)


def held_out_signs(
    training: Training, held: list[HeldOut], mixture: Mixture, calibrates: Flags
) -> Iterator[tuple[Signs, Flags, int]]:
    """For `Rejection.learn`: signs of every fold's cells, pooled where it is large enough, and cell by cell.

    ``calibrates`` (cells of the reference,): those of the types that are large enough. A fold of several batches is
    judged as one sample.
    """
    for part in held:
        cells = training.cells(part.rows)
        log_p = mixture(part.log_probabilities)
        neighbours = part.views.neighbours(cells)
        for near in [None] if neighbours is None else [neighbours, None]:
            yield Signs.of(part.views, cells, log_p, near), calibrates[part.rows], part.fold
