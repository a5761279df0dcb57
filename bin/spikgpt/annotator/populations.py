"""The cells to teach an annotator from: unknown populations of an earlier run that a person has named.

The table is the run's `tables/unknown_populations.tsv` with one more column, `name`; rows without a name are left
alone. `taught_by` and `taught_on` are columns too, where a lab wants to keep who named a population and when. The cells
are those of `annotated/<sample>.h5ad`, which lie beside the tables.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata.io import read_elem

from spikgpt import UNKNOWN
from spikgpt.annotator.annotation import Annotator
from spikgpt.annotator.cells import Cells
from spikgpt.annotator.folds import cells_needed
from spikgpt.annotator.teach import INSIDE, NEITHER, OTHERS, TaughtCells
from spikgpt.annotator.training_set import readable_cells
from spikgpt.base.columns import SEPARATOR, UNKNOWN_REASONS
from spikgpt.base.errors import UserError
from spikgpt.base.guards import check_names
from spikgpt.base.h5ad import stored
from spikgpt.base.tsv import read_tsv

NAME, BY, ON = "name", "taught_by", "taught_on"
NEEDED = (NAME, "cluster", "unknown_cells", "unknown_percent", "cells_per_sample", "probably", "qc_flags")
"""Columns of the table that are read."""
LEAST_UNKNOWN = 50.0
"""Percentage of a population that must be Unknown: of fewer the annotator calls most by a name."""
ONE_SAMPLE = "nearly all cells from one sample"
"""The one flag of a population that says nothing against teaching it."""


@dataclass(frozen=True)
class Population:
    """A named row of the table: ``cluster``, ``name``, ``samples`` that have cells of it, and ``by`` and ``on``, empty
    where not given."""

    cluster: str
    name: str
    samples: tuple[str, ...]
    by: str
    on: str


def table_sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_populations(path: Path, annotator: Annotator) -> list[Population]:
    """The named rows of the table, in its order, refused where the table itself speaks against one.

    Raises
    ------
    UserError
        The table is another one, no row has a name, or a name or a population cannot be taught.
    """
    try:
        table = read_tsv(path)
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise _no_table(path, f"no table: {error}") from error
    missing = [name for name in NEEDED if name not in table]
    if missing:
        raise _no_table(path, f"no column {', '.join(missing)}; columns {', '.join(map(str, table.columns[:8]))}")
    named = table[table[NAME].str.strip() != ""]
    if named.empty:
        raise UserError(
            "No population has a name.",
            where=f"{path}, column {NAME}",
            found=f"{len(table)} populations, none of them named" if len(table) else "no population",
            expected=f"a cell type in the column {NAME} of each population to teach",
            fix="write the names into the table",
        )
    found = []
    for row in named.to_dict("records"):
        place = f"{path}, cluster {row['cluster']}"
        name = " ".join(str(row[NAME]).split())
        _check_name(name, annotator.classes, place)
        _check_row({str(key): str(value) for key, value in row.items()}, place)
        samples = tuple(part.rsplit("=", 1)[0].strip() for part in str(row["cells_per_sample"]).split(","))
        found.append(Population(row["cluster"], name, samples, row.get(BY, "").strip(), row.get(ON, "").strip()))
    needed = cells_needed(annotator.config["unknown_rate"])
    numbers = named["unknown_cells"].map(_whole).groupby([one.name for one in found], sort=False).sum()
    for name, number in numbers.items():
        if number < needed:
            raise too_few(str(name), int(number), needed, annotator, str(path))
    return found


def too_few(name: str, number: int, needed: int, annotator: Annotator, where: str) -> UserError:
    return UserError(
        f"The population named {name} has too few cells to be taught.",
        where=where,
        found=f"{number} Unknown cells",
        expected=f"at least {needed}: with fewer no p-value can be as small as the annotator's unknown rate "
        f"({annotator.config['unknown_rate']:g})",
        fix="leave its name empty, and teach it from a run with more of these cells",
    )


def _no_table(path: Path, found: str) -> UserError:
    return UserError(
        "--teach names no table of unknown populations.",
        where=str(path),
        found=found,
        expected=f"tables/unknown_populations.tsv of an earlier run, with a column {NAME}",
        fix=f"add a column {NAME} to that table, write the cell type's name into the rows to teach, and leave the "
        "table in its folder",
    )


def _whole(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _check_name(name: str, classes: Sequence[str], place: str) -> None:
    """Refuse a name that no type can have, or that the annotator has."""
    check_names([name], "names of populations", place)
    same = [of for of in (*classes, UNKNOWN) if of.casefold() == name.casefold()]
    if same or SEPARATOR in name:
        raise UserError(
            f"A population cannot be called {name}.",
            where=f"{place}, column {NAME}",
            found=f"the annotator has a type {same[0]}" if same and same[0] != UNKNOWN else name,
            expected=f"a name that is new to the annotator, other than {UNKNOWN}, without the sign {SEPARATOR}",
            fix="give the population another name; cells of a type that the annotator has need none: look at why they "
            "were rejected (column qc_flags, docs/output.md)",
        )


def _check_row(row: Mapping[str, str], place: str) -> None:
    """Refuse a population that is a known type, or damaged or doublet-like cells, as the table says."""
    percent = float(row["unknown_percent"]) if row["unknown_percent"].replace(".", "", 1).isdigit() else 0.0
    if percent < LEAST_UNKNOWN:
        raise UserError(
            "A population is mostly of a type that the annotator has.",
            where=f"{place}, column unknown_percent",
            found=f"{percent:.0f} % of its cells are Unknown; the others are called by a name",
            expected=f"at least {LEAST_UNKNOWN:.0f} %",
            fix="leave its name empty; a larger --cluster_resolution in the earlier run parts clusters that are mixed",
        )
    if row["probably"]:
        raise UserError(
            "A population is probably a type that the annotator has.",
            where=f"{place}, column probably",
            found=f"its cells show the markers of {row['probably']}",
            expected="a population of a type that the annotator lacks",
            fix="leave its name empty; where you know better, empty the field in the column probably",
        )
    flags = [flag for flag in row["qc_flags"].split("; ") if flag and flag != ONE_SAMPLE]
    if flags:
        raise UserError(
            "A population may be no cell type: quality explains it as well.",
            where=f"{place}, column qc_flags",
            found="; ".join(flags),
            expected="cells without a sign of damage, doublets or ambient RNA",
            fix="leave its name empty; where you know better, empty the field in the column qc_flags",
        )


def read_cells(
    table: Path, populations: Sequence[Population], annotated: Mapping[str, Path], annotator: Annotator
) -> dict[str, TaughtCells]:
    """The cells that each name is taught from, all cells of the samples that have some.

    ``annotated``: h5ad of each sample.

    Raises
    ------
    UserError
        A file is missing or of another run, or the annotator did not give its labels.
    """
    samples = sorted({sample for one in populations for sample in one.samples})
    absent = [sample for sample in samples if sample not in annotated]
    if absent:
        raise UserError(
            "The results that the table belongs to are not beside it.",
            where=str(table),
            found=f"no annotated/{absent[0]}.h5ad",
            expected="the results folder as the run left it: tables/unknown_populations.tsv, annotated/<sample>.h5ad",
            fix="leave the table in the folder tables of the results, and the results whole",
        )
    read = {sample: _read_sample(annotated[sample], annotator) for sample in samples}
    found = {}
    for name in dict.fromkeys(one.name for one in populations):
        mine = {one.cluster for one in populations if one.name == name}
        other = {one.cluster for one in populations} - mine
        own_samples = sorted({sample for one in populations if one.name == name for sample in one.samples})
        parts = [read[sample].parts(mine, other) for sample in own_samples]
        short = [sample for sample, part in zip(own_samples, parts, strict=True) if not (part == INSIDE).any()]
        if len(short) == len(own_samples):
            raise UserError(
                "The results beside the table are not those that it was made of.",
                where=str(annotated[own_samples[0]]),
                found=f"no Unknown cell in cluster {', '.join(sorted(mine))}",
                expected=f"cells of the population named {name}",
                fix="take the table and the annotated files of one run",
            )
        measured = np.logical_and.reduce([read[sample].cells.measured for sample in own_samples])
        counts = sp.vstack([read[sample].cells.counts() for sample in own_samples]).tocsr()
        counts = (counts @ sp.diags(measured.astype(np.float32))).tocsr()
        counts.eliminate_zeros()
        counts.sort_indices()
        found[name] = TaughtCells(
            counts,
            measured,
            np.concatenate([read[sample].cells.embedding for sample in own_samples]),
            np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
            own_samples,
            np.concatenate(parts),
            np.concatenate([read[sample].clusters for sample in own_samples]),
            np.concatenate([read[sample].labels for sample in own_samples]),
        )
    return found


@dataclass(frozen=True)
class _Sample:
    """Cells of one sample, sorted by barcode: ``labels``, ``clusters``, and ``unknown`` for what they are (cells,)."""

    cells: Cells
    labels: np.ndarray
    clusters: np.ndarray
    unknown: np.ndarray

    def parts(self, mine: set[str], other: set[str]) -> np.ndarray:
        """What each cell is to a lesson ``(cells,)``, taught from the clusters ``mine``; ``other`` ones have other
        names."""
        in_mine, in_other = np.isin(self.clusters, list(mine)), np.isin(self.clusters, list(other))
        part = np.where(self.labels == UNKNOWN, NEITHER, OTHERS)
        part[in_other & self.unknown] = OTHERS
        part[in_mine] = NEITHER
        part[in_mine & self.unknown] = INSIDE
        return part


def _read_sample(path: Path, annotator: Annotator) -> _Sample:
    """Readable cells of an annotated h5ad."""
    try:
        with stored(path) as file:
            obs, symbols, barcodes = file.obs, file.symbols, file.barcodes.astype(str)
            facts = read_elem(file.file["uns/spikgpt"])
            embedding = np.asarray(file.file["obsm/X_scGPT"][:], dtype=np.float32)
            matrix = file.matrix("layers/counts")
            labels, clusters, reasons = (
                obs[name].astype(str).to_numpy(dtype=object)
                for name in ("spikgpt_cell_type", "spikgpt_cluster", "spikgpt_unknown_reason")
            )
    except (KeyError, OSError) as error:
        raise UserError(
            "An annotated file of the earlier run cannot be read.",
            where=str(path),
            found=str(error).splitlines()[0],
            expected="annotated/<sample>.h5ad as this version of SpikGPT writes it",
            fix="run the earlier run again, and take its table",
        ) from error
    if facts["annotator_sha256"] != annotator.config["digest"]:
        raise UserError(
            "The earlier run's labels are not of the annotator that is to be taught.",
            where=str(path),
            found=f"labels of an annotator with the digest {facts['annotator_sha256'][:12]}",
            expected=f"the annotator {annotator.config['digest'][:12]}: a population is unknown to the annotator that "
            "rejected it",
            fix="give --annotator the one of the earlier run (its annotator/, the folder that it was given, or pbmc); "
            "labels of the tissue profiles cannot be taught: train an annotator with --reference",
        )
    order = np.argsort(barcodes, kind="stable")
    order = order[readable_cells(embedding, annotator.config["features"])[order]]
    column_of = {gene: number for number, gene in enumerate(symbols)}
    columns = np.array([column_of.get(gene, -1) for gene in annotator.genes])
    of_the_cell = [reason.name for reason in UNKNOWN_REASONS if reason.of_the_cell]
    unknown = (labels == UNKNOWN) & np.isin(reasons, of_the_cell)
    cells = Cells(matrix, order, columns, embedding[order])
    return _Sample(cells, labels[order], clusters[order], unknown[order])
