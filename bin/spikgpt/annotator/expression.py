"""The expression view: five judges of a cell's counts that err in different ways, and a batch offset.

1. Two scales of the counts. *rank*: within-cell rank of each non-zero count over the number of
   non-zero counts, zeros stay 0; free of depth and of any monotone distortion. *length*: log1p of
   counts per 10,000, each cell scaled to unit length.
2. On each scale, few (50) and many (200) marker genes for every type, the same number for a rare type as for a
   common one: those with the largest Welch-like t of the type against the rest; z-scored with the
   reference's mean and standard deviation. On each of the four a class-balanced multinomial logistic regression.
   Few genes keep a rare type's programme visible; many dilute what one batch does to one gene.
3. Spearman's correlation of a cell with the mean profile of each type over the few markers, as SingleR [1]
   has it: nothing is fitted but one temperature, so nothing of the reference's batch can be.
4. At annotation a class-aware batch offset: the part of the difference between query and
   reference that all predicted types share is taken off the query, gene by gene, and the
   regressions predict once more. What only one type shows is left alone: it may be biology.

The view's answer is the mean of the five log-probabilities. Sizes, scales and weights are the same for every reference.

[1] Aran et al., Nature Immunology 20, 2019.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression

from spikgpt.annotator.cells import Cells, Floats, in_turn, row_blocks

SCALES = ("rank", "length")
FEW, MANY = 50, 200
"""Marker genes per type."""
REGRESSIONS = tuple(f"{scale}.{markers}" for scale in SCALES for markers in (FEW, MANY))
SD_FLOOR = {"rank": 0.02, "length": 0.002}
"""Least standard deviation of a z-score: a gene hardly ever seen must not become an outlier detector."""
CLIP = 5.0
INVERSE_PENALTY = 0.02
"""C of scikit-learn's LogisticRegression."""
OFFSET_MIN_CELLS = 20
"""A type takes part in the batch offset with at least this many cells in reference and query."""
ABSENT = -1e3
"""Logit of a class that had no training cell: exp(-1000) is 0."""
SMALL_COUNTS = 64
"""Each cell has an entry for each count below this; larger ones, which are few, have entries where they occur."""
COUNT_BITS = 32
"""Bits of a number that holds a cell and a count that are the count's."""
SMALL_TYPE = 5.0
"""Prior cells with the overall variance that a type's own variance is mixed with."""


class ByCount:
    """Ranks and lengths of the counts of a matrix ``(cells, genes)`` of whole numbers, by cell and count.

    A cell has few different counts: what each stands for is worked out once and looked up for every gene.
    An entry is a cell and a count; the first ``cells * SMALL_COUNTS`` are those of small counts, in order.
    ``cell``, ``value``, ``size`` (entries,): the cell, the count, and how many of the cell's genes have it; ``rank``
    (entries,) mean rank among the cell's counts that are not 0; ``stored`` (cells,) the number of these.
    """

    def __init__(self, counts: sp.csr_matrix) -> None:
        cells = counts.shape[0]
        row, value = cells_and_counts(counts)
        large = np.flatnonzero(value >= SMALL_COUNTS)
        place = row * SMALL_COUNTS + value
        number = np.bincount(place[value < SMALL_COUNTS], minlength=cells * SMALL_COUNTS)
        number = number.reshape(cells, SMALL_COUNTS)
        number[:, 0] = 0  # a stored zero is a zero
        self.large, sizes = np.unique(pair(row[large], value[large]), return_counts=True)
        row_of = self.large >> COUNT_BITS
        self.cell = np.concatenate([np.repeat(np.arange(cells), SMALL_COUNTS), row_of])
        self.value = np.concatenate([np.tile(np.arange(SMALL_COUNTS), cells), self.large & (2**COUNT_BITS - 1)])
        self.size = np.concatenate([number.ravel(), sizes])
        self.stored = np.bincount(self.cell, self.size, minlength=cells)
        # how many of the cell's counts are less: the small ones, then the large ones before it
        small = np.cumsum(number, axis=1)
        larger = np.cumsum(sizes) - sizes
        first = np.searchsorted(row_of, row_of)
        below = np.concatenate([(small - number).ravel(), small[row_of, -1] + larger - larger[first]])
        # equal counts share the mean of their ranks
        self.rank = below + (self.size + 1) / 2
        self.rank[: cells * SMALL_COUNTS : SMALL_COUNTS] = 0.0

    def on_scale(self, scale: str) -> NDArray[np.float32]:
        """Values ``(entries,)`` on one of the `SCALES`."""
        if scale == "rank":
            return (self.rank / np.maximum(self.stored, 1)[self.cell]).astype(np.float32)
        cells = len(self.stored)
        total = np.maximum(np.bincount(self.cell, self.size * self.value, minlength=cells), 1.0)
        length = np.log1p(self.value * (1e4 / total)[self.cell])
        norm = np.sqrt(np.bincount(self.cell, self.size * length**2, minlength=cells))
        return (length / np.maximum(norm, 1e-12)[self.cell]).astype(np.float32)

    def entries(self, counts: sp.csr_matrix) -> NDArray[np.int64]:
        """The entry of each stored count of the same matrix, or of some of its columns."""
        row, value = cells_and_counts(counts)
        place = row * SMALL_COUNTS + value
        large = np.flatnonzero(value >= SMALL_COUNTS)
        place[large] = len(self.stored) * SMALL_COUNTS + np.searchsorted(self.large, pair(row[large], value[large]))
        return place


