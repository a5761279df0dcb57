"""The labels of a reference: which cells have one, which are left out, and which are one label in two spellings."""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

import numpy as np
import pandas as pd

from spikgpt.base.cell_ontology import cell_ontology, current_term
from spikgpt.base.errors import UserError
from spikgpt.base.guards import check_names

NO_LABEL = frozenset(
    (
        "", "?", "-", "na", "n a", "nan", "none", "null", "<na>", "tbd", "to be determined", "not available",
        "not applicable", "unknown", "unkown", "unk", "unassigned", "not assigned", "unclassified", "not classified",
        "unlabeled", "unlabelled", "no label", "unannotated", "not annotated", "undetermined", "undefined",
        "unresolved", "unidentified", "unspecified", "uncertain", "indeterminate", "ambiguous", "unmapped", "other",
        "others", "rest", "remaining", "misc", "miscellaneous", "mixed", "low quality", "lowquality", "lowq", "lq",
        "poor quality", "bad quality", "debris", "empty", "empty droplet", "empty droplets", "artifact", "artefact",
        "contaminant", "contaminants", "contamination", "contaminated", "junk", "noise", "outlier", "outliers",
        "remove", "removed", "filtered", "filtered out", "discard", "discarded", "exclude", "excluded", "cell", "cells",
        "native", "eukaryotic", "animal",
    )
)  # fmt: skip
"""Labels that say that a cell has none, without case, signs between words, a number or the word `cell` at the end."""
NO_CELL = re.compile(r"\b(doublets?|multiplets?|low quality)\b")
"""Words that make any label one of no type."""
ONTOLOGY_ID = re.compile(r"CL[:_]\d{7}")


@dataclass
class Labels:
    """The labels of the cells that are kept.

    Attributes
    ----------
    kept
        bool, one a cell of the file.
    labels
        Of the kept cells, in their order.
    excluded
        Label ("" for a missing one) to the number of its cells that were left out.
    terms
        The ids of labels that were ids of the Cell Ontology.
    absent
        Labels to exclude that are not there.
    """

    kept: np.ndarray
    labels: list[str]
    excluded: dict[str, int]
    terms: dict[str, str]
    absent: list[str]
    messages: list[str] = field(default_factory=list)


def says_nothing(label: str) -> bool:
    """Whether a label means that the cell has none (`NO_LABEL`, `NO_CELL`)."""
    plain = re.sub(r"[\s_.\-/]+", " ", label.strip().casefold()).strip() or label.strip()
    plain = re.sub(r"\s*#?\d+$", "", plain) or plain
    return plain in NO_LABEL or re.sub(r"\s+cells?$", "", plain) in NO_LABEL or bool(NO_CELL.search(plain))


def spelling(label: str) -> str:
    """What labels have in common that differ in spelling alone: case, signs between words, plural.

    `+`, and `-` after a marker (CD4- T), are part of the name.
    """
    signed = re.sub(r"(?<=[A-Za-z0-9])-(?=[\s,;)]|$)", "−", label.casefold())
    words = [word for word in re.split(r"[\s_-]+", signed) if word]
    return "".join(re.sub(r"(?<=\w\w\w)(?<![su])s$", "", word) for word in words)


