"""Folders of quantifiers: a matrix market file with its barcodes and features, as every tool names them.

`docs/usage.md` lists the tools. Files are told apart by the words in their names, so that GEO's prefixes and suffixes
do not matter; which belong together, by what else is in the names; which way the matrix lies, by its sizes.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from spikgpt.base import guards
from spikgpt.base.errors import UserError
from spikgpt.base.gene_rows import is_known
from spikgpt.base.species import HUMAN, SPECIES
from spikgpt.read_input.features import select_genes
from spikgpt.read_input.market import market_header, market_source
from spikgpt.read_input.sources import Read, Source, added, unzipped

TRIPLET = (
    "matrix.mtx[.gz] with barcodes.tsv[.gz] and features.tsv[.gz] or genes.tsv[.gz], also with a prefix or suffix; or "
    "the files of alevin-fry, kb-python, bustools or split-pipe"
)
PARTS = ("spliced", "unspliced", "ambiguous", "mature", "nascent")
"""Words in the names of matrices that hold one part of the counts (STARsolo's Velocyto, kb-python)."""
OTHER_SUMS = ("cell", "nucleus")
"""kb-python writes sums of two of three parts, too: what is in the cell's body, or in its nucleus."""
# the better word first: a table of metadata may lie beside the barcodes
BARCODE_WORDS = ("barcodes", "barcode", "cells", "rows", "metadata", "colnames")
FEATURE_WORDS = ("features", "feature", "genes", "gene", "cols", "names", "rownames")
MATRIX_WORDS = (
    *BARCODE_WORDS, *FEATURE_WORDS, "matrix", "counts", "count", "quants", "mat", "x", "dge", "all", "total", "umi",
    "umis", "expression", "raw", "filtered", "bc", "by",
)  # fmt: skip
"""Words of names that say nothing about the sample."""
HEADER = re.compile(
    r"(?i)^(x|v1|index|cells?|barcodes?|cell[._ ]?(barcode|id|name)s?|bc_wells|sample|"
    r"(gene|feature|ensembl)[._ ]?(gene)?[._ ]?(ids?|names?|symbols?|types?)|genes?|features?|symbols?|names?|ids?|)$"
)
"""First names of a header line."""
CELLS_FIRST = re.compile(r"(?i)quants_mat|cells_x_genes|dge|count_matrix")
"""Names of matrices that have cells in rows, where the sizes do not tell."""


@dataclass
class Triplet:
    """A matrix and the files that name its rows and columns; of one matrix of several parts, one for each part."""

    matrix: Path
    barcodes: Path | None
    features: list[Path] = field(default_factory=list)
    part: str = ""


def _words(path: Path) -> list[str]:
    name = re.sub(r"(?i)\.(gz|mtx|tsv|txt|csv)$", "", re.sub(r"(?i)\.gz$", "", path.name))
    return [word for word in re.split(r"[._\-\s]+", name.lower()) if word]


def _role(path: Path) -> tuple[str, int]:
    """matrix, barcodes, features or "": by the ending, and the last word that names one; and how good that word is."""
    name = path.name.lower().removesuffix(".gz")
    if path.name.startswith("."):
        return "", 0
    if name.endswith(".mtx"):
        return "matrix", 0
    if not name.endswith((".tsv", ".txt", ".csv")):
        return "", 0
    for word in reversed(_words(path)):
        if word in BARCODE_WORDS:
            return "barcodes", BARCODE_WORDS.index(word)
        if word in FEATURE_WORDS:
            return "features", FEATURE_WORDS.index(word)
    return "", 0


def _key(path: Path) -> tuple[str, str]:
    """What a name says of the sample, and of the part of the counts."""
    words = _words(path)
    part = next((word for word in words if word in (*PARTS, *OTHER_SUMS)), "")
    return "_".join(word for word in words if word not in MATRIX_WORDS and word != part), part


def _triplets(folder: Path) -> dict[str, list[Triplet]]:
    """The matrices of a folder, by what their names say of the sample; several of one sample are parts."""
    roles: dict[str, list[Path]] = {"matrix": [], "barcodes": [], "features": []}
    for path in sorted(folder.iterdir(), key=lambda path: (_role(path)[1], path.name)):
        role = _role(path)[0]
        if role and path.is_file():
            roles[role].append(path)
    # packed and plain side by side are one file
    for role, paths in roles.items():
        names = {path.name for path in paths}
        roles[role] = [path for path in paths if f"{path.name}.gz" not in names]

    def fitting(role: str, key: str, part: str) -> list[Path]:
        same = [path for path in roles[role] if _key(path) == (key, part)]
        return same or [path for path in roles[role] if _key(path) == (key, "")]

    def only(role: str) -> list[Path]:
        best = [path for path in roles[role] if _role(path)[1] == _role(roles[role][0])[1]]
        return best if len(best) == 1 else []

    found: dict[str, list[Triplet]] = {}
    for matrix in roles["matrix"]:
        key, part = _key(matrix)
        barcodes, features = fitting("barcodes", key, part), fitting("features", key, part)
        if len(roles["matrix"]) == 1 or (key and not barcodes and not features):
            # prefixes that differ between the files of one matrix
            barcodes, features = barcodes or only("barcodes"), features or only("features")
        found.setdefault(key, []).append(Triplet(matrix, barcodes[0] if barcodes else None, features, part))
    # multi-mapper matrices beside STARsolo's own (UniqueAndMult-EM.mtx), or a whole matrix beside its parts
    if any(not triplet.part for triplet in found.get("", [])):
        return {"": [triplet for triplet in found[""] if not triplet.part]}
    for key, parts in found.items():
        whole = [triplet for triplet in parts if not triplet.part]
        found[key] = whole or [triplet for triplet in parts if triplet.part in PARTS] or parts
    return found


def _choose(folder: Path, where: str, filtered: bool | None, species: str, messages: list[str]) -> list[Triplet]:
    """The one matrix of a folder or of the folders below it."""
    below = [folder, *sorted(path for path in folder.rglob("*") if path.is_dir() and not path.name.startswith("__"))]
    found = {(place, key): group for place in below for key, group in _triplets(place).items()}
    if not found:
        inside = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        fix = "Give the folder that the quantifier wrote, such as filtered_feature_bc_matrix."
        if any(path.name.startswith("quants_mat.") for path in folder.rglob("quants_mat.*")):
            fix = "Run alevin with --dumpMtx: its own binary format is not read."
        raise UserError("The folder has no matrix.", where=where, found=inside, expected=TRIPLET, fix=fix)
    # what lies highest: kb-python puts a second form of the same matrix into a folder below
    top = min(len(place.parts) for place, _ in found)
    if sum(len(place.parts) == top for place, _ in found) == 1:
        found = {place: group for place, group in found.items() if len(place[0].parts) == top}

    def narrowed(test: str, why: str) -> None:
        nonlocal found
        kept = {p: g for p, g in found.items() if re.search(test, str(p[0].relative_to(folder)))}
        if len(found) > 1 and len(kept) == 1:
            found = kept
            messages.append(
                f"{Path(where).name} holds several matrices; {_place(*next(iter(kept)), folder)} is read, {why}."
            )

    own = SPECIES[species]
    narrowed(own.genome.pattern.replace("(?i)^", r"(?i)(?:^|/)"), f"as its genome is {own.spoken}")
    if filtered is not None:
        wanted = r"(?i)(?<!un)filter(ed)?(\b|_)" if filtered else r"(?i)(?:^|[/_])(raw|unfiltered)(\b|_)"
        narrowed(wanted, "as the samplesheet's column says")
    if len(found) > 1:
        raise UserError(
            "The folder holds several matrices.",
            where=where,
            found=", ".join(_place(*place, folder) for place in list(found)[:6]),
            expected=f"one matrix, or one of a {own.spoken} genome" + (" (GRCh38)" if species == HUMAN else ""),
            fix="Give the folder of one of them; files of several samples in one folder need a folder for each sample.",
        )
    return next(iter(found.values()))


def _place(folder: Path, key: str, top: Path) -> str:
    inside = str(folder.relative_to(top))
    return "/".join(part for part in ("" if inside == "." else inside, key) if part) or folder.name


def read_folder(
    folder: Path,
    where: str = "",
    format: str = "10x folder",
    filtered: bool | None = None,
    species: str | None = None,
) -> Read:
    """A matrix market file, or several with parts of the counts, with barcodes and features.

    Parameters
    ----------
    where
        What the user gave: the folder, or an archive of it.
    filtered
        Whether cells (True) or all barcodes (False) are asked for, where the folder holds both.

    scanpy.read_10x_mtx reads two of these layouts and does not check that the files belong together;
    hence a check of the dimensions.
    """
    where = where or str(folder)
    given = Path(where).name
    messages: list[str] = []
    triplets = _choose(folder, where, filtered, species or HUMAN, messages)
    for triplet in triplets:
        absent = [
            name
            for name, found in (("barcodes.tsv", triplet.barcodes), ("features.tsv or genes.tsv", triplet.features))
            if not found
        ]
        if absent:
            raise UserError(
                f"The 10x folder has no {' and no '.join(absent)}"
                + (f" for {triplet.matrix.name}." if triplet.part or len(triplets) > 1 else "."),
                where=where,
                found=", ".join(sorted(path.name for path in triplet.matrix.parent.iterdir())[:8]),
                expected=TRIPLET,
                fix="Copy the whole folder that the quantifier wrote, and rename files that begin or end differently.",
            )
    tables = [_tables(triplet, where) for triplet in triplets]
    barcodes, _, first_features = tables[0]
    source = tables[0][1]
    if len(triplets) > 1 or triplets[0].part:
        parts = [triplet.part for triplet in triplets]
        if len(triplets) == 1:
            raise UserError(
                f"The folder holds {parts[0]} counts alone.",
                where=where,
                found=triplets[0].matrix.name,
                expected="all parts of the counts (spliced, unspliced, ambiguous), or their sum",
                fix="Give the folder with all parts, or the quantifier's matrix of all counts.",
            )
        if any(features.columns[:1] != first_features.columns[:1] for _, _, features in tables):
            raise UserError(
                "The parts of the counts are not of the same genes.",
                where=where,
                found=", ".join(f"{triplet.matrix.name}: {len(table[2].columns[0])} genes" for triplet, table in
                                zip(triplets, tables, strict=True)),
                expected="the same genes in every part",
                fix="Copy the files again from the same run.",
            )  # fmt: skip
        at = {barcode: row for row, barcode in enumerate(dict.fromkeys(b for names, _, _ in tables for b in names))}
        cells = [np.array([at[barcode] for barcode in names], dtype=np.int64) for names, _, _ in tables]
        for names, _, _ in tables:
            _refuse_twice(names, where)
        source, barcodes = added([table[1] for table in tables], cells, len(at)), list(at)
        messages.append(f"The counts of {', '.join(sorted(parts))} were added up: each is a part of a gene's counts.")
    elif market_header(triplets[0].matrix).numbers > 3:
        messages.append(
            f"{triplets[0].matrix.name} has spliced, unspliced and ambiguous counts in a line; they were added up."
        )
    ids, names, types, genomes = first_features.roles()
    return Read(
        source,
        barcodes=barcodes,
        features=select_genes(ids, names, types, genomes, given, species),
        format=format,
        counts_from=" + ".join(triplet.matrix.name for triplet in triplets),
        where=given,
        messages=messages,
    )


def _refuse_twice(names: Sequence[str], where: str) -> None:
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})[:5]
        raise UserError(
            f"{len(names) - len(set(names))} barcodes occur more than once.",
            where=where,
            found=", ".join(twice),
            expected="every barcode once in a sample",
            fix="Give each library as a sample of its own.",
        )


