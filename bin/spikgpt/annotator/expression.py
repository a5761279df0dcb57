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

import numpy as np
import scipy.sparse as sp

from spikgpt.annotator.batch import offset_of_sums, type_sums
from spikgpt.annotator.cells import Cells, in_turn, row_blocks
from spikgpt.annotator.probabilities import ABSENT, best_scale, log_softmax
from spikgpt.annotator.ranks import SCALES, ByCount, scaled, with_values
from spikgpt.base.arrays import Arrays, Codes, Flags, Floats, named, unnamed
from spikgpt.base.groups import class_means, class_members
from spikgpt.profiles.ranks import standard_ranks

FEW, MANY = 50, 200
"""Marker genes per type."""
REGRESSIONS = tuple(f"{scale}.{markers}" for scale in SCALES for markers in (FEW, MANY))
SD_FLOOR = {"rank": 0.02, "length": 0.002}
"""Least standard deviation of a z-score: a gene hardly ever seen must not become an outlier detector."""
CLIP = 5.0
INVERSE_PENALTY = 0.02
"""C of scikit-learn's LogisticRegression."""
SMALL_TYPE = 5.0
"""Prior cells with the overall variance that a type's own variance is mixed with."""


def moments(values: sp.csr_matrix, codes: Codes, classes: int) -> tuple[Floats, Floats, Floats]:
    """Cells ``(classes,)``, sums and sums of squares ``(classes, genes)`` of each class."""
    member = class_members(codes, classes)
    wide = values.astype(np.float64)
    return (
        np.bincount(codes, minlength=classes).astype(float),
        np.asarray((member @ wide).todense()),
        np.asarray((member @ wide.multiply(wide).tocsr()).todense()),
    )


def marker_scores(values: sp.csr_matrix, codes: Codes, classes: int, sd_floor: float) -> Floats:
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


def top_markers(scores: Floats, per_type: int) -> Codes:
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

    genes: Codes
    mean: Floats
    sd: Floats
    coefficients: Floats
    intercepts: Floats
    type_means: Floats

    @classmethod
    def fit(
        cls,
        values: sp.csr_matrix,
        genes: Codes,
        codes: Codes,
        classes: int,
        sd_floor: float,
    ) -> "Scale":
        """Fit on ``values`` (cells, genes) of the reference."""
        from sklearn.linear_model import LogisticRegression

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
        return cls(genes, mean, sd, full, bias, class_means(z, codes, classes))


@dataclass
class Correlation:
    """Spearman's correlation with each type's mean profile.

    ``genes`` (markers,) index into the annotator's genes; ``profiles`` (classes, markers) means of the length
    scale, 0 for a class without a cell; ``scale`` (1,) inverse temperature.
    """

    genes: Codes
    profiles: Floats
    scale: Floats

    @classmethod
    def fit(cls, counts: sp.csr_matrix, genes: Codes, codes: Codes, classes: int) -> "Correlation":
        """Fit on the reference's counts ``(cells, genes)``."""
        lengths = scaled(counts, "length")[:, genes].toarray()
        correlation = cls(genes, class_means(lengths, codes, classes), np.ones(1))
        on_markers, measured = counts[:, genes], np.ones(len(genes), dtype=bool)
        values = [correlation.correlations(on_markers[rows], measured) for rows in row_blocks(len(codes))]
        present = np.unique(codes)
        correlation.scale = np.array([best_scale(np.concatenate(values)[:, present], np.searchsorted(present, codes))])
        return correlation

    def correlations(self, counts: sp.csr_matrix, measured: Flags) -> Floats:
        """``(cells, classes)`` from counts ``(cells, measured markers)``: they have the ranks of a cell's lengths.

        ``measured`` (markers,). It is the product of `standard_ranks` of the dense counts with those of the profiles,
        over the number of markers; the zeros of a cell, which share one rank, are never written out.
        """
        above_zero, rank_of_zero, mean, sd = cell_ranks(counts)
        profiles = standard_ranks(self.profiles[:, measured]).T
        product = above_zero.toarray() @ profiles
        product += np.outer(rank_of_zero - mean, profiles.sum(0))
        return product / np.maximum(sd, 1e-9)[:, None] / max(counts.shape[1], 1)


def cell_ranks(counts: sp.csr_matrix) -> tuple[sp.csr_matrix, Floats, float, Floats]:
    """Ranks of counts ``(cells, markers)`` within each cell: how far each is above that of a zero, the rank of a zero
    ``(cells,)``, the mean of all ranks, and their standard deviation ``(cells,)``."""
    markers = max(counts.shape[1], 1)
    by_count = ByCount(counts)
    zeros = markers - by_count.stored
    rank = by_count.rank + zeros[by_count.cell]
    rank_of_zero, mean = (zeros + 1) / 2, (markers + 1) / 2
    square = np.bincount(by_count.cell, by_count.size * rank**2, minlength=len(zeros)) + zeros * rank_of_zero**2
    sd = np.sqrt(np.maximum(square / markers - mean**2, 0.0))
    above_zero = np.where(by_count.value > 0, rank - rank_of_zero[by_count.cell], 0.0)[by_count.entries(counts)]
    return with_values(counts, above_zero), rank_of_zero, mean, sd


