"""Six samples of blood by an earlier commit and by this one, as `six_samples.py` measured them."""

from typing import Any

from sections.markdown import number, percent, table

ROWS = (
    ("cells after quality control", lambda run: f"{run['cells']:,}"),
    ("clusters found on", lambda run: run["clusters_on"]),
    ("clusters", lambda run: str(run["clusters"])),
    ("clusters with 90 % of one sample", lambda run: str(run["of_one_sample"])),
    ("iLISI of samples (1: mixed)", lambda run: number(run["ilisi"])),
    ("purity, labels of the run", lambda run: number(run["purity"])),
    ("purity, authors' labels of Kang's cells", lambda run: number(run["purity_authors"])),
    ("Unknown", lambda run: percent(run["unknown"])),
    ("report, MB", lambda run: number(run["report_bytes"] / 1e6, 1)),
    ("CPU s of a sample's tasks", lambda run: number(run["cpu_s_of_a_sample"], 1)),
    ("CPU s of the tasks of the run", lambda run: number(run["cpu_s_of_the_run"], 1)),
    (
        "CPU s for each sample, its share of the run's among them",
        lambda run: number(run["cpu_s_of_a_sample"] + run["cpu_s_of_the_run"] / run["samples"], 1),
    ),
)
"""What a row of the table shows, and how it is read from a run."""


def render(figures: dict[str, Any]) -> str:
    """The section as Markdown."""
    runs = figures["runs"]
    names = [run["checkout"] for run in runs]
    parts = [
        "## Six samples, then and now\n",
        f"Six samples of blood of five chemistries, {figures['cells']} cells each, two of them Kang's control and "
        "stimulated cells, by the pipeline with its defaults and the bundled annotator: by a commit from before "
        "integration, levels, second opinion, judges and explanations, and by this one. Purity: share of cells with "
        "the commonest label of their cluster; it falls with fewer clusters even where nothing is mixed up. "
        "This annotator tells naive from memory T cells, that of the earlier commit did not. CPU seconds are "
        "those of tasks, without Nextflow, where numba has what it compiled in earlier runs; a container keeps "
        "nothing of that, and CLUSTER_COHORT takes 5 s more there. `bench/six_samples.py` says how to run both "
        "again.\n",
        table(("", *names), [(what, *(told(run) for run in runs)) for what, told in ROWS]),
    ]
    for run in runs:
        parts.append(f"First screen of the report, {run['checkout']}:\n")
        parts.append("\n".join(f"- {line}" for line in run["first_screen"]) + "\n")
    return "\n".join(parts)
