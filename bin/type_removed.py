#!/usr/bin/env python3
"""The nearest type of every cell that quality control removed, of all samples."""

from pathlib import Path

from spikgpt.base.files import whole_file
from spikgpt.cli import launch, parser


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--h5ad", type=Path, nargs="+", required=True, help="<sample>.removed.h5ad")
    made.add_argument("--annotator", type=Path, required=True, help="folder of the annotator")
    args = made.parse_args()

    import pandas as pd
    from spikgpt.annotator.folder import load_annotator, read_config
    from spikgpt.annotator.removed import nearest_types
    from spikgpt.base.h5ad import stored
    from spikgpt.base.names import name_before

    # no embedding is read, so any checkpoint is the right one
    annotator = load_annotator(args.annotator, read_config(args.annotator)["scgpt"]["sha256"])
    tables = []
    for sample, path in sorted((name_before(path, ".removed.h5ad"), path) for path in args.h5ad):
        with stored(path) as cells:
            tables.append(nearest_types(annotator.views.expression, annotator.classes, annotator.genes, cells, sample))
    with whole_file("removed_types.parquet") as partial:
        pd.concat(tables, ignore_index=True).to_parquet(partial, index=False)


if __name__ == "__main__":
    launch(main)