@dataclass
class _Names:
    """A table of names: its columns, and their titles where it has some."""

    columns: list[list[str]]
    titles: list[str] | None = None

    def __len__(self) -> int:
        return len(self.columns[0]) if self.columns else 0

    def named(self, pattern: str) -> list[str] | None:
        """The first column whose title fits."""
        for title, column in zip(self.titles or [], self.columns, strict=False):
            if re.fullmatch(pattern, title.strip(), re.IGNORECASE):
                return column
        return None

    def roles(self) -> tuple[list[str], list[str], list[str] | None, list[str] | None]:
        """Ids, names, types and genomes of features: by the titles, else as 10x orders them."""
        if self.titles is not None:
            ids = self.named(r"(gene|ensembl|feature)?[._ ]?(gene)?[._ ]?ids?")
            names = self.named(r"(gene|feature)?[._ ]?(short[._ ])?(name|symbol)s?|genes?|features?")
            first = ids or names or self.columns[0]
            return first, names or first, self.named(r"(feature|library)[._ ]?types?"), self.named("genome")
        ids, *more = self.columns
        return ids, more[0] if more else ids, more[1] if len(more) > 1 else None, None


def _names(path: Path, expected: Sequence[int]) -> _Names:
    """The columns of a tab- or comma-separated list of names.

    Only the first six columns are looked at: some tools add places on the genome to some rows. A first line is a header
    where there is one line more than the matrix has names, and it looks like one. A first column of row numbers is
    left out.
    """
    limit = guards.LARGEST_TABLES
    with unzipped(path, limit) as stream:
        lines = stream.read().decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    comma = path.name.lower().removesuffix(".gz").endswith(".csv")
    if comma or any(line.startswith('"') for line in lines[:2]):
        rows = [row[:6] for row in csv.reader(lines, delimiter="," if comma else "\t")]
    else:
        rows = [line.split("\t")[:6] for line in lines]
    titles = None
    if rows and len(rows) - 1 in expected and len(rows) not in expected and HEADER.match(rows[0][0].strip()):
        titles, rows = rows[0], rows[1:]
    if not rows:
        return _Names([[]])
    width = min(6, max(len(row) for row in rows[:1000]))
    columns = [[row[at] if at < len(row) else "" for row in rows] for at in range(width)]
    if width > 1 and columns[0][:3] in (["1", "2", "3"][: len(rows)], ["0", "1", "2"][: len(rows)]):
        columns = columns[1:]
        titles = titles[1:] if titles and len(titles) > len(columns) else titles
    return _Names(columns, titles)


