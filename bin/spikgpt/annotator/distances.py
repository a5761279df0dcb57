"""Does a cell fit the type it is called? Distances of a cell to that type's reference profile.

Three distances of expression, and one in the scGPT embedding (a `TypeDistance` too), robust to a new
batch because what all predicted types share is taken off, in the ``share`` that `spikgpt.annotator.batch` allows:

- *profile*: counts pooled with the nearest cells of the sample, log1p CP10k on variable genes, minus the
  type's pooled reference profile, over each gene's residual standard deviation; root mean square.
- *distance*: Mahalanobis distance to the type's centre in the reference's principal components, with the
  within-type covariance; averaged with nearest cells of the same call.
- *detection*: log-likelihood of which markers were seen and which not, given the type's profile, the cell's
  depth and a negative binomial, standardised; averaged likewise.

``neighbours`` (cells, k) is None for a sample too small to pool, which is judged cell by cell against a calibration
made the same way.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from spikgpt.annotator import batch
from spikgpt.annotator.batch import median_shift, types_to_compare
from spikgpt.annotator.cells import Cells, in_turn, row_blocks
from spikgpt.annotator.neighbours import PooledLogs, principal_components, scores_on, smoothed
from spikgpt.base.arrays import Codes, Flags, Floats, Floats32
from spikgpt.base.groups import class_means, class_members

DISPERSED_GENES = 1500
DISPERSION_BINS = 20
RESIDUAL_FLOOR = 0.1
CLIP = 5.0
DETECTION_MARKERS = 100
"""Genes of each type whose detection is judged: those whose frequency differs most from that of all other cells."""
DISPERSION = 5.0
"""Size of the negative binomial that a gene's zeros are expected from."""
LOG_ABSENT = (np.log(1e-4), np.log(1 - 1e-4))
"""Bounds of the log-probability that a gene is not seen: no single gene may decide."""


def dispersed_genes(counts: sp.csr_matrix, number: int = DISPERSED_GENES) -> Codes:
    """Sorted genes of largest standardised dispersion of CP10k, standardised among genes of like mean.

    As Seurat does it, but with bins of equally many genes by their mean where Seurat and scanpy take bins of equal
    width: no bin is nearly empty. They are the genes to compare one cell's profile on; those of the cohort's h5ad are
    chosen by `spikgpt.base.variable_genes`, as scanpy chooses them.
    """
    total = np.maximum(np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel(), 1.0)
    values = sp.diags(1e4 / total) @ counts.astype(np.float64)
    mean = np.asarray(values.mean(axis=0)).ravel()
    square = np.asarray(values.multiply(values).mean(axis=0)).ravel()
    dispersion = np.log((square - mean**2 + 1e-12) / (mean + 1e-12) + 1e-12)
    seen = np.flatnonzero(mean > 0)
    order = seen[np.argsort(mean[seen], kind="stable")]
    score = np.full(len(mean), -np.inf)
    for part in np.array_split(order, DISPERSION_BINS):
        if len(part):
            sd = dispersion[part].std()
            score[part] = (dispersion[part] - dispersion[part].mean()) / (sd if sd > 0 else 1.0)
    best = np.argsort(-score, kind="stable")[: min(number, len(seen))]
    return np.sort(best).astype(np.int64)


