"""Genes that one lineage of blood shows and another does not, and types whose cells show those of a wrong one.

A label is often a cluster's name, and a cluster of one lineage may hold cells of another: the naive CD4 T cells of the
common tutorial on 10x's 3k PBMC hold naive CD8 T cells. A single cell shows few of its genes, so a type is judged by
the share of its cells that show any gene of a lineage, between what cells show that are certainly of that lineage and
what cells show that are certainly not (ambient RNA, doublets).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from spikgpt.base.arrays import Floats
from spikgpt.base.cell_ontology import ancestors, term_of_label


@dataclass(frozen=True)
class Lineage:
    """``genes`` that its cells show and those of the lineages ``against`` do not; ``term`` of the Cell Ontology."""

    name: str
    term: str
    genes: tuple[str, ...]
    against: tuple[str, ...]
    words: tuple[str, ...]


_T = ("CD4 T", "CD8 T", "T")
LINEAGES = (
    # NK cells show CD8A and CD3E, monocytes and dendritic cells CD4, pDC some of CD79A: no gene is used against those
    Lineage("CD4 T", "CL:0000624", ("CD4",), ("CD8 T", "B", "NK"), ()),
    Lineage("CD8 T", "CL:0000625", ("CD8A", "CD8B"), ("CD4 T", "B", "monocyte"), ()),
    Lineage("B", "CL:0000236", ("CD19", "CD79A", "MS4A1"), (*_T, "NK", "monocyte"), ("b",)),
    Lineage("NK", "CL:0000623", ("KLRF1", "NCR1"), ("CD4 T", "B", "monocyte"), ("nk",)),
    Lineage("monocyte", "CL:0000576", ("CD14", "CSF1R", "FCN1"), (*_T, "B", "NK"), ("mono", "monocyte", "monocytes")),
    Lineage("pDC", "CL:0000784", ("CLEC4C", "LILRA4"), (*_T, "B", "NK", "monocyte"), ("pdc", "pdcs")),
    Lineage("platelet", "CL:0000233", ("PF4", "PPBP"), (*_T, "B", "NK"), ("platelet", "platelets", "plt")),
    # last: CD4 and CD8 T cells are T cells too
    Lineage("T", "CL:0000084", ("CD3D", "CD3E"), ("B", "monocyte"), ("t",)),
)
"""Lineages of human blood. The genes are those by which flow cytometry and its RNA counterparts gate them (Maecker,
McCoy and Nussenblatt, Nature Reviews Immunology 12, 2012; Hao et al., Cell 184, 2021)."""
NUMBER_OF = {lineage.name: number for number, lineage in enumerate(LINEAGES)}

WRONG_SHARE = 0.1
"""Estimated share of a type's cells that are of another lineage from which it is pointed out ..."""
WRONG_CELLS = 10
"""... and how many cells these must be."""
TELLS = 0.2
"""A lineage's genes are used only where they are seen in so many more of its own cells than of others: at v1 depth CD4
is seen in one CD4 T cell in ten, and says nothing."""


def lineage_of(label: str, term: str | None = None) -> str | None:
    """The lineage that a label says, by its term of the Cell Ontology, by its name, or by words such as `CD8 T`, `NK`.

    None where it says none, or several, or that of a cell type without an entry in `LINEAGES`.
    """
    above = ancestors(term or term_of_label(label) or "")
    by_term = [lineage.name for lineage in LINEAGES if lineage.term in above]
    name = by_term[0] if by_term else None
    if len({"CD4 T", "CD8 T"} & set(by_term)) == 2:
        return "T"
    words = re.findall(r"[a-z0-9]+", label.lower())
    if name is None and not above:
        # a single letter names a lineage only where it stands first: "B activated"
        said = {word for at, word in enumerate(words) if len(word) > 1 or at == 0}
        named = [lineage.name for lineage in LINEAGES if said & set(lineage.words)]
        name = named[0] if len(named) == 1 else None
        if not named and not said & {"dc", "cdc", "cdc1", "cdc2", "dendritic", "macrophage", "macrophages"}:
            name = _coreceptor(label)
    return (_coreceptor(label) or name) if name == "T" else name


