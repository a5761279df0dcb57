"""Which of the matrices in a file holds its raw counts: the complete one, where several hold some."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from spikgpt.base.errors import UserError
from spikgpt.read_input.raw_counts import fault, not_raw, restore_log1p, same_depth
from spikgpt.read_input.sources import Source, added

RAW_LAYERS = (
    "counts", "raw_counts", "counts_raw", "rawcounts", "raw", "umi", "umis", "umi_counts", "count", "spliced_unspliced",
    "matrix", "total",
)  # fmt: skip
"""Names of layers that hold raw counts by custom, the better one first; in any case."""
PART_FAMILIES = (
    ("spliced", "unspliced", "ambiguous"),
    ("mature", "nascent", "ambiguous"),
    ("exon", "intron", "spanning"),
    ("exonic", "intronic", "spanning"),
)
"""Layers that hold parts of the counts: of velocyto, alevin-fry, kb-python; of kb-python's nac; of dropEst, zUMIs."""
FIRST_CELLS = 500
"""Places are compared by so many cells."""
MORE_COUNTS = 1.005
"""A place has more counts than another by at least this factor: rounding of restored values makes no difference."""


# --- AnnData on disk: h5ad and zarr -------------------------------------------------------------------
MAIN = ("X", "raw.X", "matrix")
LAYER = "layers: "
"""Begins the names of layers."""


@dataclass
class Place:
    """A matrix that holds raw counts, or several whose sum does.

    `totals` and `genes` are those of the first cells: counts, and genes with a count.
    """

    parts: list[str]
    source: Source
    restored: bool
    totals: np.ndarray
    genes: np.ndarray

    @property
    def name(self) -> str:
        return " + ".join(self.parts)

    @property
    def usual(self) -> bool:
        """Whether counts are kept there by custom."""
        return self.parts[0] in MAIN or self.parts[0].removeprefix(LAYER).lower() in RAW_LAYERS

    @property
    def same_depth(self) -> bool:
        return same_depth(self.totals, self.genes)


def _look(parts: list[str], source: Source) -> Place | None:
    """A place by its first cells; None where they are neither counts nor log1p of counts."""
    seen: list[sparse.csr_matrix] = []
    for block in source.blocks():
        seen.append(block[: FIRST_CELLS - sum(part.shape[0] for part in seen)])
        if sum(part.shape[0] for part in seen) >= FIRST_CELLS:
            break
    first = sparse.csr_matrix(sparse.vstack(seen, format="csr"))
    restored = fault(first.data) is not None
    if restored:
        counts = restore_log1p(first)
        if counts is None:
            return None
        first = counts
    first.eliminate_zeros()
    totals = np.asarray(first.sum(axis=1, dtype=np.float64)).ravel()
    return Place(parts, source, restored, totals, np.diff(first.indptr))


def choose(sources: Mapping[str, Source], faults: Mapping[str, str | None], where: str, messages: list[str]) -> Place:
    """The place of the raw counts.

    In the order of `sources`, but the sum of layers that hold parts of the counts, and a raw.X of more genes, where
    these have more counts; and a usual place of counts before one in which every cell has the same depth. A layer
    that holds a part of the counts is never taken alone.

    Parameters
    ----------
    sources
        By name, the better place first: `MAIN`, and layers as ``layers: counts``.
    faults
        What keeps the values of each from being counts, by a first look (`spikgpt.read_input.raw_counts.fault`).
    messages
        What was chosen is added.

    Raises
    ------
    UserError
        No place has raw counts, or layers without a usual name differ.
    """
    layers = {name.removeprefix(LAYER).lower(): name for name in sources if name.startswith(LAYER)}
    families = [[layers[name] for name in family if name in layers] for family in PART_FAMILIES]
    parts = {name for family in families for name in family}
    found: list[Place] = []
    for name, why in faults.items():
        # only fractions can be log1p of counts: negative values or NaN cannot, and need no loading
        if name not in parts and (why is None or why.startswith("fractions")):
            looked = _look([name], sources[name])
            found += [] if looked is None or not looked.totals.any() else [looked]
    for family in families:
        if len(family) > 1 and all(faults[name] is None for name in family):
            summed = _look(family, added([sources[name] for name in family]))
            found += [] if summed is None else [summed]
    if not found:
        empty = next((name for name, why in faults.items() if why is None and name not in parts), None)
        if empty is not None:
            # nothing but zeros, at least at first: what the whole holds is told when it is read
            return Place([empty], sources[empty], False, np.zeros(0), np.zeros(0))
        seen = [f"{name} has {why or 'a part of the counts'}" for name, why in faults.items()]
        raise not_raw(seen[0], where, seen[1:])
    # whole numbers before what must be restored
    found.sort(key=lambda place: (place.restored, len(place.parts) > 1))
    chosen, reason = found[0], "they are parts of the counts and were added up" if len(found[0].parts) > 1 else ""
    unusual = [place for place in found if not place.usual and len(place.parts) == 1 and not place.restored]
    if chosen in unusual and any(not np.array_equal(place.totals, chosen.totals) for place in unusual):
        raise UserError(
            "Several layers hold whole numbers, and which are the raw counts cannot be told.",
            where=where,
            found=", ".join(f"{place.name}: {place.totals.sum():,.0f} counts" for place in unusual)
            + f" in the first {len(chosen.totals)} cells",
            expected="raw counts in X, raw.X, layers['counts'], or the layer named in counts_layer",
            fix="Name the layer in the samplesheet's counts_layer.",
        )
    for place in found:
        more = place.totals.sum() > MORE_COUNTS * chosen.totals.sum()
        if more and len(place.parts) > 1:
            chosen, reason = place, "they are parts of the counts and were added up"
        elif more and place.source.shape[1] > chosen.source.shape[1]:
            reason = f"it has {place.source.shape[1]} genes, {chosen.name} {chosen.source.shape[1]}"
            chosen = place
        elif more and len(chosen.parts) > 1:
            chosen, reason = place, f"it has more counts than {chosen.name}"
        elif place.usual and not place.restored and chosen.same_depth and not place.same_depth:
            reason = f"the cells of {chosen.name} have nearly the same depth, as corrected counts have"
            chosen = place
    first = next(iter(faults))
    if chosen.parts != [first]:
        begin = f"{first} holds {faults[first]}; the" if faults[first] else "The"
        messages.append(f"{begin} raw counts of {chosen.name} are used{': ' + reason if reason else ''}.")
    others = [
        f"{place.name} ({place.totals.sum():,.0f})"
        for place in found
        if place is not chosen and not place.restored and not np.array_equal(place.totals, chosen.totals)
    ]
    if others:
        messages.append(
            f"Other places hold whole numbers, too: {', '.join(others)}, where {chosen.name} has "
            f"{chosen.totals.sum():,.0f} counts in the first {len(chosen.totals)} cells. Name one in the samplesheet's "
            "counts_layer to use it."
        )
    return chosen
