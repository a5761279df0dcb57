#!/usr/bin/env python3
"""Write an h5ad of any number of cells, each a real cell whose counts are thinned to a given depth.

For measuring what a step costs at any size: cells are drawn with replacement, and every copy is thinned by
itself (binomially, as sequencing to less depth does), so no two are alike. Streamed: a block is in memory.
"""

import argparse
from pathlib import Path

import anndata
import h5py
import numpy as np
from scipy import sparse

BLOCK = 20_000
"""Cells made at a time."""
CHUNK = 1 << 20
"""Values in a compressed chunk of the file."""


def thinned(
    counts: sparse.csr_matrix, depth: float, random: np.random.Generator, kept: float = 1.0
) -> sparse.csr_matrix:
    """Counts as if each cell had been sequenced to `depth` counts; a cell that has fewer keeps the share `kept`."""
    totals = np.asarray(counts.sum(axis=1)).ravel()
    share = np.minimum(kept, depth / np.maximum(totals, 1))
    data = random.binomial(counts.data.astype(np.int64), np.repeat(share, np.diff(counts.indptr))).astype(np.int32)
    # a copy: taking out zeros would move the caller's own indices under its data
    result = sparse.csr_matrix((data, counts.indices, counts.indptr), shape=counts.shape, copy=True)
    result.eliminate_zeros()
    return result


def write_resampled(
    source: anndata.AnnData, number: int, out: Path, *, depth: float, seed: int, kept: float = 1.0
) -> None:
    """Write an h5ad of `number` cells, drawn from those of `source` (raw counts in X); see `thinned`."""
    counts = sparse.csr_matrix(source.X)
    random = np.random.default_rng(seed)
    with h5py.File(out, "w") as file:
        anndata.io.write_elem(file, "/", anndata.AnnData(var=source.var[[]], shape=(0, source.n_vars)))
        del file["obs"], file["layers"]
        group = file.create_group("layers/counts")
        file["layers"].attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
        group.attrs["shape"] = np.array([number, source.n_vars])
        stored = {
            name: group.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(CHUNK,), compression=1)
            for name, dtype in (("data", "<i4"), ("indices", "<i4"))
        }
        pointers = [np.zeros(1, dtype=np.int64)]
        for first in range(0, number, BLOCK):
            drawn = random.integers(source.n_obs, size=min(BLOCK, number - first))
            block = thinned(counts[drawn], depth, random, kept)
            before = stored["data"].shape[0]
            for name, values in (("data", block.data), ("indices", block.indices)):
                stored[name].resize((before + block.nnz,))
                stored[name][before:] = values
            pointers.append(before + block.indptr[1:].astype(np.int64))
        group.create_dataset("indptr", data=np.concatenate(pointers), compression=1)
        obs = file.create_group("obs")
        obs.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.2.0", "_index": "_index"})
        obs.attrs["column-order"] = np.array([], dtype=h5py.string_dtype())
        anndata.io.write_elem(obs, "_index", np.array([f"cell{i:07d}" for i in range(number)], dtype=object))


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--cells", type=Path, required=True, help="h5ad with raw counts in X")
    made.add_argument("--number", type=int, required=True, help="cells to write")
    made.add_argument("--depth", type=int, required=True, help="counts per cell, at most")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--out", type=Path, required=True)
    args = made.parse_args()
    write_resampled(anndata.read_h5ad(args.cells), args.number, args.out, depth=args.depth, seed=args.seed)


if __name__ == "__main__":
    main()
