"""The h5ad files between the steps: how they are written and read in blocks of cells, and their columns.

Most steps read and write a sample's matrix in blocks: what they need in memory grows with the number of cells, not
with the number of counts. Calling cells, removing ambient RNA, annotating, importing a reference and training hold the
whole matrix.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem, write_elem
from scipy import sparse

from spikgpt.base.csr_rows import ORTHOLOG, csr_blocks, row_ranges

MESSAGES = "messages"
"""Key of `uns` in the reference's h5ad: what its import told, for the annotator's model card."""
SPECIES = "species"
"""Likewise: a key of `spikgpt.base.species.SPECIES`."""

OTHER_COUNTS = "counts_other_genomes"
"""Column of `obs` where a matrix has several genomes: a barcode's counts on genes of the others (int64)."""

LEVELS = "label_levels"
"""Key of `uns` in the reference's h5ad: JSON, label to its coarser labels (`--label_levels`)."""

REFERENCE_FILES = "reference_files"
"""Key of `uns` in the reference's h5ad where it was joined from several files: JSON, file to its batches."""

MEASURED = "measured"
"""Key of the cohort's `varm`: whether a sample has the gene, a bool column for each sample."""

BLOCK = 4_000_000
"""Values of a matrix in memory at once; about 50 MB with their places."""

COMPRESSION = {"compression": "gzip", "compression_opts": 1}
# level 1: higher levels take up to ten times as long on counts and save a few per cent

_CHUNK = 1 << 18


def count_data(
    counts: sparse.csr_matrix,
    barcodes: np.ndarray,
    symbols: list[str],
    gene_ids: list[str],
    orthologs: list[str] | None = None,
) -> ad.AnnData:
    """AnnData of raw counts: X int32 CSR (cells x genes), obs index barcode, var as `gene_frame`."""
    return ad.AnnData(X=counts, obs=cell_frame(barcodes), var=gene_frame(symbols, gene_ids, orthologs))


def cell_frame(barcodes: np.ndarray) -> pd.DataFrame:
    """`obs` without a column, its index the barcodes."""
    return pd.DataFrame(index=pd.Index(np.asarray(barcodes, dtype=object), name="barcode"))


def gene_frame(symbols: Iterable[str], gene_ids: Iterable[str], orthologs: Iterable[str] | None = None) -> pd.DataFrame:
    """`var` with gene_id, for another species than human `ORTHOLOG`, its index the symbols."""
    columns = {"gene_id": np.asarray(list(gene_ids), dtype=object)}
    if orthologs is not None:
        columns[ORTHOLOG] = np.asarray(list(orthologs), dtype=object)
    return pd.DataFrame(columns, index=pd.Index(list(symbols), dtype=object, name="gene"))


def genes_of(var: pd.DataFrame) -> pd.DataFrame:
    """The columns of a `var` that `gene_frame` makes, without what a step has added."""
    return gene_frame(
        var.index.astype(str), var["gene_id"].astype(str), var[ORTHOLOG].astype(str) if ORTHOLOG in var else None
    )


def write_h5ad(adata: ad.AnnData, path: Path) -> None:
    """Write compressed, strings as they are: the same content gives the same bytes."""
    adata.write_h5ad(path, convert_strings_to_categoricals=False, **COMPRESSION)


def constant(value: str, rows: int) -> pd.Categorical:
    """A categorical column with the same value in every row."""
    return pd.Categorical.from_codes(np.zeros(rows, dtype=np.int8), categories=pd.Index([value], dtype=object))


# --- blocks -------------------------------------------------------------------------------------------


@dataclass
class Stored:
    """An h5ad on disk: its tables in memory, its matrices in blocks of cells."""

    file: h5py.File
    obs: pd.DataFrame
    var: pd.DataFrame

    @property
    def barcodes(self) -> np.ndarray:
        return self.obs.index.to_numpy(dtype=object)

    @property
    def symbols(self) -> list[str]:
        return [str(name) for name in self.var.index]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.obs), len(self.var)

    @property
    def layers(self) -> list[str]:
        """Keys of the layers, as `blocks` takes them."""
        return [f"layers/{name}" for name in sorted(self.file["layers"])] if "layers" in self.file else []

    def blocks(self, key: str = "X") -> Iterator[tuple[int, sparse.csr_matrix]]:
        """See `csr_blocks`."""
        return csr_blocks(self.file[key], BLOCK)

    def matrix(self, key: str = "X") -> sparse.csr_matrix:
        """All of a matrix."""
        return sparse.csr_matrix(read_elem(self.file[key]))