def _tables(triplet: Triplet, where: str) -> tuple[list[str], Source, _Names]:
    """Barcodes, matrix and features of a triplet, whose sizes fit."""
    assert triplet.barcodes is not None
    head = market_header(triplet.matrix)
    sizes = (head.rows, head.columns)
    barcode_table = _names(triplet.barcodes, sizes)
    barcodes = (
        barcode_table.named(r"bc_wells|(cell[._ ]?)?barcodes?|cells?|cell[._ ]?(id|name)s?")
        or (barcode_table.columns[0])
    )
    tables = [(path, _names(path, sizes)) for path in triplet.features]
    fitting = [(path, table) for path, table in tables if {len(table), len(barcodes)} == set(sizes)]
    path, features = fitting[0] if fitting else tables[0]
    if len(fitting) == 2 and len(features.columns) == 1 and features.titles is None:
        # kb-python: genes.txt and genes.names.txt
        two = sorted(fitting, key=lambda pair: "names" in _words(pair[0]))
        if [("names" in _words(pair[0])) for pair in two] == [False, True]:
            features = _Names([two[0][1].columns[0], two[1][1].columns[0]])
    if (len(features), len(barcodes)) == sizes == (len(barcodes), len(features)):
        turned = not CELLS_FIRST.search(triplet.matrix.name) and ".barcodes.txt" not in triplet.barcodes.name
    elif (len(features), len(barcodes)) == sizes:
        turned = True
    elif (len(barcodes), len(features)) == sizes:
        turned = False
    else:
        raise UserError(
            "Matrix, barcodes and features do not belong together.",
            where=where,
            found=f"{triplet.matrix.name} has {head.rows} x {head.columns}, {path.name} {len(features)} features, "
            f"{triplet.barcodes.name} {len(barcodes)} barcodes",
            expected="features x barcodes",
            fix="Copy the three files again from the same run.",
        )
    guards.check_shape(len(barcodes), len(features), where)
    if len(features.columns) > 1 and features.titles is None and _symbols_first(features.columns):
        features.columns[:2] = [features.columns[1], features.columns[0]]
    return barcodes, market_source(triplet.matrix, turned), features


def _symbols_first(columns: list[list[str]]) -> bool:
    """Whether the first column has symbols and the second one ids."""
    ids = [sum(name.startswith("ENS") for name in column[:200]) for column in columns[:2]]
    return ids[1] > ids[0] and any(is_known(name) for name in columns[0][:200])