def cells_and_counts(counts: sp.csr_matrix) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and value of each stored count."""
    return np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr)), counts.data.astype(np.int64)


def pair(row: NDArray[np.int64], value: NDArray[np.int64]) -> NDArray[np.int64]:
    """One number for a row and a count, in the order of rows, then of counts."""
    return (row << COUNT_BITS) | value


def scaled(counts: sp.csr_matrix, scale: str) -> sp.csr_matrix:
    """Whole counts ``(cells, genes)`` on one of the `SCALES`, float32, same sparsity."""
    by_count = ByCount(counts)
    return looked_up(counts, by_count.on_scale(scale)[by_count.entries(counts)])


def looked_up(counts: sp.csr_matrix, values: NDArray[np.floating[Any]]) -> sp.csr_matrix:
    """Values in place of the stored counts."""
    return sp.csr_matrix((values, counts.indices, counts.indptr), shape=counts.shape)


def moments(values: sp.csr_matrix, codes: NDArray[np.int64], classes: int) -> tuple[Floats, Floats, Floats]:
    """Cells ``(classes,)``, sums and sums of squares ``(classes, genes)`` of each class."""
    member = sp.csr_matrix((np.ones(len(codes)), (codes, np.arange(len(codes)))), shape=(classes, len(codes)))
    wide = values.astype(np.float64)
    return (
        np.bincount(codes, minlength=classes).astype(float),
        np.asarray((member @ wide).todense()),
        np.asarray((member @ wide.multiply(wide).tocsr()).todense()),
    )


def marker_scores(values: sp.csr_matrix, codes: NDArray[np.int64], classes: int, sd_floor: float) -> Floats:
    """Welch-like t ``(classes, genes)`` of each class against all other cells."""
    cells, sums, squares = moments(values, codes, classes)
    total, mean_all = cells.sum(), sums.sum(0) / cells.sum()
    variance_all = np.maximum(squares.sum(0) / total - mean_all**2, 0.0)
    scores = np.zeros_like(sums)
    for k in np.flatnonzero((cells > 0) & (cells < total)):
        inside, outside = cells[k], total - cells[k]
        mean_in, mean_out = sums[k] / inside, (sums.sum(0) - sums[k]) / outside
        variance_in = np.maximum(squares[k] / inside - mean_in**2, 0.0)
        variance_out = np.maximum((squares.sum(0) - squares[k]) / outside - mean_out**2, 0.0)
        variance_in = (inside * variance_in + SMALL_TYPE * variance_all) / (inside + SMALL_TYPE)
        error = (variance_in + sd_floor**2) / inside + (variance_out + sd_floor**2) / outside
        scores[k] = (mean_in - mean_out) / np.sqrt(error)
    return scores


def top_markers(scores: Floats, per_type: int) -> NDArray[np.int64]:
    """Sorted union of the ``per_type`` genes of largest absolute score of every class."""
    order = np.argsort(-np.abs(scores), axis=1, kind="stable")[:, :per_type]
    picked = np.take_along_axis(scores, order, axis=1) != 0
    return np.unique(order[picked]).astype(np.int64)


@dataclass
class Scale:
    """One scale's markers and regression; the arrays that a model folder stores.

    ``genes`` (markers,) index into the annotator's genes; ``mean``, ``sd`` (markers,);
    ``coefficients`` (classes, markers), ``intercepts`` (classes,); ``type_means`` (classes, markers)
    of the z-scored reference.
    """

    genes: NDArray[np.int64]
    mean: Floats
    sd: Floats
    coefficients: Floats
    intercepts: Floats
    type_means: Floats

    @classmethod
    def fit(
        cls,
        values: sp.csr_matrix,
        genes: NDArray[np.int64],
        codes: NDArray[np.int64],
        classes: int,
        sd_floor: float,
    ) -> "Scale":
        """Fit on ``values`` (cells, genes) of the reference."""
        present = np.unique(codes)
        dense = values[:, genes].toarray().astype(np.float64)
        mean, sd = dense.mean(0), np.maximum(dense.std(0), sd_floor)
        z = np.clip((dense - mean) / sd, -CLIP, CLIP)
        model = LogisticRegression(
            C=INVERSE_PENALTY, class_weight="balanced", solver="lbfgs", max_iter=200, tol=1e-3
        ).fit(z, codes)
        coefficients, intercepts = model.coef_, model.intercept_
        if len(present) == 2:  # scikit-learn keeps one row for two classes: logit of the second
            coefficients = np.vstack([-coefficients[0] / 2, coefficients[0] / 2])
            intercepts = np.array([-intercepts[0] / 2, intercepts[0] / 2])
        full = np.zeros((classes, len(genes)))
        full[present] = coefficients
        bias = np.full(classes, ABSENT)
        bias[present] = intercepts
        type_means = np.zeros((classes, len(genes)))
        for k in present:
            type_means[k] = z[codes == k].mean(0)
        return cls(genes, mean, sd, full, bias, type_means)


def log_softmax(logits: Floats) -> Floats:
    """Row-wise log-softmax; a row of finite numbers and -inf stays without NaN."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def best_scale(logits: Floats, codes: NDArray[np.int64]) -> float:
    """Factor on ``logits`` (cells, classes) of least negative log-likelihood: the inverse temperature."""

    def loss(log_scale: float) -> float:
        log_p = log_softmax(np.exp(log_scale) * logits)
        return -float(log_p[np.arange(len(codes)), codes].mean())

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(100.0)), method="bounded")
    return round(float(np.exp(found.x)), 6)


