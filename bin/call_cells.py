#!/usr/bin/env python3
"""Tell cells from empty droplets in an unfiltered matrix (EmptyDrops)."""

from spikgpt.cli import launch, parser, whole_file, write_json


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--sample", required=True)
    made.add_argument("--h5ad", required=True, help="raw counts of all barcodes")
    made.add_argument("--expected-cells", type=int, help="cells loaded for; estimated when not given")
    made.add_argument("--seed", type=int, default=0)
    args = made.parse_args()

    import anndata as ad
    from spikgpt.calling import call_cells
    from spikgpt.layout import write_h5ad

    adata = ad.read_h5ad(args.h5ad)
    called, stats = call_cells(adata, args.expected_cells, args.seed, f"sample {args.sample}")
    with whole_file(f"{args.sample}.called.h5ad") as partial:
        write_h5ad(adata[called].copy(), partial)
    write_json(f"{args.sample}.called.json", {"sample": args.sample, **stats})


if __name__ == "__main__":
    launch(main)
