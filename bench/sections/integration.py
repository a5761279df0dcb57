"""Clusters of several samples with and without Harmony, as `integration.py` measured them."""

from typing import Any

from sections.markdown import number, percent, table

RULE = """\
`--integrate auto` decides by scores that need no author's label, on their own scales: batches mix poorly within the
types where the effective number of batches near a cell is less than half way from one batch to random mixing, and
labels are kept where at most one neighbour in twenty more is of another label. Both numbers are the scales' own; none
was fitted to these sets. Purity: share of cells whose authors' label is the commonest of their cluster; it falls with
fewer clusters even where nothing is mixed up. ARI: adjusted Rand index of clusters and authors' labels, which does not.
Labels are in the widest words that a sample of the set has (T/NK, Mono). `make bench-integration DATA=folder` measures
all of it again."""


def render(figures: dict[str, Any]) -> str:
    """The section as Markdown."""
    header = (
        "set",
        "--integrate",
        "used",
        "mixing within types",
        "iLISI",
        "kBET",
        "cLISI",
        "clusters",
        f"≥ {percent(figures['one_sample'], 0)} one sample",
        "labels",
        "purity",
        "ARI",
        "CPU s",
    )
    rows = [
        (
            entry["set"],
            asked,
            run["used"],
            number(run["mixing"], 2),
            number(run["ilisi"]),
            number(run["kbet_acceptance"]),
            number(run["clisi"]),
            str(run["clusters"]),
            str(run["of_one_sample"]),
            str(run["labels"]),
            number(run["purity"]),
            number(run["adjusted_rand"]),
            number(sum(run["cpu_s"].values()), 0),
        )
        for entry in figures["sets"]
        for asked, run in entry["runs"].items()
    ]
    parts = [
        "## Integration\n",
        f"Clusters with and without Harmony (harmonypy {figures['harmonypy']}), each sample a batch.\n",
        table(header, rows),
        RULE + "\n",
        "Reasons given: "
        + "; ".join(f"{entry['set']}: {entry['runs']['auto']['reason']}" for entry in figures["sets"])
        + ".\n",
        f"CPU seconds are of the steps BATCH_MIXING and CLUSTER_COHORT, on {figures['machine']['cpu']}; with Harmony "
        "the second makes a map without it too.\n",
    ]
    return "\n".join(parts)
