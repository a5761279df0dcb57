"""Small made cells for the annotator's tests: types with markers of their own, in two batches."""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

GENES = 240
TYPES = ("B cell", "NK cell", "T cell")


def made_cells(
    types: dict[str, int], *, seed: int, name: str, batches: tuple[str, ...] = ("one", "two")
) -> tuple[ad.AnnData, np.ndarray]:
    """Poisson counts with 20 markers a type, and a 16-dimensional stand-in for an embedding.

    Every name gets its own markers, so that a type outside `TYPES` is a new one.
    """
    draw = np.random.default_rng(seed)
    base = np.exp(np.random.default_rng(1).normal(0, 1, GENES))
    axes = np.random.default_rng(2).normal(0, 1, (6, 16))
    places = {label: number for number, label in enumerate((*TYPES, "platelet", "mast cell", "new cell"))}
    counts, labels, embedding = [], [], []
    for label, cells in types.items():
        rate = base.copy()
        rate[places[label] * 20 : places[label] * 20 + 20] *= 8
        depth = draw.lognormal(0, 0.2, (cells, 1))
        counts.append(draw.poisson(rate * depth))
        labels += [label] * cells
        embedding.append(axes[places[label]] + draw.normal(0, 0.5, (cells, 16)))
    matrix = sp.csr_matrix(np.concatenate(counts).astype(np.int32))
    total = np.maximum(np.asarray(matrix.sum(1)).ravel(), 1)
    values = sp.csr_matrix(sp.diags(1e4 / total) @ matrix).astype(np.float32)
    values.data = np.log1p(values.data)
    order = draw.permutation(len(labels))
    data = ad.AnnData(
        values[order],
        obs=pd.DataFrame(
            {
                "cell_type": np.array(labels)[order],
                "batch": np.array(batches)[np.arange(len(labels)) % len(batches)],
            },
            index=[f"{name}-{number:04d}" for number in range(len(labels))],
        ),
        var=pd.DataFrame({"gene_id": ""}, index=[f"GENE{number}" for number in range(GENES)]),
        layers={"counts": matrix[order]},
    )
    unit = np.concatenate(embedding)[order]
    return data, (unit / np.linalg.norm(unit, axis=1, keepdims=True)).astype(np.float32)


def written(folder: Path, data: ad.AnnData, embedding: np.ndarray, name: str) -> tuple[Path, list[Path]]:
    """norm.h5ad and its embedding in two fragments, as the steps before the annotator write them."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.norm.h5ad"
    data.obs["cell_type"] = data.obs["cell_type"].astype("category")
    data.obs["batch"] = data.obs["batch"].astype("category")
    data.write_h5ad(path)
    half = len(embedding) // 2
    parts = [folder / f"{name}.{start:09d}.embedding.npy" for start in (0, half)]
    for part, rows in zip(parts, (embedding[:half], embedding[half:]), strict=True):
        np.save(part, rows)
    return path, parts
