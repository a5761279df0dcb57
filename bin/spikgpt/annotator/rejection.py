"""When is a cell `Unknown`? The one rule that training, the leave-one-type-out table and annotation apply.

A cell is rejected where its p-value is at most the unknown rate. Top to bottom, `Rejection.judge`:

1. `Signs.of`: the distances of a cell to the type it is called, and doubt (one minus its largest probability),
   averaged with its nearest cells where the sample is large enough to pool.
2. `spikgpt.annotator.correction`: both on the scale of held-out reference cells, less what is the sample's batch.
   Samples of held-out cells have been through the same.
3. `transferred`: what a new sample's cells fit worse than held-out ones even so.
4. `spikgpt.annotator.conformal.joined`: one score; its rank among those of the held-out cells, a p-value.
5. `tail_excess`: the sample as a whole may be lighter or heavier in its upper tail than held-out samples.
6. `at_least_the_rate`: where this rejects less than the rate of the cells that no gap sets apart, those that fit worst.
7. `Rejection.reasons`: where all this cannot promise a rate, in words.

No theorem bounds the share of known cells that is rejected: calibration scores come from the models of the folds
(cross-conformal prediction), a score depends on the other cells of its sample, and steps 2, 3, 5 and 6 are estimates.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from scipy.special import ndtr, ndtri

from spikgpt.annotator.batch import LIKE, MIN_TYPE_CELLS, share_of_correction, weighted_quantile
from spikgpt.annotator.cells import Cells
from spikgpt.annotator.conformal import joined, log_odds, p_values
from spikgpt.annotator.correction import LIMITS, Constants, Correction, Scale, own_spread
from spikgpt.annotator.folds import COVERED
from spikgpt.annotator.neighbours import smoothed
from spikgpt.annotator.views import Views
from spikgpt.base.arrays import Codes, Flags, Floats, Floats32

KINDS = ("pooled", "single")
"""Calibrations: cells pooled with neighbours, and cell by cell for samples too small to pool."""
MIN_TYPES = 3
"""With fewer predicted types of `MIN_TYPE_CELLS` cells a missing type passes for a batch effect: samples of beta cells
alone, of B cells alone or of CD4 T cells alone, with the type missing from the reference, were rejected at about the
rate, and their shift is no larger than that of known types alone."""
APART = 1.0
"""Widths that types may move apart (a width is from the median of held-out cells to what 5 % of them exceed).

Of the 189 queries of `bench/unknown.py` with known types 20 moved further, 18 of them with a type left out. Four have
more than 15 % false Unknown: one of the 20, and three that are named for their few types or their shift."""
TAIL = 0.2
"""Upper share of a type's p-values that tells whether its tail is lighter or heavier than expected."""
MOST_TAIL = 2.0
"""Most that a tail is moved by, in probits."""
LEAST_P = 1e-6
"""Bound of p-values as probits."""
WORDS = {
    "expression_profile": "expression of the types",
    "expression_distance": "distance to the types in expression",
    "marker_detection": "detection of marker genes",
    "embedding_distance": "distance to the types in the embedding",
    "doubt": "doubt between types",
}
"""The signs, in words."""


@dataclass
class Signs:
    """What speaks against the cells of a sample.

    ``values`` (cells, signs): the distances to the type called, ordered as `spikgpt.annotator.views.distance_names`
    has them, and the log-odds of doubt; ``predicted`` (cells,) the types called; ``likeness`` of the sample to the
    reference, see `spikgpt.annotator.views.Views.likeness`; ``kind``, one of `KINDS`.
    """

    values: Floats
    predicted: Codes
    likeness: float
    kind: str

    @classmethod
    def of(cls, views: Views, cells: Cells, log_p: Floats, neighbours: Codes | None) -> "Signs":
        """Of cells with mixed log-probabilities ``log_p`` (cells, classes) and ``neighbours`` (cells, k), if pooled."""
        predicted = log_p.argmax(1)
        doubt = smoothed(1.0 - np.exp(log_p.max(1)), predicted, neighbours)
        likeness = views.likeness(cells, predicted)
        distances = views.distances(cells, predicted, neighbours, share_of_correction(likeness))
        values = np.column_stack([distances, log_odds(doubt)])
        return cls(values, predicted, likeness, "single" if neighbours is None else "pooled")

    def take(self, rows: Codes | Flags) -> "Signs":
        """Some of the cells, as signs of the same sample."""
        return Signs(self.values[rows], self.predicted[rows], self.likeness, self.kind)


