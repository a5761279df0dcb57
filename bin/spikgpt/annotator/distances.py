"""Does a cell fit the type it is called? Distances of a cell to that type's reference profile.

Three distances of expression, and one in the scGPT embedding (a `TypeDistance` too), robust to a new
batch because what all predicted types share is taken off:

- *profile*: counts pooled with the nearest cells of the sample, log1p CP10k on variable genes, minus the
  type's pooled reference profile, over each gene's residual standard deviation; root mean square.
  Pooling removes the counting noise that hides a missing or an extra programme in one cell.
- *distance*: Mahalanobis distance to the type's centre in the reference's principal components, with the
  within-type covariance; averaged with nearest cells of the same call.
- *detection*: log-likelihood of which markers were seen and which not, given the type's profile, the cell's
  depth and a negative binomial, standardised; averaged likewise.

A sample too small to pool (`MIN_CELLS_TO_POOL`) is judged cell by cell, against a calibration made
the same way.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.extmath import randomized_svd

from spikgpt.annotator.cells import Cells, Codes, Floats, dense, in_turn, row_blocks

NEIGHBOURS = 15
"""Cells that a cell is pooled with."""
MIN_CELLS_TO_POOL = 3 * (NEIGHBOURS + 1)
VARIABLE_GENES = 1500
COMPONENTS = 40
MIN_TYPE_CELLS = 15
"""A predicted type takes part in the estimate of a batch shift with at least this many cells."""
MIN_LIKENESS = 0.8
"""A predicted type takes part only where its cells, pooled, correlate this well with the reference's profile of it.

What differs beyond that is no batch but other cells: a sample of another tissue must not be corrected until it
fits. On real sets, types of one tissue across donors, chemistries and stimulation had 0.83 to 0.99 (median over
types), blood against pancreas, placenta and cell lines 0.37 to 0.80.
"""
MIN_TYPES = 3
"""Fewer types cannot tell a batch shift from biology; then nothing is taken off."""
RESIDUAL_FLOOR = 0.1
CLIP = 5.0
DETECTION_MARKERS = 100
"""Genes of each type whose detection is judged: those whose frequency differs most from that of all other cells."""
DISPERSION = 5.0
"""Size of the negative binomial that a gene's zeros are expected from."""
LOG_ABSENT = (np.log(1e-4), np.log(1 - 1e-4))
"""Bounds of the log-probability that a gene is not seen: no single gene may decide."""
OWN_SHARE = 0.3
"""Weight of a cell's own value when it is averaged with its neighbours of the same call."""
CELLS_FOR_COMPONENTS = 5_000
"""Principal components are found on at most this many cells, evenly spread over a larger sample."""
GENES_AT_ONCE = 64
"""Genes whose pooled values of all cells are dense at a time, in each thread."""
CELLS_TO_SEARCH = 2_000
"""Cells whose nearest ones are looked for at a time, in each thread."""


def log_cp10k(own: sp.csr_matrix, depth: Floats) -> sp.csr_matrix:
    """log1p of counts per 10,000, float32 ``(cells, genes)``; ``depth`` (cells,) is that of all genes."""
    factor = np.repeat(1e4 / np.maximum(depth, 1.0), np.diff(own.indptr))
    return sp.csr_matrix((np.log1p(own.data * factor).astype(np.float32), own.indices, own.indptr), shape=own.shape)


@dataclass
class PooledLogs:
    """log1p of counts per 10,000 on some genes, a few genes at a time.

    With ``neighbours`` (cells, k), each cell's counts are pooled with theirs first. ``own`` (cells, genes) counts by
    column, ``pools`` (cells, cells) who is pooled, ``total`` (cells,).
    """

    own: sp.csc_matrix
    pools: sp.csr_matrix | None
    total: Floats

    @classmethod
    def of(cls, cells: Cells, genes: Codes, neighbours: Codes | None) -> "PooledLogs":
        total, pools = cells.depth, None
        if neighbours is not None:
            total = total + total[neighbours].sum(1)
            pools = pools_of(neighbours)
        return cls(cells.on(genes).astype(np.float32).tocsc(), pools, np.maximum(total, 1.0))

    def blocks(self) -> Iterator[slice]:
        """The genes that are dense at a time, in order."""
        for start in range(0, self.own.shape[1], GENES_AT_ONCE):
            yield slice(start, min(start + GENES_AT_ONCE, self.own.shape[1]))

    def values(self, genes: slice) -> Floats:
        """Of all cells, ``(cells, genes)``."""
        dense = self.own[:, genes].toarray()
        if self.pools is not None:
            dense = self.pools @ dense  # whole numbers: exact in any order
        values = dense.astype(np.float64)
        values *= (1e4 / self.total)[:, None]
        return np.log1p(values, out=values)