@dataclass
class Correlation:
    """Spearman's correlation with each type's mean profile.

    ``genes`` (markers,) index into the annotator's genes; ``profiles`` (classes, markers) means of the length
    scale, 0 for a class without a cell; ``scale`` (1,) inverse temperature.
    """

    genes: NDArray[np.int64]
    profiles: Floats
    scale: Floats

    @classmethod
    def fit(
        cls, counts: sp.csr_matrix, genes: NDArray[np.int64], codes: NDArray[np.int64], classes: int
    ) -> "Correlation":
        """Fit on the reference's counts ``(cells, genes)``."""
        lengths = scaled(counts, "length")[:, genes].toarray()
        profiles = np.zeros((classes, len(genes)))
        for k in np.unique(codes):
            profiles[k] = lengths[codes == k].mean(0, dtype=np.float64)
        made = cls(genes, profiles, np.ones(1))
        own, seen = counts[:, genes], np.ones(len(genes), dtype=bool)
        values = np.concatenate([made.correlations(own[rows], seen) for rows in row_blocks(len(codes))])
        present = np.unique(codes)
        made.scale = np.array([best_scale(values[:, present], np.searchsorted(present, codes))])
        return made

    def correlations(self, own: sp.csr_matrix, seen: NDArray[np.bool_]) -> Floats:
        """``(cells, classes)`` from counts ``(cells, seen markers)``: they have the same ranks as a cell's lengths.

        ``seen`` (markers,) tells the measured ones.
        """
        markers = max(own.shape[1], 1)
        by_count = ByCount(own)
        absent = markers - by_count.stored
        rank = by_count.rank + absent[by_count.cell]
        of_zero, mean = (absent + 1) / 2, (markers + 1) / 2
        square = np.bincount(by_count.cell, by_count.size * rank**2, minlength=len(absent)) + absent * of_zero**2
        sd = np.sqrt(np.maximum(square / markers - mean**2, 0.0))
        profiles = standard_ranks(self.profiles[:, seen]).T
        above_zero = np.where(by_count.value > 0, rank - of_zero[by_count.cell], 0.0)[by_count.entries(own)]
        product = looked_up(own, above_zero).toarray() @ profiles + np.outer(of_zero - mean, profiles.sum(0))
        return product / np.maximum(sd, 1e-9)[:, None] / markers


