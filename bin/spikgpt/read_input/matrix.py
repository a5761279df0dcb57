"""Read a count matrix in any format of the samplesheet: checked raw counts, barcodes, genes.

Every reader gives cells x genes, in blocks of cells: a matrix need not fit in memory. Names come out as they
stand in the file (barcodes keep their `-1`); the genes are brought to unique symbols by `spikgpt.base.genes`.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from scipy import sparse

from spikgpt.base import genes as gene_names
from spikgpt.base import guards
from spikgpt.base.errors import UserError
from spikgpt.base.species import HUMAN, SPECIES, human_orthologs, unify_other
from spikgpt.read_input.anndata_store import read_anndata
from spikgpt.read_input.archives import TABLE, is_archive, unpacked
from spikgpt.read_input.features import GENE_EXPRESSION
from spikgpt.read_input.folders import read_folder
from spikgpt.read_input.loom import read_loom
from spikgpt.read_input.raw_counts import CountCheck
from spikgpt.read_input.sources import FORMATS, Read, readable
from spikgpt.read_input.tenx import read_10x_h5
from spikgpt.read_input.text import read_text


@dataclass
class Matrix:
    """Raw counts of one file, with unique barcodes and unique symbols.

    The counts are read and checked in one pass, `blocks`; `messages` is complete after it.
    """

    barcodes: np.ndarray
    symbols: list[str]
    gene_ids: list[str]
    """Ensembl id or "", one a symbol."""
    format: str
    counts_from: str
    symbols_from: str
    obs: pd.DataFrame
    """What the file says about its cells; no columns where it says nothing."""
    values: int
    """Counts that are not zero, at most."""
    blocks: Callable[[], Iterator[sparse.csr_matrix]]
    """CSR int32 of the next cells. Raises UserError where the values are no raw counts."""
    read: Read
    """What the reader found: columns that are no genes, too."""
    species: str = HUMAN
    orthologs: list[str] | None = None
    """For another species than human: the human gene that stands for each in scGPT, "" for none."""
    feature_types_left_out: dict[str, int] = field(default_factory=dict)
    """Kind to number of features."""
    other_counts: list[np.ndarray] = field(default_factory=list)
    """Counts of each barcode on genes of other genomes, int64, block by block; known after `blocks`, empty for one
    genome."""
    counts_left_out: dict[str, float] = field(default_factory=dict)
    """Kind to share of all counts; known after `blocks`."""
    messages: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    """What may make the results wrong; `messages` tell how the file was read."""

    @cached_property
    def counts(self) -> sparse.csr_matrix:
        """All counts: int32, cells x genes."""
        return sparse.csr_matrix(sparse.vstack(list(self.blocks()), format="csr"))


def read_matrix(
    path: str | Path,
    vocab: frozenset[str],
    symbol_col: str | None = None,
    geneid_col: str | None = None,
    counts_layer: str | None = None,
    filtered: bool | None = None,
    species: str | None = None,
) -> Matrix:
    """`open_matrix`, with all counts read into memory."""
    with open_matrix(path, vocab, symbol_col, geneid_col, counts_layer, filtered, species) as matrix:
        _ = matrix.counts
        return matrix


@contextmanager
def open_matrix(
    path: str | Path,
    vocab: frozenset[str],
    symbol_col: str | None = None,
    geneid_col: str | None = None,
    counts_layer: str | None = None,
    filtered: bool | None = None,
    species: str | None = None,
) -> Iterator[Matrix]:
    """Raw counts from any format of the samplesheet, to be read while the context is open.

    Parameters
    ----------
    vocab
        The model's gene symbols; decides between an old and a current symbol of a gene.
    symbol_col, geneid_col, counts_layer
        Where an h5ad or zarr keeps symbols, ids and counts, when not in a usual place.
    filtered
        Whether cells (True) or all barcodes (False) are wanted, for a folder that holds both matrices.
    species
        The value of --species; None to go by the genes.

    Raises
    ------
    UserError
        When the file is absent, damaged, of no known format, holds no raw counts, has no cells or no
        genes, names a barcode twice, or has the genes of another species; on what only its values tell,
        when these are read.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(
            "The matrix does not exist.",
            where=str(path),
            found="nothing there",
            expected=FORMATS,
            fix="Correct the path in the samplesheet.",
        )
    columns = {"symbol_col": symbol_col, "geneid_col": geneid_col, "counts_layer": counts_layer}
    with ExitStack() as stack:
        with readable(path):
            place = path
            if path.is_file() and is_archive(path):
                place = stack.enter_context(unpacked(path))
            try:
                read = _read(place, path, columns, filtered, species)
            except UserError as error:
                # the folder that an archive was unpacked to says nothing to the user
                if place != path:
                    error.args = (str(error).replace(str(place), str(path)),)
                raise
        yield _finish(read, vocab, path)


