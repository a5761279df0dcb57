#!/usr/bin/env python3
"""Label the cells of a sample with a trained annotator, or call them Unknown."""

from pathlib import Path

from spikgpt.base.files import whole_file, write_json
from spikgpt.cli import launch, parser, without_meta_kernels, without_scipy_stats, without_triton


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--sample", required=True, help="name of the sample")
    command.add_argument("--h5ad", type=Path, required=True, help="the sample's norm.h5ad")
    command.add_argument("--embedding", type=Path, nargs="+", required=True, help="<sample>.<start>.embedding.npy")
    command.add_argument("--annotator", type=Path, required=True, help="folder of the annotator")
    command.add_argument("--scgpt-model", type=Path, required=True, help="folder of the scGPT checkpoint")
    command.add_argument(
        "--unknown-rate", type=float, default=0.05, help="a cell is Unknown when its p-value is at most this"
    )
    command.add_argument("--threads", type=int, default=1, help="threads; the result does not depend on their number")
    given = command.parse_args()

    without_meta_kernels()
    without_triton()
    without_scipy_stats()
    from spikgpt.annotator import energy
    from spikgpt.annotator.cells import working_threads
    from spikgpt.annotator.folder import check_species, load_annotator
    from spikgpt.annotator.network import Architecture
    from spikgpt.annotator.training_set import read_embedding
    from spikgpt.base.h5ad import stored
    from spikgpt.scgpt.checkpoint_files import checkpoint_files, checkpoint_sha256

    scgpt_sha256 = checkpoint_sha256(given.scgpt_model)
    annotator = load_annotator(given.annotator, scgpt_sha256)
    check_species(annotator.config["species"], given.h5ad, given.annotator)
    with stored(given.h5ad) as cells, working_threads(given.threads):
        table, figures = annotator.annotate(
            (block for _, block in cells.blocks("layers/counts")),
            cells.symbols,
            read_embedding(given.embedding, given.sample, len(cells.obs), str(given.h5ad)),
            [str(barcode) for barcode in cells.barcodes],
            given.unknown_rate,
        )
    shape, rates = annotator.config["architecture"], figures["firing_rates"]
    figures["energy"] = None  # without an embedding view, or a cell that it could read, no neuron fired
    if rates:
        checkpoint = energy.scgpt_shape(checkpoint_files(given.scgpt_model)[0])
        figures["energy"] = energy.of_sample(Architecture(**shape), rates, checkpoint)
    with whole_file(f"{given.sample}.annotation.parquet") as partial:
        table.to_parquet(partial, index=False)
    write_json(
        f"{given.sample}.annotation.json",
        {
            "sample": given.sample,
            "unknown_rate": given.unknown_rate,
            # the digest covers config.json and, through it, the tensors
            "annotator_sha256": annotator.config["digest"],
            "scgpt_sha256": scgpt_sha256,
            **figures,
        },
    )


if __name__ == "__main__":
    launch(main)
