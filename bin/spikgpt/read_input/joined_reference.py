"""Several files of labelled cells as one reference.

The genes are those that every file measured: a gene that a file did not measure is no zero. Every file is a batch of
its own at least. A label stands for one type in all files; labels of different files that name one type, by their text
but for case and blanks or by their term of the Cell Ontology, are taken as one. Labels of two files may lie on
different levels ("T cell" in one, "CD8-positive, alpha-beta T cell" in the other): both stay, and the tree of types
(`spikgpt.annotator.tree`) has the one above the other.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from spikgpt.base.cell_ontology import ancestors, cell_ontology, current_term, terms_of_types
from spikgpt.base.errors import UserError
from spikgpt.base.guards import check_names
from spikgpt.base.names import CELL_SEPARATOR
from spikgpt.base.species import SPECIES
from spikgpt.read_input.labels import merge_spellings, nothing_to_exclude
from spikgpt.read_input.reference_file import ReferenceFile

ENDINGS = (".gz", ".h5ad", ".loom", ".zarr")
NUCLEOTIDES = re.compile(r"[ACGT]{10,}")
"""A barcode within a cell's name."""


@dataclass(frozen=True)
class Shared:
    """Genes that all files have, in the order of the first; ``left_out``: file to the number of its other genes and
    their share of its counts."""

    symbols: list[str]
    ids: list[str]
    orthologs: list[str]
    left_out: dict[str, dict[str, float]]


def name_of(path: str | Path) -> str:
    """The name that a file gives its cells and batches: its own, without the endings of its format."""
    name = Path(path).name
    for ending in ENDINGS:
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
    return name


def by_name(paths: Sequence[str | Path]) -> list[str | Path]:
    """Files in the order of their names, whatever order they were given in; UserError where two have one name."""
    ordered = sorted(paths, key=name_of)
    names = [name_of(path) for path in ordered]
    twice = sorted(name for name, number in Counter(names).items() if number > 1)
    if twice:
        raise UserError(
            "Two files of the reference have one name.",
            where="--reference",
            found=", ".join(Path(path).name for path in ordered if name_of(path) in twice),
            expected="files that differ in name, endings apart: their cells and batches are named by it",
            fix="Rename one of them, or give the file once.",
        )
    if len(names) > 1:
        check_names(names, "files", "--reference")
    return ordered


def join(
    files: Sequence[ReferenceFile], label_key: str, min_gene_match: float, merge_similar_labels: bool
) -> tuple[ReferenceFile, dict[str, dict[str, Any]]]:
    """Files, in the order of their names, as one.

    Returns
    -------
    joined
        Cells of all files, one below the other, on the genes that all have, in the order of the first; cells
        ``barcode:file``, batches ``file`` or ``file:batch``. A cell that two files have is that of the first.
    parts
        File to what it brought: cells, genes, genes and share of the counts that were left out, types, batches.

    Raises
    ------
    UserError
        Files of several species; too few genes in common; a label to exclude that none has; labels that differ in
        spelling alone, where they may not be merged; one type in all.
    """
    names = [name_of(file.where) for file in files]
    where = f"{', '.join(file.where for file in files[:-1])} and {files[-1].where}"
    place = f"{where}, obs column {label_key}"
    _check_species(files, where)
    _check_excluded(files, place)
    genes = _shared_genes(files, names, where, min_gene_match)
    counts = [_on_genes(file, genes) for file in files]
    messages = [f"{name}: {text}" for name, file in zip(names, files, strict=True) for text in file.messages]
    kept = _first_of_copies(counts, [file.barcodes for file in files], names, messages)
    counts = [matrix[rows] for matrix, rows in zip(counts, kept, strict=True)]
    labels_of = [_taken(file.labels, rows) for file, rows in zip(files, kept, strict=True)]

    told: list[str] = []
    renamed, terms = one_type_each(labels_of, [file.terms for file in files], names, told)
    labels = [new[label] for of_file, new in zip(labels_of, renamed, strict=True) for label in of_file]
    spelt = merge_spellings(labels, merge_similar_labels, place, told)
    again = dict(zip(labels, spelt, strict=True))
    terms = _terms_after({label: term for label, term in terms.items() if label in again}, again, told)
    labels = spelt
    classes = sorted(set(labels))
    if len(classes) < 2:
        raise UserError(
            "The reference has one cell type only.",
            where=place,
            found=f"{classes[0]!r} for all {len(labels)} cells",
            expected="at least two cell types",
            fix="Name another column with --label_key, or give a reference with more cell types.",
        )
    batches = [
        _taken([name] * len(rows) if file.batches is None else [f"{name}:{batch}" for batch in file.batches], rows)
        for name, file, rows in zip(names, files, kept, strict=True)
    ]
    starts = np.cumsum([0, *(len(of_file) for of_file in labels_of)])
    parts = {
        name: {
            "cells": len(batches[at]),
            "genes": len(files[at].symbols),
            **genes.left_out[name],
            "types": _sizes(labels[starts[at] : starts[at + 1]]),
            "batches": _sizes(batches[at]),
            **files[at].stats,
        }
        for at, name in enumerate(names)
    }
    messages = [*_what_was_joined(parts, genes), *told, *_relations(parts, terms), *messages]
    joined = replace(
        files[0],
        where=where,
        counts=sparse.csr_matrix(sparse.vstack(counts, format="csr")),
        barcodes=np.concatenate(
            [
                np.array([f"{barcode}{CELL_SEPARATOR}{name}" for barcode in file.barcodes[rows]], dtype=object)
                for name, file, rows in zip(names, files, kept, strict=True)
            ]
        ),
        symbols=genes.symbols,
        gene_ids=genes.ids,
        orthologs=None if files[0].orthologs is None else genes.orthologs,
        labels=labels,
        terms=terms,
        excluded=dict(sorted(sum((Counter(file.excluded) for file in files), Counter()).items())),
        batches=[batch for of_file in batches for batch in of_file],
        levels=_levels(files, kept),
        messages=messages,
        stats={
            "species": files[0].species,
            "barcodes": sum(file.stats["barcodes"] for file in files),
            "genes": len(genes.symbols),
        },
    )
    return joined, parts


