"""Answers on levels: the deepest level of a cell's type that holds, and the types that could not be excluded.

The flat answer is a type or `Unknown`. Here a cell starts at its best match and climbs the tree of types
(`spikgpt.annotator.tree`) to the first level that holds; where none does it is `Unknown`.

1. *Set.* The types whose probability is at least what all but a share `rate` / `MARGIN` of held-out cells give their
   own type (split conformal sets of least size [1]), and the best match. A level must have all of them below it.
2. *Own type.* The cell's distance to its type is ranked among held-out cells of that type alone: its tail. A type holds
   where the cell's p-value is above `rate` times `MARGIN` and its tail above the type's cut in this sample. A missing
   sibling is not one odd cell but a group of cells that are called by one name and lie too far from it, hence
   `cut_of_sample`: where a type's cells have more small tails than its own cells would, the cut is as large as keeps
   the false discovery rate [2] at `FALSE_CUTS`. What its own cells would have is told by the cells of this sample that
   fit, within bounds (an empirical null [3]).
3. *Level above.* It holds where the cell lies no farther from its best match than half of those cells do whose type,
   one of this level, was left out of the reference, and that were called by another of its types
   (`spikgpt.annotator.leave_out`). The other half climbs higher, which is still true of them, and so do cells of a
   type from elsewhere (`NEAR`). A level none of whose types could be left out holds for a cell that is not
   `Unknown`, and so does the highest one.

A cell that cannot be read, or is too shallow to judge, stays `Unknown`, and so does every `Unknown` cell of a sample
for which the rate cannot be promised: it may be of another tissue.

[1] Sadinle, Lei, Wasserman, Least ambiguous set-valued classifiers, JASA 114, 2019.
[2] Storey, A direct approach to false discovery rates, JRSS B 64, 2002.
[3] Efron, Large-scale simultaneous hypothesis testing: the choice of a null hypothesis, JASA 99, 2004.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spikgpt.annotator.batch import MIN_TYPE_CELLS
from spikgpt.annotator.conformal import p_values
from spikgpt.annotator.rejection import Rejection, Signs, rejected
from spikgpt.annotator.tree import Tree
from spikgpt.base.arrays import Codes, Flags, Floats

FALSE_CUTS = 0.15
"""Share of the cells that are called at a level above for a missing sibling which may be of their own type after all.
Chosen on queries of `bench/unknown.py`, whose labels were in view; flat between 0.1 and 0.2. `bench/levels.py` measures
what it comes to."""
MARGIN = 1.5
"""A type, and the set that a level must hold, are asked this many times as much as the rate says: labels of another
sample err more often than those of held-out cells. Chosen with the labels of `bench/levels.py` in view, which says what
it comes to; more of it makes more answers right and takes their type from more cells."""
MOST_SHAPE = 1.5
"""Largest exponent of a sample's null, see `shape_of_null`; chosen like `MARGIN`. At 1, the uniform null, far fewer
cells of missing types end Unknown or at a true level; beyond 1.5 many cells of the same laboratory lose their type."""
PRIOR_CELLS = 30
"""Cells that the uniform null counts as in `shape_of_null`: without them a sample's own null is noise where a type has
few cells, and more of these are cut for nothing (`test_levels.py` has shares of them)."""
CUTS = (0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01)
"""Tails up to which cells may be cut."""
NEAR = 0.5
"""Share of a level's left-out cells that lie farther from their best match than a cell that it holds for.

Chosen with the labels of `bench/levels.py` in view: at 0.05 NK cells that a reference of blood lacked were called T
cells, and far fewer cells of missing types ended at a true level or at none."""
FEWEST = 10
"""Held-out cells that a type needs for tails of its own; with fewer it takes those of all types."""
LEAST_OWN = 0.02
"""Smallest share of a type's cells in a sample that is taken for its own, in Storey's estimate."""
SET_RATES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5)
"""Rates whose quantiles of held-out cells' log-probability of their own type are kept; between them is interpolated."""
KEPT = 99
"""Quantiles of the distances of a node's left-out cells that are kept."""
AT_TYPE, NOWHERE = -1, -2
"""Instead of a node's number: the cell is called by its type, or at no level."""


@dataclass(frozen=True)
class LeftOut:
    """Cells of a type that was left out, as the model without it saw them.

    ``type`` its code; ``p_value`` (cells,), ``log_p`` (cells, classes); ``far`` (cells,) see `distance_of`; ``tail``
    (cells,) see `Tails`; ``cut`` (cells,): that of the type that the cell is called, in its sample.
    """

    type: int
    p_value: Floats
    log_p: Floats
    far: Floats
    tail: Floats
    cut: Floats

    @property
    def called(self) -> Codes:
        return np.asarray(self.log_p.argmax(1))


