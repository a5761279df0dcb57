"""Whether an opinion and a label contradict each other, by the terms above them in the Cell Ontology."""

from spikgpt.base.cell_ontology import ancestors
from spikgpt.profiles.library import Library

NEVER_AGAINST = frozenset({"T cell", "NK or other innate lymphoid cell"})
"""T and NK cells are told apart too badly for one to contradict the other."""


def covering(library: Library, term: str) -> frozenset[str]:
    """The classes that a term belongs to; none for one that no class covers, or that lies above classes."""
    above = ancestors(term)
    return frozenset(name for name in library.classes if above.intersection(library.terms[name]))


def contradicts(library: Library, opinion: str, term: str) -> bool | None:
    """Whether an opinion speaks against a label.

    It does not where the label's term lies in the opinion's class or above it: "epithelial cell" is no word against a
    hepatocyte, nor "hepatocyte" against an epithelial cell. Nor does either of T and NK cell against the other.

    Parameters
    ----------
    opinion
        A class of the library, or two together; not empty.
    term
        Of the Cell Ontology, what the label means.

    Returns
    -------
    None where the label cannot be compared: the library has no class for it, so that a cell of the type would be given
    another class, or none.
    """
    above, own = ancestors(term), covering(library, term)
    for member in library.merged.get(opinion, (opinion,)):
        if above.intersection(library.terms[member]):
            return False
        if any(term in ancestors(part) for part in library.terms[member]):
            return False
        if member in NEVER_AGAINST and own & NEVER_AGAINST:
            return False
    if own or any(term in ancestors(part) for name in library.classes for part in library.terms[name]):
        return True
    return None
