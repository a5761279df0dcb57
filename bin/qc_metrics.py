#!/usr/bin/env python3
"""Quality metrics of every cell of one sample, and the group of like cells that it is judged in."""

from spikgpt.base.files import whole_file
from spikgpt.cli import launch, parser, without_matplotlib, without_scipy_stats


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--sample", required=True)
    made.add_argument("--h5ad", required=True, help="raw counts of called cells")
    made.add_argument("--seed", type=int, default=0)
    args = made.parse_args()

    without_matplotlib()
    without_scipy_stats()
    from spikgpt.base.h5ad import stored
    from spikgpt.base.metrics import cell_metrics
    from spikgpt.quality_control.groups import find_groups

    with stored(args.h5ad) as cells:
        table = cell_metrics(cells.blocks(), cells.barcodes, cells.symbols)
        table = table.join(find_groups(cells, args.seed))
    with whole_file(f"{args.sample}.qc.parquet") as partial:
        table.to_parquet(partial, index=False)


if __name__ == "__main__":
    launch(main)
