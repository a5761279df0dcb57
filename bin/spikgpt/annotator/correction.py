"""What a sample's signs are corrected for before they are ranked: location, spread, and the level of a type.

A *sign* is one of the distances of a cell to the type k that it is called, or doubt. All that is learned here comes
from held-out reference cells; every one of their samples (one batch of one fold) goes through the same correction as a
sample of the user. In the order in which they apply:

1. `scaled`: x = (sign - centre) / width. Centre is the median of the held-out cells that count, width their 95th
   percentile less the median.
2. `Scale.standard`: u = (x - m_k) / h_k^e. m_k is the median of the held-out cells called k, drawn to 0 where they are
   few; h_k their width over that of all, likewise; e is the `own_spread` of the sample.
3. `lower_groups`: cells of one name that part into two groups are of two kinds. The group that fits worse has no say
   in steps 4 to 7; both are corrected by them.
4. `shared_shift`: what all types of the sample have in common, delta.
5. `gate`: how much of it is a batch: 1 for another laboratory, 0 for other cells.
6. `type_shift`: what one type shows beyond delta, by random effects: a type of which the reference has few cells leans
   on the sample's own location, a large one hardly moves. v = u - gate * shift_k.
7. `spread`: how much wider the sample's upper half is; v > 0 is divided by it.
8. `Scale.put_back`: m_k again, for the types that the held-out scores hold.

Every constant stands in `Constants`, with what was measured of it.
"""

from dataclasses import dataclass

import numpy as np

from spikgpt.annotator.batch import share_of_correction, weighted_quantile
from spikgpt.base.arrays import Codes, Flags, Floats

LIMITS = {
    "expression_profile": 5.0,
    "expression_distance": 3.0,
    "marker_detection": 1.5,
    "embedding_distance": 6.0,
    "doubt": 1.5,
}
"""Largest shared shift of each sign, in widths, that is still taken for a batch.

Set between what other laboratories, chemistries and stimulation showed on the labelled sets of the bench and what
samples of another tissue or cell line showed (gate 0 for all nine of these).
"""
FADES = 0.5
"""The gate closes from 1 to 1 + `FADES` times a limit."""
WIDTH_FLOOR = 0.1
"""A doubt that hardly varies, as in references of very different types, had a width of 1e-6 without it."""
RATIO_FLOOR = 0.05
"""Added to both sides of a ratio of widths, so that a type of equal cells does not rule it."""
FEW, SOME = 5, 10
"""A predicted type tells a location with this many cells, and a spread with this many."""
LOCATION = 0.4
"""Quantile that stands for a type's location: below the median, so that unseen cells among them move it less."""
SHRINK = 2.0
"""m_k and h_k of n held-out cells count n / (n + 2)."""


@dataclass(frozen=True)
class Constants:
    """Constants of the correction that the bench chooses again with each family of data sets left out.

    All are flat: within the grid of `bench/unknown.py` the mean false Unknown at 5 % moves by about a point.
    """

    type_clip: float = 0.5
    """A type may differ from the shared shift by this many of its prior standard deviations tau, as `type_shift` has
    it."""
    upper: float = 0.9
    """Quantile that stands for the upper half's spread, against the median."""
    level: float = 1.0
    """Most that is put back of a type's own level m_k, in widths: types of mixed cells lie at 2 to 8, and were rejected
    wholesale for it (24 to 91 % of their cells, at a rate of 5 %)."""
    spread: float = 0.75
    """Power of the measured spread that is taken off: some of it is unseen cells that no gap sets apart."""
    tail: float = 0.2
    """This share of what a sample's upper tails are heavier or lighter than held-out samples' is taken off, see
    `spikgpt.annotator.rejection.tail_excess`: in full it eats the unseen cells."""
    transfer: float = 1.2
    """Fit and doubt beyond the usual are divided by it, see `spikgpt.annotator.rejection.transferred`."""
    known: float = 0.8
    """Least share of a sample's cells that is taken to be of known types, see
    `spikgpt.annotator.rejection.at_least_the_rate`."""


