#!/usr/bin/env python3
"""Check an annotator and the scGPT checkpoint it will be used with, before anything is embedded."""

from pathlib import Path

from spikgpt.cli import launch, parser, without_meta_kernels


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--annotator", type=Path, required=True, help="folder of the annotator")
    command.add_argument("--scgpt-model", type=Path, required=True, help="folder of the scGPT checkpoint")
    given = command.parse_args()

    without_meta_kernels()
    from spikgpt.annotator.folder import load_annotator
    from spikgpt.scgpt.checkpoint import read_checkpoint
    from spikgpt.scgpt.checkpoint_files import checkpoint_sha256

    load_annotator(given.annotator, checkpoint_sha256(given.scgpt_model))
    read_checkpoint(given.scgpt_model)


if __name__ == "__main__":
    launch(main)