def standard_ranks(values: NDArray[np.floating[Any]]) -> Floats:
    """Row-wise ranks, ties sharing their mean, with mean 0 and standard deviation 1; a constant row is 0."""
    ranks = np.asarray(rankdata(values, axis=1), dtype=np.float64)
    ranks -= ranks.mean(1, keepdims=True)
    return ranks / np.maximum(ranks.std(1, keepdims=True), 1e-9)


@dataclass
class ExpressionView:
    """The four regressions by ``scale.markers``, the correlation, and the cells of each class ``(classes,)``."""

    scales: dict[str, Scale]
    correlation: Correlation
    class_cells: Floats

    @classmethod
    def fit(cls, counts: sp.csr_matrix, codes: NDArray[np.int64], classes: int) -> "ExpressionView":
        """Fit on reference counts ``(cells, genes)``; a class without a cell is never predicted."""
        scales = {}
        for name in SCALES:
            values = scaled(counts, name)
            scores = marker_scores(values, codes, classes, SD_FLOOR[name])
            for per_type in (FEW, MANY):
                genes = top_markers(scores, per_type)
                scales[f"{name}.{per_type}"] = Scale.fit(values, genes, codes, classes, SD_FLOOR[name])
        genes = np.union1d(*(scales[f"{name}.{FEW}"].genes for name in SCALES))
        correlation = Correlation.fit(counts, genes, codes, classes)
        return cls(scales, correlation, np.bincount(codes, minlength=classes).astype(float))

    def log_probabilities(self, cells: Cells) -> Floats:
        """Log-probabilities ``(cells, classes)`` of one sample, its batch offset taken off.

        Rows depend on the other cells of the sample through the offset alone.
        """
        classes = len(self.class_cells)
        sums = {name: np.zeros((classes, len(self.scales[f"{name}.{MANY}"].genes))) for name in SCALES}
        parts, predicted = [], []
        for part, said, own in in_turn(
            lambda rows: self._block(cells.counts(rows), cells.measured), row_blocks(len(cells))
        ):
            parts.append(part)
            predicted.append(said)
            for name in SCALES:
                sums[name] += own[name]
        logits, first = np.concatenate(parts, axis=1), np.concatenate(predicted)
        for place, (name, scale) in enumerate(self.scales.items()):
            at = self._among_many(name)
            offset = offset_of_sums(sums[name.split(".")[0]][:, at], first, scale.type_means, self.class_cells)
            logits[place] -= scale.coefficients @ offset
        return mean_log_probability(logits)

    def _among_many(self, name: str) -> NDArray[np.int64]:
        """Places of a regression's genes among those of its scale's larger one, which has them all."""
        return np.searchsorted(self.scales[f"{name.split('.')[0]}.{MANY}"].genes, self.scales[name].genes)

    def _block(
        self, counts: sp.csr_matrix, measured: NDArray[np.bool_]
    ) -> tuple[Floats, NDArray[np.int64], dict[str, Floats]]:
        """Logits ``(judges, cells, classes)`` before any offset, the types ``(cells,)`` they call, and of each scale
        the sums ``(classes, markers)`` of z-scores over these types."""
        by_count = ByCount(counts)
        # what all of it works on is smaller by far than all genes
        markers = np.union1d(*(self.scales[f"{name}.{MANY}"].genes for name in SCALES))
        counts = counts[:, markers]
        z, logits = {}, []
        for name in SCALES:
            few, many = self.scales[f"{name}.{FEW}"], self.scales[f"{name}.{MANY}"]
            own = counts[:, np.searchsorted(markers, many.genes)]
            z[name] = looked_up(own, by_count.on_scale(name)[by_count.entries(own)].astype(np.float64)).toarray()
            z[name] -= many.mean
            z[name] /= many.sd
            np.clip(z[name], -CLIP, CLIP, out=z[name])
            # a gene that the query did not measure is 0, the mean
            z[name][:, ~measured[many.genes]] = 0.0
            few_among_many = np.zeros_like(many.coefficients)
            few_among_many[:, self._among_many(f"{name}.{FEW}")] = few.coefficients
            logits += [z[name] @ few_among_many.T + few.intercepts, z[name] @ many.coefficients.T + many.intercepts]
        seen = measured[self.correlation.genes]
        own = counts[:, np.searchsorted(markers, self.correlation.genes[seen])]
        correlations = self.correlation.scale * self.correlation.correlations(own, seen)
        correlations[:, self.class_cells == 0] = ABSENT
        judged = np.stack([*logits, correlations])
        predicted = mean_log_probability(judged).argmax(1)
        return judged, predicted, {name: type_sums(z[name], predicted, len(self.class_cells)) for name in SCALES}


