#!/usr/bin/env python3
"""Read the labels that a sample's cells already have, to be compared with the pipeline's own."""

from spikgpt.base.files import whole_file
from spikgpt.cli import launch, parser


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--sample", required=True)
    made.add_argument("--matrix", required=True, help="h5ad, zarr or loom with the labels in obs")
    made.add_argument("--column", required=True, help="column of its obs")
    made.add_argument("--unfiltered", action="store_true", help="the matrix contains empty droplets")
    made.add_argument("--counts-layer", help="layer of an h5ad with raw counts")
    args = made.parse_args()

    from spikgpt.read_input.own_labels import read_own_labels

    table = read_own_labels(args.matrix, args.column, not args.unfiltered, args.counts_layer)
    with whole_file(f"{args.sample}.own_labels.parquet") as partial:
        table.to_parquet(partial, index=False)


if __name__ == "__main__":
    launch(main, opens_zarr=True)
