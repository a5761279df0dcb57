#!/usr/bin/env python3
"""Teach an annotator the unknown populations of an earlier run that a person has named."""

from pathlib import Path

from spikgpt.base.files import whole_file
from spikgpt.cli import launch, parser


def main() -> None:
    command = parser(__doc__)
    command.add_argument(
        "--populations", type=Path, required=True, help="tables/unknown_populations.tsv with a column name"
    )
    command.add_argument("--annotated", type=Path, nargs="+", required=True, help="annotated/<sample>.h5ad of that run")
    command.add_argument("--annotator", type=Path, required=True, help="folder of the annotator of that run")
    command.add_argument("--scgpt-model", type=Path, required=True, help="folder of the scGPT checkpoint")
    command.add_argument("--seed", type=int, default=0, help="random seed")
    command.add_argument("--out", type=Path, default=Path("annotator"), help="folder to write the new annotator to")
    given = command.parse_args()

    from spikgpt.annotator.card import with_taught
    from spikgpt.annotator.folder import load_annotator, save_annotator
    from spikgpt.annotator.folder_files import CARD
    from spikgpt.annotator.lessons import taught_annotator
    from spikgpt.annotator.populations import read_cells, read_populations, table_sha256
    from spikgpt.base.names import name_before
    from spikgpt.scgpt.checkpoint import checkpoint_sha256

    annotator = load_annotator(given.annotator, checkpoint_sha256(given.scgpt_model))
    populations = read_populations(given.populations, annotator)
    annotated = {name_before(path, ".h5ad"): path for path in given.annotated}
    cells = read_cells(given.populations, populations, annotated, annotator)
    taught = taught_annotator(
        annotator, populations, cells, str(given.populations), table_sha256(given.populations), given.seed
    )
    card = with_taught((given.annotator / CARD).read_text(encoding="utf-8"), taught.config)
    save_annotator(taught, given.out)
    with whole_file(given.out / CARD) as partial:
        partial.write_text(card, encoding="utf-8")


if __name__ == "__main__":
    launch(main)