def mean_log_probability(logits: Floats) -> Floats:
    """Log-probabilities ``(cells, classes)`` of judges ``(judges, cells, classes)`` that have the same say."""
    return log_softmax(np.mean([log_softmax(judge) for judge in logits], axis=0))


def batch_offset(values: Floats, predicted: NDArray[np.int64], type_means: Floats, class_cells: Floats) -> Floats:
    """What all predicted types share of the difference between sample and reference, ``(features,)``.

    ``values`` (cells, features) of the sample; ``type_means`` (classes, features) and ``class_cells`` (classes,) of the
    reference. Zero with fewer than two types of `OFFSET_MIN_CELLS`: one type cannot tell a batch from itself.
    """
    return offset_of_sums(type_sums(values, predicted, len(class_cells)), predicted, type_means, class_cells)


def type_sums(values: Floats, predicted: NDArray[np.int64], classes: int) -> Floats:
    """Sum ``(classes, features)`` of the cells of each predicted type."""
    cells = len(predicted)
    member = sp.csr_matrix((np.ones(cells), (predicted, np.arange(cells))), shape=(classes, cells))
    return np.asarray(member @ values)


def offset_of_sums(sums: Floats, predicted: NDArray[np.int64], type_means: Floats, class_cells: Floats) -> Floats:
    """`batch_offset` from the sums ``(classes, features)`` of the predicted types."""
    number = np.bincount(predicted, minlength=len(class_cells))
    cells = np.minimum(number, class_cells)
    types = np.flatnonzero(cells >= OFFSET_MIN_CELLS)
    if len(types) < 2:
        return np.zeros(sums.shape[1])
    differences = np.stack([sums[k] / number[k] - type_means[k] for k in types])
    return shared_offset(differences, np.sqrt(cells[types]))


def shared_offset(differences: Floats, weights: Floats) -> Floats:
    """Empirical-Bayes estimate ``(genes,)`` of the offset that all types share.

    ``differences`` (types, genes), ``weights`` (types,): weighted mean, shrunk gene by gene by
    ``max(0, 1 - variance of the mean / mean^2)``, so that genes on which types disagree keep none.
    """
    share = weights / weights.sum()
    mean = share @ differences
    types = len(weights)
    variance = (share**2) @ (differences - mean) ** 2 * types / (types - 1)
    return mean * np.maximum(0.0, 1.0 - variance / np.maximum(mean**2, 1e-12))
