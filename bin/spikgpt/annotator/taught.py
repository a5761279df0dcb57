"""Types that were taught: a population of an earlier run that a person has named, as an annotator asks for it.

What an annotator was trained on is not in its folder, so nothing of it is trained again. A lesson adds one type beside
the annotator's own, and every cell that the lesson does not win keeps the annotator's answer, to the last digit:

1. *Claim.* Two class-balanced logistic regressions, of the taught cells against the other cells of their samples: on
   marker genes of the type's own (rank within the cell) and on the scGPT embedding. What the annotator's own types of
   a sample share of their difference from the taught samples is taken off first, as its batch
   (`spikgpt.annotator.batch`). Both are mixed with the weight and temperature of least log loss on cells that were held
   out. A cell with a probability above one half is claimed.
2. *Fit.* Claimed cells are measured by the annotator's own distances, to which the type is added as one more, and
   judged by its one rule (`spikgpt.annotator.rejection`): held-out cells of the population stand among its calibration
   cells. That is the p-value of the taught type.
3. *Answer.* A claimed cell is of the taught type where that p-value is larger than the one of the annotator's own best
   match; of several taught types, the one of largest probability. The rule does not ask for the unknown rate, so the
   best match and its p-value are the same at any rate; the cell is `Unknown` where the p-value is at most the rate, as
   every cell is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import scipy.sparse as sp

from spikgpt.annotator.batch import offset_of_sums, share_of_correction, type_sums
from spikgpt.annotator.cells import Cells, in_turn, row_blocks
from spikgpt.annotator.distances import TypeDistance
from spikgpt.annotator.expression import CLIP, INVERSE_PENALTY, MANY, SD_FLOOR, marker_scores, top_markers
from spikgpt.annotator.mixture import Mixture
from spikgpt.annotator.neighbours import MIN_CELLS_TO_POOL, PooledLogs, nearest, scores_on
from spikgpt.annotator.probabilities import ABSENT, log_softmax
from spikgpt.annotator.ranks import scaled
from spikgpt.annotator.rejection import Calibration, Judgement, Rejection, Signs
from spikgpt.annotator.views import ProfileView, Views
from spikgpt.base.arrays import Arrays, Codes, Flags, Floats, Floats32, named, unnamed
from spikgpt.base.groups import class_means
from spikgpt.base.normalisation import log1p_cp10k

EXPRESSION, EMBEDDING = "expression", "embedding"
"""The regressions of a lesson, those of the views that its annotator has."""
CLAIMED = 0.5
"""A cell of larger probability is claimed."""
SCALE = "rank"
"""Scale of the counts, see `spikgpt.annotator.ranks`."""


@dataclass
class Judge:
    """A regression of the taught type against other cells.

    ``features`` (n,) index into the annotator's genes or the embedding's numbers; ``mean``, ``sd``, ``coefficients``
    (n,), ``intercept`` (1,); ``type_means`` (annotator's own classes, n) of the standardised other cells, by the type
    that the annotator finds most likely, and ``class_cells`` (classes,) how many these are.
    """

    features: Codes
    mean: Floats
    sd: Floats
    coefficients: Floats
    intercept: Floats
    type_means: Floats
    class_cells: Floats

    @classmethod
    def fit(
        cls,
        values: Floats | Floats32,
        features: Codes,
        inside: Flags,
        learns: Flags,
        best: Codes,
        classes: int,
        floor: float,
    ) -> "Judge":
        """Fit on ``values`` (cells, n); ``inside`` (cells,) the taught ones, ``learns`` (cells,) those of them and of
        the others that are learned from; ``best`` (cells,) the annotator's own type of each."""
        from sklearn.linear_model import LogisticRegression

        values = values.astype(np.float64)
        mean, sd = values[learns].mean(0), np.maximum(values[learns].std(0), floor)
        z = np.clip((values - mean) / sd, -CLIP, CLIP)
        model = LogisticRegression(
            C=INVERSE_PENALTY, class_weight="balanced", solver="lbfgs", max_iter=200, tol=1e-3
        ).fit(z[learns], inside[learns])
        type_means = class_means(z[~inside], best[~inside], classes)
        cells = np.bincount(best[~inside], minlength=classes).astype(float)
        return cls(features, mean, sd, model.coef_[0], model.intercept_, type_means, cells)

    def logit(self, values: Floats | Floats32, seen: Flags, best: Codes) -> Floats:
        """Log-odds ``(cells,)`` of the taught type for the cells of one sample, its batch offset taken off.

        ``values`` (cells, n); ``seen`` (n,) the features that the sample has; ``best`` (cells,) as in `fit`.
        """
        z = np.clip((values - self.mean) / self.sd, -CLIP, CLIP)
        z[:, ~seen] = 0.0
        logit = z @ self.coefficients + self.intercept[0]
        others = logit <= 0
        sums = type_sums(z[others], best[others], len(self.class_cells))
        offset = offset_of_sums(sums, best[others], self.type_means, self.class_cells)
        return np.asarray(logit - offset @ self.coefficients)


@dataclass
class TypeRows:
    """A taught type as the annotator's distances know a type (`spikgpt.annotator.distances`); empty without the view.

    ``profiles`` (2, variable genes), ``bulk`` (variable genes,), ``expression_centre`` (components,), ``shares``
    (detection markers,), ``embedding_centre`` (components,), ``cells`` (1,).
    """

    profiles: Floats
    bulk: Floats
    expression_centre: Floats
    shares: Floats
    embedding_centre: Floats
    cells: Floats

    @classmethod
    def learn(cls, views: Views, cells: Cells, inside: Flags, best: Codes) -> "TypeRows":
        """Of the taught cells ``inside`` (cells,) of one sample, less what its other cells show to be its batch.

        ``best`` (cells,) the annotator's own type of each. Genes that the sample did not measure are 0.
        """
        none = np.zeros(0)
        rows = cls(np.zeros((2, 0)), none, none, none, none, np.array([float(inside.sum())]))
        others, called = np.flatnonzero(~inside), best[~inside]
        share = share_of_correction(views.likeness(cells.take(others), called))
        if views.profile is not None:
            rows._learn_profile(views.profile, cells, inside, others, called, share)
        if views.embedding is not None:
            distance = views.embedding.distance
            scores = scores_on(views.embedding.standardised(cells.embedding), distance.centre, distance.loadings)
            rows.embedding_centre = centre_of(distance, scores, inside, others, called, share)
        return rows

    def _learn_profile(
        self, own: ProfileView, cells: Cells, inside: Flags, others: Codes, called: Codes, share: float
    ) -> None:
        """What of expression is known of the type; all but ``own``, the annotator's view, as in `learn`."""
        known, seen = own.profiles, cells.measured[own.profiles.genes]
        genes = known.genes[seen]
        values = log1p_cp10k(cells.on(genes), cells.depth)
        near = nearest(values) if len(cells) >= MIN_CELLS_TO_POOL else None
        shift_of = known.shift_of(called, share)
        self.profiles = np.zeros((2, len(seen)))
        for kind, among in enumerate((near, None)):
            logs, means = PooledLogs.of(cells, genes, among), []
            for part in logs.blocks():
                block = logs.values(part)
                shift = shift_of(block[others] - known.profiles[kind][:, seen][:, part][called])
                means.append(block[inside].mean(axis=0) - shift)
            self.profiles[kind, seen] = np.concatenate(means)
        total = max(float(cells.depth[inside].sum()), 1.0)
        self.bulk = np.zeros(len(seen))
        self.bulk[seen] = np.log1p(sums(cells.on(genes)[inside]) * 1e4 / total)
        scores = scores_on(values, own.distance.centre[seen], own.distance.loadings[:, seen])
        self.expression_centre = centre_of(own.distance, scores, inside, others, called, share)
        detection = own.detection
        seen = cells.measured[detection.genes]
        counts = cells.on(detection.genes[seen])
        offset = detection.offset(counts[others], cells.depth[others], detection.shares[:, seen], called, share)
        self.shares = np.zeros(len(seen))
        self.shares[seen] = sums(counts[inside]) / total / offset

    @classmethod
    def mean(cls, parts: "Sequence[TypeRows]") -> "TypeRows":
        """Of several samples, each weighing as it has taught cells."""
        weights = np.array([float(part.cells[0]) for part in parts])
        out = {f.name: sum(w * getattr(p, f.name) for w, p in zip(weights, parts, strict=True)) for f in fields(cls)}
        made = cls(**{name: values / weights.sum() for name, values in out.items()})
        made.cells = np.array([weights.sum()])
        return made

    def beside(self, views: Views) -> Views:
        """The views' distances with the taught type as one more class, the last."""
        embedding, profile = views.embedding, views.profile
        if profile is not None:
            known = profile.profiles
            profile = replace(
                profile,
                profiles=replace(
                    known,
                    profiles=np.concatenate([known.profiles, self.profiles[:, None]], axis=1),
                    bulks=np.vstack([known.bulks, self.bulk]),
                    class_cells=np.append(known.class_cells, self.cells),
                ),
                distance=replace(
                    profile.distance,
                    type_centres=np.vstack([profile.distance.type_centres, self.expression_centre]),
                    class_cells=np.append(profile.distance.class_cells, self.cells),
                ),
                detection=replace(
                    profile.detection,
                    shares=np.vstack([profile.detection.shares, self.shares]),
                    class_cells=np.append(profile.detection.class_cells, self.cells),
                ),
            )
        if embedding is not None:
            distance = embedding.distance
            embedding = replace(
                embedding,
                distance=replace(
                    distance,
                    type_centres=np.vstack([distance.type_centres, self.embedding_centre]),
                    class_cells=np.append(distance.class_cells, self.cells),
                ),
            )
        return replace(views, embedding=embedding, profile=profile)


@dataclass
class Lesson:
    """One taught type beside the annotator's own ones.

    ``measured`` (annotator's genes,): the genes that all taught samples have; ``judges`` by `EXPRESSION`, `EMBEDDING`;
    ``calibrations`` by kind: the signs of the taught samples' cells, those of the population held out.
    """

    name: str
    measured: Flags
    judges: dict[str, Judge]
    mixture: Mixture
    rows: TypeRows
    calibrations: dict[str, Calibration]

    def cells(self, cells: Cells) -> Cells:
        """The cells on the genes that the taught samples had too."""
        if self.measured[cells.measured].all():
            return cells
        return Cells(cells.stored, cells.order, np.where(self.measured, cells.columns, -1), cells.embedding)

    def probability(self, cells: Cells, best: Codes) -> Floats:
        """Probability ``(cells,)`` of the taught type; ``best`` (cells,) the annotator's own types."""
        return np.exp(self.mixture(log_probabilities(self.judges, cells, best))[:, 1])

    def arrays(self) -> Arrays:
        """All that was learned, by name, for a safetensors file."""
        out: Arrays = {"measured": self.measured.astype(np.uint8)} | named("rows", self.rows)
        for name, judge in self.judges.items():
            out |= named(f"judges.{name}", judge)
        for kind, calibration in self.calibrations.items():
            out |= named(f"calibration.{kind}", calibration)
        return out

    @classmethod
    def from_arrays(cls, name: str, mixture: Mixture, arrays: Arrays) -> "Lesson":
        """The opposite of `arrays`; raises KeyError where one is missing."""

        def of(prefix: str) -> list[str]:
            return sorted({key.split(".")[1] for key in arrays if key.startswith(f"{prefix}.")})

        return cls(
            name,
            arrays["measured"].astype(bool),
            {view: unnamed(f"judges.{view}", Judge, arrays) for view in of("judges")},
            mixture,
            unnamed("rows", TypeRows, arrays),
            {kind: unnamed(f"calibration.{kind}", Calibration, arrays) for kind in of("calibration")},
        )


@dataclass
class Taught:
    """A lesson put beside the annotator that it was given to: its distances and its rule, with one type more."""

    lesson: Lesson
    views: Views
    rejection: Rejection

    @classmethod
    def of(cls, lesson: Lesson, views: Views, rejection: Rejection) -> "Taught":
        """``views``, ``rejection`` of the annotator's own types."""
        calibrations = {
            kind: together([known, lesson.calibrations[kind]]) if kind in lesson.calibrations else known
            for kind, known in rejection.calibrations.items()
        }
        with_type = replace(rejection, calibrations=calibrations, classes=rejection.classes + 1)
        return cls(lesson, lesson.rows.beside(views), with_type)

    def signs(self, cells: Cells, log_p: Floats, probability: Floats, neighbours: Codes | None) -> Signs:
        """Signs of the cells of a sample, those claimed measured against the taught type.

        ``log_p`` (cells, own classes) of the annotator; ``probability`` (cells,) of the lesson.
        """
        return Signs.of(self.views, self.lesson.cells(cells), with_claims(log_p, probability), neighbours)


@dataclass(frozen=True)
class Claims:
    """What the lessons win of a sample.

    ``rows`` (won cells,) into the sample; ``lesson`` (won cells,) which; ``p_value``, ``confidence`` (won cells,);
    ``by_fit`` (won cells,) as in `Judgement`.
    """

    rows: Codes
    lesson: Codes
    p_value: Floats
    confidence: Floats
    by_fit: Flags


def claims(
    taught: Sequence[Taught], cells: Cells, log_p: Floats, own_p_value: Floats, neighbours: Codes | None
) -> Claims:
    """The cells of a sample that are nearer to a taught type than to the annotator's own ones.

    ``log_p`` (cells, own classes), ``own_p_value`` (cells,) and ``neighbours`` as the annotator has them.
    """
    number = len(log_p)
    best, lesson = log_p.argmax(1), np.full(number, -1)
    p_value, confidence, by_fit = np.zeros(number), np.zeros(number), np.zeros(number, dtype=bool)
    for at, one in enumerate(taught):
        probability = one.lesson.probability(one.lesson.cells(cells), best)
        won, judgement = won_by(one, cells, log_p, probability, own_p_value, neighbours)
        won &= probability > confidence
        lesson[won], confidence[won] = at, probability[won]
        p_value[won], by_fit[won] = judgement.p_value[won], judgement.by_fit[won]
    rows = np.flatnonzero(lesson >= 0)
    return Claims(rows, lesson[rows], p_value[rows], confidence[rows], by_fit[rows])


def won_by(
    taught: Taught,
    cells: Cells,
    log_p: Floats,
    probability: Floats,
    own_p_value: Floats,
    neighbours: Codes | None,
) -> tuple[Flags, Judgement]:
    """Cells ``(cells,)`` that are claimed and fit the taught type better than their own, and how they were judged."""
    claimed = probability > CLAIMED
    if not claimed.any():
        nothing = np.zeros(0)
        return claimed, Judgement(np.zeros(len(claimed)), claimed, nothing, nothing, 0.0, [])
    judgement = taught.rejection.judge(taught.signs(cells, log_p, probability, neighbours))
    return claimed & (judgement.p_value > own_p_value), judgement


def with_claims(log_p: Floats, probability: Floats) -> Floats:
    """Log-probabilities ``(cells, own classes + 1)``: the taught type is the largest of claimed cells, and has none of
    the others, which keep their own."""
    claimed = probability > CLAIMED
    out = np.column_stack([log_p, np.full(len(log_p), ABSENT)])
    rest = np.maximum(1.0 - probability[claimed], 1e-12)
    out[claimed, :-1] += np.log(rest)[:, None]
    out[claimed, -1] = np.log(probability[claimed])
    return out


def log_probabilities(judges: dict[str, Judge], cells: Cells, best: Codes) -> dict[str, Floats]:
    """Of each regression ``(cells, 2)``: another cell, and the taught type."""
    out = {}
    for name, judge in judges.items():
        seen = cells.measured[judge.features] if name == EXPRESSION else np.ones(len(judge.features), dtype=bool)
        logit = judge.logit(values_of(name, cells, judge.features), seen, best)
        out[name] = log_softmax(np.column_stack([-logit / 2, logit / 2]))
    return out


def values_of(view: str, cells: Cells, features: Codes) -> Floats:
    """What a regression reads ``(cells, features)``."""
    if view == EMBEDDING:
        return cells.embedding[:, features].astype(np.float64)
    parts = in_turn(lambda rows: scaled(cells.counts(rows), SCALE)[:, features].toarray(), row_blocks(len(cells)))
    return np.concatenate(list(parts)).astype(np.float64)


def own_markers(counts: sp.csr_matrix, inside: Flags) -> Codes:
    """Sorted genes that set the taught cells ``inside`` (cells,) apart, of ``counts`` (cells, annotator's genes)."""
    return top_markers(marker_scores(scaled(counts, SCALE), inside.astype(np.int64), 2, SD_FLOOR[SCALE])[1:], MANY)


def centre_of(
    distance: TypeDistance, scores: Floats, inside: Flags, others: Codes, called: Codes, share: float
) -> Floats:
    """Mean scores ``(components,)`` of the taught cells, less the sample's shift; as in `TypeRows.learn`."""
    shift = distance.shift(scores[others] - distance.type_centres[called], called, share)
    return np.asarray(scores[inside].mean(axis=0) - shift)


def sums(counts: sp.csr_matrix) -> Floats:
    """Sum ``(genes,)`` of whole numbers: exact in any order."""
    return np.asarray(counts.sum(axis=0, dtype=np.float64)).ravel()


def together(parts: Sequence[Calibration]) -> Calibration:
    """Calibrations one after the other, their samples numbered on."""
    joined = {f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Calibration)}
    first = np.cumsum([0, *(len(part.likeness) for part in parts)])
    joined["sample"] = np.concatenate([part.sample + start for part, start in zip(parts, first, strict=False)]).astype(
        np.int32
    )
    return Calibration(**joined)