def _coreceptor(label: str) -> str | None:
    """`CD4 T` or `CD8 T` where a label names one of the two receptors as present."""
    found = re.findall(
        r"(?<![a-z0-9])cd([48])[ab]?(?![0-9a-z])(?![ -]?neg|-(?:[ ,/]|cd|$))", label.lower().replace("_", " ")
    )
    return f"CD{found[0]} T" if len(set(found)) == 1 else None


def lineage_columns(genes: Sequence[str]) -> list[list[int]]:
    """Columns of each lineage's genes among ``genes``; empty for a lineage none of whose genes was measured."""
    place = {gene: at for at, gene in enumerate(genes)}
    return [[place[gene] for gene in lineage.genes if gene in place] for lineage in LINEAGES]


def lineage_seen(counts: sp.csr_matrix, columns: list[list[int]]) -> np.ndarray:
    """Which cells show at least one gene of each lineage, bool ``(cells, lineages)``."""
    seen = [np.asarray((counts[:, own] > 0).sum(axis=1)).ravel() > 0 for own in columns]
    return np.stack(seen, axis=1)


@dataclass(frozen=True)
class WrongLineage:
    """A group some of whose cells seem to be of another lineage than its label says.

    ``share`` of its cells show one of the lineage's ``genes``; of the ``lineage``'s own cells ``own`` do (1 where there
    are none to tell), elsewhere ``elsewhere``; so about ``estimate`` of the group are of that lineage.
    """

    group: str
    lineage: str
    genes: tuple[str, ...]
    share: float
    own: float
    elsewhere: float
    estimate: float

    def sentence(self) -> str:
        own = "" if self.own == 1 else f", {100 * self.own:.0f} % of those called so"
        return (
            f"{100 * self.share:.0f} % show {'/'.join(self.genes)} ({100 * self.elsewhere:.0f} % of cells of other "
            f"lineages{own}): about {100 * self.estimate:.0f} % may be {self.lineage} cells"
        )


def wrong_lineages(lineages: Mapping[str, str | None], cells: Sequence[int], shares: Floats) -> list[WrongLineage]:
    """Groups whose cells show genes that their label excludes.

    With ``s`` the share of a group's cells that show a lineage's genes, ``o`` that of the cells that are called this
    lineage and ``e`` the median over the other groups that should not show them, a group of which ``w`` belong to the
    lineage shows ``s = w o + (1 - w) e``; so ``w = (s - e) / (o - e)``.

    Parameters
    ----------
    lineages
        Group to the lineage that its label says, in the order of the rows of ``shares``.
    cells
        Cells of each group.
    shares
        Share of each group's cells that show one of each lineage's genes ``(groups, lineages)``, NaN where none of them
        was measured.

    Returns
    -------
    Those with ``w`` at least `WRONG_SHARE` and at least `WRONG_CELLS` such cells, in the order of groups and lineages.
    """
    names, size = list(lineages), np.asarray(cells)
    found = []
    for number, lineage in enumerate(LINEAGES):
        measured = [at for at in range(len(names)) if size[at] and np.isfinite(shares[at, number])]
        within = _T if lineage.name == "T" else (lineage.name,)
        own = [at for at in measured if lineages[names[at]] in within]
        excluded = [at for at in measured if lineages[names[at]] in lineage.against]
        inside = float(np.average(shares[own, number], weights=size[own])) if own else 1.0
        for at in excluded:
            # types without a lineage are asked where no other type tells what ambient RNA amounts to
            others = [other for other in excluded if other != at] or [
                other for other in measured if lineages[names[other]] is None
            ]
            elsewhere = float(np.median(shares[others, number])) if others else 1.0
            if inside - elsewhere < TELLS:
                continue
            estimate = min(float((shares[at, number] - elsewhere) / (inside - elsewhere)), 1.0)
            if estimate >= WRONG_SHARE and estimate * size[at] >= WRONG_CELLS:
                said = (names[at], lineage.name, lineage.genes, float(shares[at, number]), inside, elsewhere, estimate)
                found.append((at, number, WrongLineage(*said)))
    return [entry for *_, entry in sorted(found, key=lambda row: row[:2])]
