#!/usr/bin/env python3
"""Read one sample's count matrix: raw counts checked, genes unified, as h5ad."""

from spikgpt.base.files import whole_file, write_json
from spikgpt.cli import launch, parser, without_zarr


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--sample", required=True)
    made.add_argument("--matrix", required=True, help="file or folder with the counts")
    made.add_argument("--unfiltered", action="store_true", help="the matrix contains empty droplets")
    made.add_argument("--symbol-col", help="column of an h5ad's var with gene symbols")
    made.add_argument("--geneid-col", help="column of an h5ad's var with Ensembl ids")
    made.add_argument("--counts-layer", help="layer of an h5ad with raw counts")
    made.add_argument("--scgpt-model", required=True, help="folder of the scGPT checkpoint")
    made.add_argument("--min-gene-match", type=float, default=0.3)
    made.add_argument("--species", help="species of the genes; told from them if not given")
    args = made.parse_args()

    import h5py

    if h5py.is_hdf5(args.matrix):
        without_zarr()
    from spikgpt.read_input.counts import import_counts

    with (
        whole_file(f"{args.sample}.counts.h5ad") as partial,
        whole_file(f"{args.sample}.protein.h5ad", optional=True) as proteins,
    ):
        stats = import_counts(
            args.sample, args.matrix, partial, args.scgpt_model, args.min_gene_match, filtered=not args.unfiltered,
            symbol_col=args.symbol_col, geneid_col=args.geneid_col, counts_layer=args.counts_layer,
            proteins=proteins,
            species=args.species,
        )  # fmt: skip
    write_json(f"{args.sample}.import.json", stats)


if __name__ == "__main__":
    launch(main, opens_zarr=True)