@dataclass(frozen=True)
class Answers:
    """``node`` (cells,): number of the node, `AT_TYPE` or `NOWHERE`; ``steps`` (cells,): levels above the best match,
    0 for the type itself; ``sets`` (cells, classes): types that could not be excluded."""

    node: Codes
    steps: Codes
    sets: Flags


@dataclass(frozen=True)
class Levels:
    """The tree, the log-probabilities at `SET_RATES`, and the distances ``far`` of each node's left-out cells (nodes,)
    (`KEPT` quantiles; empty for a node none of whose types was left out)."""

    tree: Tree
    least_log_p: list[float]
    far: list[list[float]]

    @classmethod
    def learn(cls, tree: Tree, codes: Codes, log_p: Floats, left_out: Sequence[LeftOut]) -> "Levels":
        """From held-out cells, their types ``(cells,)`` log-probabilities ``(cells, classes)``, and left-out ones."""
        own = log_p[np.arange(len(codes)), codes]
        least = [round(float(value), 6) + 0.0 for value in np.quantile(own, SET_RATES)]
        return cls(tree, least, [far_of_node(node.members, left_out) for node in tree.nodes])

    def answer(
        self,
        log_p: Floats,
        p_value: Floats,
        tails: Floats,
        far: Floats,
        cut: Floats,
        rate: float,
        *,
        may_climb: bool = True,
        without: int | None = None,
        near: float = NEAR,
        margin: float = MARGIN,
    ) -> Answers:
        """The answers of the cells of a sample.

        Parameters
        ----------
        log_p
            Mixed log-probabilities ``(cells, classes)``.
        p_value
            Of the flat rule ``(cells,)``, which rejects cells up to the rate.
        tails, far, cut
            Of the cells ``(cells,)``; the last is `cut_of_sample` of the type that the cell is called.
        may_climb
            Whether cells that the flat rule rejects may be called at a level above.
        without
            A type that the model lacks: a node counts by what it has without it.
        near, margin
            See `NEAR` and `MARGIN`; the bench tries others.
        """
        best, unknown = log_p.argmax(1), rejected(p_value, rate)
        sets = self.may_be(log_p, rate, margin)
        sets[np.arange(len(best)), best] = True
        node, steps = np.full(len(best), NOWHERE), np.zeros(len(best), dtype=np.int64)
        alone = sets.sum(1) == 1
        node[alone & ~rejected(p_value, margin * rate) & (tails > cut)] = AT_TYPE
        for leaf in np.unique(best):
            path = self.tree.path(int(leaf), without)
            for step, at in enumerate(path, 1):
                rows = np.flatnonzero((best == leaf) & (node == NOWHERE))
                inside = self._inside(sets[rows], at)
                fits = ~unknown[rows]
                if self.far[at]:
                    fits = (p_values(far[rows], np.array(self.far[at])) > near) & (fits | may_climb)
                holds = inside & (fits | (~unknown[rows] & (step == len(path))))
                node[rows[holds]], steps[rows[holds]] = at, step
            if not path:
                node[alone & ~unknown & (best == leaf)] = AT_TYPE
        return Answers(node, steps, sets)

    def may_be(self, log_p: Floats, rate: float, margin: float = MARGIN) -> Flags:
        """Which types cannot be excluded at the rate, with the margin, by their log-probabilities of any shape."""
        return np.asarray(log_p.round(6) >= np.interp(rate / margin, SET_RATES, self.least_log_p))

    def _inside(self, sets: Flags, at: int) -> Flags:
        """Which cells' sets ``(cells, classes)`` lie below a node."""
        outside = np.setdiff1d(np.arange(sets.shape[1]), self.tree.nodes[at].members)
        return np.asarray(~sets[:, outside].any(axis=1))

    def terms(self, ontology: Mapping[str, str]) -> dict[str, str]:
        """Term of every level that has one: of types as the reference gives it, and of nodes."""
        return {**{node.name: node.term for node in self.tree.nodes if node.term}, **ontology}

    def as_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """As config.json keeps it."""
        return {**self.tree.as_dict(classes), "least_log_p": self.least_log_p, "far": self.far}

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any], classes: Sequence[str]) -> "Levels":
        """The opposite of `as_dict`; KeyError, TypeError or ValueError where it is none."""
        levels = cls(Tree.from_dict(kept, classes), list(kept["least_log_p"]), list(kept["far"]))
        if len(levels.far) != len(levels.tree.nodes) or len(levels.least_log_p) != len(SET_RATES):
            raise ValueError("its levels do not fit their nodes")
        return levels


