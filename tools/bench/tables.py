"""Markdown tables of docs/benchmarks.md, made of the rows of bench.json."""

from typing import Any

import pandas as pd


def number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None or pd.isna(value) else f"{value:.{digits}f}"


def table(rows: list[list[str]], header: list[str]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def whole(frame: pd.DataFrame, split: str) -> str:
    """Methods on one split; several seeds as mean and standard deviation of macro-F1."""
    out = []
    for method, runs in frame[frame["split"] == split].groupby("method", sort=False):
        mean = runs.mean(numeric_only=True)
        spread = f" ± {number(runs['macro_f1'].std())}" if len(runs) > 1 else ""
        out.append(
            [
                str(method),
                number(mean["accuracy"]),
                number(mean["macro_f1"]) + spread,
                number(mean.get("false_unknown")),
                number(mean.get("worst_class_false_unknown")),
                number(mean.get("ece")),
                number(mean["train_seconds"], 1),
                number(mean["cells_per_second"], 0),
            ]
        )
    header = ["method", "accuracy", "macro-F1", "false Unknown", "worst class", "ECE", "training s", "cells/s"]
    return table(out, header)


def left_out(frame: pd.DataFrame, split: str) -> str:
    """Means over the types left out in turn."""
    out = []
    for method, runs in frame[frame["split"] == split].groupby("method", sort=False):
        mean = runs.mean(numeric_only=True)
        columns = ["auroc", "caught_at_5", "unseen_unknown", "false_unknown", "oscr", "macro_f1"]
        out.append([str(method), str(len(runs))] + [number(mean.get(column)) for column in columns])
    header = ["method", "types", "AUROC", "caught at 5 %", "Unknown (unseen)", "false Unknown", "OSCR", "macro-F1"]
    return table(out, header)


def tables(rows: list[dict[str, Any]]) -> str:
    """All tables as one Markdown text."""
    frame = pd.DataFrame(rows)
    complete, partial = frame[frame["left_out"].isna()], frame[frame["left_out"].notna()]
    parts = []
    if len(complete):
        means = complete.groupby(["method", "split"])["macro_f1"].mean().unstack()
        means["mean"] = means.mean(axis=1)
        means = means.sort_values("mean", ascending=False)
        rows_ = [[str(m)] + [number(v) for v in row] for m, row in zip(means.index, means.to_numpy(), strict=True)]
        parts.append("## Macro-F1\n\n" + table(rows_, ["method", *map(str, means.columns)]))
        parts += [f"## {split}\n\n{whole(complete, split)}" for split in complete["split"].unique()]
    parts += [
        f"## {split}, each type left out in turn\n\n{left_out(partial, split)}" for split in partial["split"].unique()
    ]
    return "\n".join(parts)
