"""The tree of a reference's types: the levels above a type that a cell may be called by.

Only nodes that tell reference types apart are used: a node has at least two of them below it and leaves at least one
out. Three sources, the first that applies:

1. columns of the reference that the user names (`--label_levels`),
2. the Cell Ontology, where most types have a term: the reference's own, or the one whose name or exact synonym the
   label is,
3. how alike the types' profiles are and how often held-out cells of one are taken for another.

The Cell Ontology is no tree: "naive CD4 T cell" is a CD4 T cell and a naive T cell. Nodes are taken in the order of
how few steps they lie above their types, and a node that cuts across one taken before is left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spikgpt.annotator.probabilities import log_softmax
from spikgpt.base.arrays import Codes, Floats
from spikgpt.base.cell_ontology import ancestors, cell_ontology, exact_term, terms_of_types

COLUMNS, ONTOLOGY, LIKENESS, FLAT = "columns", "ontology", "likeness", "flat"
"""Sources of a tree; `FLAT`: no level above the types."""
LOOKED_FOR = {
    COLUMNS: "the columns that --label_levels names",
    ONTOLOGY: "the Cell Ontology",
    LIKENESS: "the likeness of the types, as too few have a term of the Cell Ontology",
}
NEVER = frozenset(
    {
        "CL:0000000", "CL:0000255",  # cell, eukaryotic cell
        "CL:0000219", "CL:0002242", "CL:0000226", "CL:0000225",  # motile; nucleate, single nucleate, anucleate cell
        "CL:0000842", "CL:0000081",  # mononuclear leukocyte, blood cell
        "CL:0000151", "CL:0000154", "CL:0000167", "CL:1100001",  # secretory, protein, peptide hormone, epithelial
        "CL:0000145", "CL:0000234", "CL:0000518", "CL:0000325",  # antigen presenting; phagocytes; stuff accumulating
        "CL:0011115", "CL:0011026",  # precursor cell, progenitor cell
        "CL:0000211", "CL:0000393", "CL:0000404",  # electrically active, responsive, signaling cell
        "CL:0000183",  # contractile cell
        "CL:0000898", "CL:0000813",  # naive T cell, memory T cell: they cut across CD4 and CD8
        "CL:0000789", "CL:0000791", "CL:0002419",  # (mature) (alpha-beta) T cell: "T cell" holds for gamma-delta too
    }
)  # fmt: skip
"""Terms that are never emitted: they name what a cell does or looks like across lineages, and tell a reader nothing
of what it is. A type of the reference that has such a term keeps it."""
LEAST_WITH_TERM = 0.8
"""Share of the types that must have a term before the ontology makes the tree: below, a node would stand for the few
types that happen to have one."""
ALIKE = 0.5
"""Types are joined below this part of the height at which all are one, in average linkage. At 0.5 blood (two sets) and
pancreas fall into T and NK cells, myeloid, B, endocrine and stellate cells; at 0.7 hardly a level more is added."""
MOST_NAMED = 3
"""Types that the name of a node lists."""


@dataclass(frozen=True)
class Node:
    """A level above types: its name, its term of the Cell Ontology ("" for none), and the codes of its types.

    ``own``: the one of them that has the level's own term, a coarse label beside finer ones ("T cell" beside "naive
    CD4 T cell"); None without.
    """

    name: str
    term: str
    members: tuple[int, ...]
    own: int | None = None


@dataclass(frozen=True)
class Tree:
    """Nodes above the types, small ones first; any two are nested or apart. ``told``: how it was made, in words."""

    source: str
    told: str
    nodes: tuple[Node, ...]

    def path(self, leaf: int, without: int | None = None) -> list[int]:
        """Numbers of the nodes above a type, the nearest first; ``without`` a type, those that then still have two."""
        kept = [set(node.members) - {without} for node in self.nodes]
        above = [at for at, members in enumerate(kept) if leaf in members and len(members) > 1]
        return [at for number, at in enumerate(above) if number == 0 or kept[at] != kept[above[number - 1]]]

    def coarse(self, classes: Sequence[str]) -> dict[str, str]:
        """Every type and level to the coarse one that it belongs to; one that lies above those is itself.

        The user's first column that has it, else the largest level of at most half of the types.
        """
        most = len(classes) if self.source == COLUMNS else len(classes) / 2
        tops = [node for node in self.nodes if len(node.members) <= most]
        found = {name: (name, (k,)) for k, name in enumerate(classes)} | {
            n.name: (n.name, n.members) for n in self.nodes
        }
        for name, (_, members) in found.items():
            above = [node for node in tops if set(members) <= set(node.members)]
            if above:
                found[name] = (max(above, key=lambda node: len(node.members)).name, members)
        return {name: coarse for name, (coarse, _) in found.items()}

    def as_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """As config.json keeps it, types by name."""
        nodes = [
            {
                "name": n.name,
                "term": n.term,
                "types": [classes[k] for k in n.members],
                "own": None if n.own is None else classes[n.own],
            }
            for n in self.nodes
        ]
        return {"source": self.source, "told": self.told, "nodes": nodes}

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any], classes: Sequence[str]) -> "Tree":
        """The opposite of `as_dict`; KeyError for a type that the annotator does not have."""
        code = {name: number for number, name in enumerate(classes)}
        nodes = [
            Node(n["name"], n["term"], tuple(sorted(code[name] for name in n["types"])), code.get(n["own"]))
            for n in kept["nodes"]
        ]
        return cls(kept["source"], kept["told"], tuple(nodes))


def grow_tree(
    classes: Sequence[str],
    ontology: Mapping[str, str],
    levels: Mapping[str, Sequence[str]],
    codes: Codes,
    log_p: Floats,
    profiles: Floats,
) -> Tree:
    """The tree of a reference.

    Parameters
    ----------
    ontology
        Type to the term that the reference gives it.
    levels
        Type to its labels in the columns of `--label_levels`, the coarsest first; empty without.
    codes, log_p
        Types ``(cells,)`` and log-probabilities ``(cells, classes)`` of held-out cells.
    profiles
        Mean profile of each type ``(classes, features)``.
    """
    if len(classes) < 3:
        return Tree(FLAT, f"The reference has {len(classes)} types: there is no level between one of them and all.", ())
    if levels:
        return tree_of_columns(classes, levels)
    terms = terms_of_types(classes, ontology)
    if len(terms) >= LEAST_WITH_TERM * len(classes):
        return tree_of_ontology(classes, terms)
    return tree_of_likeness(classes, codes, log_p, profiles, len(terms))


def tree_of_columns(classes: Sequence[str], levels: Mapping[str, Sequence[str]]) -> Tree:
    """The user's own levels; a label that all types share, or one type has alone, is no node."""
    groups: dict[frozenset[int], str] = {}
    for level in range(max(len(of_type) for of_type in levels.values())):
        for name in sorted({of_type[level] for of_type in levels.values()}):
            members = frozenset(k for k, label in enumerate(classes) if levels[label][level] == name)
            if 1 < len(members) < len(classes):
                groups[members] = name  # a finer column's name for the same types stands
    nodes = [
        Node(f"{name} or below" if name in classes else name, exact_term(name) or "", tuple(sorted(members)))
        for members, name in groups.items()
    ]
    return made(COLUMNS, "The levels are the columns of the reference that --label_levels names.", nodes)