@dataclass
class TypeDistance:
    """Mahalanobis distance to a type in the reference's principal components.

    ``centre`` (features,), ``loadings`` (components, features), ``type_centres`` (classes, components),
    ``precision_root`` (components, components): its product with a residual has the Mahalanobis length;
    ``class_cells`` (classes,).
    """

    centre: Floats
    loadings: Floats
    type_centres: Floats
    precision_root: Floats
    class_cells: Floats

    @classmethod
    def fit(cls, values: sp.csr_matrix | Floats32, codes: Codes, classes: int) -> "TypeDistance":
        """Fit on ``values`` (cells, features) of the reference."""
        centre, loadings = principal_components(values)
        scores = scores_on(values, centre, loadings)
        type_centres = class_means(scores, codes, classes)
        within = scores - type_centres[codes]
        spread, vectors = np.linalg.eigh(within.T @ within / len(within))
        # a floor of 1 % of the mean variance keeps a nearly flat direction from ruling the distance
        floor = 0.01 * spread.mean() if len(spread) else 0.0
        root = vectors / np.sqrt(np.maximum(spread, floor) + 1e-12)
        return cls(centre, loadings, type_centres, root, np.bincount(codes, minlength=classes).astype(float))

    def distances(
        self,
        values: sp.csr_matrix | Floats32,
        measured: Flags,
        predicted: Codes,
        neighbours: Codes | None,
        share: float,
    ) -> Floats:
        """Distance ``(cells,)`` to the type called, shift taken off, smoothed.

        ``values`` (cells, measured features); ``measured`` (features,).
        """
        scores = scores_on(values, self.centre[measured], self.loadings[:, measured])
        residual = scores - self.type_centres[predicted]
        shift = self.shift(residual, predicted, share)
        length = np.sqrt((((residual - shift) @ self.precision_root) ** 2).sum(1))
        return smoothed(length, predicted, neighbours)

    def shift(self, residual: Floats, predicted: Codes, share: float) -> Floats:
        """What all types of a sample have in common ``(components,)``, in this share; ``residual`` (cells,
        components) of each cell's scores to the type called."""
        types = types_to_compare(predicted, self.class_cells)
        means = [residual[predicted == k].mean(0) for k in types]
        return share * median_shift(np.array(means).reshape(len(types), residual.shape[1]))


@dataclass
class TypeProfiles:
    """Distance of a cell's pooled expression profile to the profile of a type.

    ``genes`` (variable,) index into the annotator's genes; ``profiles`` (2, classes, variable) and
    ``residual_sd`` (2, variable) of log1p CP10k, for pooled and for single cells; ``bulks`` (classes, variable) of all
    cells of a type together; ``class_cells`` (classes,).
    """

    genes: Codes
    profiles: Floats
    residual_sd: Floats
    bulks: Floats
    class_cells: Floats

    @classmethod
    def fit(cls, cells: Cells, genes: Codes, codes: Codes, classes: int, neighbours: Codes | None) -> "TypeProfiles":
        """Fit on the reference; ``genes`` index into the annotator's genes."""
        profiles, residual_sd = np.zeros((2, classes, len(genes))), np.zeros((2, len(genes)))
        number = np.maximum(np.bincount(codes, minlength=classes), 1)[:, None]
        member = class_members(codes, classes)
        for kind, among in enumerate((neighbours, None)):
            logs = PooledLogs.of(cells, genes, among)
            for part in logs.blocks():
                values = logs.values(part)
                profiles[kind, :, part] = (member @ values) / number
                residual_sd[kind, part] = np.sqrt(((values - profiles[kind, :, part][codes]) ** 2).mean(axis=0))
        bulks = bulk(cells, genes, codes, classes)
        return cls(genes, profiles, residual_sd, bulks, np.bincount(codes, minlength=classes).astype(float))

    def likeness(self, cells: Cells, predicted: Codes) -> Floats:
        """Correlation ``(classes,)`` of the pooled cells of each type with the reference's; 0 without cells."""
        seen = cells.measured[self.genes]
        return batch.likeness(bulk(cells, self.genes[seen], predicted, len(self.bulks)), self.bulks[:, seen])

    def distances(self, cells: Cells, predicted: Codes, neighbours: Codes | None, share: float) -> Floats:
        """Root mean square standardised residual ``(cells,)`` to the type called, gene offset taken off."""
        seen = cells.measured[self.genes]
        kind = 1 if neighbours is None else 0
        profiles, spread = self.profiles[kind][:, seen], self.residual_sd[kind][seen] + RESIDUAL_FLOOR
        logs = PooledLogs.of(cells, self.genes[seen], neighbours)
        shift_of = self.shift_of(predicted, share)

        def squares(part: slice) -> Floats:
            z = logs.values(part)
            z -= profiles[:, part][predicted]
            z -= shift_of(z)
            z /= spread[part]
            np.clip(z, -CLIP, CLIP, out=z)
            return np.einsum("ij,ij->i", z, z)

        total = np.zeros(len(cells))
        for of_genes in in_turn(squares, logs.blocks()):
            total += of_genes
        return np.sqrt(total / max(len(spread), 1))

    def shift_of(self, predicted: Codes, share: float) -> Callable[[Floats], Floats]:
        """What all types of a sample have in common ``(genes,)``, in this share, of residuals ``(cells, genes)`` to the
        types called."""
        types = types_to_compare(predicted, self.class_cells)
        member = class_members(predicted, len(self.class_cells))[types]
        number = np.bincount(predicted, minlength=len(self.class_cells))[types, None]
        return lambda residual: share * median_shift((member @ residual) / number)


