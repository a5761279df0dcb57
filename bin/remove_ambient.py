#!/usr/bin/env python3
"""Remove ambient RNA from the counts of one sample (DecontX)."""

from spikgpt.base.files import whole_file, write_json
from spikgpt.cli import launch, parser


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--sample", required=True)
    made.add_argument("--h5ad", required=True, help="raw counts of called cells")
    made.add_argument("--seed", type=int, default=0)
    args = made.parse_args()

    from spikgpt.base.h5ad import stored
    from spikgpt.quality_control.ambient import remove_ambient

    with stored(args.h5ad) as cells, whole_file(f"{args.sample}.ambient.h5ad") as partial:
        stats = remove_ambient(cells, partial, args.seed)
    write_json(f"{args.sample}.ambient.json", {"sample": args.sample, **stats})


if __name__ == "__main__":
    launch(main)
