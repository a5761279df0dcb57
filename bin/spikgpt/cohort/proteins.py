"""Antibody and hashtag counts in the annotated files: `obsm["protein"]`, and their names in `uns["protein"]`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem, write_elem

from spikgpt.base.h5ad import COMPRESSION, stored

KEY = "protein"
"""Key of `obsm`, float32 (cells, features), NaN where a sample has no such feature; and of `uns`: names and
feature_types, one a column."""
_ROWS = 65536


def write_sample_proteins(out: h5py.File, proteins: str | Path, barcodes: pd.Index) -> None:
    """Add the counts of a sample's cells to its h5ad.

    Parameters
    ----------
    proteins
        `<sample>.protein.h5ad`, see `spikgpt.read_input.proteins.write_proteins`.
    barcodes
        Of the cells of the sample's h5ad, all among those of the file.
    """
    with stored(proteins) as counts:
        rows = pd.Index(counts.barcodes).get_indexer(barcodes)
        if (rows < 0).any():
            raise ValueError(f"{Path(proteins).name} lacks cells of the sample")
        values = counts.matrix()[rows].toarray().astype(np.float32)
        write_elem(out, f"obsm/{KEY}", values, dataset_kwargs=COMPRESSION)
        names, kinds = counts.var.index.astype(str), counts.var["feature_type"].astype(str)
        write_elem(out, f"uns/{KEY}", _names(list(names), list(kinds)))


def _names(names: Sequence[str], kinds: Sequence[str]) -> dict[str, np.ndarray]:
    return {"names": np.array(names, dtype=object), "feature_types": np.array(kinds, dtype=object)}


def join_proteins(out: h5py.File, files: Sequence[h5py.File], cells: Sequence[int]) -> None:
    """Add the counts of all samples to the cohort, a block of cells at a time; features are the union, by name.

    Parameters
    ----------
    files, cells
        The samples' h5ad files, and how many cells each has.
    """
    described: list[Mapping[str, Any] | None] = [
        read_elem(file[f"uns/{KEY}"]) if f"uns/{KEY}" in file else None for file in files
    ]
    kinds: dict[str, str] = {}
    for own in described:
        if own is not None:
            for name, kind in zip(own["names"], own["feature_types"], strict=True):
                kinds.setdefault(str(name), str(kind))
    if not kinds:
        return
    names = sorted(kinds)
    place = pd.Index(names)
    joined = out.create_dataset(
        f"obsm/{KEY}", (sum(cells), len(names)), dtype=np.float32, chunks=True, fillvalue=np.nan, **COMPRESSION
    )
    joined.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    start = 0
    for file, own, number in zip(files, described, cells, strict=True):
        for first in range(0, number, _ROWS):
            last = min(first + _ROWS, number)
            block = np.full((last - first, len(names)), np.nan, dtype=np.float32)
            if own is not None:
                block[:, place.get_indexer([str(name) for name in own["names"]])] = file[f"obsm/{KEY}"][first:last]
            joined[start + first : start + last] = block
        start += number
    write_elem(out, f"uns/{KEY}", _names(names, [kinds[name] for name in names]))
