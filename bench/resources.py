#!/usr/bin/env python3
r"""What each process of the pipeline takes: runs at several sizes, read from Nextflow's traces.

    bench/resources.py run --cells human1_lib3.h5ad --reference reference.h5ad --sizes 1000 20000 \
        --work DIR --out resources.json
    bench/resources.py add --cells 735 --out resources.json trace.tsv
    bench/resources.py sample --cells pbmc4k.h5ad --checkouts 70e9431=OTHER now=. --work DIR --out resources.json

`run` draws cells of a real data set (resample.py) into two samples and runs the pipeline with -profile local; `add`
reads the trace of any run (results/pipeline_info/trace.tsv). `sample` gives one sample of real blood cells to the
bundled annotator, by each of several checkouts of the pipeline in turn, and keeps each one's smallest sum.
"""

import argparse
import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import anndata
import numpy as np
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


def sample(given: argparse.Namespace) -> None:
    """One sample by each checkout in turn, `repeats` times; of each the run with the fewest CPU seconds: what else a
    machine does at the time only ever adds to them."""
    given.work.mkdir(parents=True, exist_ok=True)
    source = anndata.read_h5ad(given.cells)
    # every n-th cell, so that the share of each type is that of the file
    chosen = np.linspace(0, source.n_obs - 1, given.number).astype(int)
    made = (given.work / "sample.h5ad").resolve()
    anndata.AnnData(source.X[chosen], obs=source.obs[[]].iloc[chosen], var=source.var[[]]).write_h5ad(made)
    sheet = given.work / "samplesheet.csv"
    sheet.write_text(f"sample,filtered\nsample,{made}\n")
    best: dict[str, list[dict]] = {}
    for turn in range(given.repeats):
        for name, checkout in (word.split("=", 1) for word in given.checkouts):
            folder = given.work / f"{name}.{turn}"
            folder.mkdir()
            subprocess.run(
                ["nextflow", "run", Path(checkout).resolve(), "-ansi-log", "false", "-profile", "local,test", "--input",
                 sheet.resolve(), "--outdir", "results"],
                cwd=folder, check=True, stdout=sys.stderr,
            )  # fmt: skip
            rows = processes(folder / "results/pipeline_info/trace.tsv")
            if name not in best or cpu_seconds(rows) < cpu_seconds(best[name]):
                best[name] = rows
    told = {"source": given.cells.stem, "number": given.number, "repeats": given.repeats, "machine": machine()}
    runs = [{"checkout": name, "processes": rows} for name, rows in best.items()]
    store(given.out, "sample", {**told, "runs": runs})


def cpu_seconds(rows: list[dict]) -> float:
    return sum(row["cpu_s"] for row in rows)


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
    samples = what.add_parser("sample")
    samples.add_argument("--cells", type=Path, required=True, help="h5ad of blood cells with raw counts in X")
    samples.add_argument("--number", type=int, default=500, help="cells of the sample")
    samples.add_argument("--checkouts", nargs="+", required=True, help="NAME=FOLDER of each checkout, in turn")
    samples.add_argument("--repeats", type=int, default=2, help="runs of each")
    samples.add_argument("--work", type=Path, required=True)
    samples.add_argument("--out", type=Path, required=True)
    samples.set_defaults(do=sample)
    given = made.parse_args()
    given.do(given)


if __name__ == "__main__":
    main()