@contextmanager
def stored(path: str | Path) -> Iterator[Stored]:
    """Open an h5ad to read its matrices in blocks."""
    with h5py.File(path, "r") as file:
        yield Stored(file, read_elem(file["obs"]), read_elem(file["var"]))


def matrix_blocks(matrix: sparse.csr_matrix) -> Iterator[tuple[int, sparse.csr_matrix]]:
    """The same for a matrix in memory."""
    for start, stop in row_ranges(matrix.indptr, BLOCK):
        yield start, matrix[start:stop]


@contextmanager
def new_h5ad(path: str | Path) -> Iterator[h5py.File]:
    """A new AnnData file, to be filled with `write_elem` and `write_csr`."""
    with h5py.File(path, "w") as out:
        out.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        for group in ("layers", "obsm", "obsp", "uns", "varm", "varp"):
            write_elem(out, group, {})
        yield out


def write_frame(out: h5py.File, key: str, frame: pd.DataFrame) -> None:
    """Write `obs` or `var`."""
    write_elem(out, key, frame, dataset_kwargs=COMPRESSION)


def write_csr(
    out: h5py.File, key: str, blocks: Iterable[sparse.csr_matrix], genes: int, dtype: Any, at_most: int
) -> tuple[int, int]:
    """Write blocks of cells, one below the other, as a CSR matrix in AnnData's encoding.

    Parameters
    ----------
    blocks
        CSR of `genes` columns; their values are converted to `dtype`, their rows sorted by column.
    at_most
        Values that all blocks have together at most: indices and indptr have 64 bits only where it needs them,
        and always the same width, as scipy wants it.

    Returns
    -------
    Number of cells and of values.
    """
    width = np.int32 if max(at_most, genes) < np.iinfo(np.int32).max else np.int64
    group = out.create_group(key)
    options = {"shape": (0,), "maxshape": (None,), "chunks": (_CHUNK,), **COMPRESSION}
    data = group.create_dataset("data", dtype=dtype, **options)
    indices = group.create_dataset("indices", dtype=width, **options)
    pointers, values = [np.zeros(1, dtype=np.int64)], 0
    for block in blocks:
        block.sort_indices()
        stop = values + block.nnz
        data.resize((stop,))
        indices.resize((stop,))
        data[values:stop] = block.data.astype(dtype, copy=False)
        indices[values:stop] = block.indices.astype(width, copy=False)
        pointers.append(block.indptr[1:].astype(np.int64) + values)
        values = stop
    indptr = np.concatenate(pointers).astype(width)
    group.create_dataset("indptr", data=indptr, chunks=(min(_CHUNK, len(indptr)),), **COMPRESSION)
    group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
    group.attrs["shape"] = np.array([len(indptr) - 1, genes], dtype=np.int64)
    return len(indptr) - 1, values


def write_part(
    cells: Stored, out: str | Path, obs: pd.DataFrame, rows: np.ndarray, genes: np.ndarray | None = None
) -> None:
    """Write some cells, and some genes, of an h5ad to another, every layer with them.

    Parameters
    ----------
    obs
        That of the cells that are written.
    rows, genes
        bool, shape (cells,) and (genes,): which ones; all genes when None.
    """
    columns = np.ones(len(cells.var), dtype=bool) if genes is None else genes
    with new_h5ad(out) as file:
        write_frame(file, "obs", obs)
        write_frame(file, "var", cells.var[columns])
        for key in ("X", *cells.layers):

            def parts(key: str = key) -> Iterator[sparse.csr_matrix]:
                for start, block in cells.blocks(key):
                    kept = block[rows[start : start + block.shape[0]]]
                    yield kept if columns.all() else kept[:, columns]

            stored_matrix = cells.file[key]
            write_csr(
                file, key, parts(), int(columns.sum()), stored_matrix["data"].dtype, len(stored_matrix["indices"])
            )
