#!/usr/bin/env python3
"""The nearest type of every cell that quality control removed, of all samples."""

from pathlib import Path

from spikgpt.base.files import whole_file
from spikgpt.cli import launch, parser


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--h5ad", type=Path, nargs="+", required=True, help="<sample>.removed.h5ad")
    made.add_argument("--annotator", type=Path, help="folder of the annotator; the tissue profiles without one")
    made.add_argument("--profiles", type=Path, required=True, help="folder of the tissue profiles")
    made.add_argument(
        "--stats",
        type=Path,
        nargs="*",
        default=[],
        help="<sample>.annotation.json: what labelled a sample's other cells",
    )
    args = made.parse_args()

    import json

    import pandas as pd
    from spikgpt.annotator.expression import ExpressionView
    from spikgpt.annotator.folder_files import read_config, read_tensors
    from spikgpt.annotator.removed import nearest_classes, nearest_types
    from spikgpt.base.h5ad import stored
    from spikgpt.base.names import name_before
    from spikgpt.profiles.library import Library

    every = [json.loads(path.read_text(encoding="utf-8")) for path in args.stats]
    by_profiles = {figures["sample"] for figures in every if figures.get("labels_from") == "profiles"}
    config = expression = None
    if args.annotator:
        # the expression view alone is asked: neither network nor torch is loaded
        config = read_config(args.annotator)
        expression = ExpressionView.from_arrays(read_tensors(args.annotator, config))
    tables = []
    for sample, path in sorted((name_before(path, ".removed.h5ad"), path) for path in args.h5ad):
        with stored(path) as cells:
            if config is None or sample in by_profiles:
                tables.append(nearest_classes(Library.read(args.profiles), cells, sample))
            else:
                tables.append(nearest_types(expression, config["classes"], config["genes"], cells, sample))
    with whole_file("removed_types.parquet") as partial:
        pd.concat(tables, ignore_index=True).to_parquet(partial, index=False)


if __name__ == "__main__":
    launch(main)
