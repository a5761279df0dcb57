#!/usr/bin/env python3
"""Write the annotated h5ad of one sample."""

from spikgpt.base.files import whole_file
from spikgpt.cli import launch, parser


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--sample", required=True, help="name of the sample")
    args.add_argument("--h5ad", required=True, help="<sample>.norm.h5ad")
    args.add_argument("--embedding", nargs="+", required=True, help="<sample>.<start>.embedding.npy")
    args.add_argument("--annotation", required=True, help="<sample>.annotation.parquet")
    args.add_argument("--annotation-stats", required=True, help="<sample>.annotation.json")
    args.add_argument("--second-opinion", required=True, help="<sample>.second_opinion.parquet")
    args.add_argument("--cohort", required=True, help="<sample>.cohort.parquet")
    args.add_argument("--run", required=True, help="run.json")
    args.add_argument("--extra", default="{}", help="JSON: the samplesheet's own columns and this sample's values")
    args.add_argument("--protein", help="<sample>.protein.h5ad, where the sample has antibody or hashtag counts")
    options = args.parse_args()

    import json
    from pathlib import Path

    import pandas as pd
    import pyarrow.parquet as pq
    from spikgpt.base.columns import OPINION, OPINION_SCORE
    from spikgpt.base.names import read_embeddings
    from spikgpt.cohort.files import run_facts, write_sample

    def read(path: str) -> dict:
        return json.loads(Path(path).read_text(encoding="utf-8"))

    with whole_file(f"{options.sample}.h5ad") as partial:
        write_sample(
            partial,
            options.h5ad,
            read_embeddings(options.embedding)[options.sample],
            pd.read_parquet(options.annotation),
            pd.read_parquet(options.second_opinion, columns=["barcode", OPINION, OPINION_SCORE]),
            pq.read_table(options.cohort),
            run_facts(read(options.run), read(options.annotation_stats)),
            options.sample,
            json.loads(options.extra),
            options.protein,
        )


if __name__ == "__main__":
    launch(main)
