#!/usr/bin/env python3
"""Tell cells from empty droplets in an unfiltered matrix (EmptyDrops)."""

from spikgpt.base.files import whole_file, write_json
from spikgpt.cli import launch, parser


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--sample", required=True)
    made.add_argument("--h5ad", required=True, help="raw counts of all barcodes")
    made.add_argument("--expected-cells", type=int, help="number of cells loaded; estimated if not given")
    made.add_argument("--seed", type=int, default=0)
    args = made.parse_args()

    from spikgpt.base.h5ad import stored, write_part
    from spikgpt.quality_control.calling import call_cells

    with stored(args.h5ad) as barcodes:
        called, ambient, stats = call_cells(barcodes.matrix(), args.expected_cells, args.seed, f"sample {args.sample}")
        # the profile of the empty droplets goes on with the cells: DecontX starts from it
        barcodes.var["ambient_counts"] = ambient
        with whole_file(f"{args.sample}.called.h5ad") as partial:
            write_part(barcodes, partial, barcodes.obs[called], called)
    write_json(f"{args.sample}.called.json", {"sample": args.sample, **stats})


if __name__ == "__main__":
    launch(main)
