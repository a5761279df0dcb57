#!/usr/bin/env python3
"""The labels of a sample from one of several annotators or from the tissue profiles, and how well each fits."""

from pathlib import Path

from spikgpt.base.files import whole_file, write_json
from spikgpt.cli import launch, parser


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--sample", required=True, help="name of the sample")
    command.add_argument(
        "--rule", required=True, choices=["first", "tissue", "unless_blood"],
        help="labels of the first annotator, of the tissue profiles, or of these unless the sample looks like blood",
    )  # fmt: skip
    command.add_argument("--annotation", type=Path, nargs="*", default=[], help="its parquet file by each annotator")
    command.add_argument("--stats", type=Path, nargs="*", default=[], help="its JSON file by each annotator")
    command.add_argument("--name", nargs="*", default=[], help="name of each annotator")
    command.add_argument("--second-opinion", type=Path, required=True, help="<sample>.second_opinion.parquet")
    command.add_argument("--second-opinion-stats", type=Path, required=True, help="<sample>.second_opinion.json")
    command.add_argument("--profiles", type=Path, required=True, help="folder of the tissue profiles")
    command.add_argument("--scgpt-model", type=Path, required=True, help="folder of the scGPT checkpoint")
    given = command.parse_args()

    import json
    import shutil

    from spikgpt.annotator.choice import distinct, fits, from_profiles

    def read(path: Path) -> dict:
        return json.loads(path.read_text(encoding="utf-8"))

    said = read(given.second_opinion_stats)
    every = [read(path) for path in given.stats]
    by_profiles = from_profiles(given.rule, said["looks_like_blood"])
    if by_profiles:
        # not where labels are those of an annotator: 3 s of CPU on every sample
        import pandas as pd
        from spikgpt.profiles.labels import annotation
        from spikgpt.profiles.library import Library
        from spikgpt.scgpt.checkpoint_files import checkpoint_sha256

        table, figures = annotation(pd.read_parquet(given.second_opinion), said, Library.read(given.profiles))
        figures = {"sample": given.sample, "scgpt_sha256": checkpoint_sha256(given.scgpt_model), **figures}
        with whole_file(f"{given.sample}.annotation.parquet") as partial:
            table.to_parquet(partial, index=False)
    else:
        figures = every[0]
        with whole_file(f"{given.sample}.annotation.parquet") as partial:
            shutil.copyfile(given.annotation[0], partial)
    names = distinct(given.name)
    write_json(
        f"{given.sample}.annotation.json",
        {**figures, "rule": given.rule, "annotators": fits(names, every, None if by_profiles else 0)},
    )


if __name__ == "__main__":
    launch(main)
