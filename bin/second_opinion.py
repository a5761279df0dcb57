#!/usr/bin/env python3
"""What the bundled tissue profiles say of the cells of a sample, without the reference."""

from pathlib import Path

from spikgpt.base.files import whole_file, write_json
from spikgpt.cli import launch, parser, without_scipy_stats


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--sample", required=True, help="name of the sample")
    command.add_argument("--h5ad", type=Path, required=True, help="the sample's norm.h5ad")
    command.add_argument("--profiles", type=Path, required=True, help="folder of the profiles")
    command.add_argument("--reference", action="store_true", help="the cells are a reference: check its labels as well")
    given = command.parse_args()

    without_scipy_stats()
    from spikgpt.base.columns import OPINION, OPINION_SCORE
    from spikgpt.base.h5ad import ORTHOLOG, stored
    from spikgpt.base.ontology import terms_of
    from spikgpt.profiles.kinship import check_labels
    from spikgpt.profiles.labels import blood_share, looks_like_blood
    from spikgpt.profiles.library import Library
    from spikgpt.profiles.opinion import second_opinion

    library = Library.read(given.profiles)
    with stored(given.h5ad) as cells:
        table, figures = second_opinion(
            library,
            lambda: (block for _, block in cells.blocks("layers/counts")),
            cells.symbols,
            [str(gene_id) for gene_id in cells.var["gene_id"]],
            [str(barcode) for barcode in cells.barcodes],
            human=ORTHOLOG not in cells.var,
        )
        figures["blood_share"] = blood_share(library, figures["classes"])
        figures["looks_like_blood"] = looks_like_blood(figures)
        if given.reference:
            judged = (table[OPINION_SCORE] > 0).to_numpy()
            figures["labels"] = check_labels(
                library,
                table.loc[judged, OPINION].tolist(),
                table.loc[judged, library.classes].idxmax(axis=1).tolist(),
                cells.obs["cell_type"].astype(str)[judged].tolist(),
                terms_of(cells.obs),
            )
    with whole_file(f"{given.sample}.second_opinion.parquet") as partial:
        table.to_parquet(partial, index=False)
    write_json(f"{given.sample}.second_opinion.json", {"sample": given.sample, **figures})


if __name__ == "__main__":
    launch(main)