def pools_of(neighbours: Codes) -> sp.csr_matrix:
    """``(cells, cells)``: 1 for the cell itself, and 1 for each of its neighbours."""
    cells, k = neighbours.shape
    index = np.concatenate([np.arange(cells)[:, None], neighbours], axis=1).ravel()
    ones, ends = np.ones(len(index), dtype=np.float32), np.arange(0, len(index) + 1, k + 1)
    return sp.csr_matrix((ones, index, ends), shape=(cells, cells))


def class_members(codes: Codes, classes: int) -> sp.csr_matrix:
    """``(classes, cells)``: its product with values of cells has the sum of each class."""
    return sp.csr_matrix((np.ones(len(codes)), (codes, np.arange(len(codes)))), shape=(classes, len(codes)))


def variable_genes(counts: sp.csr_matrix, number: int = VARIABLE_GENES) -> Codes:
    """Sorted genes of largest dispersion within 20 bins of mean log expression (Seurat's flavour)."""
    total = np.maximum(np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel(), 1.0)
    values = sp.diags(1e4 / total) @ counts.astype(np.float64)
    mean = np.asarray(values.mean(axis=0)).ravel()
    square = np.asarray(values.multiply(values).mean(axis=0)).ravel()
    dispersion = np.log((square - mean**2 + 1e-12) / (mean + 1e-12) + 1e-12)
    seen = np.flatnonzero(mean > 0)
    order = seen[np.argsort(mean[seen], kind="stable")]
    score = np.full(len(mean), -np.inf)
    for part in np.array_split(order, 20):
        if len(part):
            sd = dispersion[part].std()
            score[part] = (dispersion[part] - dispersion[part].mean()) / (sd if sd > 0 else 1.0)
    best = np.argsort(-score, kind="stable")[: min(number, len(seen))]
    return np.sort(best).astype(np.int64)


def principal_components(values: sp.csr_matrix | NDArray[np.float32], number: int) -> tuple[Floats, Floats]:
    """Mean ``(genes,)`` and loadings ``(components, genes)``, signs fixed, of at most `CELLS_FOR_COMPONENTS`."""
    cells = values.shape[0]
    some = dense(values, np.linspace(0, cells - 1, min(cells, CELLS_FOR_COMPONENTS)).round().astype(np.int64))
    centre = some.mean(axis=0, dtype=np.float64)
    number = min(number, min(some.shape) - 1)
    if number < 1:
        return centre, np.zeros((0, some.shape[1]))
    _, _, loadings = randomized_svd(some - centre.astype(np.float32), number, n_iter=4, random_state=0, flip_sign=True)
    return centre, loadings.astype(np.float64)


def scores_on(values: sp.csr_matrix | NDArray[np.float32], centre: Floats, loadings: Floats) -> Floats:
    """Scores ``(cells, components)`` of ``values`` (cells, features) on ``loadings`` (components, features)."""

    def of_block(rows: slice) -> Floats:
        return (dense(values, rows) - centre) @ loadings.T

    return np.concatenate(list(in_turn(of_block, row_blocks(values.shape[0]))))


