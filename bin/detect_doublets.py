#!/usr/bin/env python3
"""Score the cells of one sample as doublets (Scrublet)."""

from spikgpt.base.files import whole_file, write_json
from spikgpt.cli import launch, parser


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--sample", required=True)
    made.add_argument("--h5ad", required=True, help="raw counts of called cells")
    made.add_argument("--skip", action="store_true", help="skip the detection: no scores, no predicted doublets")
    made.add_argument("--seed", type=int, default=0)
    args = made.parse_args()

    from spikgpt.base.h5ad import stored
    from spikgpt.quality_control.doublets import detect_doublets

    with stored(args.h5ad) as cells:
        table, stats = detect_doublets(cells, args.seed, args.skip)
    with whole_file(f"{args.sample}.doublets.parquet") as partial:
        table.to_parquet(partial, index=False)
    write_json(f"{args.sample}.doublets.json", {"sample": args.sample, **stats})


if __name__ == "__main__":
    launch(main)
