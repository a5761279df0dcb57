"""Seconds of training and annotating, beside CellTypist's."""

from typing import Any

from sections.markdown import number, table

GOAL_TRAIN, GOAL_RATIO = 120, 4


def render(figures: dict[str, Any]) -> str:
    methods = figures["methods"]
    own, other = methods["SpikGPT"], methods["CellTypist"]
    ratio = other["annotate_seconds"] / own["annotate_seconds"]
    rows = [
        [name, number(m["train_seconds"], 1), number(m["annotate_seconds"], 1), number(m["cells_per_second"], 0)]
        for name, m in methods.items()
    ]
    met = {True: "yes", False: "**no**"}
    aims = [
        [
            f"training on {figures['train_cells']:,} cells",
            f"at most {GOAL_TRAIN} s",
            f"{number(own['train_seconds'], 0)} s",
            met[own["train_seconds"] <= GOAL_TRAIN],
        ],
        [
            f"annotating {figures['annotate_cells']:,} cells, times CellTypist's speed",
            f"at least {GOAL_RATIO}",
            number(ratio, 1),
            met[ratio >= GOAL_RATIO],
        ],
    ]
    return (
        "## Speed\n\n"
        f"`make bench-speed`: Baron's cells drawn with replacement ({figures['genes']:,} genes, "
        f"{figures['types']} types), each count thinned (binomial, {100 * figures['kept']:.0f} % kept) and noise "
        f"added to the embedding ({number(figures['noise'], 1)} of each dimension's standard deviation), so that no "
        f"two cells are equal. Seconds on the clock with {figures['cores']} cores, one method after the other; the "
        "embedding, which comes before, is not in them.\n\n"
        + table(["method", "training, s", "annotating, s", "cells/s"], rows)
        + "\n"
        + table(["goal", "asked", "reached", "met"], aims)
    )
