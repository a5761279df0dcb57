#!/usr/bin/env python3
"""Read and check the labelled cells of a reference, unfiltered, and the scGPT checkpoint that will embed them."""

from spikgpt.base.files import whole_file, write_json
from spikgpt.cli import launch, parser


def main() -> None:
    made = parser(__doc__)
    made.add_argument(
        "--reference", required=True, nargs="+",
        help="h5ad (or zarr, loom) with labels in obs; several are joined, in the order of their names",
    )  # fmt: skip
    made.add_argument("--label-key", required=True, help="column of obs with the cell types")
    made.add_argument("--batch-key", help="column of obs with the batches")
    made.add_argument(
        "--exclude-labels", action="append", default=[],
        help="labels whose cells are left out, separated by commas; may be given several times",
    )  # fmt: skip
    made.add_argument("--merge-similar-labels", action="store_true", help="join labels that differ in spelling alone")
    made.add_argument(
        "--label-levels", help="columns of obs with coarser labels, from coarse to fine, separated by commas"
    )
    made.add_argument("--scgpt-model", required=True, help="folder of the scGPT checkpoint")
    made.add_argument("--min-gene-match", type=float, default=0.3)
    made.add_argument("--species", help="species of the genes; told from them if not given")
    args = made.parse_args()

    from spikgpt.base.h5ad import write_h5ad
    from spikgpt.read_input.reference import import_reference
    from spikgpt.scgpt.checkpoint import read_checkpoint

    # a broken checkpoint ends the run here, not when the first cells are embedded
    read_checkpoint(args.scgpt_model)
    adata, stats = import_reference(
        args.reference, args.label_key, args.batch_key, args.scgpt_model, args.min_gene_match, args.exclude_labels,
        args.merge_similar_labels, args.species,
        [name.strip() for name in args.label_levels.split(",")] if args.label_levels else (),
    )  # fmt: skip
    with whole_file("reference.norm.h5ad") as partial:
        write_h5ad(adata, partial)
    write_json("reference.json", stats)


if __name__ == "__main__":
    launch(main, opens_zarr=True)
