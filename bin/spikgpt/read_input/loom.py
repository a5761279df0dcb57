"""loom files of velocyto and loompy."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from scipy import sparse

from spikgpt.base import guards
from spikgpt.base.errors import UserError
from spikgpt.base.h5ad import BLOCK
from spikgpt.read_input.features import id_column, symbol_column
from spikgpt.read_input.sources import Read, Source

# --- loom and text ----------------------------------------------------------------------------------


def read_loom(path: Path) -> Read:
    """loom (genes x cells in /matrix), by h5py: anndata's reader needs loompy, which is no longer kept."""

    def text(values: Any) -> list[str]:
        return [v.decode() if isinstance(v, bytes) else str(v) for v in np.asarray(values)]

    with h5py.File(path, "r") as file:
        if "matrix" not in file or "row_attrs" not in file or "col_attrs" not in file:
            raise UserError(
                "The file is not a loom.",
                where=str(path),
                found=f"groups {', '.join(sorted(file.keys())[:8]) or 'none'}",
                expected="matrix, row_attrs, col_attrs",
                fix="Give the .loom that velocyto or loompy wrote, or name the file .h5ad if it is one.",
            )
        rows = {k: text(v) for k, v in file["row_attrs"].items() if v.ndim == 1}
        columns = {k: text(v) for k, v in file["col_attrs"].items() if v.ndim == 1}
        genes, cells = file["matrix"].shape
        guards.check_shape(cells, genes, path.name)

    def blocks() -> Iterator[sparse.csr_matrix]:
        with h5py.File(path, "r") as file:
            step = max(1, BLOCK // genes)
            for start in range(0, cells, step):
                yield sparse.csr_matrix(file["matrix"][:, start : start + step].T)

    barcodes = next((columns[k] for k in ("CellID", "obs_names", "cell_id", "barcode") if k in columns), None)
    if barcodes is None:
        raise UserError(
            "The loom does not name its cells.",
            where=str(path),
            found=f"col_attrs {', '.join(columns) or 'none'}",
            expected="col_attrs/CellID",
            fix="Add the barcodes as col_attrs/CellID, or give the matrix in another format.",
        )
    if not rows:
        raise UserError(
            "The loom does not name its genes.",
            where=str(path),
            found="no row_attrs",
            expected="row_attrs/Gene",
            fix="Add the gene symbols as row_attrs/Gene, or give the matrix in another format.",
        )
    var = pd.DataFrame(rows)
    name = next((k for k in ("Gene", "var_names", "gene_name", "gene") if k in rows), var.columns[0])
    names, names_from = symbol_column(var.set_index(name, drop=False), None, path.name)
    obs = pd.DataFrame({k: v for k, v in columns.items() if len(v) == len(barcodes)})
    return Read(
        Source((cells, genes), cells * genes, blocks),
        barcodes=barcodes,
        names=names,
        gene_ids=id_column(var, None, path.name),
        format="loom",
        counts_from="matrix",
        where=path.name,
        symbols_from=names_from.replace("var index", f"row_attrs/{name}"),
        obs=obs,
    )
