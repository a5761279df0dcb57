"""Answers on levels: the composition at two depths, where cells stopped and why, and what the levels come to."""

from typing import Any

import pandas as pd

from spikgpt import UNKNOWN
from spikgpt.base.colours import cell_type_colours
from spikgpt.base.columns import ANCESTOR, LEAF, UNKNOWN_REASONS
from spikgpt.cohort.levels import FAR, SEVERAL
from spikgpt.report.content import Section, labels, number, text
from spikgpt.report.inputs import Inputs
from spikgpt.report.plots import TableColumn, bars, table

WHY = {
    SEVERAL: "several types could not be excluded",
    FAR: f"far from the type, as cells of a missing type beside it are, or nearly {UNKNOWN}",
    **{reason.name: f"{UNKNOWN}: {reason.meaning}" for reason in UNKNOWN_REASONS},
    "": "the type holds",
}
"""Why a cell stopped where it did, in words."""


def levels_bars(inputs: Inputs) -> Section | None:
    """Levels per sample: as deep as they hold, and coarse."""
    parts = _parts(inputs)
    if parts is None:
        return None
    data, tabs, categories = [], [], []
    for column, title in (("cell_type", "As deep as it holds"), ("coarse", "Coarse")):
        names = [*sorted(set(parts[column]) - {UNKNOWN}), *([UNKNOWN] if UNKNOWN in set(parts[column]) else [])]
        shown, colours = labels(names), cell_type_colours(names)
        ids = {name: f"t{at}" for at, name in enumerate(names)}
        categories.append({ids[name]: {"name": shown[name], "color": colours[name]} for name in names})
        counts = parts.pivot_table(index="sample", columns=column, values="cells", aggfunc="sum", fill_value=0)
        samples = labels(str(sample) for sample in counts.index)
        data.append(
            {samples[str(sample)]: {ids[t]: int(row[t]) for t in counts.columns} for sample, row in counts.iterrows()}
        )
        tabs.append({"name": title, "ylab": "Cells"})
    return bars(
        "spikgpt_levels",
        "Composition on levels",
        "Each cell by the deepest level that holds at the unknown rate: its type, or a level above it where the type "
        f"does not hold. {text(_told(inputs))} The coarse tab joins them to the largest levels that still tell most "
        "types apart. The plain labels are in the section Composition; tables/levels.tsv has the numbers.",
        data,
        categories,
        data_labels=tabs,
        cpswitch_c_active=False,
    )


def stopped_table(inputs: Inputs) -> Section | None:
    """Where cells stopped, and why, all samples together."""
    parts = _parts(inputs)
    if parts is None:
        return None
    whole = int(parts["cells"].sum())
    rows: dict[str, dict[str, Any]] = {}
    above = parts[parts["level"] != LEAF]
    groups = [((LEAF, ""), parts[parts["level"] == LEAF])]
    groups += sorted(above.groupby(["cell_type", "why"]), key=lambda part: (-int(part[1]["cells"].sum()), part[0]))
    for (name, why), of_level in groups:
        cells = int(of_level["cells"].sum())
        matches = of_level.groupby("best_match")["cells"].sum().sort_values(ascending=False, kind="stable")
        rows[f"{len(rows) + 1}"] = {
            "level": "the type itself" if name == LEAF else text(name),
            "why": WHY.get(why, text(why)),
            "cells": cells,
            "percent": number(100 * cells / whole),
            "best": ", ".join(f"{text(match)} ({int(n):,})" for match, n in matches.iloc[:3].items())
            + (f" and {len(matches) - 3} more" if len(matches) > 3 else ""),
        }
    return table(
        "spikgpt_stopped",
        "Where cells stopped, and why",
        "A cell climbs from its best match to the first level that holds. Many cells of one type that stop above it "
        "because they lie far from it suggest a type that the reference lacks beside it, or a state (stimulated, "
        "cycling) that it has not seen.",
        rows,
        {
            "level": TableColumn("Level", "The answer"),
            "why": TableColumn("Why", "Why it is no deeper"),
            "cells": TableColumn("Cells", "Cells, all samples together", decimals=0),
            "percent": TableColumn("%", "Of all annotated cells"),
            "best": TableColumn("Best matches", "The types that these cells resemble most"),
        },
        first="Row",
        decimals=1,
    )


def realised_table(inputs: Inputs) -> Section | None:
    """What the levels come to on held-out cells of the reference, type by type."""
    config = inputs.annotator or {}
    levels = config.get("levels") or {}
    held = levels.get("held_out")
    if not held or not levels["nodes"]:
        return None

    def share(value: float | None) -> float | int | None:
        return None if value is None else number(100 * value)

    rows = {
        text(name): {"leaf": share(row["at_type"]), "missed": share(row["set_error"]), "size": number(row["set_size"])}
        for name, row in held["types"].items()
    }
    wrong = [
        f"{100 * held[key]:.1f} % {words}"
        for key, words in (("error_at_type", "of those called by a type"), ("error_above", "of those at a level above"))
        if held[key] is not None
    ]
    return table(
        "spikgpt_levels_held_out",
        "Levels on held-out cells",
        f"Of {held['cells']:,} held-out cells of the reference {100 * held['at_type']:.1f} % were called by a type, "
        f"{100 * held['above']:.1f} % at a level above and {100 * held['unknown']:.1f} % {UNKNOWN}. Wrong were "
        f"{' and '.join(wrong)}. The set of types missed the right one for {100 * held['set_error']:.1f} % of the "
        f"cells; the rate is {100 * float(config['unknown_rate']):g} %. Expect more on another laboratory's data.",
        rows,
        {
            "leaf": TableColumn("Called by its type %", "Held-out cells of the type that stopped at a type"),
            "missed": TableColumn("Not in the set %", "Cells whose set of types does not have the right one"),
            "size": TableColumn("Types in the set", "Mean number", decimals=2),
        },
        first="Type",
        decimals=1,
    )


def _parts(inputs: Inputs) -> pd.DataFrame | None:
    """`levels.tsv`; None where there is no level above types, which makes it the composition once more."""
    parts = inputs.tables.get("levels.tsv")
    if parts is None or not len(parts) or not parts["level"].str.startswith(ANCESTOR).any():
        return None
    return parts.assign(cells=parts["cells"].astype(int))


def _told(inputs: Inputs) -> str:
    """How the tree was made."""
    return str((inputs.annotator or {}).get("levels", {}).get("told", ""))
