"""Marker genes of each type of the reference, as a reader may look for them in a query.

They are not what the annotator decides by; they let a reader check its labels. A marker is a gene that is *seen*
(at least one count) in most cells of its type and in few others. Whether a gene is seen depends on how deep a
cell was sequenced, so every share is given for cells thinned to the same depth: a cell of ``n`` counts, ``x`` of
them of the gene, that had been sequenced to ``d < n`` counts would show the gene with probability
``1 - (1 - d/n)^x`` (each count is kept with probability ``d/n``). The mean of it over cells is the expected share,
without drawing anything. A cell shallower than ``d`` is taken as it is.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from spikgpt.base.arrays import Codes, Floats
from spikgpt.base.groups import class_members

PER_TYPE = 10
"""Markers of a type at most."""
MIN_CELLS = 5
"""A type with fewer cells has no markers, and its cells do not speak against another type's."""
MIN_SEEN = 0.25
"""Least share of the type's cells in which a marker is seen ..."""
MIN_DIFFERENCE = 0.2
"""... and by how much it must exceed the mean share of the other types."""
PRIOR_CELLS = 5.0
"""Cells with the other types' mean share that a type's own share is mixed with: a handful of cells must not win by
luck."""
DEPTH_QUANTILE = 0.25
"""Markers are chosen at this quantile of the reference's depth, so that three cells in four are thinned to it ..."""
STEPS = (1.0, 0.5, 0.25, 0.125, 0.0625)
"""... and their shares are kept for these fractions of it too, for a query that is shallower."""
RELATED_MARKERS = 0.7
"""A cell that shows this share of the markers that a type's median cell shows looks like one of that type. ..."""
RELATED = 0.15
"""... Where so many cells of one type look like another, the two are related, and a cell with the markers of both need
not be a mixture. In PBMC CD8 T cells look like NK cells (0.18) and CD4 like CD8 T cells (0.17); B cells look like CD4 T
cells less often (0.09; more where naive T cells are a type of their own), and T cells and monocytes like each other, or
like B cells, at most 0.13."""
NO_MARKERS: dict[str, Any] = {"depths": [1.0], "related": [], "types": {}}
"""`ReferenceMarkers.as_dict` of labels without a reference."""
_BLOCK_CELLS = 4096


def seen(counts: NDArray[Any], ratio: NDArray[Any]) -> Floats:
    """Probability that a gene with so many counts is seen when each count is kept with probability ``ratio``.

    Arrays that broadcast; ``ratio`` from 0 to 1.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        # 0 * log(0) is a gene without counts in a cell that keeps them all: not seen
        kept = np.nan_to_num(counts * np.log1p(-np.asarray(ratio, dtype=np.float64)), nan=0.0, neginf=-np.inf)
    return -np.expm1(kept)


def thinning(totals: NDArray[Any], depth: float) -> Floats:
    """Share of a cell's counts that is kept when it is thinned to ``depth``; 1 for a shallower cell."""
    return np.minimum(depth / np.maximum(np.asarray(totals, dtype=np.float64), 1.0), 1.0)


def seen_shares(counts: sp.csr_matrix, totals: Floats, codes: Codes, classes: int, depth: float) -> Floats:
    """Share of each class's cells that show each gene at a depth, ``(classes, genes)``; 0 for a class without cells.

    Parameters
    ----------
    counts
        Raw counts ``(cells, genes)``.
    totals
        Depth of each cell ``(cells,)``, which may count more genes than those of ``counts``.
    codes
        Class of each cell ``(cells,)``.
    """
    sums = np.zeros((classes, counts.shape[1]))
    for start in range(0, counts.shape[0], _BLOCK_CELLS):
        block = sp.csr_matrix(counts[start : start + _BLOCK_CELLS], dtype=np.float64, copy=True)
        ratio = np.repeat(thinning(totals[start : start + _BLOCK_CELLS], depth), np.diff(block.indptr))
        block.data = seen(block.data, ratio)
        product = (class_members(codes[start : start + block.shape[0]], classes) @ block).tocoo()
        sums[product.row, product.col] += product.data
    return np.asarray(sums / np.maximum(np.bincount(codes, minlength=classes), 1)[:, None])


@dataclass
class Marker:
    """A marker of a type: ``inside`` and ``outside`` are shares of cells that show it, one for each depth.

    ``outside`` is the mean over the other types, each counting alike.
    """

    gene: str
    inside: list[float]
    outside: list[float]

    def at(self, depth: float, depths: list[float]) -> tuple[float, float]:
        """Shares inside and outside at a depth, linear in the logarithm of depth between the stored ones."""
        at, known = np.log(depth), np.log(depths[::-1])
        return float(np.interp(at, known, self.inside[::-1])), float(np.interp(at, known, self.outside[::-1]))


