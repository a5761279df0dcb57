#!/usr/bin/env python3
"""Train an annotator on a labelled reference and its scGPT embedding."""

from pathlib import Path

from spikgpt.base.files import whole_file
from spikgpt.cli import launch, parser


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--reference", type=Path, required=True, help="reference.norm.h5ad")
    command.add_argument("--embedding", type=Path, nargs="+", required=True, help="reference.<start>.embedding.npy")
    command.add_argument("--scgpt-model", type=Path, required=True, help="folder of the scGPT checkpoint")
    command.add_argument(
        "--unknown-rate", type=float, default=0.05, help="share of the cells of known types that may be Unknown"
    )
    command.add_argument(
        "--features",
        choices=["both", "embedding", "expression"],
        default="both",
        help="what the annotator is trained on",
    )
    command.add_argument("--seed", type=int, default=0, help="random seed")
    command.add_argument("--threads", type=int, default=1, help="processes; the result does not depend on their number")
    command.add_argument("--out", type=Path, default=Path("annotator"), help="folder to write the annotator to")
    command.add_argument(
        "--benchmark",
        type=Path,
        default=Path("benchmark.tsv"),
        help="table to write the comparison with other methods to",
    )
    given = command.parse_args()

    from spikgpt.annotator.benchmark import compare
    from spikgpt.annotator.calibrated import progress
    from spikgpt.annotator.card import model_card
    from spikgpt.annotator.folder import save_annotator
    from spikgpt.annotator.folder_files import CARD
    from spikgpt.annotator.judges import train_judges
    from spikgpt.annotator.train import train_annotator
    from spikgpt.annotator.training_set import read_reference
    from spikgpt.scgpt.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(given.scgpt_model)
    reference = read_reference(given.reference, given.embedding, given.features)
    annotator, held, fold_of, reference = train_annotator(
        reference,
        scgpt={"name": checkpoint.name, "sha256": checkpoint.sha256},
        unknown_rate=given.unknown_rate,
        features=given.features,
        seed=given.seed,
        threads=given.threads,
    )
    progress("comparing with other methods")
    benchmark = compare(reference, held, fold_of, annotator.config["calibration"]["folds_by"], given.seed)
    annotator.judges = train_judges(reference, given.seed)
    save_annotator(annotator, given.out)
    with whole_file(given.out / CARD) as partial:
        partial.write_text(model_card(annotator.config, benchmark), encoding="utf-8")
    with whole_file(given.benchmark) as partial:
        benchmark.to_csv(partial, sep="\t", index=False, na_rep="")


if __name__ == "__main__":
    launch(main)
