"""The model card of an annotator."""

import re
from typing import Any

import pandas as pd

from spikgpt.annotator.cautions import DEPTH_LEAKS
from spikgpt.annotator.missing_types import share_caught, share_on_levels
from spikgpt.base.species import SPECIES


def plain(value: Any) -> str:
    """A cell of a Markdown table: one line, and nothing in it is markup, whatever a label holds."""
    line = " ".join(("–" if value is None else str(value)).split())
    # an underscore between letters is no markup, and cell types have many
    return re.sub(r"([\\`*{}\[\]<>|~$#&]|(?<!\w)_|_(?!\w))", r"\\\1", line)


def table(header: list[str], rows: list[list[Any]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(plain(cell) for cell in row) + " |" for row in rows])


def levels_section(config: dict[str, Any]) -> str:
    """The levels, and what they come to on held-out cells where that was measured."""
    levels, held = config["levels"], config["levels"]["held_out"]
    told = f"""## Levels above the types
{plain(levels["told"])} Where a cell's type does not hold at the unknown rate, it is called by the deepest level \
that does.
"""
    if not levels["nodes"]:
        return told
    nodes = [[node["name"], node["term"] or None, ", ".join(node["types"])] for node in levels["nodes"]]
    told += f"\n{table(['level', 'Cell Ontology', 'types below it'], nodes)}\n"
    if not held:
        return told + "\nWhat they come to on held-out cells was not measured.\n"
    sets = [
        [name, f"{100 * row['at_type']:.1f} %", f"{100 * row['set_error']:.1f} %", f"{row['set_size']:.2f}"]
        for name, row in held["types"].items()
    ]

    def share(key: str) -> str:
        return "–" if held[key] is None else f"{100 * held[key]:.1f} %"

    return f"""{told}
Held-out cells: {share("at_type")} called by a type ({share("error_at_type")} of them wrong), {share("above")} at a \
level above ({share("error_above")} wrong), {share("unknown")} Unknown. The set of types that could not be excluded \
missed the right one for {share("set_error")}.

{table(["cell type", "called by a type", "not in the set", "types in the set"], sets)}
"""


