#!/usr/bin/env python3
"""Marker genes of every cluster of the cohort, as Seurat writes them too, and what clusters and types show of them."""

from spikgpt.base.files import whole_file
from spikgpt.cli import launch, parser


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--h5ad", required=True, help="cohort.h5ad")
    options = args.parse_args()

    from spikgpt.base.tsv import write_tsv
    from spikgpt.cohort.markers import MARKER_COLUMNS, marker_statistics
    from spikgpt.cohort.naming import seurat_markers

    statistics, expression = marker_statistics(options.h5ad)
    for name, table in (
        ("markers.tsv", statistics[list(MARKER_COLUMNS)]),
        ("markers_seurat.tsv", seurat_markers(statistics)),
        ("marker_expression.tsv", expression),
    ):
        with whole_file(name) as partial:
            write_tsv(partial, table)


if __name__ == "__main__":
    launch(main)
