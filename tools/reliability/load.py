#!/usr/bin/env python3
"""Time and memory of a whole run on many samples, or on one large sample, and what -resume does with one more.

    tools/reliability/load.py --cells pbmc3k.h5ad --samples 200 --cells-each 500 --work DIR
    tools/reliability/load.py --cells pbmc3k.h5ad --samples 1 --cells-each 200000 --work DIR

Cells are drawn from real ones with replacement and thinned (bench/resample.py), so that no two are equal; their
types come from the bundled annotator of blood. The run has 2 cores and 16 GB: its tasks may ask for 14 GB together,
and the head job's Java has a heap of 2 GB at most. Every second the memory of all processes of the run is added up;
memory that processes share counts for each of them. Where there are several samples, one is added afterwards, and the
tasks that -resume then runs are compared with those that it must run.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "bench")]

import anndata as ad  # noqa: E402
from launch import start  # noqa: E402
from library.measure import machine  # noqa: E402
from resample import write_resampled  # noqa: E402
from resources import processes  # noqa: E402

CORES, LIMIT_GB, HEAD_HEAP_GB = 2, 16, 2
DEPTH, KEPT = 2000, 0.9
PAGE = os.sysconf("SC_PAGE_SIZE")
BATCHES = 8
"""Samples take turns in so many batches, so that the step that compares batches runs too."""
OF_A_SAMPLE = ("IMPORT_COUNTS", "QC_METRICS", "DETECT_DOUBLETS", "FILTER_CELLS", "NORMALISE", "EMBED_SCGPT", "ANNOTATE")
"""Processes that see one sample alone."""
OF_THE_ANNOTATOR = ("CHECK_ANNOTATOR",)
WITH_THE_COHORT = ("WRITE_SAMPLE",)
"""Per sample, with what all samples together gave (clusters, map): every sample again when one is added."""


def write_samples(source: ad.AnnData, numbers: range, cells: int, folder: Path) -> Path:
    """The samples `numbers`, and a samplesheet of all so far."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        path = folder / f"s{number:04d}.h5ad"
        write_resampled(source, cells, path, depth=DEPTH, seed=number, kept=KEPT)
    lines = [
        f"{path.stem},{path},counts,run {number % BATCHES}"
        for number, path in enumerate(sorted(folder.glob("s*.h5ad")))
    ]
    sheet = folder / "samplesheet.csv"
    sheet.write_text("\n".join(["sample,filtered,counts_layer,batch", *lines]) + "\n")
    return sheet


def resident(session: int) -> tuple[int, int]:
    """Bytes in memory of all processes of a session, and the most that its Java has had."""
    total = head = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            name, _, fields = (entry / "stat").read_text().partition("(")[2].rpartition(")")
            values = fields.split()
            if int(values[3]) != session:
                continue
            total += int(values[21]) * PAGE
            if name == "java":
                peak = (entry / "status").read_text().partition("VmHWM:")[2].split()
                head = max(head, int(peak[0]) * 1024 if peak else 0)
        except OSError:
            continue  # it ended meanwhile
    return total, head


def watched(run: subprocess.Popen) -> dict[str, float]:
    """Seconds of a run, and its memory, in MiB."""
    began, peak, head = time.monotonic(), 0, 0
    while run.poll() is None:
        now, java = resident(run.pid)
        peak, head = max(peak, now), max(head, java)
        time.sleep(1)
    return {
        "status": run.returncode, "wall_s": round(time.monotonic() - began),
        "peak_mib": round(peak / 2**20), "head_peak_mib": round(head / 2**20),
    }  # fmt: skip


def must_run(first: dict[str, int], samples: int) -> dict[str, int]:
    """Tasks by process that one sample more makes necessary, from those of the run with `samples`."""
    wanted = {}
    for process, tasks in first.items():
        if process in OF_A_SAMPLE:
            wanted[process] = tasks // samples
        elif process in WITH_THE_COHORT:
            wanted[process] = samples + 1
        elif process not in OF_THE_ANNOTATOR:
            wanted[process] = 1
    return wanted


def tasks_of(rows: list[dict]) -> dict[str, int]:
    return {row["process"]: row["tasks"] for row in rows}


def loaded(source: ad.AnnData, samples: int, cells: int, folder: Path) -> dict:
    """A run, and one with a sample more by -resume."""
    shutil.rmtree(folder, ignore_errors=True)
    sheet = write_samples(source, range(samples), cells, folder / "data")
    limits = folder / "limits.config"
    tasks = f"{LIMIT_GB - HEAD_HEAP_GB}.GB"
    limits.write_text(
        f"executor {{ cpus = {CORES}; memory = '{tasks}' }}\n"
        f"process.resourceLimits = [cpus: {CORES}, memory: {tasks}]\n"
    )
    words = ("-c", str(limits), "-profile", "local", "--input", str(sheet), "--outdir", "results")
    heap = {"NXF_OPTS": f"-Xmx{HEAD_HEAP_GB}g"}
    trace = folder / "results" / "pipeline_info" / "trace.tsv"
    found = {"samples": samples, "cells_each": cells, **watched(start(folder, *words, env=heap))}
    if found["status"]:
        sys.exit(f"the run failed; see {folder}/log.txt")
    found["processes"] = processes(trace)
    if samples > 1:
        write_samples(source, range(samples, samples + 1), cells, folder / "data")
        again = watched(start(folder, *words, "-resume", env=heap))
        if again["status"]:
            sys.exit(f"the run with one sample more failed; see {folder}/log.txt")
        found["one_more"] = {
            **again, "ran": tasks_of(processes(trace)), "must": must_run(tasks_of(found["processes"]), samples),
        }  # fmt: skip
    return found


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--cells", type=Path, required=True, help="h5ad of real blood cells, raw counts in X")
    made.add_argument("--samples", type=int, default=200)
    made.add_argument("--cells-each", type=int, default=500, help="cells of each sample")
    made.add_argument("--work", type=Path, required=True, help="folder for data and runs")
    made.add_argument("--json", type=Path, default=ROOT / "docs" / "reliability" / "load.json")
    given = made.parse_args()
    source = ad.read_h5ad(given.cells)
    name = f"{given.samples}x{given.cells_each}"
    found = loaded(source, given.samples, given.cells_each, given.work.resolve() / name)
    found["drawn_from"] = f"{source.n_obs:,} cells of {given.cells.name}"
    before = json.loads(given.json.read_text(encoding="utf-8"))["runs"] if given.json.exists() else []
    size = (given.samples, given.cells_each)
    runs = [run for run in before if (run["samples"], run["cells_each"]) != size] + [found]
    content = {
        "machine": machine(), "cores": CORES, "limit_gb": LIMIT_GB, "head_heap_gb": HEAD_HEAP_GB,
        "runs": sorted(runs, key=lambda run: (-run["samples"], run["cells_each"])),
    }  # fmt: skip
    given.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    more = found.get("one_more", {"ran": {}, "must": {}})
    sys.exit(more["ran"] != more["must"] or found["peak_mib"] > LIMIT_GB * 1000**3 / 2**20)


if __name__ == "__main__":
    main()
