#!/usr/bin/env python3
"""Compare the composition of the samples' conditions, with donors or samples as replicates."""

from spikgpt.base.files import whole_file, write_json
from spikgpt.cli import launch, parser


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--samples", required=True, help="samples.tsv of the pseudobulk")
    options = args.parse_args()

    from spikgpt.base.tsv import read_tsv, write_tsv
    from spikgpt.cohort.conditions import compare_conditions, replicates

    found = replicates(read_tsv(options.samples).astype({"cells": int}))
    if found is None:
        raise ValueError("the samples do not have two conditions")
    table, messages = compare_conditions(found)
    with whole_file("conditions.tsv") as partial:
        write_tsv(partial, table)
    write_json("conditions.json", {"messages": messages})


if __name__ == "__main__":
    launch(main)
