#!/usr/bin/env python3
"""Which expression bin a tied count should get: drawn as scGPT draws it, drawn several times and averaged, or the mean.

Counts are full of ties, and scGPT gives each a random one of the bins it spans. Judged by what the embedding
is for: logistic regression learns a reference's labels on the CLS embeddings and is scored on a query
(tools/assets/evaluate_mini.py), both embedded in the same way.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "bin"), str(ROOT / "tools" / "assets")]

import numpy as np  # noqa: E402
from evaluate_mini import read_cells, transfer  # noqa: E402
from library.measure import machine, store  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from scipy import sparse  # noqa: E402
from spikgpt.base.threads import pin_process  # noqa: E402
from spikgpt.scgpt.checkpoint import Checkpoint, read_checkpoint  # noqa: E402
from spikgpt.scgpt.embed import Embedder  # noqa: E402
from spikgpt.scgpt.tokens import CellTokens, bin_bounds  # noqa: E402

AVERAGED = 4
"""Draws whose embeddings are averaged."""


class Drawing(Embedder):
    """Bins as scGPT draws them, with a generator that is set from outside."""

    draw = np.random.default_rng(0)

    def tokens_of(self, counts: sparse.csr_matrix, row: int, barcode: str) -> CellTokens | None:
        cell = super().tokens_of(counts, row, barcode)
        if cell is None:
            return None
        span = slice(counts.indptr[row], counts.indptr[row + 1])
        token, known = self.gene_tokens[counts.indices[span]], counts.data[span] > 0
        known &= token >= 0
        tokens, gene = np.unique(token[known], return_inverse=True)
        summed = np.bincount(gene, weights=counts.data[span][known]).astype(np.float32)
        lowest, highest = bin_bounds(summed, self.checkpoint.n_bins)
        # scgpt.preprocess._digitize: ceil(u * (right - left) + left), u uniform in [0, 1), left the higher
        below = np.where(lowest < highest, lowest - 1, highest)
        drawn = np.ceil(self.draw.random(len(summed)) * (below - highest) + highest).astype(np.float32)
        # of a cell that was cut, the genes that were kept
        cell.values[1:] = drawn[np.searchsorted(tokens, cell.tokens[1:])]
        return cell


def embeddings(checkpoint: Checkpoint, path: Path, key: str, seeds: int) -> dict[str, tuple[NDArray, list[NDArray]]]:
    """Labels, and by way of binning the embeddings of each repetition; float32 (cells, width)."""
    cells = read_cells(path, key)
    counts, barcodes = sparse.csr_matrix(cells.X), list(cells.obs_names)
    labels = cells.obs["label"].to_numpy()
    expected = Embedder(checkpoint, list(cells.var_names), sample=path.stem).embed(counts, barcodes)
    drawing = Drawing(checkpoint, list(cells.var_names), sample=path.stem)
    drawn = []
    for seed in range(max(seeds, 2 * AVERAGED)):
        drawing.draw = np.random.default_rng([seed, *path.stem.encode()])
        drawn.append(drawing.embed(counts, barcodes))
    averaged = [sum(drawn[i : i + AVERAGED]) for i in range(0, len(drawn) - AVERAGED + 1, AVERAGED)]
    averaged = [mean / np.linalg.norm(mean, axis=1, keepdims=True) for mean in averaged]
    return {"expected": (labels, [expected]), "drawn": (labels, drawn[:seeds]), "averaged": (labels, averaged)}


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--scgpt-model", type=Path, default=ROOT / "assets" / "scgpt-mini")
    made.add_argument(
        "--pair", nargs=4, action="append", required=True, metavar=("NAME", "REFERENCE", "QUERY", "LABEL_KEY"),
        help="two h5ad files of raw counts, and the obs column of their labels; may be given again",
    )  # fmt: skip
    made.add_argument("--seeds", type=int, default=5, help="repetitions of a single draw")
    made.add_argument("--out", type=Path, required=True)
    args = made.parse_args()
    pin_process()

    checkpoint = read_checkpoint(args.scgpt_model)
    results = []
    for name, reference, query, key in args.pair:
        known = embeddings(checkpoint, Path(reference), key, args.seeds)
        new = embeddings(checkpoint, Path(query), key, args.seeds)
        for way, (labels, repetitions) in known.items():
            truth = new[way][0]
            scores = [transfer(a, labels, b, truth) for a, b in zip(repetitions, new[way][1], strict=True)]
            result: dict = {"pair": name, "bins": way, "query_cells": len(truth), "repetitions": len(scores)}
            for metric in ("accuracy", "macro_f1"):
                values = np.array([score[metric] for score in scores])
                result[metric] = round(float(values.mean()), 2)
                result[f"{metric}_sd"] = round(float(values.std(ddof=1)), 2) if len(values) > 1 else None
            results.append(result)
            print(json.dumps(result), file=sys.stderr)
    content = {"machine": machine(), "checkpoint_sha256": checkpoint.sha256, "averaged": AVERAGED, "results": results}
    store(args.out, "bins", content)


if __name__ == "__main__":
    main()