def _taken(values: Sequence[str], rows: np.ndarray) -> list[str]:
    """The values ``(cells,)`` at some rows, bool ``(cells,)``."""
    return [value for value, row in zip(values, rows, strict=True) if row]


def _sizes(values: Sequence[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _levels(files: Sequence[ReferenceFile], kept: Sequence[np.ndarray]) -> list[pd.Series]:
    """Each column of --label_levels, of the cells of all files."""
    columns = zip(*(file.levels for file in files), strict=True)
    return [
        pd.concat([part[rows] for part, rows in zip(parts, kept, strict=True)], ignore_index=True).astype(object)
        for parts in columns
    ]


def _check_species(files: Sequence[ReferenceFile], where: str) -> None:
    if len({file.species for file in files}) > 1:
        raise UserError(
            "The files of the reference are of several species.",
            where=where,
            found=", ".join(f"{file.where}: {SPECIES[file.species].spoken}" for file in files),
            expected="labelled cells of one species",
            fix="Leave out the files of other species.",
        )


def _check_excluded(files: Sequence[ReferenceFile], place: str) -> None:
    nowhere = set.intersection(*(set(file.absent) for file in files))
    if nowhere:
        there = sorted({label for file in files for label in (*file.labels, *filter(None, file.excluded))})
        raise nothing_to_exclude(min(nowhere), there, place)


def _shared_genes(files: Sequence[ReferenceFile], names: Sequence[str], where: str, least: float) -> Shared:
    """The genes that all files have; UserError where they carry less than a share ``least`` of a file's counts."""
    have = set.intersection(*(set(file.symbols) for file in files))
    left_out, shares = {}, []
    for name, file in zip(names, files, strict=True):
        inside = np.array([symbol in have for symbol in file.symbols], dtype=bool)
        totals = np.asarray(file.counts.sum(axis=0, dtype=np.int64)).ravel()
        share = float(totals[inside].sum()) / max(float(totals.sum()), 1.0)
        shares.append(share)
        left_out[name] = {"genes_not_shared": int((~inside).sum()), "counts_not_shared": round(1.0 - share, 6)}
    if min(shares) < least:
        raise UserError(
            "The files of the reference have too few genes in common.",
            where=where,
            found=f"{len(have)} genes in all of them, with "
            + ", ".join(
                f"{share:.1%} of the counts of {file.where}" for share, file in zip(shares, files, strict=True)
            ),
            expected=f"genes with at least {least:.0%} of the counts of each file (--min_gene_match)",
            fix="Give files that measured the same genes, or one of them alone.",
        )
    first = files[0]
    ids = [dict(zip(file.symbols, file.gene_ids, strict=True)) for file in files]
    at = [number for number, symbol in enumerate(first.symbols) if symbol in have]
    symbols = [first.symbols[number] for number in at]
    return Shared(
        symbols,
        [next((of_file[symbol] for of_file in ids if of_file[symbol]), "") for symbol in symbols],
        [] if first.orthologs is None else [first.orthologs[number] for number in at],
        left_out,
    )


def _on_genes(file: ReferenceFile, genes: Shared) -> sparse.csr_matrix:
    """A file's counts ``(cells, shared genes)``."""
    place = {symbol: number for number, symbol in enumerate(file.symbols)}
    counts = sparse.csr_matrix(file.counts[:, [place[symbol] for symbol in genes.symbols]])
    counts.sort_indices()
    return counts


def _first_of_copies(
    counts: Sequence[sparse.csr_matrix], barcodes: Sequence[np.ndarray], names: Sequence[str], messages: list[str]
) -> list[np.ndarray]:
    """Rows of each file that are taken, bool ``(cells,)``: a cell that an earlier file has is not, nor one without a
    count on the shared genes.

    A cell is another's copy where all counts on the shared genes are the same, and the nucleotides in the two names.
    """
    seen: dict[bytes, str] = {}
    out = []
    for matrix, cells, name in zip(counts, barcodes, names, strict=True):
        own, rows = {}, np.diff(matrix.indptr) > 0
        empty = int((~rows).sum())
        copies: Counter[str] = Counter()
        for row in np.flatnonzero(rows):
            inside = slice(matrix.indptr[row], matrix.indptr[row + 1])
            nucleotides = "".join(NUCLEOTIDES.findall(str(cells[row])))
            told = matrix.indices[inside].astype(np.int64).tobytes() + matrix.data[inside].astype(np.int64).tobytes()
            key = hashlib.sha256(told + nucleotides.encode()).digest()
            if key in seen:
                rows[row] = False
                copies[seen[key]] += 1
            else:
                own[key] = name
        seen |= own
        if empty:
            messages.append(f"{empty} cells of {name} have no count on the shared genes and were left out.")
        messages += [
            f"{number} cells of {name} are in {earlier} too, with the same counts: they were taken once, with the "
            f"label of {earlier}."
            for earlier, number in sorted(copies.items())
        ]
        if not rows.any():
            raise UserError(
                "A file of the reference has no cell of its own.",
                where=f"--reference, {name}",
                found=f"{sum(copies.values())} cells that are in {' and '.join(sorted(copies)) or 'no other file'}",
                expected="cells that no other file has",
                fix="Leave this file out.",
            )
        out.append(rows)
    return out


def one_type_each(
    labels: Sequence[Sequence[str]], terms: Sequence[Mapping[str, str]], names: Sequence[str], told: list[str]
) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Labels of several files, with one name for each type.

    Two labels are one where they differ by case and blanks alone, and where they have one term of the Cell Ontology,
    the file's own or the one whose name or exact synonym the label is. Labels of one file are never joined by a term:
    where that would happen, all with the term stay apart. The commonest name stands, of equally common ones the first
    in the alphabet.

    Parameters
    ----------
    labels
        Of each file, one a cell.
    terms
        Of each file, label to the term that the file gives it.

    Returns
    -------
    renamed
        Of each file, label to its name.
    terms
        Name to the term that the files give it, where it is one.
    """
    sizes = [Counter(of_file) for of_file in labels]
    by_text: dict[str, list[tuple[int, str]]] = {}
    for at, of_file in enumerate(sizes):
        for label in sorted(of_file):
            by_text.setdefault(" ".join(label.casefold().split()), []).append((at, label))
    groups: list[list[tuple[int, str]]] = []
    by_term: dict[str, list[list[tuple[int, str]]]] = {}
    for group in by_text.values():
        given = {current_term(terms[at][label]) or terms[at][label] for at, label in group if label in terms[at]}
        own = given or {term for _, label in group for term in terms_of_types([label], {}).values()}
        if len(own) == 1:
            by_term.setdefault(own.pop(), []).append(group)
        else:
            groups.append(group)
    for term, alike in sorted(by_term.items()):
        whole = [entry for group in alike for entry in group]
        if len({at for at, _ in whole}) == len(whole):
            groups.append(whole)
            continue
        groups += alike
        if len({at for at, _ in whole}) > 1:
            told.append(
                f"Labels with the term {term} were kept apart, as one file has several: {_listed(whole, names)}."
            )
    renamed: list[dict[str, str]] = [{} for _ in names]
    found: dict[str, set[str]] = {}
    as_one = []
    for group in groups:
        cells: Counter[str] = Counter()
        for at, label in group:
            cells[label] += sizes[at][label]
        name = min(cells, key=lambda label: (-cells[label], label))
        for at, label in group:
            renamed[at][label] = name
            if label in terms[at]:
                found.setdefault(name, set()).add(current_term(terms[at][label]) or terms[at][label])
        if len(cells) > 1:
            as_one.append(f"{_listed(group, names)} as {name!r}")
    if as_one:
        told.insert(0, f"Labels of different files were taken as one type: {'; '.join(sorted(as_one))}.")
    return renamed, _one_term(found, told)


def _listed(entries: Sequence[tuple[int, str]], names: Sequence[str]) -> str:
    """ "'B' (file), 'B cell' (other)" """
    return ", ".join(f"{label!r} ({names[at]})" for at, label in sorted(entries))


def _one_term(found: Mapping[str, set[str]], told: list[str]) -> dict[str, str]:
    """Label to its one term; those with several get none, which is told."""
    several = {label: terms for label, terms in sorted(found.items()) if len(terms) > 1}
    if several:
        listed = "; ".join(f"{label} ({', '.join(sorted(terms))})" for label, terms in several.items())
        told.append(f"Labels to which the files give different terms, left without one: {listed}.")
    return {label: min(terms) for label, terms in sorted(found.items()) if len(terms) == 1}


def _terms_after(terms: Mapping[str, str], again: Mapping[str, str], told: list[str]) -> dict[str, str]:
    """Terms of labels that were merged by their spelling."""
    found: dict[str, set[str]] = {}
    for label, term in terms.items():
        found.setdefault(again[label], set()).add(term)
    return _one_term(found, told)


def _what_was_joined(parts: Mapping[str, Mapping[str, Any]], genes: Shared) -> list[str]:
    """Sentences on cells, types, batches and genes of each file."""
    told = "; ".join(
        f"{name} ({part['cells']} cells, {part['genes']} genes, {len(part['types'])} types, "
        f"{len(part['batches'])} batch{'' if len(part['batches']) == 1 else 'es'})"
        for name, part in parts.items()
    )
    lost = ", ".join(
        f"{part['genes_not_shared']} of {name} ({part['counts_not_shared']:.1%} of its counts)"
        for name, part in parts.items()
    )
    return [
        f"The reference was joined from {len(parts)} files: {told}.",
        f"{len(genes.symbols)} genes are measured in all of them and are used; left out for want of them in another "
        f"file: {lost}.",
    ]


def _relations(parts: Mapping[str, Mapping[str, Any]], terms: Mapping[str, str]) -> list[str]:
    """Sentences on types that several files have, and on types of one file that stand above those of another."""
    files_of: dict[str, set[str]] = {}
    for name, part in parts.items():
        for label in part["types"]:
            files_of.setdefault(label, set()).add(name)
    types = sorted(files_of)
    both = [label for label in types if len(files_of[label]) > 1]
    told = [f"Types that several files have: {', '.join(both) or 'none'}."]
    term_of = terms_of_types(types, terms)
    for label in types:
        if label not in term_of:
            continue
        below = [
            other
            for other in types
            if other in term_of
            and term_of[other] != term_of[label]
            and term_of[label] in ancestors(term_of[other])
            and not files_of[other] & files_of[label]
        ]
        if below:
            told.append(
                f"{label!r} ({', '.join(sorted(files_of[label]))}) is {cell_ontology()[term_of[label]].label!r} in the "
                f"Cell Ontology, which has types of another file below it: "
                f"{', '.join(f'{other!r}' for other in below)}. Its label is coarser than theirs."
            )
    return told
