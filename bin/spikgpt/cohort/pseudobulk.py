"""Counts of each sample's cells of each type, added up: what DESeq2, edgeR and PyDESeq2 compare."""

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata.io import read_elem, write_elem
from numpy.typing import NDArray

from spikgpt import UNKNOWN
from spikgpt.base.columns import OBS_COLUMNS
from spikgpt.base.h5ad import BLOCK, COMPRESSION, MEASURED, csr_blocks, new_h5ad, write_csr, write_frame
from spikgpt.base.names import CELL_SEPARATOR
from spikgpt.base.tsv import packed_rows

PSEUDOBULK_COLUMNS = ("id", "cell_type", "sample", "batch", "donor", "condition", "cells", "total_counts")
"""Columns of the sheet; the samplesheet's own follow, but for those of one of these names."""
_GENES_AT_ONCE = 1024

Counts = NDArray[np.int64]


def pseudobulk_sheet(obs: pd.DataFrame) -> pd.DataFrame:
    """One row for each sample and type with cells: samples in the order of `obs`, types by name, `Unknown` last.

    Parameters
    ----------
    obs
        Of the cohort.

    Returns
    -------
    `PSEUDOBULK_COLUMNS` but total_counts, and the samplesheet's own columns; `id` is `<cell type>:<sample>`.
    """
    extra = [column for column in obs if column not in (*OBS_COLUMNS, *PSEUDOBULK_COLUMNS)]
    sheet = obs[["sample", "batch", "donor", "condition", *extra]].astype(str).drop_duplicates("sample")
    labels = obs["spikgpt_cell_type"].astype(str)
    cells = pd.crosstab(obs["sample"].astype(str), labels)
    types = [*sorted(set(labels) - {UNKNOWN}), UNKNOWN]
    cells = cells.reindex(index=sheet["sample"], columns=types, fill_value=0)
    long = cells.stack().rename("cells").rename_axis(["sample", "cell_type"]).reset_index()
    long = long[long["cells"] > 0].merge(sheet, on="sample", how="left", validate="many_to_one")
    long["id"] = long["cell_type"] + CELL_SEPARATOR + long["sample"]
    return long[[*PSEUDOBULK_COLUMNS[:-1], *extra]]


def _sums(file: h5py.File, obs: pd.DataFrame, sheet: pd.DataFrame) -> Iterator[tuple[slice, Counts]]:
    """Rows of the sheet, and their summed counts (rows, genes): one sample after the other."""
    row_of = {name: row for row, name in enumerate(sheet["id"])}
    names = obs["spikgpt_cell_type"].astype(str) + CELL_SEPARATOR + obs["sample"].astype(str)
    rows = names.map(row_of).to_numpy(dtype=np.int64)
    samples = obs["sample"].astype(str).to_numpy()
    first = {name: int(np.argmax(sheet["sample"] == name)) for name in sheet["sample"].unique()}
    sizes = sheet["sample"].value_counts()
    matrix = file["layers/counts"]
    sample, total = None, np.zeros((0, 0), dtype=np.int64)
    for start, block in csr_blocks(matrix, BLOCK):
        own = samples[start : start + block.shape[0]]
        for name in dict.fromkeys(own):
            if name != sample:
                if sample is not None:
                    yield slice(first[sample], first[sample] + len(total)), total
                sample, total = name, np.zeros((sizes[name], block.shape[1]), dtype=np.int64)
            at = np.flatnonzero(own == name)
            member = sp.csr_matrix(
                (np.ones(len(at), dtype=np.int64), (rows[start + at] - first[name], np.arange(len(at)))),
                shape=(len(total), len(at)),
            )
            total += (member @ block[at].astype(np.int64)).toarray()
    if sample is not None:
        yield slice(first[sample], first[sample] + len(total)), total


def write_pseudobulk(h5ad: str | Path, out: Path) -> pd.DataFrame:
    """Sum the counts of the cohort by sample and type, and write them into a folder.

    A gene that a sample did not measure is an empty field in the table, since it is not a zero; the h5ad tells it by
    `varm["measured"]`, as the cohort does. Cells are read in blocks: memory is one block and the sums, whatever the
    number of cells.

    Parameters
    ----------
    h5ad
        The cohort.
    out
        The folder, which gets `pseudobulk.h5ad` (X int64 CSR, rows of the sheet x genes), `counts.tsv.gz` (genes in
        rows, columns by `id`), and is returned for the caller to write as `samples.tsv`.

    Returns
    -------
    The sheet: `PSEUDOBULK_COLUMNS`, then the samplesheet's own columns.
    """
    with h5py.File(h5ad) as file, new_h5ad(out / "pseudobulk.h5ad") as made:
        obs, var = read_elem(file["obs"]), read_elem(file["var"])
        measured = read_elem(file[f"varm/{MEASURED}"])
        sheet = pseudobulk_sheet(obs)
        totals = np.zeros(len(sheet), dtype=np.int64)

        def blocks() -> Iterator[sp.csr_matrix]:
            for place, sums in _sums(file, obs, sheet):
                totals[place] = sums.sum(axis=1)
                yield sp.csr_matrix(sums)

        at_most = min(len(file["layers/counts/indices"]), len(sheet) * len(var))
        write_csr(made, "X", blocks(), len(var), np.int64, at_most)
        sheet.insert(PSEUDOBULK_COLUMNS.index("total_counts"), "total_counts", totals)
        write_frame(made, "obs", sheet.set_index("id"))
        write_frame(made, "var", var[["gene_id", "n_samples_measured"]])
        write_elem(made, f"varm/{MEASURED}", measured, dataset_kwargs=COMPRESSION)
        write_elem(made, "uns", {"spikgpt": read_elem(file["uns/spikgpt"])})
        counts = read_elem(made["X"]).tocsc()
    seen = measured[sheet["sample"]].to_numpy(dtype=bool)
    with packed_rows(out / "counts.tsv.gz") as table:
        table.writerow(["gene", *sheet["id"]])
        for start in range(0, len(var), _GENES_AT_ONCE):
            stop = start + _GENES_AT_ONCE
            values = counts[:, start:stop].toarray().T.astype(object)
            values[~seen[start:stop]] = ""
            table.writerows([gene, *row] for gene, row in zip(var.index[start:stop], values.tolist(), strict=True))
    return sheet