@dataclass
class Calibration:
    """Signs of held-out reference cells, as a model folder keeps them.

    ``signs`` (cells, signs) float32; ``predicted``, ``sample`` (cells,) int32, the type called and the number of the
    sample, one batch of one fold; ``counted`` (cells,) uint8, 1 for cells of types that are large enough to calibrate;
    ``likeness`` (samples,) of each sample.
    """

    signs: Floats32
    predicted: Codes
    sample: Codes
    counted: Flags
    likeness: Floats

    @classmethod
    def learn(cls, samples: list[tuple[Signs, Flags]]) -> "Calibration":
        """Of held-out samples, and which of the cells of each ``(cells,)`` count."""
        counted = np.concatenate([of_sample for _, of_sample in samples])
        if not counted.any():
            counted = np.ones_like(counted)
        return cls(
            np.concatenate([signs.values for signs, _ in samples]).astype(np.float32),
            np.concatenate([signs.predicted for signs, _ in samples]).astype(np.int32),
            np.repeat(np.arange(len(samples)), [len(signs.predicted) for signs, _ in samples]).astype(np.int32),
            counted.astype(np.uint8),
            np.array([signs.likeness for signs, _ in samples]),
        )


@dataclass(frozen=True)
class HeldOutScores:
    """Held-out cells that count, corrected: ``fit``, ``doubt``, ``score``, each sorted; ``gates`` (samples,); ``tail``
    see `upper_tail`, median over samples."""

    scale: Scale
    fit: Floats
    doubt: Floats
    score: Floats
    gates: list[float]
    tail: float


@dataclass(frozen=True)
class Compared:
    """A sample next to the held-out cells: ``v`` (cells, signs) corrected; ``predicted`` (cells,) the types called;
    ``what`` it was corrected for; ``held_out`` the scores that it is ranked among."""

    v: Floats
    predicted: Codes
    what: Correction
    held_out: HeldOutScores


@dataclass
class Judgement:
    """``p_value`` (cells,), rounded; ``by_fit`` (cells,): whether fit rather than doubt speaks against the cell;
    ``shift``, ``spread`` (signs,), what was corrected as the sample's batch; ``gate``: the share of that shift that was
    taken off; ``not_calibrated``: why the rate cannot be promised for this sample, nothing where it can."""

    p_value: Floats
    by_fit: Flags
    shift: Floats
    spread: Floats
    gate: float
    not_calibrated: list[str]


