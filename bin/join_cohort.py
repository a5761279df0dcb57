#!/usr/bin/env python3
"""Join the annotated samples to one h5ad, without loading them whole."""

from spikgpt.base.files import whole_file
from spikgpt.cli import launch, parser


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--h5ad", nargs="+", required=True, help="<sample>.h5ad of all samples")
    options = args.parse_args()

    from spikgpt.cohort.files import join_cohort

    with whole_file("cohort.h5ad") as partial:
        join_cohort(partial, options.h5ad)


if __name__ == "__main__":
    launch(main)
