"""Types taught from Unknown cells: called in cells that taught nothing, and populations that are refused."""

from typing import Any

import pandas as pd

from sections.markdown import MISSING, percent, points, table

CALLED, LOST = 0.9, 0.005
FIRST = "alpha"
"""The lesson that the goals are about."""

INTRO = """## Taught types

`make bench-teach DATA=folder` ({minutes} CPU minutes on one core, {seeds} seeds of training, halves and folds). A
reference lacks a type. The product trains on it and annotates half of a sample; the type's cells that are Unknown
there are taught by the authors' label, as `--teach` does with a named population; those that got another type's name
take no part in it. Then the *other half*, *another sample* that has the type (pbmc3k for pbmc4k, libraries 1 and 2 for
library 3: the reference's own samples, with the type's cells that were left out of it) and a sample of *another tissue*
are annotated before and after. *Called*: share of the type's cells that get its name. *Known types*: share of the cells
of the reference's types with the right label. *False*: cells of other types that get the name. Mean over seeds, with
the smallest and largest in parentheses.

The rule was made and its constants (`LEAST_CALLED`, `MOST_CLAIMED`, the number of drawings `REPEATS`, `AGREE`,
`LEAST_PART`) were chosen with these sets in view: expect less on others.
"""


def over_seeds(values: list[float | None]) -> str:
    """Mean, and the range in parentheses."""
    known = [value for value in values if value is not None]
    if not known:
        return MISSING
    return f"{percent(sum(known) / len(known))} ({percent(min(known))} to {percent(max(known))})"


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def lessons_of(figures: dict[str, Any]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """The rows of each lesson, by reference and what it lacks, and the taught name."""
    out: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in figures["rows"]:
        out.setdefault((f"{row['reference']} without {' and '.join(row['left_out'])}", row["name"]), []).append(row)
    return out


def goals(figures: dict[str, Any]) -> list[list[str]]:
    """What was aimed at, what was measured, and whether it was met."""
    rows = [row for row in figures["rows"] if row["name"] == FIRST]
    taught = [row for row in rows if not row["refused"]]
    called = [row["other_half"]["called"] for row in taught]
    lost = [row["other_half"]["right_before"] - row["other_half"]["right"] for row in taught]
    whole = len(taught) == len(rows)
    return [
        [f"{FIRST} cells of the other half called so, every seed", f"≥ {CALLED:.0%}", over_seeds(called),
         "yes" if whole and min(called) >= CALLED else "no"],
        ["accuracy that known types lose, points, every seed", f"≤ {100 * LOST:g}",
         f"{points(mean(lost))} (at most {points(max(lost))})", "yes" if whole and max(lost) <= LOST else "no"],
        ["populations of known types, and cells at random, refused", "all",
         f"{sum(bool(row['refused']) for row in figures['wrong'])} of {len(figures['wrong'])}",
         "yes" if all(row["refused"] for row in figures["wrong"]) else "no"],
    ]  # fmt: skip


def asked_rows(figures: dict[str, Any], at: str) -> list[list[str]]:
    out = []
    for (reference, name), rows in lessons_of(figures).items():
        some = [row[at] for row in rows if not row["refused"]]
        if not some:
            continue
        before, after = ([one[key] for one in some] for key in ("right_before", "right"))
        out.append(
            [f"{reference}: {name}", f"{mean([one['cells'] for one in some]):.0f}",
             over_seeds([one["unknown_before"] for one in some]), over_seeds([one["called"] for one in some]),
             f"{percent(mean(before))} → {percent(mean(after))}",
             f"{sum(one['false'] for one in some)} of {sum(one['others'] for one in some)}"]
        )  # fmt: skip
    return out


def render(figures: dict[str, Any]) -> str:
    """The section of the page."""
    parts = [INTRO.format(minutes=f"{figures['minutes']:g}", seeds=len(figures["seeds"]))]
    parts.append(table(["goal", "aim", "measured", "met"], goals(figures)))
    learned = []
    for (reference, name), rows in lessons_of(figures).items():
        refused = [row["refused"] for row in rows if row["refused"]]
        held = [row["held_out"] for row in rows if not row["refused"]]
        learned.append(
            [f"{reference}: {name}", ", ".join(str(row["population"]) for row in rows),
             over_seeds([one["called"] for one in held]),
             ", ".join(str(one["claimed_others"]) for one in held) or MISSING,
             f"{len(refused)} of {len(rows)}" + (f": {'; '.join(sorted(set(refused)))}" if refused else "")]
        )  # fmt: skip
    parts.append("What was taught, and what the lesson's own held-out cells say, as the model card has it:\n")
    parts.append(table(["lesson", "cells", "held out, called", "other cells that look like it", "refused"], learned))
    header = ["lesson", "cells of the type", "Unknown before", "called", "known types right, before → after", "false"]
    parts.append("The other half of the sample:\n")
    parts.append(table(header, asked_rows(figures, "other_half")))
    parts.append("Another sample:\n")
    parts.append(table(header, asked_rows(figures, "other_sample")))
    foreign = [
        (name, row["foreign_name"], row["foreign"])
        for (_, name), rows in lessons_of(figures).items()
        for row in rows
        if not row["refused"]
    ]
    if foreign:
        parts.append(
            f"Another tissue (no cell of the type): of {sum(one['others'] for _, _, one in foreign)} cells in "
            f"{len(foreign)} annotations {sum(one['false'] for _, _, one in foreign)} get a taught name.\n"
        )
    parts.append("Populations that are none, named as if they were:\n")
    parts.append(
        table(
            ["population", "cells", "refused"],
            [
                [f"{row['sample']}, {row['what']}", str(row["population"]), row["refused"] or "no"]
                for row in figures["wrong"]
            ],
        )
    )
    frame = pd.DataFrame([row | {"sample": name} for name, rows in figures["mixed"].items() for row in rows])
    kinds = list(dict.fromkeys(frame["kind"]))
    parts.append(
        "Is a population of two kinds? Types by their authors' labels, and pairs of them; the table counts those that "
        "are refused as two. Single types that are: "
        + (", ".join(
            f"{row.types} of {row.sample}" for row in frame[(frame["kind"] == kinds[0]) & frame["refused"]].itertuples()
        ) or "none")
        + ".\n"
    )  # fmt: skip
    parts.append(
        table(
            ["sample", *kinds],
            [
                [name, *(f"{int(of['refused'].sum())} of {len(of)}" for kind in kinds
                         for of in [rows[rows["kind"] == kind]])]
                for name, rows in frame.groupby("sample", sort=False)
            ],
        )
    )  # fmt: skip
    return "\n".join(parts)
