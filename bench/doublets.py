#!/usr/bin/env python3
"""Doublets found by SpikGPT, by Scrublet as scanpy has it, and by DoubletDetection, these with their defaults.

    bench/doublets.py --cells sc_mixology_cell_lines.h5ad --truth demuxlet_cls --singlet SNG --json doublets.json

Needs scikit-image (for Scrublet's own threshold) and doubletdetection beside the pipeline's packages. Every batch is
scored on its own, as a sample is in the pipeline, and all together. `--parts` also scores the cells in random parts
of at most so many, as the pipeline does above 10,000 cells, to tell what that costs. `--ordinary` tells how many
doublets SpikGPT calls in samples whose doublets nobody knows, beside the number expected.
"""

import argparse
import json
import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bin"))

import anndata as ad
import numpy as np
import scanpy as sc
from scipy import sparse
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from spikgpt.base.h5ad import count_data, stored, write_h5ad
from spikgpt.base.threads import pin_process
from spikgpt.quality_control import doublets

warnings.filterwarnings("ignore")


def spikgpt_scores(cells: ad.AnnData) -> tuple[np.ndarray, np.ndarray, dict]:
    counts = count_data(sparse.csr_matrix(cells.X), cells.obs_names, list(cells.var_names), [""] * cells.n_vars)
    with tempfile.TemporaryDirectory() as folder:
        write_h5ad(counts, Path(folder) / "s.h5ad")
        with stored(Path(folder) / "s.h5ad") as opened:
            table, stats = doublets.detect_doublets(opened, 0)
    return table["doublet_score"].to_numpy(), table["predicted_doublet"].to_numpy(), stats


def scrublet_scores(cells: ad.AnnData) -> tuple[np.ndarray, np.ndarray, dict]:
    made = ad.AnnData(X=cells.X.astype(np.float32))
    made.obs_names = [str(i) for i in range(made.n_obs)]
    sc.pp.scrublet(made, random_state=0, verbose=False)
    return made.obs["doublet_score"].to_numpy(), made.obs["predicted_doublet"].to_numpy(dtype=bool), {}


def doubletdetection_scores(cells: ad.AnnData) -> tuple[np.ndarray, np.ndarray, dict]:
    import doubletdetection

    counts = sparse.csr_matrix(cells.X, dtype=np.float64)
    # a gene without a count makes its scaling divide by zero
    found = doubletdetection.BoostClassifier(random_state=0).fit(counts[:, counts.getnnz(axis=0) > 0])
    return np.ma.filled(found.doublet_score(), 0.0), np.nan_to_num(found.predict()) > 0, {}


METHODS = {
    "SpikGPT": spikgpt_scores,
    "Scrublet, its defaults": scrublet_scores,
    "DoubletDetection, its defaults": doubletdetection_scores,
}


def scored(cells: ad.AnnData, truth: np.ndarray) -> dict:
    found = {"cells": int(cells.n_obs), "doublets": int(truth.sum())}
    found["expected_rate"] = round(doublets.expected_rate(cells.n_obs), 4)
    for name, method in METHODS.items():
        score, called, _ = method(cells)
        found[name] = {
            "auroc": round(float(roc_auc_score(truth, np.nan_to_num(score))), 3),
            "called": int(called.sum()),
            "called_right": int((called & truth).sum()),
        }
        print(name, found[name], file=sys.stderr)
    return found


def called_in(path: Path) -> list[dict]:
    """How many doublets are called in each batch of a file, and of which types."""
    cells = ad.read_h5ad(path)
    cells.X = sparse.csr_matrix(cells.X)
    rows = []
    for batch in sorted(set(cells.obs["batch"])):
        sample = cells[(cells.obs["batch"] == batch).to_numpy()].copy()
        called, expected = spikgpt_scores(sample)[1], doublets.expected_rate(sample.n_obs)
        row = {"sample": f"{path.stem}, {batch}", "cells": sample.n_obs, "expected": round(expected * sample.n_obs, 1)}
        types = sample.obs["cell_type"].astype(str).to_numpy()
        taken = {
            name: [int((called & (types == name)).sum()), int((types == name).sum())] for name in set(types[called])
        }
        rows.append(row | {"called": int(called.sum()), "types": dict(sorted(taken.items()))})
    return rows


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--cells", required=True, help="h5ad: counts in X, obs batch")
    made.add_argument("--truth", required=True, help="column of obs that tells doublets")
    made.add_argument("--singlet", required=True, help="its value for a single cell")
    made.add_argument("--parts", type=int, help="cells in a part")
    made.add_argument(
        "--ordinary", type=Path, nargs="*", default=[], help="h5ad files: counts in X, obs batch, cell_type"
    )
    made.add_argument("--json", required=True)
    given = made.parse_args()
    pin_process()
    cells = ad.read_h5ad(given.cells)
    cells.X = sparse.csr_matrix(cells.X)
    truth = (cells.obs[given.truth].astype(str) != given.singlet).to_numpy()
    result = {"all": scored(cells, truth)}
    for batch in sorted(set(cells.obs["batch"])):
        inside = (cells.obs["batch"] == batch).to_numpy()
        result[str(batch)] = scored(cells[inside].copy(), truth[inside])
    if given.ordinary:
        result["ordinary"] = [row for path in given.ordinary for row in called_in(path)]
    if given.parts:
        whole, _, _ = spikgpt_scores(cells)
        doublets.LARGEST_BLOCK = given.parts
        parts, _, stats = spikgpt_scores(cells)
        result["parts"] = {
            "parts": stats["blocks"],
            "auroc_whole": round(float(roc_auc_score(truth, whole)), 3),
            "auroc_parts": round(float(roc_auc_score(truth, parts)), 3),
            "spearman": round(float(spearmanr(whole, parts)[0]), 3),
        }
    Path(given.json).write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
