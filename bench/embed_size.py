#!/usr/bin/env python3
"""What embedding costs from ten thousand to a million cells: seconds per cell and peak memory.

One task embeds the whole file on one core, by the script that the pipeline runs. The cells are real ones,
thinned to a depth and drawn again and again (resample.py); the checkpoint is the bundled one.
"""

import argparse
import json
import sys
from pathlib import Path

from library.measure import machine, measured, store

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINT = ROOT / "assets" / "scgpt-mini"


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--cells", type=Path, required=True, help="h5ad with raw counts in X")
    made.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    made.add_argument("--depth", type=int, default=500, help="counts per cell")
    made.add_argument("--work", type=Path, required=True, help="folder for files of up to 1 GB")
    made.add_argument("--out", type=Path, required=True, help="JSON; sizes that it holds already are not run again")
    args = made.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)

    def embed(name: str, cells: int) -> dict:
        file, sample = args.work / f"{name}.h5ad", f"{name}to{cells}"
        script = [sys.executable, ROOT / "bin" / "embed_scgpt.py", "--sample", sample, "--h5ad", file.resolve()]
        span = ["--scgpt-model", CHECKPOINT, "--start", 0, "--end", cells]
        cost = measured([*script, *span], cwd=args.work)
        del cost["output"]
        stats = json.loads((args.work / f"{sample}.000000000.embedding.json").read_text())
        return {"cells": cells, "tokens_mean": stats["tokens_mean"], **cost}

    before = json.loads(args.out.read_text()) if args.out.exists() else {}
    runs = before.get("size", {}).get("runs", [])
    for size in args.sizes:
        if any(run["cells"] == size for run in runs):
            continue
        name = f"resampled{size}"
        if not (args.work / f"{name}.h5ad").exists():
            resample = [sys.executable, ROOT / "bench" / "resample.py", "--cells", args.cells]
            measured([*resample, "--number", size, "--depth", args.depth, "--out", args.work / f"{name}.h5ad"])
        # what it costs to start, read the checkpoint and the genes; per cell is what comes on top
        start, run = embed(name, 0), embed(name, size)
        for kind in ("wall", "cpu"):
            run[f"{kind}_ms_per_cell"] = round(1000 * (run[f"{kind}_s"] - start[f"{kind}_s"]) / size, 3)
        run["file_mib"] = round((args.work / f"{name}.h5ad").stat().st_size / 2**20)
        print(json.dumps(run), file=sys.stderr)
        runs = sorted([*runs, run], key=lambda run: run["cells"])
        result = {"machine": machine(), "depth": args.depth, "threads": 1, "runs": runs}
        store(args.out, "size", result)


if __name__ == "__main__":
    main()