def _read(place: Path, path: Path, columns: dict[str, str | None], filtered: bool | None, species: str | None) -> Read:
    """What the reader that a file's content or name asks for finds in it.

    Parameters
    ----------
    place, path
        Where the matrix lies, and what the user gave: an archive, or the same.
    """
    reader = _reader_for(place)
    asked = {name: value for name, value in columns.items() if value}
    if asked and reader is not read_anndata:
        raise UserError(
            f"{', '.join(asked)} are for h5ad and zarr files only.",
            where=path.name,
            found=", ".join(f"{name} {value}" for name, value in asked.items()),
            expected="an h5ad or a zarr",
            fix="Leave these columns of the samplesheet empty for this sample.",
        )
    if reader is read_folder:
        return read_folder(place, str(path), "10x folder" if place == path else "10x archive", filtered, species)
    if place.is_file() and h5py.is_hdf5(place):
        guards.check_hdf5(place)
    elif reader is read_anndata and place.is_dir():
        guards.check_zarr(place)
    return reader(place, **(columns if reader is read_anndata else {}), species=species)


def _reader_for(path: Path) -> Callable[..., Read]:
    """By content where that tells, else by name."""
    name = path.name.lower()
    if path.is_dir():
        if name.endswith(".zarr") or any((path / f).exists() for f in (".zgroup", "zarr.json", ".zattrs")):
            return read_anndata
        return read_folder
    if h5py.is_hdf5(path):
        return _hdf5_reader(path)
    if name.endswith(".h5ad"):
        return read_anndata
    if name.endswith((".h5", ".hdf5")):
        return read_10x_h5
    if name.endswith(".loom"):
        return read_loom
    if TABLE.search(name) or name.endswith((".st", ".st.gz")):
        return read_text
    content = guards.content_of(path)
    fix = "Convert the matrix to one of these formats."
    if name.endswith((".mtx", ".mtx.gz")):
        fix = "Give the folder that holds matrix.mtx, barcodes.tsv and features.tsv, not the matrix.mtx alone."
    elif name.endswith((".rds", ".rdata", ".robj")):
        fix = "Export the R object as .h5ad (zellkonverter, sceasy) or as a 10x folder (DropletUtils::write10xCounts)."
    elif name.endswith(".cloupe"):
        fix = "Give Cell Ranger's filtered_feature_bc_matrix.h5, which lies in the same folder."
    elif content in ("bzip2", "xz", "zstd") or name.endswith((".bz2", ".xz", ".zst", ".7z", ".rar", ".gz")):
        fix = "Unpack it and give the file or folder in it."
    raise UserError(
        "This is not a known matrix format.",
        where=str(path),
        found=content or f"a file called {path.name}",
        expected=FORMATS,
        fix=fix,
    )


def _hdf5_reader(path: Path) -> Callable[..., Read]:
    """AnnData, loom or 10x, by the groups of an HDF5 file; one with neither goes to the reader that its name says."""
    with h5py.File(path, "r") as file:
        groups = set(file.keys())
        if {"obs", "var"} <= groups:
            return read_anndata
        if {"row_attrs", "col_attrs"} <= groups:
            return read_loom
        if "matrix" in groups and isinstance(file["matrix"], h5py.Group):
            return read_10x_h5
        if "assays" in groups:
            raise UserError(
                "This is a Seurat object (h5Seurat).",
                where=str(path),
                found=f"groups {', '.join(sorted(groups)[:8])}",
                expected=FORMATS,
                fix="Write its RNA counts as a 10x folder (DropletUtils::write10xCounts) or as .h5ad (SeuratDisk).",
            )
    by_name: dict[str, Callable[..., Read]] = {".h5ad": read_anndata, ".loom": read_loom}
    return by_name.get(path.suffix.lower(), read_10x_h5)