def far_of_node(members: Sequence[int], left_out: Sequence[LeftOut]) -> list[float]:
    """`KEPT` quantiles of ``far`` of cells of the node's types, left out, that were called by another of its types.

    Every type left out weighs the same; empty without any.
    """
    inside = [part.far[np.isin(part.called, members)] for part in left_out if part.type in members]
    inside = [values for values in inside if len(values)]
    if not inside:
        return []
    weights = np.concatenate([np.full(len(values), 1.0 / len(values)) for values in inside])
    values = np.concatenate(inside)
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weights[order]) / weights.sum()
    at = np.searchsorted(share, np.arange(1, KEPT + 1) / (KEPT + 1))
    return [round(float(value), 6) for value in values[order][np.minimum(at, len(values) - 1)]]


def distance_of(v: Floats, signs: Sequence[str]) -> Floats:
    """How far cells lie from their type ``(cells,)``: in the embedding, or the largest of the distances of expression.

    ``v`` (cells, signs): corrected signs. Measured on the left-out types of `bench/levels.py`: of the signs the
    distance in the embedding tells missing siblings best, better than the mean of all, on which the p-value rests.
    """
    far = v[:, list(signs).index("embedding_distance")] if "embedding_distance" in signs else v[:, :-1].max(1)
    # rounded, so that the last bit of a sum does not decide between machines
    return np.asarray(far).round(6)


@dataclass(frozen=True)
class Tails:
    """Distances of held-out cells to the type they were called, sorted: by type ``(classes,)``, and of all."""

    of_type: list[Floats]
    of_all: Floats

    @classmethod
    def of(cls, rejection: Rejection, kind: str) -> "Tails":
        """Of the held-out cells of a rule, each sample corrected as a sample of the user is."""
        kept = rejection.calibrations[kind]
        far = np.zeros(len(kept.predicted))
        for number, likeness in enumerate(kept.likeness):
            rows = np.flatnonzero(kept.sample == number)
            signs = Signs(kept.signs[rows].astype(np.float64), kept.predicted[rows], float(likeness), kind)
            far[rows] = distance_of(rejection.corrected(signs), rejection.signs)
        return cls([np.sort(far[kept.predicted == k]) for k in range(rejection.classes)], np.sort(far))

    def __call__(self, far: Floats, called: Codes) -> Floats:
        """Tail ``(cells,)`` of a cell's distance among the held-out cells of the type it is called."""
        out = np.ones(len(far))
        for k in np.unique(called):
            own = self.of_type[k] if len(self.of_type[k]) >= FEWEST else self.of_all
            out[called == k] = p_values(far[called == k], own)
        return out


SHAPES = np.linspace(1.0, 4.0, 301)
"""Exponents a between which `shape_of_null` interpolates, and their mean of -log t among tails t above one half."""
MEAN_LOGS = 1.0 / SHAPES - np.log(2.0) * 0.5**SHAPES / (1.0 - 0.5**SHAPES)


def shape_of_null(tails: Floats, most: float = MOST_SHAPE) -> float:
    """Exponent a of the null t^a, to which share the own cells of a type have a tail up to t in this sample.

    The exponent of largest likelihood of the ``tails`` (cells,) above one half and `PRIOR_CELLS` uniform ones, between
    1 and ``most``. 1 is the uniform null of held-out cells. The cells of one type of one sample are of one kind: they
    may all lie nearer to the type than most held-out cells do. Then few of them have small tails, and a group that does
    stands out. Below 1 it would be the missing sibling itself that is taken for the null, and without an upper bound a
    type of two states, of which the reference has fewer of the one, would be cut in two.
    """
    logs = -np.log(tails[tails > 0.5])
    mean = round(float((logs.sum() + PRIOR_CELLS * MEAN_LOGS[0]) / (len(logs) + PRIOR_CELLS)), 6)
    return min(float(np.interp(-mean, -MEAN_LOGS, SHAPES)), most)


def cut_of_sample(
    tails: Floats, called: Codes, classes: int, false_cuts: float = FALSE_CUTS, most: float = MOST_SHAPE
) -> Floats:
    """Tail up to which cells of each type ``(classes,)`` are called at a level above, in this sample.

    The largest of `CUTS` whose false discovery rate is at most ``false_cuts``; 0 without such, and for a type with
    fewer than `MIN_TYPE_CELLS` cells in the sample. Of n cells called so, those of their own type are the ones with
    tails above one half over the share 1 - 2^-a of such tails that they have [Storey 2002, of the null that
    `shape_of_null` gives, bounded by ``most``]; of them c^a are expected up to the tail c.
    """
    out = np.zeros(classes)
    for k in np.unique(called):
        of_type = tails[called == k]
        if len(of_type) < MIN_TYPE_CELLS:
            continue
        shape = shape_of_null(of_type, most)
        own = np.clip(float((of_type > 0.5).mean()) / (1.0 - 0.5**shape), LEAST_OWN, 1.0)
        for cut in CUTS:
            number = int((of_type <= cut).sum())
            if number and own * len(of_type) * cut**shape / number <= false_cuts:
                out[k] = cut
                break
    return out