def read_labels(
    obs: pd.DataFrame,
    key: str,
    exclude: Sequence[str],
    merge_similar: bool,
    where: str,
    one_of_several: bool = False,
) -> Labels:
    """The labels of a reference.

    Parameters
    ----------
    obs, key
        The table of cells, and its column of labels.
    exclude
        What `--exclude_labels` gives: labels whose cells are left out, beside those that say nothing. Each is a label
        or a comma-separated list, in quotes where a label has a comma.
    merge_similar
        Whether labels that differ in spelling alone are one; the commonest spelling stands for all.
    one_of_several
        Whether the reference has other files: then one label is enough, and a label to exclude may be in another.

    Raises
    ------
    UserError
        A label to exclude is not there, labels are numbers, strange or differ in spelling alone, or fewer than two are
        left.
    """
    place = f"{where}, obs column {key}"
    column = obs[key]
    labels = np.array(column.astype(object).where(column.notna(), "").astype(str).str.strip(), dtype=object)
    messages: list[str] = []
    named = _names_of_terms(labels)
    terms = {name: label.replace("_", ":") for label, name in named.items()}
    if named:
        labels = np.array([named.get(label, label) for label in labels], dtype=object)
        messages.append(f"{len(named)} labels were ids of the Cell Ontology; they are shown by its names.")
    there = Counter(labels.tolist())
    unwanted, absent = _unwanted(exclude, there)
    if absent and not one_of_several:
        raise nothing_to_exclude(absent[0], there, place)
    kept = np.array([not says_nothing(label) and label not in unwanted for label in labels], dtype=bool)
    sizes = Counter(labels[~kept].tolist())
    excluded = {label: sizes[label] for label in sorted(sizes)}
    if excluded:
        told = ", ".join(f"{label or 'no label'} ({number})" for label, number in excluded.items())
        messages.append(
            f"{sum(sizes.values())} of {len(labels)} cells of the reference were left out for their label: {told}."
        )
    chosen = labels[kept].tolist()
    chosen = merge_spellings(chosen, merge_similar, place, messages)
    classes = sorted(set(chosen))
    check_names(classes, "labels", place)
    if classes and all(re.fullmatch(r"[-+]?\d+(\.\d+)?", label) for label in classes):
        raise UserError(
            "The labels of the reference are numbers.",
            where=place,
            found=", ".join(classes[:8]),
            expected="names of cell types; numbers are most often clusters",
            fix="Name another column with --label_key, or give the clusters their cell types' names.",
        )
    if len(classes) < (1 if one_of_several else 2):
        raise UserError(
            "The reference has one cell type only." if classes else "No cell of the reference has a label.",
            where=place,
            found=f"{classes[0]!r} for all {len(chosen)} cells"
            if classes
            else ", ".join(label or "no label" for label in list(excluded)[:8]),
            expected="at least two cell types",
            fix="Name another column with --label_key, or give a reference with more cell types.",
        )
    return Labels(kept, chosen, excluded, {name: terms[name] for name in classes if name in terms}, absent, messages)


def _unwanted(exclude: Sequence[str], there: Counter[str]) -> tuple[set[str], list[str]]:
    """The labels that `--exclude_labels` names, as they stand in the reference, and names that it does not have."""
    by_low: dict[str, list[str]] = {}
    for label in there:
        by_low.setdefault(label.casefold(), []).append(label)
    found: set[str] = set()
    absent: list[str] = []
    for text in exclude:
        # a label with commas in it needs no quotes when it stands alone
        whole = text.strip().casefold() in by_low
        for name in [text] if whole else next(csv.reader([text], skipinitialspace=True), []):
            name = name.strip()
            if not name or says_nothing(name):
                continue
            if name.casefold() not in by_low:
                absent.append(name)
            found.update(by_low.get(name.casefold(), []))
    return found, absent


def nothing_to_exclude(name: str, labels: Iterable[str], place: str) -> UserError:
    """The error on a label to exclude that is not among the labels of the reference."""
    by_low = {label.casefold(): label for label in labels}
    near = get_close_matches(name.casefold(), list(by_low), n=1, cutoff=0.5)
    return UserError(
        f"The reference has no label {name!r} to exclude.",
        where=f"{place}, --exclude_labels",
        found=", ".join(sorted(set(labels))[:20]),
        expected="labels of the reference, separated by commas; in quotes where a label has a comma",
        fix=f"Did you mean {by_low[near[0]]!r}?" if near else "Correct --exclude_labels, or leave it out.",
    )


def merge_spellings(labels: list[str], merge_similar: bool, place: str, messages: list[str]) -> list[str]:
    """Labels with one spelling each, the commonest; an error where spellings differ and may not be merged."""
    sizes = Counter(labels)
    by_spelling: dict[str, list[str]] = {}
    for label in sorted(sizes, key=lambda label: (-sizes[label], label)):
        by_spelling.setdefault(spelling(label), []).append(label)
    similar = [group for group in by_spelling.values() if len(group) > 1]
    if not similar:
        return labels
    told = "; ".join(" and ".join(f"{label!r} ({sizes[label]} cells)" for label in group) for group in similar[:5])
    if not merge_similar:
        raise UserError(
            "Labels of the reference differ in spelling alone.",
            where=place,
            found=told,
            expected="one spelling for each cell type",
            fix="Give --merge_similar_labels to make each of them one type, or rename them.",
        )
    messages.append(f"Labels that differ in spelling alone were merged: {told}.")
    return [by_spelling[spelling(label)][0] for label in labels]


def _names_of_terms(labels: np.ndarray) -> dict[str, str]:
    """Ids of the Cell Ontology among the labels, to the ontology's names; ids that it does not have are left out."""
    terms = {label: current_term(label.replace("_", ":")) for label in set(labels) if ONTOLOGY_ID.fullmatch(label)}
    return {label: cell_ontology()[term].label for label, term in terms.items() if term is not None}