def tree_of_ontology(classes: Sequence[str], terms: Mapping[str, str]) -> Tree:
    """Terms above the types, one for each set of types below, those nearest to their types first."""
    steps = {name: steps_up(term) for name, term in terms.items()}
    below: dict[str, frozenset[int]] = {}
    for above in sorted(set().union(*steps.values())):
        members = frozenset(k for k, name in enumerate(classes) if above in steps.get(name, {}))
        own = [name for name, term in terms.items() if term == above]
        if 1 < len(members) < len(classes) and (above not in NEVER or own):
            below[above] = members

    def distance(term: str) -> float:
        return float(np.mean([steps[classes[k]][term] for k in below[term]]))

    chosen: list[Node] = []
    for term in sorted(below, key=lambda term: (distance(term), len(below[term]), term)):
        members = below[term]
        if all(set(node.members) != members and nested(set(node.members), members) for node in chosen):
            own = [name for name, of_type in terms.items() if of_type == term]
            alone = len(own) == 1
            name = f"{own[0]} or below" if alone else cell_ontology()[term].label
            chosen.append(Node(name, term, tuple(sorted(members)), classes.index(own[0]) if alone else None))
    without = [name for name in classes if name not in terms]
    told = "The levels are terms of the Cell Ontology (release 2026-03-26)."
    if without:
        told += f" Types without a term, which have no level above them: {', '.join(without)}."
    return made(ONTOLOGY, told, chosen)


