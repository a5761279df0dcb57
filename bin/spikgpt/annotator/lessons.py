"""From named populations to a new annotator: what is refused, what is learned, and what is written down of it."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np

from spikgpt import UNKNOWN, __version__
from spikgpt.annotator.annotation import Annotator
from spikgpt.annotator.folder_files import TAUGHT_VERSION
from spikgpt.annotator.folds import cells_needed
from spikgpt.annotator.neighbours import MIN_CELLS_TO_POOL
from spikgpt.annotator.populations import Population, too_few
from spikgpt.annotator.purity import AGREE, LEAST_PART, two_parts
from spikgpt.annotator.reference_markers import ReferenceMarkers
from spikgpt.annotator.taught import Lesson
from spikgpt.annotator.teach import INSIDE, OTHERS, TaughtCells, teach
from spikgpt.base.cell_ontology import cell_ontology, term_of_name
from spikgpt.base.errors import UserError

LEAST_CALLED = 0.7
"""Share of a population's held-out cells that must be called by its name. Populations of a type that the reference
lacked came to 0.81 and more (alpha, delta and ductal cells of Baron's library 3, B and NK cells of pbmc4k); cells of
known types, named as if they were new, to 0.51 at most, and cells drawn at random to 0. `make bench-teach` measures it
anew."""
MOST_CLAIMED = 0.15
"""Most other cells that may look like the population's, per cell of it: the same populations came to 0.11 at most,
parts of known types to 0.16 and more."""


def taught_annotator(
    annotator: Annotator,
    populations: Sequence[Population],
    cells: Mapping[str, TaughtCells],
    where: str,
    table_sha256: str,
    seed: int,
) -> Annotator:
    """The annotator with one type more for each name.

    Parameters
    ----------
    populations
        See `spikgpt.annotator.populations.read_populations`.
    cells
        Of each name, see `spikgpt.annotator.populations.read_cells`.
    where, table_sha256
        Of the table, for messages and for the record.

    Raises
    ------
    UserError
        A population is of two kinds, too small, or not told from other cells.
    """
    config, lessons = deepcopy(annotator.config), list(annotator.lessons)
    for name in cells:
        mine = [one for one in populations if one.name == name]
        told = f"{where}, cluster {', '.join(one.cluster for one in mine)}"
        check_cells(annotator, mine, cells[name], where)
        lesson, figures = teach(annotator, name, cells[name], seed)
        check_figures(name, figures, lesson, annotator, told)
        lessons.append(lesson)
        write_down(config, annotator, name, mine, cells[name], lesson, figures, table_sha256)
    config |= {"format_version": TAUGHT_VERSION, "spikgpt_version": __version__}
    return replace(annotator, config=config, lessons=lessons)


def check_cells(annotator: Annotator, mine: Sequence[Population], cells: TaughtCells, where: str) -> None:
    """Refuse a name with too few cells, and each of its populations that is two by its genes."""
    inside = cells.part == INSIDE
    needed = cells_needed(annotator.config["unknown_rate"])
    if inside.sum() < needed:
        raise too_few(mine[0].name, int(inside.sum()), needed, annotator, where)
    others = int((cells.part == OTHERS).sum())
    if others < needed:
        raise UserError(
            f"There are too few other cells to learn the population named {mine[0].name} against.",
            where=where,
            found=f"{others} cells in its samples ({', '.join(cells.samples[:5])}) that are called by a name",
            expected=f"at least {needed}",
            fix="where most cells are Unknown the annotator is of another tissue: train one with --reference",
        )
    for one in mine:
        rows = np.flatnonzero(inside & (cells.cluster == one.cluster))
        parts = two_parts(cells.counts[rows], annotator.genes) if len(rows) >= needed else None
        if parts is not None and parts.mixed:
            few, many = (", ".join(genes) for genes in parts.genes)
            raise UserError(
                f"The population named {one.name} is of two kinds of cells.",
                where=f"{where}, cluster {one.cluster}",
                found=f"{100 * parts.share:.0f} % of its {len(rows)} cells lead in {few}, the others in {many}; two "
                f"halves of the genes part it alike (adjusted Rand index {parts.agreement:.2f})",
                expected=f"one kind: an index below {AGREE:g}, or less than {100 * LEAST_PART:g} % of the cells apart",
                fix="give the earlier run a larger --cluster_resolution, which parts the two, and name each; the same "
                "name for both makes them one type",
            )


def check_figures(name: str, figures: Mapping[str, Any], lesson: Lesson, annotator: Annotator, where: str) -> None:
    """Refuse a lesson that does not tell its held-out cells from others."""
    if set(annotator.rejection.calibrations) - set(lesson.calibrations):
        raise UserError(
            f"The samples of the population named {name} are too small to learn it from.",
            where=where,
            found=f"fewer than {MIN_CELLS_TO_POOL} cells in a third of them",
            expected=f"at least {3 * MIN_CELLS_TO_POOL} cells in all, those of the population and others",
            fix="teach it from a run with larger samples",
        )
    claimed = figures["claimed_others"] / figures["cells"]
    if figures["called"] < LEAST_CALLED or claimed > MOST_CLAIMED:
        like = figures["known_as"] or figures["most_taken_from"]
        raise UserError(
            f"The population named {name} is not told from other cells.",
            where=where,
            found=f"{100 * figures['called']:.0f} % of its {figures['cells']} cells, held out, are called by its name, "
            f"and {figures['claimed_others']} cells of other types look like it"
            + (f"; nearest is {like}" if like else ""),
            expected=f"at least {100 * LEAST_CALLED:g} %, and at most {MOST_CLAIMED:g} such cells for each of its own",
            fix="leave its name empty: its cells are of a type that the annotator has, or of several, or nothing sets "
            "them apart",
        )


def write_down(
    config: dict[str, Any],
    annotator: Annotator,
    name: str,
    mine: Sequence[Population],
    cells: TaughtCells,
    lesson: Lesson,
    figures: Mapping[str, Any],
    table_sha256: str,
) -> None:
    """Add a taught type to the annotator's config."""
    inside = cells.part == INSIDE
    number = int(inside.sum())
    term = own_term(name)
    config["classes"] = [*config["classes"], name]
    config["class_cells"] = {**config["class_cells"], name: number}
    if term is not None:
        config["ontology"] = {**config["ontology"], name: term}
    markers = markers_of(config["markers"], name, cells, annotator.genes)
    config["markers"] = markers
    per_sample = np.bincount(cells.sample[inside], minlength=len(cells.samples))
    config.setdefault("taught", []).append(
        {
            "name": name,
            "taught_by": ", ".join(dict.fromkeys(one.by for one in mine if one.by)),
            "taught_on": ", ".join(dict.fromkeys(one.on for one in mine if one.on)),
            "clusters": [one.cluster for one in mine],
            "samples": {sample: int(n) for sample, n in zip(cells.samples, per_sample, strict=True) if n},
            "learned_against": int((cells.part == OTHERS).sum()),
            "table_sha256": table_sha256,
            "annotator_sha256": annotator.config["digest"],
            "mixture": {"weight": lesson.mixture.weight, "scale": lesson.mixture.scale},
            "held_out": dict(figures),
        }
    )


def own_term(name: str) -> str | None:
    """The term of the Cell Ontology whose label a name is, letter case apart. Not by synonym: "alpha cell" is an exact
    one of a ganglion cell of the retina."""
    term = term_of_name(name)
    return term if term is not None and cell_ontology()[term].label.casefold() == name.casefold() else None


def markers_of(stored: Mapping[str, Any], name: str, cells: TaughtCells, genes: list[str]) -> dict[str, Any]:
    """The annotator's table of markers with those of the taught type, chosen against the types of its samples."""
    named = np.where(cells.part == INSIDE, name, cells.label)
    rows = np.flatnonzero((cells.part == INSIDE) | (cells.label != UNKNOWN))
    classes, codes = np.unique(named[rows].astype(str), return_inverse=True)
    counts = cells.counts[rows]
    totals = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    depths = [float(depth) for depth in stored["depths"]]
    found = ReferenceMarkers.choose(counts, genes, codes, classes.tolist(), totals, depths).as_dict()
    related = [pair for pair in found["related"] if name in pair]
    types = {name: found["types"][name]} if name in found["types"] else {}
    return {
        **stored,
        "types": {**stored["types"], **types},
        "related": sorted([*stored["related"], *related]),
    }
