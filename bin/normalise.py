#!/usr/bin/env python3
"""log1p CP10k of one sample, with the samplesheet's columns in obs."""

from spikgpt.base.files import whole_file, write_json
from spikgpt.cli import launch, parser


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--sample", required=True)
    made.add_argument("--h5ad", required=True, help="raw counts of filtered cells")
    made.add_argument("--batch", default="", help="batch of the sample; its name if not given")
    made.add_argument("--donor", default="")
    made.add_argument("--condition", default="")
    args = made.parse_args()

    from spikgpt.base.h5ad import stored
    from spikgpt.base.normalisation import normalise_cells

    with stored(args.h5ad) as cells:
        with whole_file(f"{args.sample}.norm.h5ad") as partial:
            normalise_cells(cells, partial, args.sample, args.batch, args.donor, args.condition)
        shape = cells.shape
    write_json(f"{args.sample}.norm.json", {"sample": args.sample, "cells": shape[0], "genes": shape[1]})


if __name__ == "__main__":
    launch(main)
