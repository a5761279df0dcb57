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
from spikgpt.read_input.features import id_column, select_genes, symbol_column, types_and_genomes
from spikgpt.read_input.places import LAYER, choose
from spikgpt.read_input.raw_counts import CHUNK, fault
from spikgpt.read_input.sources import Read, Source


def _source(path: Path, place: str) -> Source:
    with h5py.File(path, "r") as file:
        genes, cells = file[place].shape

    def blocks() -> Iterator[sparse.csr_matrix]:
        with h5py.File(path, "r") as file:
            step = max(1, BLOCK // genes)
            for start in range(0, cells, step):
                yield sparse.csr_matrix(file[place][:, start : start + step].T)

    return Source((cells, genes), cells * genes, blocks)


def read_loom(path: Path, species: str | None = None) -> Read:
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
        shape = file["matrix"].shape
        guards.check_shape(shape[1], shape[0], path.name)
        layers = [name for name in file.get("layers", {}) if file["layers"][name].shape == shape]
        places = {"matrix": "matrix", **{f"{LAYER}{name}": f"layers/{name}" for name in layers}}
        faults = {name: fault(file[place][:, : max(1, CHUNK // shape[0])]) for name, place in places.items()}

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
    types, genomes = types_and_genomes(var)
    messages: list[str] = []
    chosen = choose({name: _source(path, place) for name, place in places.items()}, faults, path.name, messages)
    return Read(
        chosen.source,
        barcodes=barcodes,
        features=select_genes(id_column(var, None, path.name), names, types, genomes, path.name, species),
        format="loom",
        counts_from=chosen.name,
        where=path.name,
        symbols_from=names_from.replace("var index", f"row_attrs/{name}"),
        obs=obs,
        messages=messages,
    )