@dataclass
class ExpressionView:
    """The four regressions by ``scale.markers``, the correlation, and the cells of each class ``(classes,)``."""

    scales: dict[str, Scale]
    correlation: Correlation
    class_cells: Floats

    @classmethod
    def fit(cls, counts: sp.csr_matrix, codes: Codes, classes: int) -> "ExpressionView":
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

    def arrays(self) -> Arrays:
        """Everything learned, by name."""
        out = {"expression.class_cells": self.class_cells, **named("expression.correlation", self.correlation)}
        for name, scale in self.scales.items():
            out |= named(f"expression.{name}", scale)
        return out

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> "ExpressionView | None":
        """The opposite of `arrays`; None for an annotator without it, KeyError where an array is missing."""
        if "expression.class_cells" not in arrays:
            return None
        scales = {name: unnamed(f"expression.{name}", Scale, arrays) for name in REGRESSIONS}
        correlation = unnamed("expression.correlation", Correlation, arrays)
        return cls(scales, correlation, arrays["expression.class_cells"])

    def log_probabilities(self, cells: Cells) -> Floats:
        """Log-probabilities ``(cells, classes)`` of one sample, its batch offset taken off.

        Rows depend on the other cells of the sample through the offset alone.
        """
        classes = len(self.class_cells)
        sums = {name: np.zeros((classes, len(self.scales[f"{name}.{MANY}"].genes))) for name in SCALES}
        logits_of_blocks, types_of_blocks = [], []
        for logits, types, sums_of_block in in_turn(
            lambda rows: self._block(cells.counts(rows), cells.measured), row_blocks(len(cells))
        ):
            logits_of_blocks.append(logits)
            types_of_blocks.append(types)
            for name in SCALES:
                sums[name] += sums_of_block[name]
        logits, predicted = np.concatenate(logits_of_blocks, axis=1), np.concatenate(types_of_blocks)
        offsets = self.offsets(sums, predicted)
        for judge, (name, scale) in enumerate(self.scales.items()):
            logits[judge] -= scale.coefficients @ offsets[name]
        return mean_log_probability(logits)

    @property
    def larger(self) -> dict[str, str]:
        """Name of each scale's larger regression."""
        return {name: f"{name}.{MANY}" for name in SCALES}

    def among_larger(self, name: str) -> Codes:
        """Places of a regression's genes among those of its scale's larger one, which has them all."""
        return np.searchsorted(self.scales[f"{name.split('.')[0]}.{MANY}"].genes, self.scales[name].genes)

    def read(self, counts: sp.csr_matrix, measured: Flags) -> tuple[dict[str, Floats], sp.csr_matrix]:
        """What the judges read of counts ``(cells, genes)``: z-scores ``(cells, markers)`` of each scale's larger
        regression, and the counts on the correlation's genes that the sample measured."""
        by_count = ByCount(counts)
        # what all of it works on is smaller by far than all genes
        markers = np.union1d(*(self.scales[f"{name}.{MANY}"].genes for name in SCALES))
        counts = counts[:, markers]
        z = {}
        for name in SCALES:
            many = self.scales[f"{name}.{MANY}"]
            on_many = counts[:, np.searchsorted(markers, many.genes)]
            values = by_count.on_scale(name)[by_count.entries(on_many)].astype(np.float64)
            z[name] = with_values(on_many, values).toarray()
            z[name] -= many.mean
            z[name] /= many.sd
            np.clip(z[name], -CLIP, CLIP, out=z[name])
            # a gene that the query did not measure is 0, the mean
            z[name][:, ~measured[many.genes]] = 0.0
        known = measured[self.correlation.genes]
        return z, counts[:, np.searchsorted(markers, self.correlation.genes[known])]

    def judges(self, z: dict[str, Floats], on_few: sp.csr_matrix, measured: Flags) -> Floats:
        """Logits ``(judges, cells, classes)`` before any offset, of what `read` gives."""
        logits = []
        for name in SCALES:
            few, many = self.scales[f"{name}.{FEW}"], self.scales[f"{name}.{MANY}"]
            few_among_many = np.zeros_like(many.coefficients)
            few_among_many[:, self.among_larger(f"{name}.{FEW}")] = few.coefficients
            logits += [z[name] @ few_among_many.T + few.intercepts, z[name] @ many.coefficients.T + many.intercepts]
        known = measured[self.correlation.genes]
        correlations = self.correlation.scale * self.correlation.correlations(on_few, known)
        correlations[:, self.class_cells == 0] = ABSENT
        return np.stack([*logits, correlations])

    def offsets(self, sums: dict[str, Floats], predicted: Codes) -> dict[str, Floats]:
        """Batch offset ``(markers,)`` of each regression, of one sample: ``sums`` (classes, markers) of the z-scores
        of each scale's larger regression over the types ``predicted`` (cells,)."""
        return {
            name: offset_of_sums(
                sums[name.split(".")[0]][:, self.among_larger(name)], predicted, scale.type_means, self.class_cells
            )
            for name, scale in self.scales.items()
        }

    def _block(self, counts: sp.csr_matrix, measured: Flags) -> tuple[Floats, Codes, dict[str, Floats]]:
        """Logits ``(judges, cells, classes)`` before any offset, the types ``(cells,)`` they call, and of each scale
        the sums ``(classes, markers)`` of z-scores over these types."""
        z, on_few = self.read(counts, measured)
        judges = self.judges(z, on_few, measured)
        predicted = mean_log_probability(judges).argmax(1)
        return judges, predicted, {name: type_sums(z[name], predicted, len(self.class_cells)) for name in SCALES}


def mean_log_probability(logits: Floats) -> Floats:
    """Log-probabilities ``(cells, classes)`` of judges ``(judges, cells, classes)`` that have the same say."""
    return log_softmax(np.mean([log_softmax(judge) for judge in logits], axis=0))