def steps_up(term: str) -> dict[str, int]:
    """Every term at or above one to the fewest steps of "is a" between them."""
    found, here, steps = {term: 0}, [term], 0
    while here:
        steps += 1
        here = sorted({above for below in here for above in cell_ontology()[below].parents} - found.keys())
        found |= dict.fromkeys(here, steps)
    return {above: number for above, number in found.items() if above in ancestors(term)}


def nested(one: set[int], other: frozenset[int]) -> bool:
    """Whether one set lies in the other, or they share nothing."""
    return one <= other or other <= one or not one & other


def tree_of_likeness(classes: Sequence[str], codes: Codes, log_p: Floats, profiles: Floats, with_term: int) -> Tree:
    """Average linkage of types; two are the nearer the more their profiles correlate and the more they are confused."""
    from scipy.cluster.hierarchy import linkage, to_tree
    from scipy.spatial.distance import squareform

    p, number = np.exp(log_softmax(log_p)), len(classes)
    mistaken = np.stack([p[codes == k].mean(0) if (codes == k).any() else np.eye(number)[k] for k in range(number)])
    alike = np.atleast_2d(np.corrcoef(profiles))
    apart = np.maximum((1.0 - alike) * (1.0 - np.maximum(mistaken, mistaken.T)), 0.0).round(6)
    np.fill_diagonal(apart, 0.0)
    root = to_tree(linkage(squareform(apart, checks=False), "average"))
    found, left = [], [root]
    while left:
        part = left.pop()
        if part.is_leaf():
            continue
        left += [part.get_left(), part.get_right()]
        members = tuple(sorted(part.pre_order()))
        if part is not root and part.dist <= ALIKE * root.dist and len(members) < number:
            found.append(Node(named_by(classes, members), "", members))
    some = f"{with_term} of {number}" if with_term else "none"
    return made(
        LIKENESS,
        f"The levels join types whose profiles are alike and that are mistaken for each other, and are named by their "
        f"types: of the types, {some} have a term of the Cell Ontology.",
        found,
    )


def named_by(classes: Sequence[str], members: Sequence[int]) -> str:
    """ "CD4 T or CD8 T"; of more than `MOST_NAMED` types the first ones, and how many more."""
    names = [classes[k] for k in members]
    if len(names) > MOST_NAMED + 1:
        return f"{', '.join(names[:MOST_NAMED])} or {len(names) - MOST_NAMED} others"
    return f"{', '.join(names[:-1])} or {names[-1]}"


def made(source: str, told: str, nodes: Sequence[Node]) -> Tree:
    """Small nodes first; a tree without any is flat, and says in what a level was looked for."""
    if not nodes:
        return Tree(FLAT, f"No level lies between the types and all of them, looked for in {LOOKED_FOR[source]}.", ())
    return Tree(source, told, tuple(sorted(nodes, key=lambda node: (len(node.members), node.members))))