@dataclass
class Rejection:
    """The rule: a calibration of each of `KINDS` that the reference was large enough for.

    ``signs``: names of the signs, in order; ``classes``: how many; ``by_batch``: whether whole batches were held out.
    """

    calibrations: dict[str, Calibration]
    signs: list[str]
    classes: int
    by_batch: bool
    constants: Constants = field(default_factory=Constants)
    _plain: dict[str, HeldOutScores] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def learn(
        cls, held_out: Iterable[tuple[Signs, Flags]], distances: list[str], classes: int, by_batch: bool
    ) -> "Rejection":
        """Learn from held-out reference cells.

        Parameters
        ----------
        held_out
            Signs of the cells of each sample, and which of them ``(cells,)`` count. A kind that less than `COVERED` of
            the cells have, the others being of samples too small to pool, gets no calibration.
        distances
            Names of the distances.
        """
        of_kind: dict[str, list[tuple[Signs, Flags]]] = {kind: [] for kind in KINDS}
        for signs, counted in held_out:
            of_kind[signs.kind].append((signs, counted))
        cells = {kind: sum(len(signs.predicted) for signs, _ in samples) for kind, samples in of_kind.items()}
        calibrations = {
            kind: Calibration.learn(of_kind[kind])
            for kind in KINDS
            if cells[kind] and cells[kind] >= COVERED * max(cells.values())
        }
        return cls(calibrations, [*distances, "doubt"], classes, by_batch)

    def neighbours(self, views: Views, cells: Cells) -> Codes | None:
        """Nearest cells ``(cells, k)`` to pool with; None where sample or reference is too small to pool."""
        return views.neighbours(cells) if "pooled" in self.calibrations else None

    def judge(self, signs: Signs) -> Judgement:
        """p-value of every cell of a sample: is it Unknown?"""
        compared = self.compare(signs)
        p_value, by_fit = self.p_values(compared)
        what = compared.what
        return Judgement(p_value, by_fit, what.shared, what.spread, what.gate, self.reasons(signs, what))

    def compare(self, signs: Signs) -> Compared:
        """A sample's cells, corrected, and the held-out cells that they are compared with."""
        held_out = self._held_out(signs.kind)
        u, what = self._correction(held_out.scale, signs, None)
        own = own_spread(self.by_batch, what)
        if own > 0:
            held_out = self._scores(signs.kind, own, held_out.gates)
            u, what = self._correction(held_out.scale, signs, what.gate)
        return Compared(held_out.scale.corrected(u, signs.predicted, what), signs.predicted, what, held_out)

    def p_values(self, of: Compared) -> tuple[Floats, Flags]:
        """p-value ``(cells,)``, and whether fit rather than doubt speaks against the cell ``(cells,)``."""
        fit, doubt = (transferred(values, self.constants) for values in fit_and_doubt(of.v))
        score, by_fit = joined(fit, doubt, of.held_out.fit, of.held_out.doubt)
        probits = probits_of(score, of.held_out.score)
        probits -= of.what.gate * self.constants.tail * tail_excess(probits, of.predicted, of.held_out.tail)
        # rounded, so that the last bit of a sum does not decide between machines
        p_value = at_least_the_rate(ndtr(-probits), score.round(6), of.what.one_kind, self.constants)
        return p_value.round(6), by_fit

    def corrected(self, signs: Signs) -> Floats:
        """Signs ``(cells, signs)`` less what is the sample's batch, in widths that all types share; see `judge`."""
        scale = self._held_out(signs.kind).scale
        u, what = self._correction(scale, signs, None)
        return scale.corrected(u, signs.predicted, what)

    def least_p_value(self, kind: str) -> float:
        """The smallest p-value that held-out cells can give a cell of an otherwise usual sample, as they are so few."""
        return 1.0 / (len(self._held_out(kind).score) + 1.0)

    def _correction(self, scale: Scale, signs: Signs, gate: float | None) -> tuple[Floats, Correction]:
        u = scale.standard(signs.values.astype(np.float32).astype(np.float64), signs.predicted)
        return u, scale.correction(u, signs.predicted, self._limits, signs.likeness, self.constants, gate)

    @property
    def _limits(self) -> Floats:
        return np.array([LIMITS[name] for name in self.signs])

    def _held_out(self, kind: str) -> HeldOutScores:
        """Scores without a spread of the types' own, which every sample is first compared with."""
        if kind not in self._plain:
            self._plain[kind] = self._scores(kind, 0.0, None)
        return self._plain[kind]

    def _scores(self, kind: str, own: float, gates: list[float] | None) -> HeldOutScores:
        """Correct every held-out sample as a sample of the user is corrected; ``gates`` (samples,) where known."""
        of = self.calibrations[kind]
        counted = of.counted.astype(bool)
        values = of.signs.astype(np.float64)
        scale = Scale.learn(values, of.predicted, counted, self.classes, own, self.constants)
        v, found = np.empty_like(values), []
        for number, likeness in enumerate(of.likeness):
            rows = np.flatnonzero(of.sample == number)
            signs = Signs(values[rows], of.predicted[rows], float(likeness), kind)
            u, what = self._correction(scale, signs, None if gates is None else gates[number])
            v[rows] = scale.corrected(u, signs.predicted, what)
            found.append(what.gate)
        fit, doubt = fit_and_doubt(v[counted])
        score, _ = joined(fit, doubt, np.sort(fit), np.sort(doubt))
        probits, predicted, sample = probits_of(score, np.sort(score)), of.predicted[counted], of.sample[counted]
        tails = [upper_tail(probits[sample == number], predicted[sample == number]) for number in np.unique(sample)]
        known = [tail for tail in tails if tail is not None]
        tail = float(np.median(known)) if known else float(-ndtri(TAIL))
        return HeldOutScores(scale, np.sort(fit), np.sort(doubt), np.sort(score), found, tail)

    def reasons(self, signs: Signs, what: Correction) -> list[str]:
        """Why the rate cannot be promised for a sample."""
        reasons = []
        if signs.likeness < LIKE:
            reasons.append(
                f"its cells look too little like the types that they are called (correlation "
                f"{signs.likeness:.2f} in what sets the types apart; from {LIKE:g} on the difference is taken for a "
                "batch)"
            )
        for name, shift, limit in zip(self.signs, what.shared, self._limits, strict=True):
            if shift > limit:
                reasons.append(
                    f"all its types differ from the reference in {WORDS[name]} by {shift:.1f} widths; up to {limit:g} "
                    "are taken for a batch"
                )
        if what.apart > APART:
            reasons.append(
                f"its types differ from the reference by unlike amounts ({what.apart:.1f} widths, root mean square; "
                f"{APART:g} is the limit): a type in another state cannot be told from one that the reference lacks"
            )
        large = int((np.bincount(signs.predicted, minlength=self.classes) >= MIN_TYPE_CELLS).sum())
        if large < MIN_TYPES:
            reasons.append(
                f"{'no type has' if large == 0 else f'only {large} of its types ha' + ('s' if large == 1 else 've')} "
                f"{MIN_TYPE_CELLS} cells or more; with fewer than {MIN_TYPES}, a type that the reference lacks cannot "
                "be told from a batch effect"
            )
        return reasons