def model_card(config: dict[str, Any], benchmark: pd.DataFrame) -> str:
    """README.md of the model folder, from its config and the benchmark table."""
    held, calibration, mixture = config["held_out"], config["calibration"], config["mixture"]
    training, scgpt = config["training"], config["scgpt"]
    by = "whole batches" if calibration["folds_by"] == "batch" else "cells at random, type by type"
    types = [
        [name, config["class_cells"][name], row["recall"], row["most_often_mistaken_for"]]
        for name, row in held["types"].items()
    ]
    missing = [
        [
            row["cell_type"],
            row["cells"],
            share_caught(row),
            f"{row['auroc']:.3f}",
            row["mistaken_for"],
            None if (on_levels := share_on_levels(row)) is None else f"{100 * on_levels:.0f} %",
            row["level"],
        ]
        for row in config["leave_one_out"]
    ]
    # without the seconds of benchmark.tsv: the same training must give the same annotator, its card included
    compared = [[r.method, f"{r.accuracy:.3f}", f"{r.macro_f1:.3f}"] for r in benchmark.itertuples()]
    markers = config["markers"]
    marked = [
        [
            name,
            config["ontology"].get(name),
            ", ".join(f"{m['gene']} {m['inside'][0]:.2f}/{m['outside'][0]:.2f}" for m in markers["types"].get(name, []))
            or None,
        ]
        for name in config["classes"]
    ]
    leak = config["depth"]["leak"]
    depth = (
        "Depth was not checked: fewer than two types are large enough."
        if leak is None
        else f"Depth alone names the type with a balanced accuracy of {leak['balanced_accuracy']:.2f} (chance "
        f"{leak['chance']:.2f}); {leak['leak']:.0%} of the way from chance to perfect, warned of from "
        f"{DEPTH_LEAKS:.0%}."
    )
    told = [f"**{plain(text)}**" for text in config["grave"]] + [plain(text) for text in config["warnings"]]
    cautions = "\n".join(f"- {text}" for text in told) or "- Nothing else found."
    embedding = (
        f"scGPT checkpoint `{scgpt['name']}`, sha256 `{scgpt['sha256']}`. Cells embedded with another checkpoint "
        "are refused."
        if config["features"] != "expression"
        else "None: this annotator uses expression only."
    )
    return f"""# SpikGPT annotator

Made by SpikGPT {config["spikgpt_version"]}, format {config["format_version"]}, seed {config["seed"]}.
Use it with `--annotator <this folder>`.

## Trained on
{training["cells"]} cells, {training["genes"]} genes, {len(config["classes"])} cell types, \
{len(training["batches"])} batch(es): {", ".join(f"{plain(name)} ({n})" for name, n in training["batches"].items())}. \
Species: {SPECIES[config["species"]].spoken}; samples of another are refused.

## How it judges a cell
- Features: {config["features"]}. Share of the embedding view in the mixture: {mixture["weight"]:g} \
(learned on held-out cells); inverse temperature {mixture["scale"]:.3g}.
- Embedding: {embedding}
- Unknown: a cell whose conformal p-value is at most the unknown rate ({config["unknown_rate"]:g} in training; it can \
be changed at annotation). Calibrated on {calibration["cells"]} held-out cells in {calibration["folds"]} folds: {by} \
were held out, {calibration["samples"]} samples in all. For cells like those held out the share of Unknown is about \
the rate; for a new batch, donor or protocol it is an expectation, not a guarantee. A sample for which it cannot be \
promised is named "not calibrated" with the reason. Confidence is calibrated within this reference alone.

## Cautions about this reference
- {depth}
{cautions}

## Markers of its types
Genes seen in most cells of the type and in few others, all cells thinned to {markers["depths"][0]:,.0f} counts. The \
annotator does not decide by them; the evidence table of a run looks for them in the query.

{table(["cell type", "Cell Ontology", "markers: share of its cells, and of the other types', that show it"], marked)}

## Held-out cells
Accuracy {held["accuracy"]:.3f}, macro-F1 {held["macro_f1"]:.3f}, expected calibration error \
{held["expected_calibration_error"]:.3f} ({held["cells"]} cells).

{table(["cell type", "cells", "recall", "most often mistaken for"], types)}

## What if a type were missing from the reference?
Each type with enough cells is taken out of the reference in turn, and its cells of the largest fold are judged by \
this annotator's rule at an unknown rate of {config["unknown_rate"]:g}. The table gives the share of them called \
Unknown with its 95 % interval, and the type that most of them are nearest to. It is measured within the reference, \
on cells of its own batches: on another donor, fewer may be caught.

{table(["cell type", "cells", "Unknown (95 % interval)", "AUROC", "nearest to", "on levels", "level"], missing)}

On levels: the share whose answer would be Unknown or a level above that has the type, and the level that most of \
those get.

{levels_section(config)}
## Beside other methods
The largest fold held out, every method trained on the rest. Best match, rejection left aside.

{table(["method", "accuracy", "macro-F1"], compared)}
"""


TAUGHT = "## Taught types"
"""Heading of the section of `with_taught`."""


def with_taught(card: str, config: dict[str, Any]) -> str:
    """The model card of an annotator with the section on the types that it was taught, before all others.

    ``card``: README.md as it was before; a section of that kind in it is replaced.
    """
    head, first, rest = card.partition("\n## ")
    if first and rest.startswith(TAUGHT.removeprefix("## ")):
        rest = rest.partition("\n## ")[2]
    head = re.sub(r"format \d+", f"format {config['format_version']}", head, count=1)
    rows, held = [], []
    for one in config["taught"]:
        figures = one["held_out"]
        samples = ", ".join(f"{name} ({number})" for name, number in one["samples"].items())
        rows.append(
            [one["name"], figures["cells"], samples, ", ".join(one["clusters"]), one["taught_by"] or None,
             one["taught_on"] or None, one["table_sha256"][:12]]
        )  # fmt: skip
        held.append(
            [one["name"], f"{100 * figures['called']:.1f} %",
             "whole samples" if figures["folds_by"] == "batch" else "thirds of the cells",
             figures["others"], figures["taken"], figures["most_taken_from"]]
        )  # fmt: skip
    return f"""{head}
{TAUGHT}
Populations of an earlier run that were Unknown to this annotator and that a person named. They were learned from \
these cells against the other cells of the same samples. A cell that is called by no taught name has the answer that \
the annotator gave before. No level lies above a taught type, and what would happen if it were missing was not tried.

{table(["cell type", "cells", "samples", "clusters of the run", "named by", "on", "sha256 of the table"], rows)}

Held-out cells of the population, at an unknown rate of {config["unknown_rate"]:g}: the share that is called by the \
name, and how many of the other cells, which the annotator calls by another name, would be called so. Where thirds of \
the cells were held out, they are of the same samples: on another, expect less.

{table(["cell type", "called so", "held out", "other cells", "called so", "most of them"], held)}
{first}{rest}"""