@dataclass
class ReferenceMarkers:
    """Markers of every type that has some, best first; ``depths`` fall.

    ``related``: pairs of types of which one has cells that look like the other (`RELATED`).
    """

    depths: list[float]
    types: dict[str, list[Marker]]
    related: list[list[str]] = field(default_factory=list)

    @classmethod
    def choose(
        cls,
        counts: sp.csr_matrix,
        genes: list[str],
        codes: Codes,
        classes: list[str],
        totals: Floats,
        depths: list[float] | None = None,
    ) -> "ReferenceMarkers":
        """Choose the markers of each type of a reference.

        Per type the `PER_TYPE` genes with the largest ``s - (mean + most) / 2``: ``s`` is the share of its cells that
        show the gene, ``mean`` and ``most`` the mean and the largest share of the other types, all at one depth; only
        genes with ``s`` at least `MIN_SEEN` and `MIN_DIFFERENCE` above ``mean``. So a marker is common in its type,
        rare in most others, and rarer in its nearest relative; that a type has many cells or deep ones does not help
        it, and a gene that is merely higher, but seen everywhere, is none.

        Parameters
        ----------
        counts
            Raw counts ``(cells, genes)``.
        codes
            Type of each cell ``(cells,)`` into ``classes``.
        totals
            Depth of each cell ``(cells,)``.
        depths
            Falling; those of the cells unless given.
        """
        cells = np.bincount(codes, minlength=len(classes)).astype(float)
        large = np.flatnonzero(cells >= MIN_CELLS)
        if depths is None:
            top = float(np.quantile(totals, DEPTH_QUANTILE))
            depths = [round(step * top, 3) for step in STEPS]
        if len(large) < 2:
            return cls(depths, {})
        shares = seen_shares(counts, totals, codes, len(classes), depths[0])
        chosen: dict[int, list[int]] = {}
        for k in large:
            others = shares[large[large != k]]
            mean = others.mean(0)
            share = (cells[k] * shares[k] + PRIOR_CELLS * mean) / (cells[k] + PRIOR_CELLS)
            score = share - (mean + others.max(0)) / 2
            score[(share < MIN_SEEN) | (share - mean < MIN_DIFFERENCE) | (score <= 0)] = -np.inf
            # ties to the first gene; the order of genes is the reference's own
            order = np.argsort(-score, kind="stable")[:PER_TYPE]
            picked = [int(gene) for gene in order if np.isfinite(score[gene])]
            if picked:
                chosen[int(k)] = picked
        columns = np.array(sorted({gene for picked in chosen.values() for gene in picked}), dtype=np.int64)
        column_of = {int(gene): at for at, gene in enumerate(columns)}
        few = sp.csr_matrix(counts[:, columns])
        levels = [seen_shares(few, totals, codes, len(classes), depth) for depth in depths]
        types = {
            classes[k]: [
                Marker(
                    genes[gene],
                    [round(float(level[k, column_of[gene]]), 4) for level in levels],
                    [round(float(level[large[large != k], column_of[gene]].mean()), 4) for level in levels],
                )
                for gene in picked
            ]
            for k, picked in chosen.items()
        }
        related = set()
        for of, picked in chosen.items():
            shown = np.asarray((few[:, [column_of[gene] for gene in picked]] > 0).sum(axis=1)).ravel()
            alike = shown >= RELATED_MARKERS * np.median(shown[codes == of])
            for other in set(large.tolist()) - {of}:
                if alike[codes == other].mean() >= RELATED:
                    related.add(tuple(sorted((classes[of], classes[other]))))
        return cls(depths, types, [list(pair) for pair in sorted(related)])

    def as_dict(self) -> dict[str, Any]:
        """For config.json."""
        return {
            "depths": self.depths,
            "related": self.related,
            "types": {
                name: [{"gene": m.gene, "inside": m.inside, "outside": m.outside} for m in markers]
                for name, markers in self.types.items()
            },
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "ReferenceMarkers":
        """The opposite of `as_dict`."""
        return cls(
            [float(depth) for depth in stored["depths"]],
            {name: [Marker(**marker) for marker in markers] for name, markers in stored["types"].items()},
            [list(pair) for pair in stored["related"]],
        )
