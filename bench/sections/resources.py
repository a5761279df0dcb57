"""Memory and time of every process, from Nextflow's traces."""

from typing import Any

from sections.markdown import MISSING, table


def render(figures: dict[str, Any]) -> str:
    runs = figures["runs"]
    names = list(dict.fromkeys(row["process"] for run in runs for row in run["processes"]))
    header = ["process"]
    for run in runs:
        header += [f"{run['cells']:,} cells: tasks", "CPU s", "peak MiB"]
    lines = []
    for name in names:
        line = [name]
        for run in runs:
            row = next((row for row in run["processes"] if row["process"] == name), None)
            line += [str(row["tasks"]), f"{row['cpu_s']:.1f}", f"{row['peak_mib']:,}"] if row else [MISSING] * 3
        lines.append(line)
    told = figures["machine"]
    return f"""\
## Resources

Cells that a run embedded, its reference's among them, the CPU seconds of all tasks of a process, and the peak memory of
the largest, as Nextflow's traces have them; {told["cpu"]} ({told["cores"]} cores), torch {told["torch"]}.
`bench/resources.py add` reads a trace, `bench/resources.py run` makes runs of any size. The labels of
`conf/base.config` are sized from this table and from the steps measured on 100,000 cells above: what a process asks for
first is enough for a sample of that size, and a killed task is given more.

{table(header, lines)}
{one_sample(figures.get("sample"))}"""


OF_A_SAMPLE = (
    "IMPORT_COUNTS", "QC_METRICS", "DETECT_DOUBLETS", "FILTER_CELLS", "NORMALISE", "EMBED_SCGPT", "SECOND_OPINION",
    "ANNOTATE", "CHOOSE_LABELS", "WRITE_SAMPLE",
)  # fmt: skip
"""Processes with a task for every sample; the others run once for all of them."""


def one_sample(measured: dict[str, Any] | None) -> str:
    """The part on one small sample by two checkouts of the pipeline."""
    if measured is None:
        return ""
    runs = {run["checkout"]: {row["process"]: row["cpu_s"] for row in run["processes"]} for run in measured["runs"]}
    names = list(dict.fromkeys(name for rows in runs.values() for name in rows))
    names.sort(key=lambda name: name not in OF_A_SAMPLE)

    def seconds(rows: dict[str, float], of: tuple[str, ...] | list[str]) -> str:
        return f"{sum(rows.get(name, 0.0) for name in of):.1f}"

    rest = [name for name in names if name not in OF_A_SAMPLE]
    lines = [["**per sample**", *(seconds(rows, OF_A_SAMPLE) for rows in runs.values())]]
    for name in names:
        if name == rest[0]:
            lines.append(["**once per run**", *(seconds(rows, rest) for rows in runs.values())])
        lines.append([name, *(f"{rows[name]:.1f}" if name in rows else MISSING for rows in runs.values())])
    told = measured["machine"]
    return f"""
**One sample of {measured["number"]} cells** (every n-th of {measured["source"]}) with the bundled annotator, CPU s
of each process by two checkouts in one call of `bench/resources.py sample`; {told["cpu"]} ({told["cores"]} cores), with
other work on the machine, which makes all of them larger. Most of it is the start of Python and its libraries. A run of
many samples pays the second part once.

{table(["process", *runs], lines)}"""
