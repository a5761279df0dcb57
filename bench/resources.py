#!/usr/bin/env python3
r"""What each process of the pipeline takes: runs at several sizes, read from Nextflow's traces.

    bench/resources.py run --cells human1_lib3.h5ad --reference reference.h5ad --sizes 1000 20000 \
        --work DIR --out resources.json
    bench/resources.py add --cells 735 --out resources.json trace.tsv

`run` draws cells of a real data set (resample.py) into two samples and runs the pipeline with -profile local; `add`
reads the trace of any run (results/pipeline_info/trace.tsv).
"""

import argparse
import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import anndata
from library.measure import machine, measured, store

ROOT = Path(__file__).resolve().parents[1]
DEPTH = 2000


UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
SIZES = {"B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}


def seconds_of(text: str) -> float:
    """``1m 17s`` as seconds."""
    return sum(float(number) * UNITS[unit] for number, unit in re.findall(r"([\d.]+)(ms|[smhd])", text))


def bytes_of(text: str) -> float:
    """``846.3 MB`` as bytes."""
    number, _, unit = text.partition(" ")
    return float(number) * SIZES[unit or "B"]


def processes(trace: Path) -> list[dict]:
    """Per process, by their first tasks: tasks, CPU seconds of all, the longest's seconds, the largest's memory."""
    rows: dict[str, dict] = {}
    with trace.open(newline="") as file:
        for task in csv.DictReader(file, delimiter="\t"):
            if task["status"] != "COMPLETED":
                continue
            if "-" in (task["%cpu"], task["peak_rss"]):
                raise SystemExit(f"{trace}: {task['name']} has no peak memory; traces need ps (procps)")
            name = task["name"].split(" ")[0].split(":")[-1]
            row = rows.setdefault(name, {"process": name, "tasks": 0, "cpu_s": 0.0, "longest_s": 0.0, "peak_mib": 0})
            seconds = seconds_of(task["realtime"])
            row["tasks"] += 1
            row["cpu_s"] = round(row["cpu_s"] + seconds * float(task["%cpu"].rstrip("%")) / 100, 1)
            row["longest_s"] = max(row["longest_s"], round(seconds, 1))
            row["peak_mib"] = max(row["peak_mib"], round(bytes_of(task["peak_rss"]) / 2**20))
    return list(rows.values())


def add(out: Path, cells: int, trace: Path) -> None:
    before = json.loads(out.read_text()) if out.exists() else {}
    runs = [run for run in before.get("runs", []) if run["cells"] != cells]
    runs.append({"cells": cells, "processes": processes(trace)})
    store(out, "machine", machine())
    store(out, "depth", DEPTH)
    store(out, "runs", sorted(runs, key=lambda run: run["cells"]))


def run(given: argparse.Namespace) -> None:
    for cells in given.sizes:
        folder = given.work / f"resources{cells}"
        folder.mkdir(parents=True, exist_ok=True)
        sheet = ["sample,filtered,counts_layer"]
        for seed in (0, 1):
            made = folder / f"s{seed}.h5ad"
            measured([sys.executable, ROOT / "bench/resample.py", "--cells", given.cells, "--seed", seed,
                      "--number", cells // 2, "--depth", DEPTH, "--out", made])  # fmt: skip
            sheet.append(f"s{seed},{made.resolve()},counts")
        (folder / "samplesheet.csv").write_text("\n".join(sheet) + "\n")
        subprocess.run(
            ["nextflow", "run", ROOT, "-ansi-log", "false", "-profile", "local", "--input", "samplesheet.csv",
             "--reference", given.reference.resolve(), "--batch_key", "library", "--outdir", "results"],
            cwd=folder, check=True, stdout=sys.stderr,
        )  # fmt: skip
        embedded = cells + len(anndata.read_h5ad(given.reference, backed="r"))
        add(given.out, embedded, folder / "results/pipeline_info/trace.tsv")


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = made.add_subparsers(required=True)
    runs = what.add_parser("run")
    runs.add_argument("--cells", type=Path, required=True, help="h5ad with raw counts in X")
    runs.add_argument("--reference", type=Path, required=True, help="h5ad with cell_type and library in obs")
    runs.add_argument("--sizes", type=int, nargs="+", required=True, help="cells of each run, beside the reference's")
    runs.add_argument("--work", type=Path, required=True)
    runs.add_argument("--out", type=Path, required=True)
    runs.set_defaults(do=run)
    adds = what.add_parser("add")
    adds.add_argument("--cells", type=int, required=True, help="cells that the run embedded")
    adds.add_argument("--out", type=Path, required=True)
    adds.add_argument("trace", type=Path)
    adds.set_defaults(do=lambda given: add(given.out, given.cells, given.trace))
    given = made.parse_args()
    given.do(given)


if __name__ == "__main__":
    main()
