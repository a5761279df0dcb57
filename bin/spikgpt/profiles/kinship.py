"""Whether an opinion and a label contradict each other, by the terms above them in the Cell Ontology."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from spikgpt.base.cell_ontology import ancestors, term_of_label
from spikgpt.profiles.library import Library

CHANCE_AGREEMENT = 0.3
"""A reference whose labels agree with the profiles less than this (Cohen's kappa) is pointed out: 0 is chance, 1 full
agreement. Labelled sets have .84 to .99, and with a fifth of their labels shuffled .66 to .78; a set whose labels do
not match its cells has .02."""
MIN_COMPARED = 50
"""Cells that a reference must have for that."""
WRONG_SHARE = 0.05
"""A reference is pointed out too where the opinions contradict more of its labels: on the same sets, as their authors
labelled them, they contradict up to .025."""

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


def terms_of_labels(labels: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """The term that each label means, for those that mean one: the term that the reference gives it, else that of its
    name."""
    terms = {label: given.get(label) or term_of_label(label) for label in sorted(set(labels))}
    return {label: term for label, term in terms.items() if term is not None}


def cohens_kappa(library: Library, likeliest: Sequence[str], terms: Sequence[str]) -> tuple[float | None, int]:
    """How far labels and opinions agree beyond chance, and the number of cells that could be compared.

    Parameters
    ----------
    likeliest
        The likeliest class of each cell, whether or not it is an opinion.
    terms
        What the label of each cell means, "" for nothing.

    Returns
    -------
    (observed - expected) / (1 - expected): shares of cells whose class does not contradict the label, as they are and
    as they would be if classes and labels were dealt anew; None where no cell can be compared or chance explains all.
    (Cohen, Educational and Psychological Measurement 20:37, 1960.)
    """
    against = cache(lambda name, term: contradicts(library, name, term))
    pairs = [(n, t) for n, t in zip(likeliest, terms, strict=True) if t and against(n, t) is not None]
    if not pairs:
        return None, 0
    cells = len(pairs)
    observed = sum(not against(name, term) for name, term in pairs) / cells
    of_classes, of_terms = Counter(name for name, _ in pairs), Counter(term for _, term in pairs)
    expected = sum(
        number * times * (against(name, term) is False)
        for name, number in of_classes.items()
        for term, times in of_terms.items()
    ) / (cells * cells)
    return (None if expected >= 1 else (observed - expected) / (1 - expected)), cells


def check_labels(
    library: Library, opinions: Sequence[str], likeliest: Sequence[str], labels: Sequence[str], given: Mapping[str, str]
) -> dict[str, Any]:
    """What the profiles say of a reference's labels.

    Parameters
    ----------
    opinions, likeliest
        Of each cell: the opinion ("" for none), and the likeliest class.
    labels
        Of each cell.
    given
        Label to the Cell Ontology term that the reference gives it.

    Returns
    -------
    compared, kappa (see `cohens_kappa`), with_opinion, contradicted (cells, of those compared), labels_without_term,
    and messages for whoever uses the reference.
    """
    terms = terms_of_labels(labels, given)
    kappa, compared = cohens_kappa(library, likeliest, [terms.get(label, "") for label in labels])
    said = Counter((label, name) for label, name in zip(labels, opinions, strict=True) if name and label in terms)
    against = {pair: contradicts(library, pair[1], terms[pair[0]]) for pair in said}
    with_opinion = sum(number for pair, number in said.items() if against[pair] is not None)
    contradicted = sum(number for pair, number in said.items() if against[pair])
    messages = []
    if kappa is not None and compared >= MIN_COMPARED and kappa < CHANCE_AGREEMENT:
        messages.append(
            f"The labels of this reference hardly agree with the tissue profiles (kappa {kappa:.2f}; 0 is chance, 1 "
            "full agreement): they may belong to other cells, or the profiles may lack this tissue. Check them first."
        )
    elif with_opinion >= MIN_COMPARED and contradicted > WRONG_SHARE * with_opinion:
        worst = max((pair for pair in said if against[pair]), key=lambda pair: (said[pair], pair))
        messages.append(
            f"The tissue profiles contradict the labels of {contradicted} of {with_opinion} reference cells "
            f"({100 * contradicted / with_opinion:.0f} %), most often {worst[0]} that looks like {worst[1]}: "
            "some labels may be wrong."
        )
    return {
        "compared": compared,
        "kappa": None if kappa is None else round(kappa, 4),
        "with_opinion": with_opinion,
        "contradicted": contradicted,
        "labels_without_term": sorted(set(labels) - terms.keys()),
        "messages": messages,
    }
