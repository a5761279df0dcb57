#!/usr/bin/env python3
"""What differs between the results of two runs that must be equal: bytes of tables and annotator, arrays of h5ad files.

tests/python/same_results.py results other/results
"""

import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

TIMES = "benchmark.tsv"
"""Says how many seconds training took: never the same."""


def arrays(cells: anndata.AnnData) -> dict[str, object]:
    """All that an annotated h5ad holds but `uns`, which has the parameters of the run."""
    found: dict[str, object] = {"X": cells.X}
    for name in ("layers", "obsm", "varm", "obsp", "varp"):
        found |= {f"{name}/{key}": values for key, values in getattr(cells, name).items()}
    for name in ("obs", "var"):
        frame = getattr(cells, name)
        found |= {f"{name}/{key}": frame[key] for key in frame} | {f"{name}/index": frame.index.to_series()}
    return found


def equal(a: object, b: object) -> bool:
    """Same kind, same values; NaN is equal to NaN."""
    if sparse.issparse(a) and sparse.issparse(b):
        return a.dtype == b.dtype and a.shape == b.shape and (a != b).nnz == 0
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if isinstance(a, pd.DataFrame):
        return isinstance(b, pd.DataFrame) and a.dtypes.equals(b.dtypes) and a.equals(b)
    return a.dtype == b.dtype and a.equals(b)


def differences(a: Path, b: Path) -> list[str]:
    """What is not the same in two folders of results, or is in one alone; empty where all is equal."""
    found = []
    for folder in ("tables", "annotator", "annotated"):
        names = [
            {str(path.relative_to(results / folder)) for path in (results / folder).rglob("*") if path.is_file()}
            for results in (a, b)
        ]
        found += [f"{folder}/{name}: in one alone" for name in sorted(names[0] ^ names[1])]
        for name in sorted(names[0] & names[1] - {TIMES}):
            paths = a / folder / name, b / folder / name
            if paths[0].suffix != ".h5ad":
                found += [f"{folder}/{name}"] * (paths[0].read_bytes() != paths[1].read_bytes())
                continue
            one, other = (arrays(anndata.read_h5ad(path)) for path in paths)
            found += [
                f"{folder}/{name}: {key}"
                for key in sorted(one.keys() | other.keys())
                if key not in one or key not in other or not equal(one[key], other[key])
            ]
    return found


if __name__ == "__main__":
    told = differences(*map(Path, sys.argv[1:3]))
    print("\n".join(f"different: {line}" for line in told) or "equal: tables, annotator, arrays of every h5ad")
    sys.exit(bool(told))
