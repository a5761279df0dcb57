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

    ``fold`` its number; ``rows`` (held-out cells,) into the reference: those whose type was among the training cells,
    sample after sample; ``samples``: how many of them each sample has, a batch of the fold or the whole fold;
    ``log_probabilities`` (held-out cells, classes) of each view; ``seconds``: training and prediction together;
    ``mixed`` (held-out cells, classes): the views by a mixture of the other folds, see `mix_by_the_other_folds`;
    ``on_levels``: what answers on levels come to, see `spikgpt.annotator.realised.held_out_answers`.
    """

    views: Views
    fold: int
    rows: Codes
    samples: list[int]
    log_probabilities: dict[str, Floats]
    seconds: float
    mixed: Floats | None = None
    on_levels: dict[str, float] | None = None

    def of_samples(self) -> Iterator[slice]:
        """Where the cells of each sample stand in ``rows``."""
        end = 0
        for cells in self.samples:
            yield slice(end, end := end + cells)


@dataclass
class Training:
    """All that one fit needs; sent to a worker process.

    ``features``, ``recipe``, ``shape``, ``network_kind``, ``seed`` as in `spikgpt.annotator.train.train_annotator`;
    ``by_batch``: whether whole batches are held out.
    """

    reference: Reference
    features: str
    recipe: Recipe
    shape: dict[str, int | float]
    network_kind: type[SpikingTransformer]
    seed: int
    by_batch: bool

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
        """Fit on the other folds; predict this one, each of its samples as if it were a user's."""
        start = time.monotonic()
        views = self.fit(np.flatnonzero(fold_of != fold))
        rows = np.flatnonzero(fold_of == fold)
        # a type that only this fold has is unseen here: its cells are no calibration cells
        samples = self.samples(rows[views.present[self.reference.codes[rows]]])
        log_p = [views.log_probabilities(self.cells(of_sample)) for of_sample in samples]
        return HeldOut(
            views,
            fold,
            np.concatenate(samples),
            [len(of_sample) for of_sample in samples],
            {name: np.concatenate([of_sample[name] for of_sample in log_p]) for name in log_p[0]},
            time.monotonic() - start,
        )

    def samples(self, rows: Codes) -> list[Codes]:
        """Held-out ``rows`` (cells,) by sample: batch by batch where whole batches are held out, else all of them."""
        batches = self.reference.batch_codes[rows]
        return [rows[batches == batch] for batch in np.unique(batches)] if self.by_batch else [rows]


def joined_log_probabilities(held: list[HeldOut]) -> dict[str, Floats]:
    """Log-probabilities ``(all held-out cells, classes)`` of each view, fold after fold."""
    return {name: np.concatenate([part.log_probabilities[name] for part in held]) for name in held[0].log_probabilities}


def mix_by_the_other_folds(held: list[HeldOut], reference: Reference) -> Floats:
    """Fill in ``mixed`` of every fold, by a mixture that did not see its labels; all of them, fold after fold.

    The mixture that the annotator applies is fitted on all held-out cells; figures of it on these cells would be
    in-sample, if only by a weight and a temperature.
    """
    mixed = []
    for part in held:
        others = [other for other in held if other is not part]
        rows = np.concatenate([other.rows for other in others])
        told = reference.telling(rows)
        log_p = {name: values[told] for name, values in joined_log_probabilities(others).items()}
        part.mixed = Mixture.fit(log_p, reference.codes[rows[told]])(part.log_probabilities)
        mixed.append(part.mixed)
    return np.concatenate(mixed)


def held_out_signs(
    training: Training, held: list[HeldOut], mixture: Mixture, counts: Flags
) -> Iterator[tuple[Signs, Flags]]:
    """For `Rejection.learn`: signs of every held-out sample, pooled where it is large enough, and cell by cell.

    ``counts`` (cells of the reference,): those of the types that are large enough to calibrate.
    """
    for part in held:
        log_p = mixture(part.log_probabilities)
        for place in part.of_samples():
            cells = training.cells(part.rows[place])
            neighbours = part.views.neighbours(cells)
            for near in [None] if neighbours is None else [neighbours, None]:
                yield Signs.of(part.views, cells, log_p[place], near), counts[part.rows[place]]
