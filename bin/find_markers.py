#!/usr/bin/env python3
"""Marker genes of every cluster of the cohort."""

from spikgpt.cli import launch, parser, whole_file


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--h5ad", required=True, help="cohort.h5ad")
    options = args.parse_args()

    from spikgpt.markers import find_markers
    from spikgpt.tables import write_tsv

    with whole_file("markers.tsv") as partial:
        write_tsv(partial, find_markers(options.h5ad))


if __name__ == "__main__":
    launch(main)
