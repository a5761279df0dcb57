#!/usr/bin/env python3
"""Say what the demo's run found, from the files of its results alone (and the withheld labels)."""

import argparse
from pathlib import Path

import pandas as pd

WITHHELD = "alpha"


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--results", type=Path, required=True)
    args.add_argument("--truth", type=Path, required=True)
    options = args.parse_args()

    tables = options.results / "tables"
    cells = pd.read_csv(tables / "cells.tsv.gz", sep="\t", keep_default_na=False)
    removed = pd.read_csv(tables / "removed_cells.tsv.gz", sep="\t", keep_default_na=False)
    truth = pd.read_csv(options.truth, sep="\t", index_col="barcode")["cell_type"]
    cells["truth"] = cells["barcode"].map(truth)
    cells["unknown"] = cells["spikgpt_cell_type"] == "Unknown"

    print("\nCells")
    for sample in sorted(set(cells["sample"]) | set(removed["sample"])):
        kept = cells[cells["sample"] == sample]
        gone = removed.loc[removed["sample"] == sample, "reason"].value_counts()
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(gone.items()))
        print(
            f"  {sample}: {len(kept) + gone.sum()} in -> {gone.sum()} removed by QC{f' ({reasons})' if reasons else ''}"
            f" -> {len(kept)} annotated, of them {kept['unknown'].sum()} Unknown ({kept['unknown'].mean():.1%})"
        )
        withheld, others = kept[kept["truth"] == WITHHELD], kept[kept["truth"] != WITHHELD]
        print(
            f"  {' ' * len(sample)}  {withheld['unknown'].sum()} of {len(withheld)} withheld {WITHHELD} cells rejected "
            f"({withheld['unknown'].mean():.1%}); {others['unknown'].sum()} of {len(others)} other cells "
            f"({others['unknown'].mean():.1%}); accuracy of the other cells' best match "
            f"{(others['spikgpt_best_match'] == others['truth']).mean():.1%}"
        )
    print("\nPopulations outside of the reference")
    populations = pd.read_csv(
        tables / "unknown_populations.tsv", sep="\t", keep_default_na=False, dtype={"cluster": str}
    )
    for row in populations.itertuples():
        inside = cells[cells["spikgpt_cluster"].astype(str) == row.cluster]
        print(
            f"  cluster {row.cluster}: {row.unknown_cells} of {row.cells} cells Unknown, {row.expected_unknown:.1f} "
            f"expected; markers {', '.join(row.markers.split(', ')[:5])}; nearest type {row.nearest_type}, whose "
            f"{row.nearest_markers_missing or 'markers'} {'are missing' if row.nearest_markers_missing else 'it has'}; "
            f"{(inside['truth'] == WITHHELD).mean():.1%} of it are withheld {WITHHELD} cells"
        )
    if populations.empty:
        print("  none")
    print("\nResults")
    print(f"  report            {options.results / 'multiqc' / 'multiqc_report.html'}")
    print(f"  annotated cells   {options.results / 'annotated' / 'cohort.h5ad'}")
    print(f"  table of cells    {tables / 'cells.tsv.gz'}")
    print(f"  evidence          {tables / 'evidence.tsv'}")
    print(f"  annotator         {options.results / 'annotator'}")


if __name__ == "__main__":
    main()
