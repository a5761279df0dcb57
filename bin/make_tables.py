#!/usr/bin/env python3
"""Tables of cells, composition, unknown populations and removed cells."""

from spikgpt.cli import launch, parser, whole_file


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--h5ad", required=True, help="cohort.h5ad")
    args.add_argument("--markers", required=True, help="markers.tsv")
    args.add_argument("--removed", nargs="*", default=[], help="<sample>.removed.tsv.gz")
    options = args.parse_args()

    from spikgpt.tables import (
        composition,
        read_cohort,
        read_tsv,
        removed_cells,
        unknown_populations,
        write_tsv,
    )

    cells, facts = read_cohort(options.h5ad)
    rate = float(facts["parameters"]["unknown_rate"])
    for name, table in (
        ("cells.tsv.gz", cells),
        ("composition.tsv", composition(cells)),
        ("unknown_populations.tsv", unknown_populations(cells, read_tsv(options.markers), rate)),
        ("removed_cells.tsv.gz", removed_cells(options.removed)),
    ):
        with whole_file(name) as partial:
            write_tsv(partial, table)


if __name__ == "__main__":
    launch(main)
