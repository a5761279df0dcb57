#!/usr/bin/env python3
"""What DecontX does to markers where they do not belong, on a matrix with real cells and a real ambient profile.

    bench/ambient.py --raw raw_feature_bc_matrix --labels pbmc4k.h5ad --scgpt-model assets/scgpt-mini \\
        --work DIR --json docs/benchmarks/qc/ambient.json

The steps run as in the pipeline, cell calling included. A marker's counts in its own cells should stay, those in
all other cells should go. `--labels` is an h5ad whose obs cell_type says what the cells are.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bin"))

import anndata as ad  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

MARKERS = {
    "myeloid": ("mono", ["LYZ", "S100A8", "S100A9", "CST3"]),
    "B": ("b", ["IGHM", "IGKC", "CD79A", "MS4A1"]),
    "T": ("t", ["CD3D", "CD3E"]),
    "NK and cytotoxic T": ("nk", ["GNLY", "NKG7"]),
}


def run(work: Path, name: str, *args: object) -> None:
    subprocess.run([sys.executable, ROOT / "bin" / name, *map(str, args)], cwd=work, check=True)


def shares(before, after, symbols: list[str], own: np.ndarray, genes: list[str]) -> dict:
    """Percentage of each gene's counts that stay, in its own cells and in all others."""
    found = {}
    for gene in genes:
        at = symbols.index(gene)
        was, now = (np.asarray(matrix[:, [at]].todense()).ravel() for matrix in (before, after))
        found[gene] = {
            "own_cells_before": int(was[own].sum()), "own_cells_after": int(now[own].sum()),
            "others_before": int(was[~own].sum()), "others_after": int(now[~own].sum()),
            "other_cells_with_it_before": int((was[~own] > 0).sum()),
            "other_cells_with_it_after": int((now[~own] > 0).sum()),
        }  # fmt: skip
    return found


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--raw", "--labels", "--scgpt-model", "--work", "--json"):
        made.add_argument(name, required=True)
    made.add_argument("--label-key", default="coarse")
    given = made.parse_args()
    work = Path(given.work)
    work.mkdir(parents=True, exist_ok=True)
    raw, model = Path(given.raw).resolve(), Path(given.scgpt_model).resolve()
    run(work, "import_counts.py", "--sample", "s", "--matrix", raw, "--unfiltered", "--scgpt-model", model)
    run(work, "call_cells.py", "--sample", "s", "--h5ad", "s.counts.h5ad")
    run(work, "remove_ambient.py", "--sample", "s", "--h5ad", "s.called.h5ad")
    cells = ad.read_h5ad(work / "s.ambient.h5ad")
    labels = ad.read_h5ad(given.labels, backed="r").obs[given.label_key].astype(str)
    labels.index = labels.index.str.replace(r"-\d+$", "", regex=True)
    barcodes = pd.Index(cells.obs_names).str.replace(r"-\d+$", "", regex=True)
    known = barcodes.isin(labels.index)
    cells = cells[known].copy()
    of = labels[barcodes[known]].str.lower().to_numpy()
    is_type = {
        "mono": np.array(["mono" in name or "dc" in name for name in of]),
        "b": of == "b",
        "t": np.array([name.startswith(("cd4", "cd8", "t")) for name in of]),
        "nk": np.array([name.startswith(("nk", "cd8", "t/nk")) for name in of]),
    }
    symbols = [str(name) for name in cells.var_names]
    stats = json.loads((work / "s.ambient.json").read_text())
    result = {
        "cells": int(cells.n_obs),
        "types": {str(k): int(n) for k, n in pd.Series(of).value_counts().items()},
        "background": stats["background"],
        "estimated_percent": stats["estimated_percent"],
        "removed_percent": stats["removed_percent"],
        "markers": {
            name: shares(cells.layers["uncorrected_counts"], cells.X, symbols, is_type[key], genes)
            for name, (key, genes) in MARKERS.items()
        },
    }
    text = json.dumps(result, indent=2) + "\n"
    Path(given.json).write_text(text)
    print(text)


if __name__ == "__main__":
    main()
