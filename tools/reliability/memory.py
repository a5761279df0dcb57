#!/usr/bin/env python3
"""Time and peak memory of annotating one sample, and of writing it, by its number of cells.

    tools/reliability/memory.py --cells pbmc3k.h5ad --number 20000 200000 --work DIR

Cells are drawn from real ones with replacement, and each count is kept with probability 0.9, so that no two are equal;
their embeddings are drawn around the centres of the bundled annotator's types. The scripts run as
the pipeline runs them.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "bin"), str(ROOT / "tools" / "bench")]

import anndata as ad  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import pyarrow as pa  # noqa: E402
import spikgpt.cli  # noqa: E402, F401  (pins BLAS to one thread before numpy is imported)
from measure import machine, measured  # noqa: E402
from resample import thinned  # noqa: E402
from safetensors.numpy import load_file  # noqa: E402
from scipy import sparse  # noqa: E402
from spikgpt.cohort import CELL_TYPES_KEY, write_cohort_cells  # noqa: E402
from spikgpt.layout import cell_frame, constant, gene_frame, new_h5ad, write_csr, write_frame  # noqa: E402
from spikgpt.normalisation import log1p_cp10k  # noqa: E402

ANNOTATOR, SCGPT = ROOT / "assets" / "annotators" / "pbmc", ROOT / "assets" / "scgpt-mini"
KEPT = 0.9
ROWS = 20_000


def write_sample(source: ad.AnnData, number: int, work: Path) -> int:
    """`s1.norm.h5ad` and its embedding; gives the number of counts that are not zero."""
    values = 0

    def blocks(normalised: bool) -> Iterator[sparse.csr_matrix]:
        random = np.random.default_rng(1)
        for start in range(0, number, ROWS):
            drawn = source.X[random.integers(0, source.n_obs, min(ROWS, number - start))]
            block = thinned(drawn, np.inf, random, KEPT)
            yield log1p_cp10k(block) if normalised else block

    random = np.random.default_rng(0)
    # cells of a file are in no order of their names
    obs = cell_frame(np.array([f"c{place:08d}" for place in random.permutation(number)], dtype=object))
    for column in ("sample", "batch", "donor", "condition"):
        obs[column] = constant("s1", number)
    obs = obs.assign(n_genes_by_counts=800, total_counts=2000, pct_counts_mt=1.0, doublet_score=0.0)
    obs["predicted_doublet"] = False
    with new_h5ad(work / "s1.norm.h5ad") as file:
        write_frame(file, "obs", obs)
        write_frame(file, "var", gene_frame(source.var_names, [""] * source.n_vars))
        for key, normalised in (("X", True), ("layers/counts", False)):
            kind = np.float32 if normalised else np.int32
            _, values = write_csr(file, key, blocks(normalised), source.n_vars, kind, number * source.n_vars)
    view = load_file(ANNOTATOR / "model.safetensors")
    centres = view["embedding.type_means"]
    near = centres[random.integers(0, len(centres), number)] + 0.5 * random.normal(size=(number, centres.shape[1]))
    np.save(work / "s1.000000000.embedding.npy", (view["embedding.mean"] + view["embedding.sd"] * near).astype("<f4"))
    return values


def write_cohort(work: Path) -> None:
    """What the step that clusters makes of the sample, with clusters in turn."""
    table = pd.read_parquet(work / "s1.annotation.parquet")
    cluster = np.arange(len(table)) % 20
    cohort = pa.table(
        {
            "sample": ["s1"] * len(table), "barcode": table["barcode"],
            "umap_1": np.zeros(len(table), np.float32), "umap_2": np.zeros(len(table), np.float32),
            "spikgpt_cluster": cluster.astype(str), "spikgpt_cluster_cell_type": table["spikgpt_best_match"],
        }
    )  # fmt: skip
    types = sorted(set(table["spikgpt_best_match"]))
    cohort = cohort.replace_schema_metadata({CELL_TYPES_KEY: json.dumps(types).encode()})
    write_cohort_cells(work / "cohort_cells.parquet", cohort)
    (work / "run.json").write_text(json.dumps({"version": "0", "parameters": {"seed": 0}}))


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--cells", type=Path, required=True, help="h5ad of real cells, raw counts in X")
    made.add_argument("--number", type=int, nargs="+", default=[20_000, 200_000], help="cells to draw")
    made.add_argument("--work", type=Path, required=True, help="folder for the files; 5 GB for 200,000 cells")
    made.add_argument("--json", type=Path, default=ROOT / "docs" / "reliability" / "memory.json")
    given = made.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    source = ad.read_h5ad(given.cells)
    source.X = sparse.csr_matrix(source.X).astype(np.int32)
    rows = []
    for number in given.number:
        values = write_sample(source, number, given.work)
        sample = ("--sample", "s1", "--h5ad", "s1.norm.h5ad", "--embedding", "s1.000000000.embedding.npy")
        model = ("--annotator", ANNOTATOR, "--scgpt-model", SCGPT)
        steps = {"annotate": measured([ROOT / "bin" / "annotate.py", *sample, *model], cwd=given.work)}
        write_cohort(given.work)
        steps["write_sample"] = measured(
            [ROOT / "bin" / "write_sample.py", *sample, "--annotation", "s1.annotation.parquet", "--annotation-stats",
             "s1.annotation.json", "--cohort", "cohort_cells.parquet", "--run", "run.json"], cwd=given.work,
        )  # fmt: skip
        for name, cost in steps.items():
            rows.append(
                {"step": name, "cells": number, **{key: cost[key] for key in ("wall_s", "cpu_s", "peak_rss_mib")}}
            )
            print(rows[-1], file=sys.stderr)
        rows[-2]["genes_per_cell"] = rows[-1]["genes_per_cell"] = round(values / number)
        found = {"machine": machine(), "cells": source.n_obs, "genes": source.n_vars, "steps": rows}
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
