#!/usr/bin/env python3
"""Neighbours, UMAP and Leiden clusters of all samples' cells on the embedding, after Harmony where so decided."""

from spikgpt.base.files import whole_file
from spikgpt.cli import launch, lean_scanpy, parser, with_compiled_umap, without_pynndescent, without_scipy_stats


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--h5ad", nargs="+", required=True, help="<sample>.norm.h5ad of all samples")
    args.add_argument("--embedding", nargs="+", required=True, help="<sample>.<start>.embedding.npy")
    args.add_argument("--annotation", nargs="+", required=True, help="<sample>.annotation.parquet")
    args.add_argument(
        "--resolution", type=float, default=1.0, help="resolution of the Leiden clusters; a higher one gives more"
    )
    args.add_argument("--integration", help="integration.tsv of batch_mixing.py: whether Harmony is used; without: no")
    args.add_argument("--seed", type=int, default=0, help="random seed of Harmony, Leiden and UMAP")
    options = args.parse_args()

    without_scipy_stats()
    without_pynndescent()
    lean_scanpy("leiden", "umap")
    with_compiled_umap()

    from spikgpt.cohort.clusters import cells_of_samples, cluster_cohort, write_cohort_cells
    from spikgpt.cohort.integration import uses_harmony

    table, integrated = cluster_cohort(
        options.h5ad,
        options.embedding,
        options.annotation,
        resolution=options.resolution,
        seed=options.seed,
        integrate=uses_harmony(options.integration),
    )
    with whole_file("cohort_cells.parquet") as partial:
        write_cohort_cells(partial, table)
    for sample, part in cells_of_samples(table, integrated):
        with whole_file(f"{sample}.cohort.parquet") as partial:
            write_cohort_cells(partial, part)


if __name__ == "__main__":
    launch(main)
