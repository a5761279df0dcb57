#!/usr/bin/env python3
"""Genes that differ between two groups of samples, type by type (PyDESeq2 on pseudobulk counts)."""

from spikgpt.base.files import whole_file, write_json
from spikgpt.cli import launch, parser


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--pseudobulk", required=True, help="pseudobulk.h5ad")
    args.add_argument("--contrast", required=True, help="column of the samplesheet, treated, control")
    options = args.parse_args()

    from spikgpt.base.tsv import write_tsv
    from spikgpt.cohort.differential import differential_expression

    contrast = [part.strip() for part in options.contrast.split(",")]
    found = differential_expression(options.pseudobulk, *contrast)
    with whole_file("differential_expression.tsv.gz") as partial:
        write_tsv(partial, found.table)
    write_json("differential_expression.json", {"contrast": contrast, "types": found.types, "messages": found.messages})


if __name__ == "__main__":
    launch(main)