@dataclass
class MarkerDetection:
    """Are the markers of the type called seen as often as the cell's depth lets expect, and no others?

    ``genes`` (markers,) index into the annotator's genes; ``shares`` (classes, markers) of a type's counts;
    ``class_cells`` (classes,).
    """

    genes: Codes
    shares: Floats
    class_cells: Floats

    @classmethod
    def fit(cls, counts: sp.csr_matrix, codes: Codes, classes: int) -> "MarkerDetection":
        """Fit on reference counts ``(cells, annotator's genes)``."""
        cells = np.bincount(codes, minlength=classes).astype(float)
        member = class_members(codes, classes)
        seen = counts.astype(np.float64)
        totals = np.asarray((member @ seen).todense())
        seen.data = (seen.data > 0).astype(np.float64)
        number = np.asarray((member @ seen).todense())
        inside = number / np.maximum(cells, 1)[:, None]
        outside = (number.sum(0) - number) / np.maximum(len(codes) - cells, 1)[:, None]
        order = np.argsort(-np.abs(inside - outside), axis=1, kind="stable")[:, :DETECTION_MARKERS]
        genes = np.unique(order[cells > 0]).astype(np.int64)
        shares = totals[:, genes] / np.maximum(totals.sum(1, keepdims=True), 1)
        return cls(genes, shares, cells)

    def distances(self, cells: Cells, predicted: Codes, neighbours: Codes | None, share: float) -> Floats:
        """Standardised negative log-likelihood ``(cells,)`` of the markers seen; the gene offset is taken off."""
        known = cells.measured[self.genes]
        genes, shares = self.genes[known], self.shares[:, known]
        depth, counts = cells.depth, cells.on(genes)
        offset = self.offset(counts, depth, shares, predicted, share)

        def standardised(rows: slice) -> Floats:
            # the chance of no count, of a negative binomial: (1 + expected / size) ** -size
            excess = (shares[predicted[rows]] + 1e-6) * offset
            excess *= depth[rows, None] / DISPERSION
            log_absent = np.clip(-DISPERSION * np.log1p(excess), *LOG_ABSENT)
            absent = np.exp(log_absent)
            difference = np.log1p(-absent) - log_absent
            # log-likelihood less its expectation: absent * difference where seen, and difference less where not
            expected = absent * difference
            seen = counts[rows].toarray() > 0
            surprise = expected.sum(1) - np.where(seen, 0.0, difference).sum(1)
            return -surprise / np.sqrt(np.einsum("ij,ij->i", expected, difference - expected) + 1e-9)

        standard = np.concatenate(list(in_turn(standardised, row_blocks(len(depth)))))
        return smoothed(standard, predicted, neighbours)

    def offset(self, counts: sp.csr_matrix, depth: Floats, shares: Floats, predicted: Codes, share: float) -> Floats:
        """Factor ``(genes,)`` by which all types of a sample differ from ``shares`` (classes, genes), in this share."""
        types = types_to_compare(predicted, self.class_cells)
        # sums of whole numbers: exact in any order
        sums = [np.asarray(counts[predicted == k].sum(axis=0, dtype=np.float64)).ravel() for k in types]
        # one count of an average gene keeps the ratio finite where one side never saw the gene
        ratios = [
            np.log((total + 1) / (depth[predicted == k].sum() + 1e4) / (shares[k] + 1e-5))
            for total, k in zip(sums, types, strict=True)
        ]
        return np.exp(share * median_shift(np.array(ratios).reshape(len(types), len(shares[0]))))


def bulk(cells: Cells, genes: Codes, codes: Codes, classes: int) -> Floats:
    """log1p counts per 10,000 of all cells of each class together ``(classes, genes)``; 0 without cells."""
    total = np.bincount(codes, cells.depth, minlength=classes)
    # sums of whole numbers: exact in any order
    counts = (class_members(codes, classes) @ cells.on(genes).astype(np.float64)).toarray()
    return np.asarray(np.log1p(counts * (1e4 / np.maximum(total, 1.0))[:, None]))
