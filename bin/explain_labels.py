#!/usr/bin/env python3
"""The genes that the label of each cluster of the cohort rests on."""

from pathlib import Path

from spikgpt.base.files import whole_file
from spikgpt.cli import launch, parser, without_meta_kernels, without_triton


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--h5ad", type=Path, required=True, help="cohort.h5ad")
    args.add_argument("--annotator", type=Path, help="folder of the annotator that gives labels; none: tissue profiles")
    args.add_argument("--scgpt-model", type=Path, required=True, help="folder of the scGPT checkpoint")
    args.add_argument("--max-genes", type=int, default=1200, help="as the cells were embedded")
    args.add_argument("--seed", type=int, default=0, help="likewise")
    options = args.parse_args()

    without_meta_kernels()
    without_triton()
    from spikgpt.annotator.folder import load_annotator
    from spikgpt.base.tsv import write_tsv
    from spikgpt.cohort.explanations import explanations
    from spikgpt.cohort.tables import read_cohort
    from spikgpt.scgpt.checkpoint import read_checkpoint

    checkpoint = annotator = None
    if options.annotator:
        checkpoint = read_checkpoint(options.scgpt_model)
        annotator = load_annotator(options.annotator, checkpoint.sha256)
    cells, _ = read_cohort(options.h5ad)
    with whole_file("explanations.tsv") as partial:
        write_tsv(partial, explanations(options.h5ad, cells, annotator, checkpoint, options.max_genes, options.seed))


if __name__ == "__main__":
    launch(main)
