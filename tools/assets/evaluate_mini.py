#!/usr/bin/env python3
"""Judge a scGPT checkpoint: label transfer by its CLS embeddings, beside principal components.

Logistic regression learns the reference's labels and is scored on the query: once on the CLS
embeddings, once on 50 principal components that were fitted on the reference. Features are
standardised on the reference, the penalty is chosen by 3-fold cross-validation on it.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import anndata
import numpy as np
import scanpy as sc
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bin"))

from spikgpt.base.threads import pin_process
from spikgpt.scgpt.checkpoint import Checkpoint, read_checkpoint
from spikgpt.scgpt.embed import Embedder

COMPONENTS, VARIABLE_GENES = 50, 2000
PENALTIES = (0.001, 0.01, 0.1, 1.0)


def read_cells(path: Path, label_key: str) -> anndata.AnnData:
    """Raw counts with obs `label`; monocytes are one type, cells without a type are left out."""
    cells = anndata.read_h5ad(path)
    cells.var_names_make_unique()
    label = cells.obs[label_key].astype(str)
    cells.obs["label"] = label.where(~label.str.startswith("Mono"), "Mono").to_numpy()
    return cells[~cells.obs["label"].isin(["unassigned", "nan", "?"])].copy()


def components(reference: anndata.AnnData, query: anndata.AnnData, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """50 PCs of the reference's 2,000 most variable genes (log1p CP10k, scaled), and the query projected on them."""
    shared = reference.var_names[reference.var_names.isin(query.var_names)]
    parts = [reference[:, shared].copy(), query[:, shared].copy()]
    for part in parts:
        sc.pp.normalize_total(part, target_sum=1e4)
        sc.pp.log1p(part)
    sc.pp.highly_variable_genes(parts[0], n_top_genes=VARIABLE_GENES)
    variable = parts[0].var["highly_variable"].to_numpy()
    ref, new = (part[:, variable].X.toarray() for part in parts)
    scaler = StandardScaler().fit(ref)
    pca = PCA(COMPONENTS, random_state=seed).fit(np.clip(scaler.transform(ref), -10, 10))
    return tuple(pca.transform(np.clip(scaler.transform(x), -10, 10)) for x in (ref, new))  # type: ignore[return-value]


def embeddings(checkpoint: Checkpoint, cells: anndata.AnnData, name: str, threads: int) -> np.ndarray:
    """CLS embeddings of all cells, at most 1,200 tokens each."""
    embedder = Embedder(checkpoint, list(cells.var_names), sample=name, threads=threads)
    return embedder.embed(sparse.csr_matrix(cells.X), list(cells.obs_names))


def transfer(reference: np.ndarray, labels: np.ndarray, query: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Accuracy and macro F1 on the query, as per cent."""
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
        {"logisticregression__C": PENALTIES},
        cv=3,
    )
    search.fit(reference, labels)
    predicted = search.predict(query)
    return {
        "accuracy": round(100 * float((predicted == truth).mean()), 2),
        "macro_f1": round(100 * float(f1_score(truth, predicted, average="macro", labels=np.unique(truth))), 2),
        "C": search.best_params_["logisticregression__C"],
    }


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument("--scgpt-model", type=Path, required=True)
    made.add_argument(
        "--pair", nargs=4, action="append", required=True, metavar=("NAME", "REFERENCE", "QUERY", "LABEL_KEY"),
        help="two h5ad files of raw counts, and the obs column of their labels; may be given again",
    )  # fmt: skip
    made.add_argument("--out", type=Path, required=True, help="JSON file of the results")
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--seed", type=int, default=0)
    args = made.parse_args()
    pin_process()

    checkpoint = read_checkpoint(args.scgpt_model)
    results = []
    for name, reference_path, query_path, key in args.pair:
        reference, query = read_cells(Path(reference_path), key), read_cells(Path(query_path), key)
        labels, truth = reference.obs["label"].to_numpy(), query.obs["label"].to_numpy()
        started = time.monotonic()
        cls = [
            embeddings(checkpoint, reference, "reference", args.threads),
            embeddings(checkpoint, query, "query", args.threads),
        ]
        rate = (reference.n_obs + query.n_obs) / (time.monotonic() - started)
        pcs = components(reference, query, args.seed)
        scores = {
            "CLS": transfer(cls[0], labels, cls[1], truth),
            f"PCA{COMPONENTS}": transfer(pcs[0], labels, pcs[1], truth),
        }
        results.append({"pair": name, "reference_cells": reference.n_obs, "query_cells": query.n_obs, **scores})
        for features, score in scores.items():
            print(f"{name:<24}{features:<8}accuracy {score['accuracy']:6.2f}  macro F1 {score['macro_f1']:6.2f}")
        print(f"{name}: {rate:.0f} cells/s embedded with {args.threads} threads", file=sys.stderr)
    args.out.write_text(json.dumps({"checkpoint_sha256": checkpoint.sha256, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