@dataclass(frozen=True)
class Correction:
    """What a sample was corrected for.

    ``shared`` (signs,) the shift of all types, delta; ``of_types`` (classes, signs) shift of each; ``gate`` 0 to 1;
    ``spread`` (signs,), what positive values were divided by; ``apart``, how far the types moved from each other, see
    `moved_apart`; ``one_kind`` (cells,), False for those that a gap in fit sets apart from their type, see
    `lower_groups`.
    """

    shared: Floats
    of_types: Floats
    gate: float
    spread: Floats
    apart: float
    one_kind: Flags


@dataclass(frozen=True)
class Scale:
    """Scale of the signs as held-out cells have them.

    ``centre``, ``width`` (signs,); ``level``, ``width_ratio`` (classes, signs): m_k, and h_k to the power
    ``own_spread``; ``put_back`` (classes, signs): what of m_k is in the held-out scores; ``location`` (signs,) and
    ``upper`` (classes, signs) of the standard signs: the `LOCATION` quantile of the cells that count, and each type's
    upper quantile less its median; ``type_cells`` (classes,).
    """

    centre: Floats
    width: Floats
    level: Floats
    width_ratio: Floats
    put_back: Floats
    location: Floats
    upper: Floats
    type_cells: Floats

    @classmethod
    def learn(
        cls, signs: Floats, predicted: Codes, counted: Flags, classes: int, own_spread: float, constants: Constants
    ) -> "Scale":
        """Of held-out cells: ``signs`` (cells, signs); ``predicted``, ``counted`` (cells,), those whose type is large.

        Types that are not large get a level and a spread too, from the cells that are called so.
        """
        centre = np.median(signs[counted], axis=0)
        width = np.maximum(np.quantile(signs[counted], 0.95, axis=0) - centre, WIDTH_FLOOR)
        x = (signs - centre) / width
        cells = np.bincount(predicted, minlength=classes).astype(float)
        level, ratio = np.zeros((classes, x.shape[1])), np.ones((classes, x.shape[1]))
        whole = width_of(x[counted])
        for k in np.flatnonzero(cells):
            own, weight = x[predicted == k], cells[k] / (cells[k] + SHRINK)
            level[k] = weight * np.median(own, axis=0)
            ratio[k] = ((width_of(own) + RATIO_FLOOR) / (whole + RATIO_FLOOR)) ** (weight * own_spread)
        u = (x - level[predicted]) / ratio[predicted]
        of_all = upper_half(u[counted], constants.upper)
        upper = np.stack(
            [upper_half(u[predicted == k], constants.upper) if cells[k] >= SOME else of_all for k in range(classes)]
        )
        # A type whose cells do not count is not in the held-out scores, so no level of it can be compared with them.
        share = np.bincount(predicted[counted], minlength=classes) / np.maximum(cells, 1.0)
        put_back = np.minimum(level, constants.level)
        put_back = np.where(put_back > 0, share[:, None] * put_back, put_back)
        location = np.quantile(u[counted], LOCATION, axis=0)
        return cls(centre, width, level, ratio, put_back, location, upper, cells)

    def standard(self, signs: Floats, predicted: Codes) -> Floats:
        """u: scaled, less the type's level, over its spread; ``(cells, signs)``."""
        return ((signs - self.centre) / self.width - self.level[predicted]) / self.width_ratio[predicted]

    def correction(
        self, u: Floats, predicted: Codes, limits: Floats, likeness: float, constants: Constants, gate: float | None
    ) -> Correction:
        """Steps 3 to 7 for a sample; a ``gate`` that is known already is kept.

        ``u`` (cells, signs) as `standard` gives it; ``limits`` (signs,); ``likeness`` of the sample.
        """
        _, of_all, number_of_all = self.type_locations(u, predicted)
        by_fit, by_doubt = lower_groups(u, predicted)
        u, predicted = u[by_fit & by_doubt], predicted[by_fit & by_doubt]
        types, moved, number = self.type_locations(u, predicted)
        reference = np.maximum(self.type_cells[types], 1.0)
        shared = shared_shift(moved, number, reference)
        if gate is None:
            gate = open_gate(shared, limits, likeness)
        of_types = np.tile(np.clip(shared, -MOST_SHIFT, MOST_SHIFT), (len(self.type_cells), 1))
        of_types[types] += type_shift(moved - shared, shared, number, reference, constants.type_clip)
        wider = spread(u, predicted, self.upper, constants.upper) ** (gate * constants.spread)
        return Correction(shared, of_types, gate, wider, moved_apart(of_all - shared, number_of_all), by_fit)

    def type_locations(self, u: Floats, predicted: Codes) -> tuple[Codes, Floats, Floats]:
        """Types of at least `FEW` cells, how far ``(types, signs)`` each lies from where held-out cells do, and their
        cells ``(types,)``."""
        number = np.bincount(predicted, minlength=len(self.type_cells)).astype(float)
        types = np.flatnonzero(number >= FEW)
        moved = [np.quantile(u[predicted == k], LOCATION, axis=0) - self.location for k in types]
        return types, np.array(moved).reshape(len(types), u.shape[1]), number[types]

    def corrected(self, u: Floats, predicted: Codes, what: Correction) -> Floats:
        """v: shift and spread taken off, the type's level put back; ``(cells, signs)``."""
        v = u - what.gate * what.of_types[predicted]
        v = np.where(v > 0, v / what.spread, v)
        return np.asarray(v + self.put_back[predicted])


