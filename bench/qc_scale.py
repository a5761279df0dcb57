#!/usr/bin/env python3
"""Time and peak memory of each step on resampled cells: one large sample, and a large cohort.

    bench/qc_scale.py sample --cells pbmc3k.h5ad --number 200000 --work DIR --json scale_sample.json
    bench/qc_scale.py cohort --cells pbmc3k.h5ad --number 1000000 --samples 200 --work DIR --json cohort.json

Cells are drawn from a real data set with replacement, and each count is kept with probability 0.9, so that no two
cells are equal. The cohort's embeddings are drawn too: a centre per cell type, a small shift per batch, noise.
Every step runs as the pipeline runs it, by its script in bin/, one after the other; the peak is the resident
memory of that process.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bin"))

import anndata as ad  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from scipy import sparse  # noqa: E402
from spikgpt.base.columns import LEVELS  # noqa: E402
from spikgpt.base.h5ad import cell_frame, gene_frame, new_h5ad, stored, write_csr, write_frame  # noqa: E402
from spikgpt.base.normalisation import normalise_cells  # noqa: E402
from spikgpt.base.ontology import TERM  # noqa: E402
from spikgpt.base.threads import pin_process  # noqa: E402

KEPT = 0.9
DIMENSIONS = 64
ANNOTATION = {"annotator_sha256": "none", "scgpt_sha256": "none"}
RUN = {"version": "0", "parameters": {"seed": 0, "unknown_rate": 0.05}}


def draw(source: ad.AnnData, number: int, seed: int) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Counts of so many cells, and which of the source each came from."""
    rng = np.random.default_rng(seed)
    origin = rng.integers(0, source.n_obs, number)
    counts = sparse.csr_matrix(source.X)[origin].astype(np.int32)
    for start in range(0, counts.nnz, 1 << 24):
        counts.data[start : start + (1 << 24)] = rng.binomial(counts.data[start : start + (1 << 24)], KEPT)
    counts.eliminate_zeros()
    return counts, origin


def barcodes(number: int, prefix: str) -> np.ndarray:
    return np.array([f"{prefix}{i:07d}-1" for i in range(number)], dtype=object)


def write_counts(path: Path, source: ad.AnnData, number: int, seed: int, depth: int) -> np.ndarray:
    """A sample in blocks of 20,000 cells; `depth` cells of the source are added up to one."""
    origins: list[np.ndarray] = []

    def blocks():
        for start in range(0, number, 20_000):
            size = min(20_000, number - start)
            parts = [draw(source, size, seed + start + part) for part in range(depth)]
            origins.append(parts[0][1])
            yield sparse.csr_matrix(sum(counts for counts, _ in parts))

    with new_h5ad(path) as out:
        write_csr(out, "X", blocks(), source.n_vars, np.int32, number * depth * 4000)
        write_frame(out, "obs", cell_frame(barcodes(number, "c")))
        write_frame(out, "var", gene_frame(source.var_names, [""] * source.n_vars))
    return np.concatenate(origins)


