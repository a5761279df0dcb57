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

{table(header, lines)}"""
