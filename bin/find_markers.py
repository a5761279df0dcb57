#!/usr/bin/env python3
"""Marker genes of every cluster of the cohort."""

from spikgpt.base.files import whole_file
from spikgpt.cli import launch, parser


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--h5ad", required=True, help="cohort.h5ad")
    options = args.parse_args()

    from spikgpt.base.tsv import write_tsv
    from spikgpt.cohort.markers import find_markers

    with whole_file("markers.tsv") as partial:
        write_tsv(partial, find_markers(options.h5ad))


if __name__ == "__main__":
    launch(main)