def _finish(read: Read, vocab: frozenset[str], path: Path) -> Matrix:
    """Check the barcodes, unify the genes."""
    where = path.name
    cells, columns = read.source.shape
    features = read.features
    kept = columns if features.chosen is None else len(features.chosen)
    barcodes = np.asarray([str(b).strip() for b in read.barcodes], dtype=object)
    if len(barcodes) != cells or len(features.left_out) != columns:
        raise UserError(
            "Names and matrix do not fit together.",
            where=where,
            found=f"a matrix of {cells} cells x {columns} genes, {len(barcodes)} barcodes, "
            f"{len(features.left_out)} genes",
            expected="a name for every row and every column",
            fix="Check that the files come from the same run.",
        )
    guards.check_names(barcodes, "barcodes", where)
    guards.check_names(features.names, "names of genes", where)
    times = pd.Series(barcodes).value_counts(sort=False)
    twice = [str(barcode) for barcode in times.index[times > 1]]
    if twice:
        raise UserError(
            f"{len(twice)} barcodes occur more than once.",
            where=where,
            found=", ".join(twice[:5]),
            expected="every barcode once in a sample",
            fix="If several libraries were joined, give each as a sample of its own, or make their barcodes unique "
            "(a -1, -2, ... suffix for each).",
        )
    if features.species == HUMAN:
        genes = gene_names.unify(features.names, vocab, features.ids, where)
    else:
        genes = unify_other(features.names, features.ids, features.species, where)
    # what duplicates do to a matrix, done to the identity, is the matrix that does it to each block
    number = len(features.names)
    gather, symbols, gene_ids, merged = gene_names.sum_duplicates(
        sparse.csr_matrix(sparse.identity(number, dtype=np.int32)), genes
    )
    if features.target is not None:
        parts = sparse.csr_matrix(
            (np.ones(kept, dtype=np.int32), (np.arange(kept), features.target)), shape=(kept, number)
        )
        gather = sparse.csr_matrix(parts @ gather)
    obs = read.obs if read.obs is not None else pd.DataFrame(index=range(cells))
    kinds, kind_of = np.unique(features.left_out.astype(str), return_inverse=True)
    other_genome = np.array([kind.startswith(f"{GENE_EXPRESSION} (") for kind in kinds])[kind_of]

    def blocks() -> Iterator[sparse.csr_matrix]:
        check = CountCheck(read.where)
        by_kind = np.zeros(len(kinds))
        matrix.other_counts.clear()
        with readable(path):
            for block in read.source.blocks():
                if features.chosen is not None:
                    by_kind += np.bincount(
                        kind_of[block.indices], weights=np.nan_to_num(block.data), minlength=len(kinds)
                    )
                    if other_genome.any():
                        others = block @ other_genome.astype(np.float64)
                        matrix.other_counts.append(np.rint(others).astype(np.int64))
                    block = block[:, features.chosen]
                counts = check.counts(block)
                yield counts if len(symbols) == kept else sparse.csr_matrix(counts @ gather)
        matrix.messages += [*_left_out(dict(zip(kinds, by_kind.tolist(), strict=True)), matrix), *check.finish()]
        matrix.warnings += check.warnings

    numbers = dict(zip(kinds, np.bincount(kind_of).tolist(), strict=True))
    matrix = Matrix(
        barcodes=barcodes,
        symbols=symbols,
        gene_ids=gene_ids,
        format=read.format,
        counts_from=read.counts_from,
        symbols_from=genes.symbols_from if genes.symbols_from != "file" else read.symbols_from,
        obs=obs.set_axis(barcodes, axis=0),
        values=read.source.values,
        blocks=blocks,
        read=read,
        species=features.species,
        orthologs=None if features.species == HUMAN else human_orthologs(symbols, features.species),
        feature_types_left_out=read.other_genomes | {str(kind): n for kind, n in numbers.items() if kind},
        messages=[*read.messages, *features.messages, *genes.messages, *merged],
    )
    return matrix


def _left_out(counts: dict[str, float], matrix: Matrix) -> list[str]:
    """What stayed behind, with number and share of the counts; the shares go into `matrix`, too."""
    total = sum(counts.values())
    matrix.counts_left_out = {str(kind): round(value / total, 6) for kind, value in counts.items() if kind and total}
    if not matrix.feature_types_left_out:
        return []
    told = ", ".join(
        f"{number} {kind}"
        + (f" ({100 * matrix.counts_left_out[kind]:.3g} % of the counts)" if kind in matrix.counts_left_out else "")
        for kind, number in matrix.feature_types_left_out.items()
    )
    return [f"Left out, as they are not {SPECIES[matrix.species].spoken} gene expression: {told}."]
