"""What the Cell Ontology says of a term: label, exact synonyms, and the terms above it.

The table beside this file is cut from its release of 2026-03-26; nothing is looked up over the network.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

TABLE = Path(__file__).with_name("cell_ontology.tsv")
"""Made by tools/assets/make_cell_ontology.py; its first lines tell source, release and licence."""
ROOT = "CL:0000000"
"""The term "cell"."""


@dataclass(frozen=True)
class Term:
    """A term of the Cell Ontology; ``parents`` are the terms directly above it, ``synonyms`` exact ones."""

    label: str
    parents: tuple[str, ...]
    synonyms: tuple[str, ...]


@lru_cache(maxsize=1)
def _table() -> tuple[dict[str, Term], dict[str, str]]:
    """The terms in use, and deprecated ones with the term that replaces each."""
    terms, replaced = {}, {}
    with TABLE.open(encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file if not line.startswith("#")]
    for term, label, parents, synonyms, instead in rows[1:]:
        if instead:
            replaced[term] = instead
        else:
            terms[term] = Term(label, tuple(filter(None, parents.split("|"))), tuple(filter(None, synonyms.split("|"))))
    return terms, replaced


def cell_ontology() -> dict[str, Term]:
    """The terms of the Cell Ontology that are in use, by id."""
    return _table()[0]


def current_term(term: str) -> str | None:
    """The term itself, the one that replaces a deprecated one, or None where the ontology has neither."""
    terms, replaced = _table()
    term = replaced.get(term, term)
    return term if term in terms else None


@cache
def ancestors(term: str) -> frozenset[str]:
    """A term and every term above it by "is a"; empty for a term that the Cell Ontology does not have."""
    known = current_term(term)
    if known is None:
        return frozenset()
    return frozenset({known}.union(*(ancestors(parent) for parent in cell_ontology()[known].parents)))


@lru_cache(maxsize=1)
def _terms_by_name() -> dict[str, str]:
    names: dict[str, set[str]] = {}
    for term, entry in cell_ontology().items():
        for name in (entry.label, *entry.synonyms):
            names.setdefault(name.casefold(), set()).add(term)
    # a label is one term's alone, and goes before another term's synonym
    found = {name: min(terms) for name, terms in names.items() if len(terms) == 1}
    return found | {entry.label.casefold(): term for term, entry in cell_ontology().items()}


def term_of_name(name: str) -> str | None:
    """The term whose label or exact synonym a text is, letter case apart; None where none or several have it."""
    return _terms_by_name().get(name.strip().casefold())


def exact_term(label: str) -> str | None:
    """The term whose name or exact synonym a label is, alone, in the singular or with "cell" after it.

    Terms of one species or tissue in parentheses are not taken for a guess ("alpha cell" is one of the mouse's retina).
    """
    plain = label.replace("_", " ").strip()
    for form in dict.fromkeys((plain, plain.removesuffix("s"), f"{plain} cell")):
        term = term_of_name(form)
        if term is not None and "(" not in cell_ontology()[term].label:
            return term
    return None


def terms_of_types(classes: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """Type to its term in use, of the types that have one: the reference's own, or `exact_term`."""
    found = {name: current_term(given[name]) if name in given else exact_term(name) for name in classes}
    return {name: term for name, term in found.items() if term is not None}


@cache
def term_of_label(label: str) -> str | None:
    """The term that a free label means: its own, or that of its last words, which name something broader.

    Tried are the label and then the label without its first words, each as it is, in the singular, with `+` written
    out, and with "cell" after it: "CD4 T cells" is a T cell, "NK" a natural killer cell. None where nothing fits.
    Names that only a term of one species or of one tissue in parentheses has are not taken for a guess.
    """
    words = label.replace("_", " ").replace("+", "-positive").split()
    for first in range(len(words)):
        name = " ".join(words[first:])
        for form in dict.fromkeys((name, name.removesuffix("s"))):
            term = term_of_name(form)
            if term is not None and term != ROOT:
                return term
            term = term_of_name(f"{form} cell")
            if term is not None and "(" not in cell_ontology()[term].label:
                return term
    return None
