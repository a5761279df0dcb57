"""The second judge: logistic regressions on pseudo-cells, cells drawn from the profiles at the sample's depth.

A pseudo-cell is a Poisson draw of a profile's shares over the genes that the sample has, at a depth like the sample's,
with a part of ambient RNA (the mean of all profiles). A regression sees it in one of two views: *rank*, each count's
rank among the cell's counts over their number; *length*, log1p of counts per 10,000 at unit length.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from spikgpt.profiles.correlation import log_softmax, per_10k
from spikgpt.profiles.ranks import Floats, count_ranks

VIEWS = ("rank", "length")
SD_FLOOR = {"rank": 0.02, "length": 0.002}
"""Least standard deviation of a z-score: a gene hardly ever seen must not become an outlier detector."""
CLIP = 5.0
PER_PROFILE = 4
"""Pseudo-cells of each profile."""
DEPTH_SD = 0.5
"""Standard deviation of their depth's logarithm about the sample's median."""
AMBIENT = 0.08
"""Share of their counts that is ambient RNA."""
VARYING, MARKERS = 400, 14
"""Genes of a view: those that vary most over the profiles, and the best markers of each class."""
INVERSE_PENALTY = 0.02
"""C of scikit-learn's LogisticRegression."""
SEED = 0
LEAST = -60.0
"""Log-probability of what a judge excludes."""


def pseudo_cells(profiles: Floats, depth: float) -> tuple[sp.csr_matrix, NDArray[np.int64]]:
    """Counts ``(PER_PROFILE * profiles, genes)`` and the profile of each.

    ``profiles`` (genes, profiles) counts per 10,000; ``depth`` median number of counts.
    """
    random = np.random.default_rng(SEED)
    shares = profiles.T / 1e4
    of = np.repeat(np.arange(len(shares)), PER_PROFILE)
    ambient = shares.mean(axis=0)
    depths = depth * np.exp(random.normal(0.0, DEPTH_SD, len(of)))
    expected = ((1 - AMBIENT) * shares[of] + AMBIENT * ambient) * depths[:, None]
    return sp.csr_matrix(random.poisson(expected).astype(np.float64)), of


def viewed(counts: sp.csr_matrix, view: str) -> sp.csr_matrix:
    """Counts ``(cells, genes)`` without stored zeros, in one of the `VIEWS`; same sparsity."""
    stored = np.diff(counts.indptr)
    if view == "rank":
        ranks = count_ranks(counts)
        ranks.data /= np.repeat(stored, stored)
        return ranks
    ones = np.ones(counts.shape[1])
    data = np.log1p(counts.data * np.repeat(1e4 / np.maximum(counts @ ones, 1.0), stored))
    length = np.sqrt(sp.csr_matrix((data**2, counts.indices, counts.indptr), shape=counts.shape) @ ones)
    return sp.csr_matrix(
        (data / np.repeat(np.maximum(length, 1e-12), stored), counts.indices, counts.indptr), shape=counts.shape
    )


def marker_scores(values: sp.csr_matrix, codes: NDArray[np.int64], floor: float) -> Floats:
    """Welch-like t ``(classes, genes)`` of each class that has cells against all others."""
    present, place = np.unique(codes, return_inverse=True)
    member = sp.csr_matrix((np.ones(len(codes)), (place, np.arange(len(codes)))), shape=(len(present), len(codes)))
    number = np.bincount(place).astype(float)[:, None]
    sums, squares = (member @ values).toarray(), (member @ values.multiply(values)).toarray()
    rest = number.sum() - number
    mean, mean_rest = sums / number, (sums.sum(0) - sums) / rest
    variance = np.maximum(squares / number - mean**2, 0.0)
    variance_rest = np.maximum((squares.sum(0) - squares) / rest - mean_rest**2, 0.0)
    return (mean - mean_rest) / np.sqrt((variance + floor**2) / number + (variance_rest + floor**2) / rest)


@dataclass
class Regression:
    """One view's regression; ``genes`` (genes,) places among the library's genes found, ``mean``, ``sd`` (genes,),
    ``coefficients`` (classes, genes), ``intercepts`` (classes,), `LEAST` for a class without a profile."""

    view: str
    genes: NDArray[np.int64]
    mean: Floats
    sd: Floats
    coefficients: Floats
    intercepts: Floats

    @classmethod
    def fit(
        cls, view: str, cells: sp.csr_matrix, codes: NDArray[np.int64], varying: NDArray[np.int64], classes: int
    ) -> "Regression":
        """Fit on pseudo-cells (cells, genes found) of classes ``codes`` (cells,); ``varying``: genes taken anyway."""
        from sklearn.linear_model import LogisticRegression

        values, floor = viewed(cells, view), SD_FLOOR[view]
        best = np.argsort(-np.abs(marker_scores(values, codes, floor)), axis=1, kind="stable")[:, :MARKERS]
        genes = np.union1d(varying, best).astype(np.int64)
        dense = values[:, genes].toarray()
        mean, sd = dense.mean(axis=0), np.maximum(dense.std(axis=0), floor)
        model = LogisticRegression(
            C=INVERSE_PENALTY, class_weight="balanced", solver="lbfgs", max_iter=200, tol=1e-3
        ).fit(np.clip((dense - mean) / sd, -CLIP, CLIP), codes)
        coefficients, intercepts = np.zeros((classes, len(genes))), np.full(classes, LEAST)
        coefficients[model.classes_], intercepts[model.classes_] = model.coef_, model.intercept_
        return cls(view, genes, mean, sd, coefficients, intercepts)

    def log_probabilities(self, values: sp.csr_matrix) -> Floats:
        """``(cells, classes)``; ``values`` (cells, genes found) in the regression's view."""
        own = values[:, self.genes]
        of_zero = np.clip(-self.mean / self.sd, -CLIP, CLIP)
        # only what differs from a zero: the product then goes from one stored value to the next
        column = own.indices
        data = np.clip((own.data - self.mean[column]) / self.sd[column], -CLIP, CLIP) - of_zero[column]
        above = sp.csr_matrix((data, column, own.indptr), shape=own.shape)
        logits = np.asarray(above @ self.coefficients.T) + (self.coefficients @ of_zero + self.intercepts)
        return np.maximum(log_softmax(logits), LEAST)


def fit_regressions(values: Floats, codes: NDArray[np.int64], classes: int, depth: float) -> list[Regression]:
    """A regression of each view for a sample; ``values`` (genes found, profiles) log1p CP10k, ``codes`` (profiles,),
    ``depth`` the sample's median number of counts on these genes."""
    profiles = per_10k(values)
    varying = np.argsort(-np.log1p(profiles).var(axis=1), kind="stable")[:VARYING]
    cells, of = pseudo_cells(profiles, depth)
    return [Regression.fit(view, cells, codes[of], varying, classes) for view in VIEWS]
