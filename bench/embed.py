#!/usr/bin/env python3
"""Our embedding beside `embed_data` of the scgpt package: cells per second and peak memory, on the same real cells.

In one run, each way in a process and an environment of its own, on the same cores; speed is cells per second of
CPU time, which other work on the machine changes least. A checkpoint of the published
size (12 layers x 512, 60,697 tokens) has random weights: they do not change the speed.
"""

import argparse
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bin"))

import anndata  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from library.measure import machine, measured, store  # noqa: E402
from spikgpt.scgpt.model import ScGPT  # noqa: E402

TOKENS = 60_697
"""Of the published whole-human checkpoint."""
BUDGETS = (2_400, 9_600)
"""Tokens of the padded batches that one cell at a time is compared with."""


def random_checkpoint(folder: Path, symbols: list[str]) -> None:
    """Write a checkpoint of the published size; its vocabulary starts with these genes."""
    folder.mkdir(parents=True, exist_ok=True)
    special = ["<pad>", "<cls>", "<eoc>"]
    tokens = [*symbols, *(f"other{i}" for i in range(TOKENS - len(symbols) - len(special))), *special]
    settings = {"embsize": 512, "nheads": 8, "d_hid": 512, "nlayers": 12, "n_layers_cls": 3, "dropout": 0.2}
    (folder / "args.json").write_text(json.dumps(settings | {"pad_token": "<pad>", "pad_value": -2}))
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    torch.manual_seed(0)
    torch.save(ScGPT(len(tokens), 512, 8, 512, 12).state_dict(), folder / "best_model.pt")


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--cells", type=Path, required=True, help="h5ad of real cells, raw counts in X")
    made.add_argument("--package-python", type=Path, default=ROOT / ".venv-scgpt" / "bin" / "python")
    made.add_argument("--full", type=int, default=64, help="cells at full size (embed_data's batch is 64)")
    made.add_argument("--mini", type=int, default=640, help="cells with the bundled checkpoint")
    made.add_argument("--cores", type=int, default=1)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--work", type=Path, required=True)
    made.add_argument("--out", type=Path, required=True)
    args = made.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    # the package starts as many threads and workers as it may use cores
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-args.cores :])
    threads = {name: str(args.cores) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}

    cells = anndata.read_h5ad(args.cells)
    random_checkpoint(args.work / "full", list(cells.var_names))
    bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    ways: list[tuple[str, list]] = [("package", []), ("fp32", [])]
    ways += [("bf16", [])] if bf16 else []
    ways += [("fp32", ["--budget", budget]) for budget in BUDGETS]
    results = []
    for size, checkpoint, number in (
        ("12 x 512, random weights", args.work / "full", args.full),
        ("bundled", ROOT / "assets" / "scgpt-mini", args.mini),
    ):
        drawn = np.random.default_rng(args.seed).choice(cells.n_obs, size=number, replace=False)
        file = args.work / f"cells{number}.h5ad"
        cells[np.sort(drawn)].write_h5ad(file)
        embedding = {}
        for way, options in ways:
            python = args.package_python if way == "package" else sys.executable
            out = args.work / "embedding.npy"
            command = [python, ROOT / "bench" / "embed_once.py", "--h5ad", file, "--checkpoint", checkpoint]
            command += ["--way", way, *options, "--threads", args.cores, "--out", out]
            cost = measured(command, env=os.environ | threads)
            name = " ".join(map(str, [way, *options]))
            embedding[name] = np.load(out)
            took = json.loads(cost["output"].splitlines()[-1])
            off = None if way == "package" or name == "fp32" else np.abs(embedding[name] - embedding["fp32"]).max()
            result = {
                "checkpoint": size,
                "way": way,
                "token_budget": options[1] if options else None,
                "cells": number,
                **took,
                "cells_per_core_second": round(number / took["cpu_s"], 3),
                "peak_rss_mib": cost["peak_rss_mib"],
                "largest_difference_to_fp32": None if off is None else float(f"{off:.2g}"),
            }
            print(json.dumps(result), file=sys.stderr)
            results.append(result)
        alone = {r["way"]: r for r in results if r["checkpoint"] == size and r["token_budget"] is None}
        theirs = alone.pop("package")
        for way, result in alone.items():
            result["speed_ratio"] = round(result["cells_per_core_second"] / theirs["cells_per_core_second"], 2)
            result["memory_ratio"] = round(result["peak_rss_mib"] / theirs["peak_rss_mib"], 2)
            print(f"{size}, {way}: {result['speed_ratio']} x embed_data's speed, {result['memory_ratio']} x its memory")
    content = {"machine": machine(), "cores_used": args.cores, "results": results}
    store(args.out, "package", content)


if __name__ == "__main__":
    main()
