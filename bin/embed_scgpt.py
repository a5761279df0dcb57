#!/usr/bin/env python3
"""Embed a range of cells by scGPT (CLS token); a cell's bytes do not depend on the range."""

from spikgpt.base.files import whole_file, write_json
from spikgpt.cli import launch, parser, without_meta_kernels


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
    made.add_argument("--backend", choices=("spikgpt", "package"), default="spikgpt", help="implementation of scGPT")
    made.add_argument(
        "--precision", choices=("auto", "fp32", "bf16"), default="auto", help="auto: bf16 on a GPU that has it"
    )
    made.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    made.add_argument(
        "--threads", type=int, default=1, help="threads on a CPU; the result does not depend on their number"
    )
    args = made.parse_args()

    if args.backend == "spikgpt" and args.device == "cpu":
        without_meta_kernels()
    from numpy.lib import format as npy
    from spikgpt.scgpt.checkpoint import read_checkpoint
    from spikgpt.scgpt.embed import CountsFile, Embedder, embed_rows
    from spikgpt.scgpt.tissue import outside_cells, read_profile

    checkpoint = read_checkpoint(args.scgpt_model)
    profile = read_profile(args.scgpt_model)
    counts = CountsFile(args.h5ad)
    embedder = Embedder(
        checkpoint, counts.symbols, sample=args.sample, max_tokens=args.max_genes, seed=args.seed,
        device=args.device, precision=args.precision, backend=args.backend, threads=args.threads,
    )  # fmt: skip
    cells, outside = args.end - args.start, 0
    part = f"{args.sample}.{args.start:09d}.embedding"
    with whole_file(f"{part}.npy") as partial, partial.open("wb") as file:
        # what np.save writes, a block of cells in memory at a time
        header = {"descr": "<f4", "fortran_order": False, "shape": (cells, checkpoint.width)}
        npy.write_array_header_1_0(file, header)
        for block in embed_rows(embedder, counts, args.start, args.end):
            file.write(block.astype("<f4", copy=False).tobytes())
            outside += 0 if profile is None else int(outside_cells(block, profile).sum())
    write_json(
        f"{part}.json",
        {
            "sample": args.sample,
            "start": args.start,
            "end": args.end,
            "cells": cells,
            "scgpt_sha256": checkpoint.sha256,
            "scgpt_name": checkpoint.name,
            "bundled": checkpoint.bundled,
            "width": checkpoint.width,
            "max_genes": args.max_genes,
            "seed": args.seed,
            "backend": args.backend,
            "precision": embedder.precision,
            "device": args.device,
            "genes": counts.genes,
            "genes_known": embedder.genes_known,
            "tokens_mean": round(embedder.tokens_mean, 3),
            "truncated_cells": embedder.truncated_cells,
            "cells_without_genes": embedder.cells_without_genes,
            "unfamiliar_fraction": None if profile is None else round(outside / cells, 6) if cells else 0.0,
        },
    )


if __name__ == "__main__":
    launch(main)
