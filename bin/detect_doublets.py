#!/usr/bin/env python3
"""Score the cells of one sample as doublets (Scrublet)."""

from spikgpt.base.files import whole_file, write_json
from spikgpt.cli import launch, lean_scanpy, parser, without_scipy_stats


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--sample", required=True)
    made.add_argument("--h5ad", required=True, help="raw counts of called cells")
    made.add_argument("--skip", action="store_true", help="skip the detection: no scores, no predicted doublets")
    made.add_argument("--seed", type=int, default=0)
    args = made.parse_args()

    without_scipy_stats()
    lean_scanpy()
    import numpy as np
    from spikgpt.base.h5ad import OTHER_COUNTS, stored
    from spikgpt.quality_control.barnyard import MIXED, OTHER, genome_table, told, write_genomes
    from spikgpt.quality_control.doublets import detect_doublets

    with stored(args.h5ad) as cells:
        table, stats = detect_doublets(cells, args.seed, args.skip)
        if OTHER_COUNTS in cells.obs:
            own = np.concatenate([np.asarray(block.sum(axis=1)).ravel() for _, block in cells.blocks()])
            genomes = genome_table(cells.barcodes, own.astype(np.int64), cells.obs[OTHER_COUNTS].to_numpy())
            table["other_species"] = (genomes["call"] == OTHER).to_numpy()
            mixed = (genomes["call"] == MIXED).to_numpy()
            if not args.skip:
                table["predicted_doublet"] |= mixed
            stats |= {"barcodes_other_species": int(table["other_species"].sum()), "barcodes_mixed": int(mixed.sum())}
            stats["messages"] += told(genomes, args.skip)
            with whole_file(f"{args.sample}.genomes.tsv.gz") as partial:
                write_genomes(genomes, partial)
    with whole_file(f"{args.sample}.doublets.parquet") as partial:
        table.to_parquet(partial, index=False)
    write_json(f"{args.sample}.doublets.json", {"sample": args.sample, **stats})


if __name__ == "__main__":
    launch(main)
