"""Steps whose bytes could depend on threads, on made cells, called as a notebook calls the library.

    one_result.py FOLDER STEP...

numpy comes first, so that BLAS has read the environment before the package could change it. Prints a digest of each
step's result as JSON.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bin"))

import anndata as ad
import scipy.sparse as sp
from annotator_cells import TYPES, made_cells, written


def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def train_and_annotate(folder: Path) -> dict[str, str]:
    """450 cells: the matrices of fewer are too small to be shared among threads."""
    from spikgpt.annotator.folder import save_annotator
    from spikgpt.annotator.network import Recipe
    from spikgpt.annotator.train import train_annotator
    from spikgpt.annotator.training_set import read_reference

    data, embedding = made_cells(dict.fromkeys(TYPES, 150), seed=3, name="reference")
    annotator, *_ = train_annotator(
        read_reference(*written(folder, data, embedding, "reference")),
        scgpt={"name": "made", "sha256": "0" * 64},
        unknown_rate=0.05,
        features="both",
        seed=0,
        threads=1,
        recipe=Recipe(min_steps=20, max_steps=20),
    )
    save_annotator(annotator, folder / "annotator")
    model = [(folder / "annotator" / name).read_bytes() for name in ("config.json", "model.safetensors")]
    query, places = made_cells(dict.fromkeys(TYPES, 150), seed=9, name="query")
    table, figures = annotator.annotate(
        sp.csr_matrix(query.layers["counts"]), list(query.var_names), places, list(query.obs_names), 0.05
    )
    return {
        "train": digest(*model),
        "annotate": digest(table.to_csv().encode(), json.dumps(figures, sort_keys=True).encode()),
    }


def mix(folder: Path) -> dict[str, str]:
    from spikgpt.cohort.batch_mixing import batch_mixing

    cells = np.random.default_rng(0).normal(size=(600, 256)).astype(np.float32)
    batches = np.tile(["one", "two"], 300)
    return {"mix": digest(batch_mixing(cells, batches, batches, seed=0).to_csv().encode())}


def cluster(folder: Path) -> dict[str, str]:
    from spikgpt.cohort.clusters import cluster_embedding

    cells = np.random.default_rng(0).normal(size=(600, 256)).astype(np.float32)
    cells[:300] += 1
    plain = cluster_embedding(cells, resolution=1.0, seed=0)
    both = cluster_embedding(cells, resolution=1.0, seed=0, batches=np.tile(["one", "two"], 300))
    assert both.integrated is not None
    return {
        "cluster": digest("\n".join(plain.clusters).encode(), plain.umap.tobytes()),
        "integrate": digest("\n".join(both.clusters).encode(), both.umap.tobytes(), both.integrated.tobytes()),
    }


def doublets(folder: Path) -> dict[str, str]:
    from spikgpt.base.h5ad import stored
    from spikgpt.quality_control.doublets import detect_doublets

    draw = np.random.default_rng(0)
    rates = draw.gamma(0.5, 1, (3, 800))[draw.integers(3, size=500)]
    cells = ad.AnnData(sp.csr_matrix(draw.poisson(rates).astype(np.int32)))
    cells.obs_names = [f"cell-{number}" for number in range(500)]
    cells.var["gene_id"] = ""
    cells.write_h5ad(folder / "counts.h5ad")
    with stored(folder / "counts.h5ad") as file:
        table, figures = detect_doublets(file, seed=0)
    return {"doublets": digest(table.to_csv().encode(), json.dumps(figures, sort_keys=True).encode())}


if __name__ == "__main__":
    steps = {step.__name__: step for step in (train_and_annotate, mix, cluster, doublets)}
    results: dict[str, str] = {}
    for name in sys.argv[2:]:
        results |= steps[name](Path(sys.argv[1]))
    print(json.dumps(results))