TAU, TAU_GROWS = 0.3, 0.25
"""Prior standard deviation tau of a type's own shift, in widths: 0.3, and a quarter of the shared shift more."""
MOST_SHIFT = 6.0
"""No more is taken off, whatever the shift."""
MOST_SPREAD, LEAST_SPREAD = 3.0, 1 / 1.5
"""Bounds of the spread that is divided by."""


GROUP = 10
"""Least cells of a group. With 5 or 20 here `bench/unknown.py` has 82 and 84 % of its queries with known cells within 2
to 8 % false Unknown (84 %), and 63 and 62 % of the unseen cells caught (63 %)."""
VALLEY = 0.5
"""Between two groups there are less than this share of the cells that there are at the centre of the smaller one; even
values have 1, normal ones about 2. With 0.3 or 0.7 the same figures are 82 and 82 %, and 62 and 63 %; with 0.7 whole
references reject more."""


def lower_groups(u: Floats, predicted: Codes) -> tuple[Flags, Flags]:
    """Which cells ``(cells,)`` are of the better fitting group of their type, by fit and by doubt.

    A type in another state moves as a whole, or spreads; cells of a missing type that are called by its name leave a
    gap between them and its own. ``u`` (cells, signs): fit is the mean of the distances, doubt the last sign.
    """
    fit, doubt = u[:, :-1].mean(axis=1), u[:, -1]
    by_fit, by_doubt = np.ones(len(u), dtype=bool), np.ones(len(u), dtype=bool)
    for k in np.unique(predicted):
        rows = np.flatnonzero(predicted == k)
        by_fit[rows], by_doubt[rows] = lower_group(fit[rows]), lower_group(doubt[rows])
    return by_fit, by_doubt


def lower_group(values: Floats) -> Flags:
    """Which values ``(n,)`` are below a gap between two groups of `GROUP` or more; all of them where there is none.

    The two groups are those of least variance within [Otsu, IEEE Transactions on Systems, Man, and Cybernetics 9,
    1979]. There is a gap where fewer than `VALLEY` of the values that lie about the centre of either group lie halfway
    between the centres, counted in windows of a third of their distance.
    """
    number = len(values)
    if number < 2 * GROUP:
        return np.ones(number, dtype=bool)
    of_lower = np.arange(GROUP, number - GROUP + 1)
    total = np.cumsum(np.sort(values))
    lower = total[of_lower - 1] / of_lower
    upper = (total[-1] - total[of_lower - 1]) / (number - of_lower)
    best = int(np.argmax(of_lower * (number - of_lower) * (upper - lower) ** 2))
    window = (upper[best] - lower[best]) / 6
    middle = (lower[best] + upper[best]) / 2

    def about(centre: float) -> int:
        return int(((values > centre - window) & (values <= centre + window)).sum())

    gap = about(middle) < VALLEY * min(about(lower[best]), about(upper[best]))
    return values <= middle if gap else np.ones(number, dtype=bool)


