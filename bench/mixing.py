#!/usr/bin/env python3
"""Our batch mixing scores beside those of the package scib-metrics, on the same cells and neighbours.

    bench/mixing.py --cells kang_ifnb2k.h5ad --json mixing.json

Needs scib-metrics (0.5.10 is the last that runs with the pipeline's SciPy) and its JAX beside the pipeline's own
packages. Principal components of log1p CP10k stand for the embedding.
"""

import argparse
import json
import sys
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bin"))

import anndata as ad
import numpy as np
import scanpy as sc
from spikgpt.base.threads import pin_process
from spikgpt.cohort.batch_mixing import KBET_NEIGHBOURS, LISI_NEIGHBOURS, PERPLEXITY, kbet_acceptance, scaled_lisi


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--cells", required=True, help="h5ad: counts in X, obs batch and cell_type")
    made.add_argument("--json", required=True)
    given = made.parse_args()
    pin_process()

    import scib_metrics
    from scib_metrics.nearest_neighbors import NeighborsResults
    from sklearn.neighbors import NearestNeighbors

    cells = ad.read_h5ad(given.cells)
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    sc.pp.highly_variable_genes(cells, n_top_genes=2000, subset=True)
    sc.pp.pca(cells, n_comps=30)
    z = cells.obsm["X_pca"].astype(np.float64)
    batches, labels = (cells.obs[name].astype(str).to_numpy() for name in ("batch", "cell_type"))
    codes = np.unique(batches, return_inverse=True)[1]
    distances, nearest = NearestNeighbors(n_neighbors=LISI_NEIGHBOURS, algorithm="brute").fit(z).kneighbors(z)
    wide = NeighborsResults(indices=nearest, distances=distances)
    narrow = NeighborsResults(indices=nearest[:, :KBET_NEIGHBOURS], distances=distances[:, :KBET_NEIGHBOURS])
    found = {
        "cells": int(cells.n_obs),
        "scib_metrics": version("scib-metrics"),
        "ilisi": {"ours": scaled_lisi(z, codes), "scib": float(scib_metrics.ilisi_knn(wide, batches, PERPLEXITY))},
        "clisi": {
            "ours": 1 - scaled_lisi(z, labels),
            "scib": float(scib_metrics.clisi_knn(wide, labels, PERPLEXITY)),
        },
        "kbet_acceptance": {
            "ours": kbet_acceptance(nearest[:, :KBET_NEIGHBOURS], codes),
            "scib": float(scib_metrics.kbet(narrow, batches)[0]),
        },
    }
    Path(given.json).write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