def nearest(values: sp.csr_matrix | NDArray[np.float32], groups: Codes | None = None) -> Codes:
    """The `NEIGHBOURS` nearest cells of each cell ``(cells, NEIGHBOURS)``, in its own sample's components.

    With ``groups``, cells are looked for in the same group where it is large enough to pool.
    """
    cells = values.shape[0]
    scores = scores_on(values, *principal_components(values, COMPONENTS)).astype(np.float32)
    groups = np.zeros(cells, dtype=np.int64) if groups is None else groups
    found = np.empty((cells, NEIGHBOURS), dtype=np.int64)
    numbers, sizes = np.unique(groups, return_counts=True)
    everywhere = np.arange(cells)
    for number, size in zip(numbers, sizes, strict=True):
        rows = np.flatnonzero(groups == number)
        among = rows if size >= MIN_CELLS_TO_POOL else everywhere
        search = NearestNeighbors(n_neighbors=NEIGHBOURS + 1, algorithm="brute").fit(scores[among])
        parts = np.array_split(rows, -(-len(rows) // CELLS_TO_SEARCH))
        queries = [scores[part] for part in parts]
        near = in_turn(partial(search.kneighbors, return_distance=False), queries)
        index = among[np.concatenate(list(near))]
        # drop the cell itself; identical cells may push it off its own first place
        own = index == rows[:, None]
        own[~own.any(1), -1] = True
        found[rows] = index[~own].reshape(len(rows), NEIGHBOURS)
    return found


def smoothed(values: Floats, predicted: Codes, neighbours: Codes | None) -> Floats:
    """`OWN_SHARE` of a cell's own value, the rest the mean of its neighbours of the same call."""
    if neighbours is None:
        return values
    same = predicted[neighbours] == predicted[:, None]
    number = same.sum(1)
    mean = np.where(same, values[neighbours], 0.0).sum(1) / np.maximum(number, 1)
    return np.where(number > 0, OWN_SHARE * values + (1 - OWN_SHARE) * mean, values)


def median_shift(differences: Floats) -> Floats:
    """Median over types ``(types, ...)``, or zero when there are too few types."""
    if len(differences) < MIN_TYPES:
        return np.zeros(differences.shape[1:])
    return np.median(differences, axis=0)


def types_to_compare(predicted: Codes, class_cells: Floats, alike: NDArray[np.bool_]) -> Codes:
    """Classes ``alike`` (classes,) with enough cells in both the sample and the reference."""
    cells = np.bincount(predicted, minlength=len(class_cells))
    return np.flatnonzero((np.minimum(cells, class_cells) >= MIN_TYPE_CELLS) & alike)


def bulk(cells: Cells, genes: Codes, codes: Codes, classes: int) -> Floats:
    """log1p counts per 10,000 of all cells of each class together ``(classes, genes)``; 0 without cells."""
    total = np.bincount(codes, cells.depth, minlength=classes)
    # sums of whole numbers: exact in any order
    own = (class_members(codes, classes) @ cells.on(genes).astype(np.float64)).toarray()
    return np.asarray(np.log1p(own * (1e4 / np.maximum(total, 1.0))[:, None]))


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
    def fit(cls, values: sp.csr_matrix | NDArray[np.float32], codes: Codes, classes: int) -> "TypeDistance":
        """Fit on ``values`` (cells, features) of the reference."""
        centre, loadings = principal_components(values, COMPONENTS)
        scores = scores_on(values, centre, loadings)
        type_centres = np.zeros((classes, len(loadings)))
        for k in np.unique(codes):
            type_centres[k] = scores[codes == k].mean(0)
        within = scores - type_centres[codes]
        spread, vectors = np.linalg.eigh(within.T @ within / len(within))
        # a floor of 1 % of the mean variance keeps a nearly flat direction from ruling the distance
        floor = 0.01 * spread.mean() if len(spread) else 0.0
        root = vectors / np.sqrt(np.maximum(spread, floor) + 1e-12)
        return cls(centre, loadings, type_centres, root, np.bincount(codes, minlength=classes).astype(float))

    def distances(
        self,
        values: sp.csr_matrix | NDArray[np.float32],
        measured: NDArray[np.bool_],
        predicted: Codes,
        neighbours: Codes | None,
        alike: NDArray[np.bool_],
    ) -> Floats:
        """Distance ``(cells,)`` to the type called, shift taken off, smoothed.

        ``values`` (cells, measured features); ``measured`` (features,).
        """
        scores = scores_on(values, self.centre[measured], self.loadings[:, measured])
        residual = scores - self.type_centres[predicted]
        types = types_to_compare(predicted, self.class_cells, alike)
        means = [residual[predicted == k].mean(0) for k in types]
        shift = median_shift(np.array(means).reshape(len(types), residual.shape[1]))
        length = np.sqrt((((residual - shift) @ self.precision_root) ** 2).sum(1))
        return smoothed(length, predicted, neighbours)


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

    def alike(self, cells: Cells, predicted: Codes) -> NDArray[np.bool_]:
        """Which classes ``(classes,)`` have cells in the sample that, pooled, look like them (`MIN_LIKENESS`)."""
        seen = cells.measured[self.genes]
        found = bulk(cells, self.genes[seen], predicted, len(self.bulks))
        own = self.bulks[:, seen]
        found = found - found.mean(1, keepdims=True)
        own = own - own.mean(1, keepdims=True)
        scale = np.sqrt((found**2).sum(1) * (own**2).sum(1))
        return np.asarray((found * own).sum(1) >= MIN_LIKENESS * np.maximum(scale, 1e-12))

    def distances(self, cells: Cells, predicted: Codes, neighbours: Codes | None, alike: NDArray[np.bool_]) -> Floats:
        """Root mean square standardised residual ``(cells,)`` to the type called, gene offset taken off."""
        seen = cells.measured[self.genes]
        kind = 1 if neighbours is None else 0
        profiles, spread = self.profiles[kind][:, seen], self.residual_sd[kind][seen] + RESIDUAL_FLOOR
        logs = PooledLogs.of(cells, self.genes[seen], neighbours)
        types = types_to_compare(predicted, self.class_cells, alike)
        member = class_members(predicted, len(self.class_cells))[types]
        number = np.bincount(predicted, minlength=len(self.class_cells))[types, None]

        def squares(part: slice) -> Floats:
            z = logs.values(part)
            z -= profiles[:, part][predicted]
            z -= median_shift((member @ z) / number)
            z /= spread[part]
            np.clip(z, -CLIP, CLIP, out=z)
            return np.einsum("ij,ij->i", z, z)

        total = np.zeros(len(cells))
        for some in in_turn(squares, logs.blocks()):
            total += some
        return np.sqrt(total / max(len(spread), 1))


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

    def distances(self, cells: Cells, predicted: Codes, neighbours: Codes | None, alike: NDArray[np.bool_]) -> Floats:
        """Standardised negative log-likelihood ``(cells,)`` of the markers seen; the gene offset is taken off."""
        known = cells.measured[self.genes]
        genes, shares = self.genes[known], self.shares[:, known]
        depth, own = cells.depth, cells.on(genes)
        types = types_to_compare(predicted, self.class_cells, alike)
        # sums of whole numbers: exact in any order
        sums = [np.asarray(own[predicted == k].sum(axis=0, dtype=np.float64)).ravel() for k in types]
        # one count of an average gene keeps the ratio finite where one side never saw the gene
        ratios = [
            np.log((total + 1) / (depth[predicted == k].sum() + 1e4) / (shares[k] + 1e-5))
            for total, k in zip(sums, types, strict=True)
        ]
        offset = np.exp(median_shift(np.array(ratios).reshape(len(types), len(genes))))

        def standardised(rows: slice) -> Floats:
            # the chance of no count, of a negative binomial: (1 + expected / size) ** -size
            excess = (shares[predicted[rows]] + 1e-6) * offset
            excess *= depth[rows, None] / DISPERSION
            log_absent = np.clip(-DISPERSION * np.log1p(excess), *LOG_ABSENT)
            absent = np.exp(log_absent)
            difference = np.log1p(-absent) - log_absent
            # log-likelihood less its expectation: absent * difference where seen, and difference less where not
            told = absent * difference
            seen = own[rows].toarray() > 0
            surprise = told.sum(1) - np.where(seen, 0.0, difference).sum(1)
            return -surprise / np.sqrt(np.einsum("ij,ij->i", told, difference - told) + 1e-9)

        standard = np.concatenate(list(in_turn(standardised, row_blocks(len(depth)))))
        return smoothed(standard, predicted, neighbours)
