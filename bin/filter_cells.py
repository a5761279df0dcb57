#!/usr/bin/env python3
"""Remove low-quality cells and doublets of one sample, each with its reason."""

from spikgpt.cli import launch, parser, whole_file, write_json


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

    import anndata as ad
    import pandas as pd
    from spikgpt.layout import write_h5ad
    from spikgpt.qc import filter_cells, thresholds_from, write_removed

    given = json.loads(Path(args.thresholds).read_text(encoding="utf-8"))
    thresholds = thresholds_from(given, f"samplesheet, sample {args.sample}")
    kept, removed, stats = filter_cells(
        ad.read_h5ad(args.h5ad),
        pd.read_parquet(args.qc),
        pd.read_parquet(args.doublets),
        thresholds,
        args.sample,
    )
    # a sample with nothing left has no h5ad: the run goes on without it, and the report says so
    if kept.n_obs:
        with whole_file(f"{args.sample}.filtered.h5ad") as partial:
            write_h5ad(kept, partial)
    with whole_file(f"{args.sample}.removed.tsv.gz") as partial:
        write_removed(removed, partial)
    write_json(f"{args.sample}.filter.json", stats)


if __name__ == "__main__":
    launch(main)
