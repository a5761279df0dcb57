"""What a reference of several files gives to think about: types that the files may have by two names, and coarse labels
that no level of the tree puts above finer ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from spikgpt.annotator.training_set import Reference
from spikgpt.annotator.tree import Tree
from spikgpt.base.arrays import Codes, Floats
from spikgpt.base.cell_ontology import ancestors, terms_of_types
from spikgpt.base.groups import class_means
from spikgpt.base.normalisation import log1p_cp10k

MIN_CELLS = 10
"""A type of a file with fewer cells has no profile."""
ALIKE = 0.25
"""Correlation from which two types that are each other's nearest are taken for one. Of the pairs that `bench/levels.py`
prints, those of one type have 0.34 (platelets of two laboratories) and more, and those of two tissues 0.15 and less."""


@dataclass(frozen=True)
class Pair:
    """Types of two files that are each other's nearest, by code, and the correlation of their profiles."""

    one: int
    other: int
    correlation: float


def reciprocal_pairs(one: Floats, other: Floats, least: float | None = None) -> list[Pair]:
    """Rows of two sets of profiles that are each other's nearest, with their correlation.

    Reciprocal best hits, as MetaNeighbor compares the types of data sets [Crow et al., Nature Communications 9, 2018],
    here by Pearson correlation. Each set's profiles are taken less their mean, and so less what sets the data sets
    apart.

    Parameters
    ----------
    one, other
        Mean log1p CP10k of types ``(types, genes)``, on the same genes; NaN in the rows of types without a profile.
    least
        Smallest correlation of a pair. If None: `ALIKE`, and twice what two types that have nothing in common get where
        all others match. Of k types less their mean that is 1 / k.
    """
    rows = [np.flatnonzero(np.isfinite(profiles).all(axis=1)) for profiles in (one, other)]
    if min(map(len, rows)) < 2:
        return []
    centred = [profiles[r] - profiles[r].mean(axis=0) for profiles, r in zip((one, other), rows, strict=True)]
    if least is None:
        least = max(ALIKE, 2 / min(map(len, rows)))
    # rounded, so that the last bit of a sum does not decide between machines
    alike = np.corrcoef(*centred)[: len(rows[0]), len(rows[0]) :].round(6)
    nearest, back = alike.argmax(axis=1), alike.argmax(axis=0)
    return [
        Pair(int(rows[0][at]), int(rows[1][to]), float(alike[at, to]))
        for at, to in enumerate(nearest)
        if back[to] == at and alike[at, to] >= least
    ]


def profiles_of(counts: sp.csr_matrix, codes: Codes, classes: int) -> Floats:
    """Mean log1p CP10k of each type ``(classes, genes)``, NaN for one of fewer than `MIN_CELLS` cells."""
    means = np.asarray(class_means(log1p_cp10k(counts), codes, classes), dtype=np.float64)
    means[np.bincount(codes, minlength=classes) < MIN_CELLS] = np.nan
    return means


def joined_warnings(reference: Reference, tree: Tree) -> list[str]:
    """Warnings for model card, report and log about a reference that was joined from several files; none for one."""
    if not reference.files:
        return []
    batch = {name: number for number, name in enumerate(reference.batches)}
    rows = {
        name: np.isin(reference.batch_codes, [batch[b] for b in batches if b in batch])
        for name, batches in reference.files.items()
    }
    types = reference.types_of_file
    terms = terms_of_types(reference.classes, reference.ontology)
    return [
        *_without_a_term(reference.classes, types, terms),
        *_without_a_level(reference.classes, types, terms, tree),
        *_two_names(reference, rows, types, terms),
    ]


def _alone(types: dict[str, set[int]]) -> dict[str, set[int]]:
    """File to the types that no other file has."""
    return {
        name: own - set().union(*(others for other, others in types.items() if other != name))
        for name, own in types.items()
    }


def _without_a_term(classes: Sequence[str], types: dict[str, set[int]], terms: dict[str, str]) -> list[str]:
    """Types of one file without a term, where another file has types of its own too, of which one may be the same."""
    alone = _alone(types)
    if sum(bool(own) for own in alone.values()) < 2:
        return []
    told = {
        name: ", ".join(repr(classes[k]) for k in sorted(own) if classes[k] not in terms) for name, own in alone.items()
    }
    listed = "; ".join(f"{text} ({name})" for name, text in told.items() if text)
    if not listed:
        return []
    return [
        f"Types that one file of the reference has and no term of the Cell Ontology connects with those of the others: "
        f"{listed}. They are taken as separate types. Where one of them is a type of another file by another name, its "
        "cells are split between two labels by the file they came from: held-out figures may look good, and cells of a "
        "sample get one label or the other. Give such types one name in all files, or terms in "
        "cell_type_ontology_term_id."
    ]


def _without_a_level(
    classes: Sequence[str], types: dict[str, set[int]], terms: dict[str, str], tree: Tree
) -> list[str]:
    """Labels that are coarser than those of another file, and that no level of the tree puts above them."""
    alone, out = _alone(types), []
    for name, own in alone.items():
        for k in sorted(own & {classes.index(label) for label in terms}):
            below = {
                other
                for another, finer in alone.items()
                if another != name
                for other in finer
                if classes[other] in terms
                and terms[classes[other]] != terms[classes[k]]
                and terms[classes[k]] in ancestors(terms[classes[other]])
            }
            if below and not any(node.own == k and below <= set(node.members) for node in tree.nodes):
                finer_types = ", ".join(repr(classes[other]) for other in sorted(below))
                out.append(
                    f"The label {classes[k]!r} ({name}) is coarser than {finer_types} of another file, but the levels "
                    "of this annotator do not put it above them: it competes with them as a type of its own."
                )
    return out


def _two_names(
    reference: Reference, rows: dict[str, np.ndarray], types: dict[str, set[int]], terms: dict[str, str]
) -> list[str]:
    """Types of two files, unrelated by name and term, whose profiles are each other's nearest."""
    classes, alone, names = reference.classes, _alone(types), list(rows)
    profiles = {
        name: profiles_of(reference.counts[inside], reference.codes[inside], len(classes))
        for name, inside in rows.items()
    }
    found = []
    for at, name in enumerate(names):
        for other in names[at + 1 :]:
            for pair in reciprocal_pairs(profiles[name], profiles[other]):
                if pair.one not in alone[name] or pair.other not in alone[other]:
                    continue
                of_pair = [terms.get(classes[k]) for k in (pair.one, pair.other)]
                known = [term for term in of_pair if term is not None]
                if len(known) == 2 and (known[0] in ancestors(known[1]) or known[1] in ancestors(known[0])):
                    continue
                found.append(
                    f"{classes[pair.one]!r} ({name}) and {classes[pair.other]!r} ({other}; {pair.correlation:.2f})"
                )
    if not found:
        return []
    return [
        "Types of two files that may be one, or one a part of the other, as each is nearest to the other by its mean "
        f"expression (correlation, less each file's mean): {'; '.join(found)}. They are kept apart. If they are one "
        "type, give them one name in both files; --merge_similar_labels joins spellings alone."
    ]