def step(results: list[dict], work: Path, name: str, *args: object) -> None:
    """Run a script; add its seconds on the clock and of the processor, and its peak resident memory."""
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, ROOT / "bin" / name, *map(str, args)], cwd=work)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{name} failed with {process.returncode}")
    row = {
        "step": name.removesuffix(".py"),
        "seconds": round(time.monotonic() - started, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_gb": round(usage.ru_maxrss / 1e6, 2),
    }
    print(row, file=sys.stderr)
    results.append(row)


def one_sample(source: ad.AnnData, given: argparse.Namespace) -> dict:
    work, rows = Path(given.work), []
    write_counts(work / "in.h5ad", source, given.number, given.seed, given.depth)
    with stored(work / "in.h5ad") as cells:
        values = len(cells.file["X/indices"])
    model = ROOT / "assets" / "scgpt-mini"
    step(rows, work, "import_counts.py", "--sample", "s", "--matrix", "in.h5ad", "--scgpt-model", model)
    counts = "s.counts.h5ad"
    if given.ambient:
        step(rows, work, "remove_ambient.py", "--sample", "s", "--h5ad", counts, "--seed", 0)
        counts = "s.ambient.h5ad"
    step(rows, work, "qc_metrics.py", "--sample", "s", "--h5ad", counts)
    step(rows, work, "detect_doublets.py", "--sample", "s", "--h5ad", counts, "--seed", 0)
    (work / "thresholds.json").write_text("{}")
    step(rows, work, "filter_cells.py", "--sample", "s", "--h5ad", counts, "--qc", "s.qc.parquet",
         "--doublets", "s.doublets.parquet", "--thresholds", "thresholds.json")  # fmt: skip
    step(rows, work, "normalise.py", "--sample", "s", "--h5ad", "s.filtered.h5ad")
    return {"cells": given.number, "counted_genes_per_cell": round(values / given.number), "steps": rows}


def cohort(source: ad.AnnData, given: argparse.Namespace) -> dict:
    work, rows = Path(given.work), []
    rng = np.random.default_rng(given.seed)
    types = pd.Categorical(source.obs["cell_type"].astype(str))
    centres = rng.normal(size=(len(types.categories), DIMENSIONS))
    names = [f"s{i:03d}" for i in range(given.samples)]
    each = given.number // given.samples
    for at, name in enumerate(names):
        origin = write_counts(work / "part.h5ad", source, each, given.seed + 1000 * at, 1)
        with stored(work / "part.h5ad") as cells:
            qc = pd.DataFrame(
                {"n_genes_by_counts": 800, "total_counts": 2000, "pct_counts_mt": 2.0, "doublet_score": 0.01,
                 "predicted_doublet": False}, index=cells.obs.index,
            )  # fmt: skip
            cells.obs = cells.obs.join(qc)
            normalise_cells(cells, work / f"{name}.norm.h5ad", name, batch=f"run{at % 4}")
        code = types.codes[origin]
        shift = 0.5 * np.random.default_rng(at % 4).normal(size=DIMENSIONS)
        vectors = centres[code] + shift + rng.normal(scale=0.7, size=(each, DIMENSIONS))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        np.save(work / f"{name}.000000000.embedding.npy", vectors.astype(np.float32))
        label = np.asarray(types.categories)[code]
        unknown = rng.random(each) < 0.05
        table = pd.DataFrame(
            {"barcode": barcodes(each, "c"), "spikgpt_cell_type": np.where(unknown, "Unknown", label),
             "spikgpt_best_match": label, "spikgpt_confidence": np.float32(0.9), "spikgpt_p_value": np.float32(0.5),
             "spikgpt_unknown_reason": np.where(unknown, "outside_reference", ""), TERM: "",
             **dict.fromkeys((column.name for column in LEVELS), "")}
        )  # fmt: skip
        table.to_parquet(work / f"{name}.annotation.parquet", index=False)
    (work / "run.json").write_text(json.dumps(RUN))
    (work / "annotation.json").write_text(json.dumps(ANNOTATION))
    (work / "part.h5ad").unlink()

    def files(ending: str) -> list[str]:
        return [f"{name}{ending}" for name in names]

    h5ads, vectors_of = files(".norm.h5ad"), files(".000000000.embedding.npy")
    labels = files(".annotation.parquet")
    step(rows, work, "cluster_cohort.py", "--h5ad", *h5ads, "--embedding", *vectors_of, "--annotation", *labels)
    step(rows, work, "batch_mixing.py", "--h5ad", *h5ads, "--embedding", *vectors_of, "--annotation", *labels)
    written: list[dict] = []
    for name in names:
        step(written, work, "write_sample.py", "--sample", name, "--h5ad", f"{name}.norm.h5ad", "--embedding",
             f"{name}.000000000.embedding.npy", "--annotation", f"{name}.annotation.parquet", "--annotation-stats",
             "annotation.json", "--cohort", f"{name}.cohort.parquet", "--run", "run.json")  # fmt: skip
        (work / f"{name}.norm.h5ad").unlink()
    summed = {name: round(sum(row[name] for row in written), 1) for name in ("seconds", "cpu_seconds")}
    peak = max(row["peak_gb"] for row in written)
    rows.append({"step": f"write_sample, all {given.samples}", **summed, "peak_gb": peak})
    step(rows, work, "join_cohort.py", "--h5ad", *files(".h5ad"))
    step(rows, work, "find_markers.py", "--h5ad", "cohort.h5ad")
    return {
        "cells": each * given.samples,
        "samples": given.samples,
        "dimensions": DIMENSIONS,
        "thinned_to": given.thin,
        "steps": rows,
    }


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("what", choices=["sample", "cohort"])
    made.add_argument("--cells", required=True, help="h5ad of real cells: counts in X, obs cell_type")
    made.add_argument("--number", type=int, required=True, help="cells to draw")
    made.add_argument("--samples", type=int, default=200)
    made.add_argument("--depth", type=int, default=1, help="cells that are added up to one (sample)")
    made.add_argument("--thin", type=float, default=1.0, help="share of the source's counts that is kept beforehand: "
                      "small files where the number of cells is what counts")  # fmt: skip
    made.add_argument("--ambient", action="store_true", help="with DecontX (sample)")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--work", required=True, help="empty folder for the files; several GB")
    made.add_argument("--json", required=True, help="file for the figures")
    given = made.parse_args()
    pin_process()
    Path(given.work).mkdir(parents=True, exist_ok=True)
    source = ad.read_h5ad(given.cells)
    source.X = sparse.csr_matrix(source.X).astype(np.int32)
    source.X.data = np.random.default_rng(given.seed).binomial(source.X.data, given.thin).astype(np.int32)
    source.X.eliminate_zeros()
    found = (one_sample if given.what == "sample" else cohort)(source, given)
    Path(given.json).write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