def fit_and_doubt(v: Floats) -> tuple[Floats, Floats]:
    """Fit, the mean of the distances, and doubt ``(cells,)`` of corrected signs (cells, signs)."""
    return v[:, :-1].mean(1), v[:, -1]


def probits_of(score: Floats, calibration: Floats) -> Floats:
    """z = Phi^-1(1 - p) of the p-values ``(cells,)`` among ``calibration``, sorted; normal of exchangeable cells."""
    return np.asarray(-ndtri(np.clip(p_values(score, calibration), LEAST_P, 1.0 - LEAST_P)))


def upper_tail(probits: Floats, predicted: Codes) -> float | None:
    """Where the upper tail of a sample's types begins; None without a type of `MIN_TYPE_CELLS` cells.

    Median over those types, weighted by the square root of their cells, of the 80th percentile of their probits.
    """
    number = np.bincount(predicted)
    types = np.flatnonzero(number >= MIN_TYPE_CELLS)
    if len(types) == 0:
        return None
    return weighted_quantile(
        np.array([np.quantile(probits[predicted == k], 1 - TAIL) for k in types]), np.sqrt(number[types])
    )


def tail_excess(probits: Floats, predicted: Codes, expected: float) -> float:
    """How much heavier than held-out samples' (``expected``) a sample's upper tail is, in probits; 0 where unknown.

    Taken off in full it would be an empirical null [Efron, JASA 99, 2004], and take the unseen cells for it: hence the
    share `Constants.tail`.
    """
    tail = upper_tail(probits, predicted)
    return 0.0 if tail is None else float(np.clip(tail - expected, -MOST_TAIL, MOST_TAIL))


def transferred(values: Floats, constants: Constants) -> Floats:
    """Fit or doubt ``(cells,)`` less what a new sample's cells fit worse than held-out ones: above 0 over
    `Constants.transfer`.

    One constant for every reference and every rate; `bench/unknown.py` estimates it again without each family of data
    sets. It is taken off fit and doubt, not off p-values: the few odd cells of a reference leave a gap among its
    held-out scores, and the cells of a missing type, which often fall into it, would be spared together.
    """
    return np.where(values > 0, values / constants.transfer, values)


def at_least_the_rate(p_value: Floats, score: Floats, one_kind: Flags, constants: Constants) -> Floats:
    """p-values ``(cells,)`` of a sample, none above the share of its cells that fit as badly over `Constants.known`.

    A rule that rejects 5 % of the cells of known types rejects 5 % of a sample that has no others, and at least 4 % of
    one with 80 % of them, at this and at every rate. Where the correction left fewer, as in a sample that fits the
    reference better than held-out cells do, it was too careful. Cells that a gap sets apart from their type are not
    counted (``one_kind`` (cells,), see `spikgpt.annotator.correction.lower_groups`): the more of them are rejected, the
    fewer of the others would be. ``score`` (cells,): the larger, the worse a cell fits; p-values of held-out cells, few
    as they may be, have ties.
    """
    counted = np.sort(score[one_kind])
    as_bad = (len(counted) - np.searchsorted(counted, score, side="left")) / max(len(counted), 1)
    too_careful = as_bad < constants.known * p_value
    return np.divide(as_bad, constants.known, out=p_value.copy(), where=too_careful)


def rejected(p_value: Floats, unknown_rate: float) -> Flags:
    """Which cells ``(cells,)`` are Unknown."""
    return p_value <= unknown_rate
