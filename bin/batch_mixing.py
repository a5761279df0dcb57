#!/usr/bin/env python3
"""Measure how well batches mix in the embedding, before and after Harmony."""

from spikgpt.base.files import whole_file
from spikgpt.cli import launch, parser


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--h5ad", nargs="+", required=True, help="<sample>.norm.h5ad of all samples")
    args.add_argument("--embedding", nargs="+", required=True, help="<sample>.<start>.embedding.npy")
    args.add_argument("--annotation", nargs="+", required=True, help="<sample>.annotation.parquet")
    args.add_argument("--seed", type=int, default=0, help="random seed of the draw of cells and of Harmony")
    options = args.parse_args()

    from spikgpt.base.tsv import write_tsv
    from spikgpt.cohort.batch_mixing import read_and_score

    table = read_and_score(options.h5ad, options.embedding, options.annotation, options.seed)
    with whole_file("batch_mixing.tsv") as partial:
        write_tsv(partial, table)


if __name__ == "__main__":
    launch(main)
