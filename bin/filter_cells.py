#!/usr/bin/env python3
"""Remove low-quality cells and doublets of one sample, each with its reason."""

from spikgpt.base.files import whole_file, write_json
from spikgpt.cli import launch, parser


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--sample", required=True)
    made.add_argument("--h5ad", required=True, help="raw counts of called cells")
    made.add_argument("--qc", required=True, help="table of qc_metrics.py")
    made.add_argument("--doublets", required=True, help="table of detect_doublets.py")
    made.add_argument("--thresholds", required=True, help="JSON of this sample's overrides; {} for none")
    args = made.parse_args()

    import json
    from pathlib import Path

    import pandas as pd
    from spikgpt.base.h5ad import stored
    from spikgpt.quality_control.cells import filter_cells, write_removed
    from spikgpt.quality_control.rules import thresholds_from

    given = json.loads(Path(args.thresholds).read_text(encoding="utf-8"))
    thresholds = thresholds_from(given, f"samplesheet, sample {args.sample}")
    metrics, doublets = pd.read_parquet(args.qc), pd.read_parquet(args.doublets)
    # a sample with nothing left has no h5ad: the run goes on without it, and the report says so
    with (
        stored(args.h5ad) as cells,
        whole_file(f"{args.sample}.filtered.h5ad", optional=True) as kept,
        whole_file(f"{args.sample}.removed.h5ad") as gone,
    ):
        removed, stats = filter_cells(cells, metrics, doublets, thresholds, args.sample, kept, gone)
    with whole_file(f"{args.sample}.removed.tsv.gz") as partial:
        write_removed(removed, partial)
    write_json(f"{args.sample}.filter.json", stats)


if __name__ == "__main__":
    launch(main)
