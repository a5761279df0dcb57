"""Say what a file of the pipeline holds, as JSON that a Groovy test can compare.

    python3 tests/lib/probe.py FILE

h5ad          cells, genes, barcodes, matrices {X and each layer}, obs, var {frames}, obsm {name: array}, uns
parquet, tsv  a frame
npy           an array
safetensors   tensors {name: shape}

A frame has rows, columns, dtypes {column: dtype}, numbers {column: {min, max, mean, missing}},
texts {column: {value: rows}, for at most 100 values} and, where it has them, barcodes in their order.
An array has shape, dtype, rows_missing (with a NaN), norm_min, norm_max (of the other rows), rows_sha256.
A matrix has format, dtype, min, max, sum and stored (values that are not zero).
"""

import hashlib
import json
import os
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


def number(value: Any) -> int | float | None:
    """A JSON number; None for NaN, which JSON has not."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and np.isnan(value) else value


def frame(table: pd.DataFrame) -> dict[str, Any]:
    numbers, texts = {}, {}
    for name, column in table.items():
        if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
            numbers[name] = {
                "min": number(column.min()), "max": number(column.max()), "mean": number(column.mean()),
                "missing": int(column.isna().sum()),
            }  # fmt: skip
        else:
            counts = column.astype(str).value_counts()
            if len(counts) <= 100:
                texts[name] = {value: int(rows) for value, rows in counts.items()}
    found = {
        "rows": len(table),
        "columns": [str(name) for name in table.columns],
        "dtypes": {str(name): str(dtype) for name, dtype in table.dtypes.items()},
        "numbers": numbers,
        "texts": texts,
    }
    if "barcode" in table:
        found["barcodes"] = table["barcode"].astype(str).tolist()
    return found


def array(values: np.ndarray) -> dict[str, Any]:
    rows = values.reshape(len(values), -1).astype(np.float64)
    missing = np.isnan(rows).any(axis=1)
    norms = np.linalg.norm(rows[~missing], axis=1)
    return {
        "shape": list(values.shape),
        "dtype": str(values.dtype),
        "rows_missing": int(missing.sum()),
        "norm_min": number(norms.min()) if norms.size else None,
        "norm_max": number(norms.max()) if norms.size else None,
        "rows_sha256": [hashlib.sha256(np.ascontiguousarray(row)).hexdigest() for row in values],
    }


def matrix(values: Any) -> dict[str, Any]:
    return {
        "format": getattr(values, "format", "dense"),
        "dtype": str(values.dtype),
        "min": number(values.min()) if values.shape[0] and values.shape[1] else None,
        "max": number(values.max()) if values.shape[0] and values.shape[1] else None,
        "sum": number(values.sum(dtype=np.float64)),
        "stored": int((values != 0).sum()),
    }


def h5ad(path: Path) -> dict[str, Any]:
    import anndata

    cells = anndata.read_h5ad(path)
    uns: dict[str, Any] = cells.uns.get("spikgpt", {})
    return {
        "cells": cells.n_obs,
        "genes": cells.n_vars,
        "barcodes": cells.obs_names.astype(str).tolist(),
        "matrices": {"X": matrix(cells.X), **{name: matrix(values) for name, values in cells.layers.items()}},
        "obs": frame(cells.obs),
        "var": frame(cells.var),
        "obsm": {name: array(np.asarray(values)) for name, values in cells.obsm.items()},
        "uns": {name: value if isinstance(value, str) else str(value) for name, value in uns.items()},
    }


def safetensors(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return {"tensors": {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}}


def table(path: Path) -> dict[str, Any]:
    # nothing is guessed to be missing: an empty field is an empty text
    return frame(pd.read_csv(path, sep="\t", keep_default_na=False))


READERS = {
    ".h5ad": h5ad,
    ".parquet": lambda path: frame(pd.read_parquet(path)),
    ".tsv": table,
    ".tsv.gz": table,
    ".npy": lambda path: array(np.load(path)),
    ".safetensors": safetensors,
}

if __name__ == "__main__":
    given = Path(sys.argv[1])
    read = next(reader for ending, reader in READERS.items() if given.name.endswith(ending))
    print(json.dumps(read(given), allow_nan=False), flush=True)
    # Arrow's threads may still be starting, and abort a process that ends before they have (apache/arrow#34314)
    os._exit(0)
