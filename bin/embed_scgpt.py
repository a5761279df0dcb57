#!/usr/bin/env python3
"""scGPT cell embeddings (CLS) of a range of cells; the same bytes whatever the range."""

from spikgpt.cli import launch, parser, whole_file, write_json


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--sample", required=True)
    made.add_argument("--h5ad", required=True, help='cells with raw counts in layers["counts"], CSR')
    made.add_argument("--scgpt-model", required=True, help="folder of the scGPT checkpoint")
    made.add_argument("--start", type=int, required=True, help="first cell")
    made.add_argument("--end", type=int, required=True, help="one past the last cell")
    made.add_argument(
        "--max-genes", type=int, default=1200, help="longest sequence, <cls> included (max_length of embed_data)"
    )
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    made.add_argument("--threads", type=int, default=1, help="cells worked on at a time, on a CPU")
    args = made.parse_args()

    import numpy as np
    from spikgpt.scgpt.checkpoint import read_checkpoint
    from spikgpt.scgpt.embed import embed_file
    from spikgpt.scgpt.tissue import looks_unfamiliar, read_profile

    checkpoint = read_checkpoint(args.scgpt_model)
    embedding = embed_file(
        checkpoint, args.h5ad, sample=args.sample, start=args.start, end=args.end, max_tokens=args.max_genes,
        seed=args.seed, device=args.device, threads=args.threads,
    )  # fmt: skip
    profile = read_profile(args.scgpt_model)
    outside = None if profile is None else looks_unfamiliar(embedding.cells, profile)[1]

    part = f"{args.sample}.{args.start:09d}.embedding"
    with whole_file(f"{part}.npy") as partial, partial.open("wb") as file:
        np.save(file, embedding.cells, allow_pickle=False)
    write_json(
        f"{part}.json",
        {
            "sample": args.sample,
            "start": args.start,
            "end": args.end,
            "cells": args.end - args.start,
            "scgpt_sha256": checkpoint.sha256,
            "scgpt_name": checkpoint.name,
            "bundled": checkpoint.bundled,
            "width": checkpoint.width,
            "max_genes": args.max_genes,
            "seed": args.seed,
            "device": args.device,
            "genes": embedding.genes,
            "genes_known": embedding.genes_known,
            "tokens_mean": round(embedding.tokens_mean, 3),
            "truncated_cells": embedding.truncated_cells,
            "cells_without_genes": embedding.cells_without_genes,
            "unfamiliar_fraction": None if outside is None else round(outside, 6),
        },
    )


if __name__ == "__main__":
    launch(main)
