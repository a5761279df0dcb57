#!/usr/bin/env python3
"""Neighbours, UMAP and Leiden clusters of all samples' cells on the embedding."""

from spikgpt.base.files import whole_file
from spikgpt.cli import launch, parser


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--h5ad", nargs="+", required=True, help="<sample>.norm.h5ad of all samples")
    args.add_argument("--embedding", nargs="+", required=True, help="<sample>.<start>.embedding.npy")
    args.add_argument("--annotation", nargs="+", required=True, help="<sample>.annotation.parquet")
    args.add_argument(
        "--resolution", type=float, default=1.0, help="resolution of the Leiden clusters; a higher one gives more"
    )
    args.add_argument("--seed", type=int, default=0, help="random seed of Leiden and UMAP")
    options = args.parse_args()

    from spikgpt.cohort.clusters import cluster_cohort, write_cohort_cells

    table = cluster_cohort(
        options.h5ad, options.embedding, options.annotation, resolution=options.resolution, seed=options.seed
    )
    with whole_file("cohort_cells.parquet") as partial:
        write_cohort_cells(partial, table)


if __name__ == "__main__":
    launch(main)
