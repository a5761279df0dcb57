#!/usr/bin/env python3
"""Labels for Loupe Browser and Cell Ranger, and counts per sample and type for DESeq2 and edgeR."""

from spikgpt.base.files import whole_file
from spikgpt.cli import launch, parser


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--h5ad", required=True, help="cohort.h5ad")
    args.add_argument("--profiles", required=True, help="folder of the tissue profiles")
    options = args.parse_args()

    from pathlib import Path

    from spikgpt.base.tsv import write_tsv
    from spikgpt.cohort.labels_for_tools import write_labels
    from spikgpt.cohort.pseudobulk import write_pseudobulk
    from spikgpt.cohort.tables import read_cohort
    from spikgpt.profiles.library import Library

    cells, _ = read_cohort(options.h5ad)
    write_labels(cells, Library.read(options.profiles), Path("loupe"), Path("cell_types"))
    folder = Path("pseudobulk")
    folder.mkdir()
    sheet = write_pseudobulk(options.h5ad, folder)
    with whole_file(folder / "samples.tsv") as partial:
        write_tsv(partial, sheet)


if __name__ == "__main__":
    launch(main)
