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

from spikgpt.annotator.fit import row_blocks

Floats = NDArray[np.float64]

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
SMALL_TYPE = 5.0
"""Prior cells with the overall variance that a type's own variance is mixed with."""


def scaled(counts: sp.csr_matrix, scale: str) -> sp.csr_matrix:
    """Counts ``(cells, genes)`` on one of the `SCALES`, float32, same sparsity."""
    out = sp.csr_matrix(counts, dtype=np.float32, copy=True)
    out.eliminate_zeros()
    out.sort_indices()
    stored = np.diff(out.indptr)
    rows = np.repeat(np.arange(out.shape[0], dtype=np.int64), stored)
    if scale == "rank":
        # one key to sort by, cell then count: bits of a positive float32 are ordered as its value is
        order = np.argsort((rows << 32) | out.data.view(np.int32), kind="stable")
        values, cells = out.data[order], rows[order]
        new = np.ones(len(order), dtype=bool)
        new[1:] = (values[1:] != values[:-1]) | (cells[1:] != cells[:-1])
        first = np.flatnonzero(new)
        size = np.diff(np.append(first, len(order)))
        # equal counts share the mean of their ranks, so gene order cannot matter
        mean_rank = first - out.indptr[cells[first]] + (size + 1) / 2
        ranks = np.empty(len(order), dtype=np.float32)
        ranks[order] = np.repeat(mean_rank, size) / stored[cells]
        out.data = ranks
        return out
    total = np.maximum(np.asarray(out.sum(axis=1, dtype=np.float64)).ravel(), 1.0)
    out.data = np.log1p(out.data * (1e4 / total)[rows]).astype(np.float32)
    length = np.sqrt(np.asarray(out.multiply(out).sum(axis=1, dtype=np.float64)).ravel())
    out.data = (out.data / np.maximum(length, 1e-12)[rows]).astype(np.float32)
    return out


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

    def z_scores(self, values: sp.csr_matrix, measured: NDArray[np.bool_]) -> Floats:
        """Clipped z-scores ``(cells, markers)``; a gene the query did not measure is 0, the mean."""
        dense = values[:, self.genes].toarray().astype(np.float64)
        z = np.clip((dense - self.mean) / self.sd, -CLIP, CLIP)
        z[:, ~measured[self.genes]] = 0.0
        return z

    def logits(self, z: Floats) -> Floats:
        return z @ self.coefficients.T + self.intercepts


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
        cls, lengths: sp.csr_matrix, genes: NDArray[np.int64], codes: NDArray[np.int64], classes: int
    ) -> "Correlation":
        """Fit on the reference's length scale ``(cells, genes)``."""
        dense = lengths[:, genes].toarray()
        profiles = np.zeros((classes, len(genes)))
        for k in np.unique(codes):
            profiles[k] = dense[codes == k].mean(0, dtype=np.float64)
        made = cls(genes, profiles, np.ones(1))
        values = made.correlations(lengths, np.ones(lengths.shape[1], dtype=bool))
        present = np.unique(codes)
        made.scale = np.array([best_scale(values[:, present], np.searchsorted(present, codes))])
        return made

    def correlations(self, lengths: sp.csr_matrix, measured: NDArray[np.bool_]) -> Floats:
        """``(cells, classes)`` over the measured markers."""
        seen = measured[self.genes]
        cells = standard_ranks(lengths[:, self.genes[seen]].toarray())
        return cells @ standard_ranks(self.profiles[:, seen]).T / max(int(seen.sum()), 1)


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
        correlation = Correlation.fit(scaled(counts, "length"), genes, codes, classes)
        return cls(scales, correlation, np.bincount(codes, minlength=classes).astype(float))

    def log_probabilities(self, counts: sp.csr_matrix, measured: NDArray[np.bool_]) -> Floats:
        """Log-probabilities ``(cells, classes)`` of one sample, its batch offset taken off.

        Rows depend on the other cells of the sample through the offset alone.
        """
        blocks = list(row_blocks(counts.shape[0]))
        sums = {name: np.zeros_like(scale.type_means) for name, scale in self.scales.items()}
        first = []
        for rows in blocks:
            z, correlations = self._signals(counts[rows], measured)
            first.append(self._mean_log_probability(z, correlations).argmax(1))
            for name in sums:
                sums[name] += type_sums(z[name], first[-1], len(self.class_cells))
        predicted = np.concatenate(first)
        offsets = {
            name: offset_of_sums(sums[name], predicted, scale.type_means, self.class_cells)
            for name, scale in self.scales.items()
        }
        out = []
        for rows in blocks:
            if len(blocks) > 1:  # those of a single block are still there
                z, correlations = self._signals(counts[rows], measured)
            out.append(self._mean_log_probability({name: z[name] - offsets[name] for name in z}, correlations))
        return np.concatenate(out)

    def _signals(self, counts: sp.csr_matrix, measured: NDArray[np.bool_]) -> tuple[dict[str, Floats], Floats]:
        """z-scores ``(cells, markers)`` of each regression, and scaled correlations ``(cells, classes)``."""
        values = {name: scaled(counts, name) for name in SCALES}
        z = {name: scale.z_scores(values[name.split(".")[0]], measured) for name, scale in self.scales.items()}
        correlations = self.correlation.scale * self.correlation.correlations(values["length"], measured)
        correlations[:, self.class_cells == 0] = ABSENT
        return z, correlations

    def _mean_log_probability(self, z: dict[str, Floats], correlations: Floats) -> Floats:
        parts = [log_softmax(scale.logits(z[name])) for name, scale in self.scales.items()]
        return log_softmax(np.mean([*parts, log_softmax(correlations)], axis=0))


def batch_offset(values: Floats, predicted: NDArray[np.int64], type_means: Floats, class_cells: Floats) -> Floats:
    """What all predicted types share of the difference between sample and reference, ``(features,)``.

    ``values`` (cells, features) of the sample; ``type_means`` (classes, features) and ``class_cells`` (classes,) of the
    reference. Zero with fewer than two types of `OFFSET_MIN_CELLS`: one type cannot tell a batch from itself.
    """
    return offset_of_sums(type_sums(values, predicted, len(class_cells)), predicted, type_means, class_cells)


def type_sums(values: Floats, predicted: NDArray[np.int64], classes: int) -> Floats:
    """Sum ``(classes, features)`` of the cells of each predicted type."""
    sums = np.zeros((classes, values.shape[1]))
    for k in np.unique(predicted):
        sums[k] = values[predicted == k].sum(0, dtype=np.float64)
    return sums


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
