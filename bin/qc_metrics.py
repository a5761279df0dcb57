#!/usr/bin/env python3
"""Quality metrics of every cell of one sample."""

from spikgpt.base.files import whole_file
from spikgpt.cli import launch, parser


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--sample", required=True)
    made.add_argument("--h5ad", required=True, help="raw counts of called cells")
    args = made.parse_args()

    from spikgpt.base.h5ad import stored
    from spikgpt.base.metrics import cell_metrics

    with stored(args.h5ad) as cells:
        table = cell_metrics(cells.blocks(), cells.barcodes, cells.symbols)
    with whole_file(f"{args.sample}.qc.parquet") as partial:
        table.to_parquet(partial, index=False)


if __name__ == "__main__":
    launch(main)