def shared_shift(moved: Floats, number: Floats, reference: Floats) -> Floats:
    """delta ``(signs,)``: median over types of how far they moved, weighted by how surely that is known.

    ``moved`` (types, signs), 0 without any type; ``number``, ``reference`` (types,): cells n in the sample and held-out
    cells r. The variance of a type's location is 1/n + 1/r, and tau^2 between types.
    """
    if len(moved) == 0:
        return np.zeros(moved.shape[1])
    weights = 1.0 / (1.0 / number + 1.0 / reference + TAU**2)
    return np.array([weighted_quantile(of_sign, weights) for of_sign in moved.T])


def moved_apart(apart: Floats, number: Floats) -> float:
    """How far the types' distances moved beyond the shared shift, in widths: root mean square over cells, or 0.

    All cells count here, those that a gap sets apart among them: they may be known ones in another state.
    ``apart`` (types, signs): a - delta, the last sign being doubt; ``number`` (types,) cells.
    """
    if len(apart) == 0:
        return 0.0
    of_types = apart[:, :-1].mean(axis=1)
    return float(np.sqrt(number @ of_types**2 / number.sum()))


def open_gate(shared: Floats, limits: Floats, likeness: float) -> float:
    """How much of the shift is a batch: 1 up to every limit, 0 from half as much beyond; times the likeness's share."""
    beyond = float((shared / limits).max()) - 1.0
    return share_of_correction(likeness) * float(1.0 - np.clip(beyond / FADES, 0.0, 1.0))


def type_shift(apart: Floats, shared: Floats, number: Floats, reference: Floats, clip: float) -> Floats:
    """What each type moved beyond the shared shift ``(types, signs)``, as far as random effects let believe.

    B * clip(a - delta), B = V / (V + 1/n), V = tau^2 + 1/r: V is the prior variance of a type with r held-out cells, n
    its cells in the sample. Clipped at the square root of (clip * tau)^2 + 1/r, so that a type that is wholly
    unseen is not moved onto the reference. ``apart`` (types, signs): a - delta.
    """
    tau = TAU + TAU_GROWS * np.abs(shared)
    variance = tau**2 + 1.0 / reference[:, None]
    most = np.sqrt((clip * tau) ** 2 + 1.0 / reference[:, None])
    return np.asarray(variance / (variance + 1.0 / number[:, None]) * np.clip(apart, -most, most))


def spread(u: Floats, predicted: Codes, reference: Floats, upper: float) -> Floats:
    """How much wider the upper half of the sample's types is ``(signs,)``; 1 without a type of `SOME` cells.

    Median over types of the ratio to held-out cells (``reference`` (classes, signs)), weighted by the square root of
    their cells.
    """
    number = np.bincount(predicted, minlength=len(reference))
    types = np.flatnonzero(number >= SOME)
    if len(types) == 0:
        return np.ones(u.shape[1])
    ratios = np.stack(
        [(upper_half(u[predicted == k], upper) + RATIO_FLOOR) / (reference[k] + RATIO_FLOOR) for k in types]
    )
    weights = np.sqrt(number[types])
    wider = np.array([weighted_quantile(of_sign, weights) for of_sign in ratios.T])
    return np.clip(wider, LEAST_SPREAD, MOST_SPREAD)


def own_spread(by_batch: bool, what: Correction) -> float:
    """e: how far each type is judged by its own spread, 0 to 1, in hundredths.

    0 where no whole batch was held out: the spread of a type within one batch says nothing of another. Otherwise less
    the more the distances moved, as known types in a new state leave their spread (Kang's monocytes under interferon:
    0.33 false Unknown in full measure). It caught 19 points more of the unseen cells at the same false Unknown.
    """
    if not by_batch:
        return 0.0
    return round(what.gate * max(0.0, 1.0 - float(np.maximum(what.shared[:-1], 0.0).mean())), 2)


def width_of(values: Floats) -> Floats:
    """90th less 10th percentile ``(signs,)``."""
    low, high = np.quantile(values, [0.1, 0.9], axis=0)
    return np.asarray(high - low)


def upper_half(values: Floats, upper: float) -> Floats:
    """The upper quantile less the median ``(signs,)``."""
    middle, high = np.quantile(values, [0.5, upper], axis=0)
    return np.asarray(high - middle)
