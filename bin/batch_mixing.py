#!/usr/bin/env python3
"""Measure how well batches mix in the embedding, before and after Harmony, and decide whether Harmony is used."""

from spikgpt.base.files import whole_file
from spikgpt.cli import launch, parser, without_scipy_stats


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--h5ad", nargs="+", required=True, help="<sample>.norm.h5ad of all samples")
    args.add_argument("--embedding", nargs="+", required=True, help="<sample>.<start>.embedding.npy")
    args.add_argument("--annotation", nargs="+", required=True, help="<sample>.annotation.parquet")
    args.add_argument(
        "--integrate", choices=["auto", "harmony", "none"], default="auto",
        help="harmony, none, or auto: Harmony where batches mix poorly within types and labels keep apart",
    )  # fmt: skip
    args.add_argument("--seed", type=int, default=0, help="random seed of the draw of cells and of Harmony")
    options = args.parse_args()

    without_scipy_stats()
    from spikgpt.base.tsv import write_tsv
    from spikgpt.cohort.batch_mixing import read_and_score

    scores, integration = read_and_score(
        options.h5ad, options.embedding, options.annotation, options.integrate, options.seed
    )
    for name, table in (("batch_mixing.tsv", scores), ("integration.tsv", integration.table())):
        with whole_file(name) as partial:
            write_tsv(partial, table)


if __name__ == "__main__":
    launch(main)
