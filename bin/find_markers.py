#!/usr/bin/env python3
"""Marker genes of every cluster of the cohort, and what every cluster and type shows of them."""

from spikgpt.base.files import whole_file
from spikgpt.cli import launch, parser


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--h5ad", required=True, help="cohort.h5ad")
    options = args.parse_args()

    from spikgpt.base.tsv import write_tsv
    from spikgpt.cohort.markers import find_markers

    markers, expression = find_markers(options.h5ad)
    for name, table in (("markers.tsv", markers), ("marker_expression.tsv", expression)):
        with whole_file(name) as partial:
            write_tsv(partial, table)


if __name__ == "__main__":
    launch(main)
