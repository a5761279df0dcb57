"""Read a count matrix in any format of the samplesheet: checked raw counts, barcodes, genes.

Every reader gives cells x genes, in blocks of cells: a matrix need not fit in memory. Names come out as they
stand in the file (barcodes keep their `-1`); the genes are brought to unique symbols by `spikgpt.base.genes`.
"""

import csv
import gzip
import io
import lzma
import os
import re
import shutil
import tarfile
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from scipy import io as scipy_io
from scipy import sparse

from spikgpt.base import genes as gene_names
from spikgpt.base import guards
from spikgpt.base.errors import UserError
from spikgpt.base.h5ad import BLOCK, matrix_blocks, row_ranges
from spikgpt.read_input.raw_counts import CHUNK, CountCheck, fault, not_raw, restore_log1p

FORMATS = (
    "10x .h5, .h5ad, .loom, .zarr, .csv[.gz] or .tsv[.gz], or a folder or .tar.gz with matrix.mtx[.gz], "
    "barcodes.tsv[.gz] and features.tsv[.gz] or genes.tsv[.gz]"
)
GENE_EXPRESSION = "Gene Expression"
HUMAN_GENOME = re.compile(r"(?i)^(grch|hg\d|human|homo|t2t|chm13)")
GENOME_PREFIX = re.compile(r"^(?P<genome>[A-Za-z][A-Za-z0-9.-]*?)_+(?=ENS[A-Z]*G\d{11})")
"""Cell Ranger's way to name the genes of several genomes: `hg19_ENSG...`, `mm10___ENSMUSG...`."""
MATRIX_FILES = ("matrix.mtx", "quants_mat.mtx")
BARCODE_FILES = ("barcodes.tsv", "quants_mat_rows.txt")
FEATURE_FILES = ("features.tsv", "genes.tsv", "quants_mat_cols.txt")
LARGEST_IN_MEMORY = 50_000_000
"""Values of a matrix market file that are read at once; a larger one in blocks, if its cells follow each other."""
LARGEST_MARKET_HEADER = 10_000
"""Lines of comments at the head of a matrix market file."""
RAW_LAYERS = ("counts", "raw_counts", "raw", "umi", "umis", "count", "spliced_unspliced", "matrix")


_DAMAGE = (
    OSError, EOFError, ValueError, KeyError, TypeError, IndexError, AttributeError, AssertionError, ArithmeticError,
    RuntimeError, MemoryError, tarfile.TarError, zlib.error, lzma.LZMAError, csv.Error,
)  # fmt: skip
"""What the readers raise at a damaged file, or at one that claims to be larger than the memory."""


@dataclass
class _Source:
    """A stored matrix, cells x genes, as it can be read in blocks of cells."""

    shape: tuple[int, int]
    values: int
    """How many it stores at most."""
    blocks: Callable[[], Iterator[sparse.csr_matrix]]
    """Begins to read, each time it is called."""


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
    feature_types_left_out: dict[str, int] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    @cached_property
    def counts(self) -> sparse.csr_matrix:
        """All counts: int32, cells x genes."""
        return sparse.csr_matrix(sparse.vstack(list(self.blocks()), format="csr"))


@dataclass
class _Read:
    """What a reader found, before genes are unified and values are looked at."""

    source: _Source
    barcodes: Sequence[str]
    names: Sequence[str]
    format: str
    counts_from: str
    where: str
    """What messages on the values call the matrix."""
    gene_ids: Sequence[str] | None = None
    chosen: np.ndarray | None = None
    """Which columns of the source the names are of; None for all."""
    symbols_from: str = "file"
    obs: pd.DataFrame | None = None
    feature_types_left_out: dict[str, int] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)


def read_matrix(
    path: str | Path,
    vocab: frozenset[str],
    symbol_col: str | None = None,
    geneid_col: str | None = None,
    counts_layer: str | None = None,
) -> Matrix:
    """`open_matrix`, with all counts read into memory."""
    with open_matrix(path, vocab, symbol_col, geneid_col, counts_layer) as matrix:
        _ = matrix.counts
        return matrix


@contextmanager
def open_matrix(
    path: str | Path,
    vocab: frozenset[str],
    symbol_col: str | None = None,
    geneid_col: str | None = None,
    counts_layer: str | None = None,
) -> Iterator[Matrix]:
    """Raw counts from any format of the samplesheet, to be read while the context is open.

    Parameters
    ----------
    vocab
        The model's gene symbols; decides between an old and a current symbol of a gene.
    symbol_col, geneid_col, counts_layer
        Where an h5ad or zarr keeps symbols, ids and counts, when not in a usual place.

    Raises
    ------
    UserError
        When the file is absent, damaged, of no known format, holds no raw counts, has no cells or no
        genes, or names a barcode twice; on what only its values tell, when these are read.
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
    reader = _reader_for(path)
    columns = {"symbol_col": symbol_col, "geneid_col": geneid_col, "counts_layer": counts_layer}
    asked = {name: value for name, value in columns.items() if value}
    if asked and reader is not _read_anndata:
        raise UserError(
            f"{', '.join(asked)} are for h5ad and zarr files only.",
            where=path.name,
            found=", ".join(f"{name} {value}" for name, value in asked.items()),
            expected="an h5ad or a zarr",
            fix="Leave these columns of the samplesheet empty for this sample.",
        )
    with ExitStack() as stack:
        with _readable(path):
            if path.is_file() and h5py.is_hdf5(path):
                guards.check_hdf5(path)
            elif reader is _read_anndata and path.is_dir():
                guards.check_zarr(path)
            read = _read_anndata(path, stack, **columns) if reader is _read_anndata else reader(path, stack)
        yield _finish(read, vocab, path)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """What a damaged file makes the readers raise, as a UserError."""
    try:
        yield
    except UserError:
        raise
    except _DAMAGE as error:
        content = guards.content_of(path)
        raise UserError(
            "The matrix cannot be read.",
            where=str(path),
            found=f"{type(error).__name__}: {_first_line(error)}" + (f" (the file is {content})" if content else ""),
            expected=FORMATS,
            fix="The file may be damaged or cut short: copy it again and compare sizes or checksums.",
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no details"])[0][:300]


def _reader_for(path: Path) -> Callable[..., _Read]:
    name = path.name.lower()
    if path.is_dir():
        if name.endswith(".zarr") or any((path / f).exists() for f in (".zgroup", "zarr.json", ".zattrs")):
            return _read_anndata
        return _read_folder
    if name.endswith((".tar.gz", ".tgz", ".tar")):
        return _read_archive
    if name.endswith(".h5ad"):
        return _read_anndata
    if name.endswith((".h5", ".hdf5")):
        return _read_10x_h5
    if name.endswith(".loom"):
        return _read_loom
    if name.endswith((".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")):
        return _read_text
    fix = "Convert the matrix to one of these formats."
    if name.endswith((".mtx", ".mtx.gz")):
        fix = "Give the folder that holds matrix.mtx, barcodes.tsv and features.tsv, not the matrix.mtx alone."
    elif name.endswith((".rds", ".rdata")):
        fix = "Export the R object as .h5ad (zellkonverter, sceasy) or as a 10x folder (DropletUtils::write10xCounts)."
    raise UserError(
        "This is no known matrix format.",
        where=str(path),
        found=guards.content_of(path) or f"a file called {path.name}",
        expected=FORMATS,
        fix=fix,
    )


def _finish(read: _Read, vocab: frozenset[str], path: Path) -> Matrix:
    """Check the barcodes, unify the genes."""
    where = path.name
    cells, features = read.source.shape
    kept = features if read.chosen is None else len(read.chosen)
    barcodes = np.asarray([str(b).strip() for b in read.barcodes], dtype=object)
    if len(barcodes) != cells or len(read.names) != kept:
        raise UserError(
            "Names and matrix do not fit together.",
            where=where,
            found=f"a matrix of {cells} cells x {kept} genes, {len(barcodes)} barcodes, {len(read.names)} genes",
            expected="a name for every row and every column",
            fix="Check that the files come from the same run.",
        )
    guards.check_names(barcodes, "barcodes", where)
    guards.check_names(read.names, "names of genes", where)
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
    genes = gene_names.unify(read.names, vocab, read.gene_ids, where)
    # what duplicates do to a matrix, done to the identity, is the matrix that does it to each block
    gather, symbols, gene_ids, merged = gene_names.sum_duplicates(
        sparse.csr_matrix(sparse.identity(kept, dtype=np.int32)), genes
    )
    obs = read.obs if read.obs is not None else pd.DataFrame(index=range(cells))

    def blocks() -> Iterator[sparse.csr_matrix]:
        check = CountCheck(read.where)
        with _readable(path):
            for block in read.source.blocks():
                counts = check.counts(block if read.chosen is None else block[:, read.chosen])
                yield counts if len(symbols) == kept else sparse.csr_matrix(counts @ gather)
        matrix.messages += check.finish()

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
        feature_types_left_out=read.feature_types_left_out,
        messages=[*read.messages, *genes.messages, *merged],
    )
    return matrix


# --- 10x: a matrix, barcodes, features; many species and kinds of feature ---------------------------


def _gene_expression_only(
    ids: list[str],
    names: list[str],
    types: Sequence[str] | None,
    genomes: Sequence[str] | None,
    where: str,
) -> tuple[np.ndarray | None, list[str], list[str], dict[str, int], list[str]]:
    """Keep the features that are genes, and of several genomes the human one.

    Returns
    -------
    chosen, ids, names, left_out, messages
        `chosen` are the columns that are kept, None for all; `left_out` counts the features of every other kind,
        such as ``{"Antibody Capture": 17}``.
    """
    messages: list[str] = []
    kinds = list(types) if types is not None else [GENE_EXPRESSION] * len(ids)
    is_gene = np.array([kind == GENE_EXPRESSION for kind in kinds], dtype=bool)
    left_out = dict(sorted(Counter(kind for kind in kinds if kind != GENE_EXPRESSION).items()))
    if not is_gene.any():
        raise UserError(
            "The matrix holds no gene expression.",
            where=where,
            found=", ".join(f"{number} features of type {kind}" for kind, number in left_out.items()),
            expected=f"features of type {GENE_EXPRESSION}",
            fix="Give the gene expression matrix of this sample; antibody or CRISPR counts alone cannot be annotated.",
        )
    prefixes = [m["genome"] if (m := GENOME_PREFIX.match(i)) else "" for i in ids]
    genome_of = list(genomes) if genomes is not None else prefixes
    present = sorted({g for g, gene in zip(genome_of, is_gene, strict=True) if gene and g})
    keep = is_gene
    if len(present) > 1:
        human = [genome for genome in present if HUMAN_GENOME.match(genome)]
        if len(human) != 1:
            raise UserError(
                "The matrix holds several genomes, and which one is human cannot be told.",
                where=where,
                found=", ".join(present),
                expected="one genome whose name begins with GRCh, hg, human or T2T",
                fix="Give a matrix with the human genes only.",
            )
        keep = is_gene & np.array([genome == human[0] for genome in genome_of], dtype=bool)
        for genome in present:
            if genome != human[0]:
                number = int(sum(g == genome for g, gene in zip(genome_of, is_gene, strict=True) if gene))
                left_out[f"{GENE_EXPRESSION} ({genome})"] = number
        messages.append(f"The matrix holds the genomes {', '.join(present)}; only {human[0]} goes on.")
    chosen = np.flatnonzero(keep)

    def bare(name: str, genome: str) -> str:
        # Cell Ranger puts the genome before ids and symbols where a reference has several
        return re.sub(rf"^{re.escape(genome)}_+", "", name) if genome else name

    prefix = genome_of if any(prefixes) or len(present) > 1 else [""] * len(ids)
    ids = [bare(ids[i], prefix[i]) for i in chosen]
    names = [bare(names[i], prefix[i]) for i in chosen]
    if left_out:
        told = ", ".join(f"{number} {kind}" for kind, number in left_out.items())
        messages.append(f"Left out, as they are not human gene expression: {told}.")
    return chosen if len(chosen) < len(kinds) else None, ids, names, left_out, messages


def _find_file(folder: Path, names: Sequence[str]) -> Path | None:
    for name in names:
        for candidate in (folder / f"{name}.gz", folder / name):
            if candidate.is_file():
                return candidate
    return None


def _matrix_folder(folder: Path) -> Path:
    """The folder that holds the triplet: this one, or the only one below it (Cell Ranger v2: GRCh38/)."""
    if _find_file(folder, MATRIX_FILES):
        return folder
    below = sorted({p.parent for name in MATRIX_FILES for p in folder.rglob(f"{name}*") if p.is_file()})
    if len(below) > 1:
        human = [p for p in below if HUMAN_GENOME.match(p.name)]
        below = human if len(human) == 1 else below
    if len(below) == 1:
        return below[0]
    if below:
        raise UserError(
            "The folder holds several matrices.",
            where=str(folder),
            found=", ".join(str(p.relative_to(folder)) for p in below[:6]),
            expected="one matrix, or one of a human genome (GRCh38)",
            fix="Give the folder of one of them.",
        )
    inside = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
    raise UserError(
        "The folder holds no 10x matrix.",
        where=str(folder),
        found=inside,
        expected="matrix.mtx[.gz], barcodes.tsv[.gz], features.tsv[.gz] or genes.tsv[.gz]",
        fix="Give the folder that the quantifier wrote, such as filtered_feature_bc_matrix.",
    )


def _read_folder(folder: Path, stack: ExitStack, format: str = "10x folder") -> _Read:
    """A matrix market triplet, by the names of Cell Ranger 2 and later, STARsolo, alevin-fry.

    scanpy.read_10x_mtx reads two of these layouts and does not check that the files belong together;
    hence scipy's reader and a check of the dimensions.
    """
    where = folder.name
    folder = _matrix_folder(folder)
    matrix_path = _find_file(folder, MATRIX_FILES)
    barcode_path, feature_path = _find_file(folder, BARCODE_FILES), _find_file(folder, FEATURE_FILES)
    absent = [
        name
        for name, found in (("barcodes.tsv", barcode_path), ("features.tsv or genes.tsv", feature_path))
        if found is None
    ]
    if matrix_path is None or barcode_path is None or feature_path is None:
        raise UserError(
            f"Of the 10x matrix, {' and '.join(absent)} is missing.",
            where=str(folder),
            found=", ".join(sorted(p.name for p in folder.iterdir())[:8]),
            expected="matrix.mtx[.gz], barcodes.tsv[.gz], features.tsv[.gz] or genes.tsv[.gz] together",
            fix="Copy the whole folder that the quantifier wrote.",
        )
    barcodes = _table(barcode_path)[0].tolist()
    features = _table(feature_path)
    rows, columns, *_ = _market_header(matrix_path)
    if (rows, columns) == (len(features), len(barcodes)):
        turned = True
    elif (rows, columns) == (len(barcodes), len(features)):
        turned = False  # alevin-fry writes cells x genes
    else:
        raise UserError(
            "Matrix, barcodes and features do not belong together.",
            where=str(folder),
            found=f"{matrix_path.name} has {rows} x {columns}, {feature_path.name} {len(features)} features, "
            f"{barcode_path.name} {len(barcodes)} barcodes",
            expected="features x barcodes",
            fix="Copy the three files again from the same run.",
        )
    guards.check_shape(len(barcodes), len(features), where)
    ids = features[0].tolist()
    names = features[1].tolist() if features.shape[1] > 1 else ids
    types = features[2].tolist() if features.shape[1] > 2 else None
    chosen, ids, names, left_out, messages = _gene_expression_only(ids, names, types, None, where)
    return _Read(
        _matrix_market(matrix_path, turned), barcodes, names, format, matrix_path.name, where, ids, chosen,
        feature_types_left_out=left_out, messages=messages,
    )  # fmt: skip


def _market_header(path: Path) -> tuple[int, int, int, str, str, str]:
    """What `scipy.io.mminfo` says: rows, columns, values, and how they are written; checked against the file's size."""
    lines = 0
    with _unzipped(path) as stream:
        begin = guards.read_line(stream, path.name)
        while (line := guards.read_line(stream, path.name)).startswith(b"%") or (line and not line.strip()):
            lines += 1
            if lines > LARGEST_MARKET_HEADER:
                break
    if not begin.startswith(b"%%MatrixMarket") or lines > LARGEST_MARKET_HEADER:
        raise UserError(
            "The matrix does not begin as a matrix market file.",
            where=f"{path.name}, line 1",
            found=f"{begin[:40].decode('utf-8', 'replace').strip()!r}" + (f", and {lines} comments" if lines else ""),
            expected="%%MatrixMarket matrix coordinate integer general, and a line with rows, columns and values",
            fix="Give the matrix.mtx that the quantifier wrote.",
        )
    found = scipy_io.mminfo(str(path))
    rows, columns, values, form, *_ = found
    # a value takes four bytes at least: two places, and what parts them
    room = path.stat().st_size * (guards.LARGEST_RATIO if path.suffix == ".gz" else 1) // 4
    if form == "coordinate" and values > min(room, rows * columns):
        raise UserError(
            "The matrix claims more values than it can hold.",
            where=f"{path.name}, line {lines + 2}",
            found=f"{values:,} values in {rows:,} x {columns:,}, in a file of {guards.gib(path.stat().st_size)}",
            expected="rows, columns and the number of the lines that follow",
            fix="The file may be cut short or edited: copy it again from where the quantifier wrote it.",
        )
    guards.check_shape(max(rows, columns), min(rows, columns), path.name)
    return found


def _matrix_market(path: Path, turned: bool) -> _Source:
    """A matrix market file; `turned` where it has genes in rows.

    scipy reads it whole, at 16 bytes a value and more. A large one whose cells follow each other, as
    quantifiers write them, is read in blocks of lines.
    """
    rows, columns, values, form, field_of, symmetry = _market_header(path)
    shape = (columns, rows) if turned else (rows, columns)
    names = ["gene", "cell"] if turned else ["cell", "gene"]

    def lines(used: list[str]) -> Iterator[pd.DataFrame]:
        with _unzipped(path) as stream:
            while stream.readline().startswith(b"%"):  # the last one read is that of the sizes
                pass
            yield from pd.read_csv(
                stream, sep=r"\s+", header=None, names=[*names, "value"], usecols=used, chunksize=BLOCK,
                dtype={"cell": np.int64, "gene": np.int32},
            )  # fmt: skip

    def in_order() -> bool:
        last = 0
        for part in lines(["cell"]):
            order = part["cell"].to_numpy()
            if order[0] < last or (np.diff(order) < 0).any():
                return False
            last = int(order[-1])
        return True

    def whole() -> Iterator[sparse.csr_matrix]:
        with _unzipped(path) as stream:
            loaded = scipy_io.mmread(stream)
        for _, block in matrix_blocks(sparse.csr_matrix(loaded.T if turned else loaded)):
            yield block

    def in_blocks() -> Iterator[sparse.csr_matrix]:
        # a cell goes on when the next one begins: its lines may lie in two parts
        first, seen, open_part = 0, 0, None
        for part in lines([*names, "value"]):
            seen += len(part)
            joined = part if open_part is None else pd.concat([open_part, part], ignore_index=True)
            last = shape[0] if seen == values else int(joined["cell"].iloc[-1]) - 1
            cells = joined["cell"].to_numpy() - 1
            ends = int(np.searchsorted(cells, last))
            if last > first:
                coordinates = (cells[:ends] - first, joined["gene"].to_numpy()[:ends] - 1)
                yield sparse.csr_matrix((joined["value"].to_numpy()[:ends], coordinates), (last - first, shape[1]))
            open_part, first = joined.iloc[ends:], last
        if seen != values:
            raise ValueError(f"{seen} values where the header says {values}")

    def blocks() -> Iterator[sparse.csr_matrix]:
        plain = form == "coordinate" and field_of != "pattern" and symmetry == "general"
        yield from in_blocks() if plain and values > LARGEST_IN_MEMORY and in_order() else whole()

    return _Source(shape, values, blocks)


def _table(path: Path) -> pd.DataFrame:
    """A headless tab-separated file as text; no value is taken for missing."""
    with _unzipped(path, guards.LARGEST_TABLES) as stream:
        try:
            return pd.read_csv(
                stream, sep="\t", header=None, dtype=str, keep_default_na=False, quoting=3, skip_blank_lines=False,
                encoding="utf-8-sig",
            )  # fmt: skip
        except pd.errors.EmptyDataError:
            return pd.DataFrame({0: pd.Series([], dtype=str)})


@contextmanager
def _unzipped(path: Path, at_most: int | None = None) -> Iterator[Any]:
    """The bytes of a file, unpacked where it is gzip; an error once they are more than the limit."""
    limit = guards.LARGEST_UNPACKED if at_most is None else at_most
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
        yield io.BufferedReader(guards.Bounded(stream, limit, path.name), 1 << 20)


def _read_archive(path: Path, stack: ExitStack) -> _Read:
    """A tar of a 10x folder. Only plain files with the expected names are unpacked, into a fresh folder."""
    wanted = {f"{n}{z}" for n in (*MATRIX_FILES, *BARCODE_FILES, *FEATURE_FILES) for z in ("", ".gz")}
    temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix="spikgpt-", dir=os.curdir))
    with tarfile.open(path) as tar:
        unpacked = 0
        for member in tar:
            inside = PurePosixPath(member.name)
            if inside.is_absolute() or ".." in inside.parts or not (member.isfile() or member.isdir()):
                raise UserError(
                    "The archive is not safe to unpack.",
                    where=str(path),
                    found=f"{member.name!r}, "
                    + ("a link or device" if not (member.isfile() or member.isdir()) else "a path outside the archive"),
                    expected="plain files below the archive's own folder",
                    fix="Pack the folder again: tar czf matrix.tar.gz filtered_feature_bc_matrix",
                )
            # macOS puts ._matrix.mtx.gz beside matrix.mtx.gz
            if not member.isfile() or inside.name not in wanted:
                continue
            unpacked += member.size
            if unpacked > guards.LARGEST_UNPACKED:
                raise guards.too_large(
                    "The archive unpacks to more than any matrix needs.",
                    str(path),
                    f"{guards.gib(unpacked)} and more",
                    f"at most {guards.gib(guards.LARGEST_UNPACKED)}",
                )
            target = Path(temporary, *inside.parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            source = tar.extractfile(member)
            assert source is not None  # a plain file has content
            with source, target.open("wb") as out:
                shutil.copyfileobj(source, out)
    folder = Path(temporary)
    if not any(folder.rglob("matrix.mtx*")) and not any(folder.rglob("quants_mat.mtx*")):
        raise UserError(
            "The archive holds no 10x matrix.",
            where=str(path),
            found=f"{unpacked:,} bytes of files with such names",
            expected="matrix.mtx[.gz], barcodes.tsv[.gz], features.tsv[.gz] or genes.tsv[.gz]",
            fix="Pack the folder that the quantifier wrote.",
        )
    read = _read_folder(folder, stack, "10x archive")
    read.messages = [message.replace(folder.name, path.name) for message in read.messages]
    read.where = path.name
    return read


def _read_10x_h5(path: Path, stack: ExitStack) -> _Read:
    """Cell Ranger's .h5, version 2 (a group for every genome) or 3 and later.

    scanpy.read_10x_h5 holds the whole matrix in memory, several times and with 64-bit places; a raw matrix
    may not fit. It is CSR of barcodes x features on disk already, so blocks of it are read by h5py.
    """
    with h5py.File(path, "r") as file:
        groups = sorted(file.keys())
        if {"X", "obs", "var"} <= set(groups):
            return _read_anndata(path, stack)
        genomes = [g for g in groups if isinstance(file[g], h5py.Group) and "barcodes" in file[g]]
        left_out: dict[str, int] = {}
        messages: list[str] = []
        if "matrix" in groups:
            group = "matrix"
        elif genomes:
            group, left_out, messages = _human_group(file, genomes, path)
        else:
            raise UserError(
                "This .h5 is not a 10x matrix.",
                where=str(path),
                found=f"groups {', '.join(groups[:8])}" if groups else "an empty file",
                expected="filtered_feature_bc_matrix.h5 or raw_feature_bc_matrix.h5 of Cell Ranger "
                "(not molecule_info.h5)",
                fix="Give the matrix .h5, or name the file .h5ad if it is one.",
            )
        stored = file[group]

        def text(*names: str) -> list[str] | None:
            found = next((stored[name] for name in names if name in stored), None)
            return None if found is None else [str(value) for value in found.asstr()[:]]

        features, cells = (int(n) for n in stored["shape"][:])
        barcodes, ids = text("barcodes"), text("features/id", "genes")
        names, types = text("features/name", "gene_names"), text("features/feature_type")
        genome_of = text("features/genome")
        values = len(stored["data"])
    if barcodes is None or ids is None or names is None:
        raise ValueError("no barcodes or no features")
    guards.check_shape(cells, features, path.name)
    chosen, ids, names, more_left_out, more = _gene_expression_only(ids, names, types, genome_of, path.name)

    def blocks() -> Iterator[sparse.csr_matrix]:
        with h5py.File(path, "r") as file:
            yield from _csr_blocks(file[group], features)

    return _Read(
        _Source((cells, features), values, blocks), barcodes, names, "10x h5", f"{group}/data", path.name, ids, chosen,
        feature_types_left_out={**left_out, **more_left_out}, messages=[*messages, *more],
    )  # fmt: skip


def _human_group(file: h5py.File, genomes: list[str], path: Path) -> tuple[str, dict[str, int], list[str]]:
    """Of a file of Cell Ranger 2, the group of the human genome, and the genes of the others."""
    human = [g for g in genomes if HUMAN_GENOME.match(g)]
    if len(genomes) > 1 and len(human) != 1:
        raise UserError(
            "The matrix holds several genomes, and which one is human cannot be told.",
            where=str(path),
            found=", ".join(genomes),
            expected="one genome whose name begins with GRCh, hg, human or T2T",
            fix="Give a matrix with the human genes only.",
        )
    genome = human[0] if len(genomes) > 1 else genomes[0]
    left_out = {f"{GENE_EXPRESSION} ({g})": len(file[g]["genes"]) for g in genomes if g != genome}
    messages = [f"The matrix holds the genomes {', '.join(genomes)}; only {genome} goes on."] if left_out else []
    return genome, left_out, messages


def _csr_blocks(stored: Any, width: int) -> Iterator[sparse.csr_matrix]:
    """Blocks of a group with data, indices and indptr; HDF5 or zarr."""
    indptr = np.asarray(stored["indptr"][:], dtype=np.int64)
    values = int(stored["data"].shape[0])
    if (np.diff(indptr) < 0).any() or indptr[0] != 0 or indptr[-1] != values:
        raise ValueError(f"indptr does not rise from 0 to the {values} values")
    for start, stop in row_ranges(indptr, BLOCK):
        first, last = int(indptr[start]), int(indptr[stop])
        parts = (np.asarray(stored["data"][first:last]), np.asarray(stored["indices"][first:last]))
        block = sparse.csr_matrix((*parts, indptr[start : stop + 1] - first), shape=(stop - start, width))
        # scipy's own loops trust the indices: one outside of the matrix would write outside of the memory
        block.check_format(full_check=True)
        yield block


# --- AnnData on disk: h5ad and zarr -------------------------------------------------------------------


@contextmanager
def _store(path: Path) -> Iterator[Any]:
    """An h5ad or zarr as a mapping of groups; both are read by anndata's `read_elem`."""
    if path.is_dir():
        import zarr

        yield zarr.open_group(path, mode="r")
    else:
        with h5py.File(path, "r") as file:
            yield file


def _element(element: Any) -> Any:
    """What anndata reads from a group; ValueError where it knows no way to."""
    try:
        return ad.io.read_elem(element)
    except _DAMAGE:
        raise
    except Exception as error:  # anndata's own kind of error for that is private
        raise ValueError(_first_line(error)) from error


def _is_sparse(element: Any) -> bool:
    return str(element.attrs.get("encoding-type", "")) in (
        "csr_matrix",
        "csc_matrix",
    ) or "h5sparse_format" in dict(element.attrs)


def _glance(element: Any) -> str | None:
    """`fault` of the first values of a stored matrix, without loading it."""
    if _is_sparse(element):
        return fault(np.asarray(element["data"][:CHUNK]))
    rows = max(1, CHUNK // max(1, element.shape[-1]))
    return fault(np.asarray(element[:rows]))


def _source(path: Path, place: str) -> _Source:
    """A matrix of an AnnData: CSR and dense ones in blocks of cells, CSC whole, since its cells lie scattered."""
    with _store(path) as store:
        shape, is_sparse = _shape(store[place]), _is_sparse(store[place])
        values = int(store[place]["data"].shape[0]) if is_sparse else shape[0] * shape[1]

    def blocks() -> Iterator[sparse.csr_matrix]:
        with _store(path) as store:
            element = store[place]
            if not is_sparse:
                rows = max(1, BLOCK // shape[1])
                for start in range(0, shape[0], rows):
                    yield sparse.csr_matrix(np.asarray(element[start : start + rows]))
            elif "csr" in str(element.attrs.get("encoding-type", element.attrs.get("h5sparse_format"))):
                yield from _csr_blocks(element, shape[1])
            else:
                loaded = _element(element)
                loaded.check_format(full_check=True)
                for _, block in matrix_blocks(sparse.csr_matrix(loaded)):
                    yield block

    return _Source((shape[0], shape[1]), values, blocks)


def _places_of_counts(store: Any) -> dict[str, str]:
    """Where an AnnData may keep counts, best first: name -> the group whose var names its columns."""
    layers = list(store["layers"].keys()) if "layers" in store else []
    usual = [name for name in RAW_LAYERS if name in layers]

    # an AnnData without X or raw stores nothing, or "null"
    def has(name: str) -> bool:
        return name in store and store[name].attrs.get("encoding-type") != "null"

    places = {"X": "var"} if has("X") else {}
    if has("raw") and "X" in store["raw"]:
        places["raw/X"] = "raw/var"
    elif "raw.X" in store:  # anndata before 0.7
        places["raw.X"] = "raw.var"
    for name in [*usual, *sorted(set(layers) - set(usual))]:
        places[f"layers/{name}"] = "var"
    return places


def _read_anndata(
    path: Path,
    stack: ExitStack,
    symbol_col: str | None = None,
    geneid_col: str | None = None,
    counts_layer: str | None = None,
) -> _Read:
    """h5ad or zarr: the first place that holds raw counts of X, raw.X, the layers; or `counts_layer`."""
    with _store(path) as store:
        if "obs" not in store or "var" not in store:
            raise UserError(
                "The file is not an AnnData.",
                where=str(path),
                found=f"groups {', '.join(sorted(store.keys())[:8]) or 'none'}",
                expected="X, obs and var",
                fix="Write it with anndata's write_h5ad or write_zarr.",
            )
        places = _places_of_counts(store)
        if counts_layer and counts_layer != "X":
            wanted = {f"layers/{counts_layer}", counts_layer.replace("raw.X", "raw/X"), counts_layer} & set(places)
            if not wanted:
                raise UserError(
                    f"The layer {counts_layer!r} does not exist.",
                    where=str(path),
                    found=", ".join(_spoken(place) for place in places),
                    expected="counts_layer: X, raw.X or the name of a layer",
                    fix="Correct counts_layer in the samplesheet.",
                )
            places = {place: places[place] for place in places if place in wanted}
        elif counts_layer == "X":
            places = {"X": "var"}
        if not places:
            raise UserError(
                "The file holds no matrix.",
                where=str(path),
                found="neither X nor raw.X nor a layer",
                expected="raw counts in X, raw.X or a layer",
                fix="Write the AnnData with its counts.",
            )
        faults = {place: _glance(store[place]) for place in places}
        chosen = next((place for place, found in faults.items() if found is None), None)
        messages: list[str] = []
        if chosen is None:
            chosen = _restorable(path, faults)
        cells, genes = _shape(store[chosen])[:2]
        guards.check_shape(cells, genes, path.name)
        if chosen != "X" and not counts_layer and "X" in faults:
            messages.insert(0, f"X holds {faults['X']}; the raw counts of {_spoken(chosen)} are used.")
        var = _element(store[places[chosen]])
        obs = _element(store["obs"])
    names, names_from = _symbol_column(var, symbol_col, path.name)
    ids = _id_column(var, geneid_col, path.name)
    types = var["feature_types"].astype(str).tolist() if "feature_types" in var else None
    genomes = var["genome"].astype(str).tolist() if "genome" in var else None
    known_ids = ids if ids is not None else [""] * len(names)
    columns, known_ids, names, left_out, said = _gene_expression_only(known_ids, names, types, genomes, path.name)
    return _Read(
        _source(path, chosen), [str(b) for b in obs.index], names, "zarr" if path.is_dir() else "h5ad",
        _spoken(chosen), f"{path.name}, {_spoken(chosen)}", known_ids, columns,
        symbols_from=names_from, obs=obs, feature_types_left_out=left_out, messages=[*messages, *said],
    )  # fmt: skip


def _spoken(place: str) -> str:
    return "raw.X" if place in ("raw/X", "raw.X") else place.replace("layers/", "layers: ")


def _shape(element: Any) -> tuple[int, ...]:
    if _is_sparse(element):
        return tuple(int(n) for n in element.attrs.get("shape", element.attrs.get("h5sparse_shape", (1, 1))))
    return tuple(element.shape)


def _restorable(path: Path, faults: dict[str, str | None]) -> str:
    """The first place whose first cells allow to restore log1p values; else the error that tells of every place."""
    for place, found in faults.items():
        # only fractions can be log1p of counts: negative values or NaN cannot, and need no loading
        if found is not None and found.startswith("fractions"):
            first = next(_source(path, place).blocks())
            if restore_log1p(first) is not None:
                return place
    seen = [f"{_spoken(place)} has {found}" for place, found in faults.items()]
    raise not_raw(seen[0], path.name, seen[1:])


def _symbol_column(var: pd.DataFrame, symbol_col: str | None, where: str) -> tuple[list[str], str]:
    """The column of var that names the genes, and what to call it.

    The index, unless it holds Ensembl ids or nothing known while a column holds more known names.
    """
    index = [str(name) for name in var.index]
    if symbol_col and symbol_col != "index":
        return _given_column(var, symbol_col, "symbol_col", where), f"var column {symbol_col}"
    if symbol_col == "index":
        return index, "var index"
    if not gene_names.looks_like_ids(index) and gene_names.known_share(index) >= 0.5:
        return index, "var index"
    best, share, place = index, gene_names.known_share(index), "var index"
    if gene_names.looks_like_ids(index):
        share = 0.3  # symbols are worth more than ids that a table must translate
    for column in var.columns:
        if var[column].dtype.kind in "OSUT" or isinstance(var[column].dtype, pd.CategoricalDtype | pd.StringDtype):
            values = var[column].astype(str).tolist()
            known = gene_names.known_share(values)
            if known > share and not gene_names.looks_like_ids(values):
                best, share, place = values, known, f"var column {column}"
    return best, place


def _id_column(var: pd.DataFrame, geneid_col: str | None, where: str) -> list[str] | None:
    """The column of var (or its index) that holds Ensembl ids; None when there is none."""
    if geneid_col and geneid_col != "index":
        return _given_column(var, geneid_col, "geneid_col", where)
    candidates = {"index": [str(name) for name in var.index]}
    for column in var.columns:
        if var[column].dtype.kind in "OSUT" or isinstance(var[column].dtype, pd.CategoricalDtype | pd.StringDtype):
            candidates[str(column)] = var[column].astype(str).tolist()
    return next(
        (v for v in candidates.values() if gene_names.looks_like_ids([GENOME_PREFIX.sub("", i) for i in v])), None
    )


def _given_column(var: pd.DataFrame, column: str, parameter: str, where: str) -> list[str]:
    if column not in var:
        raise UserError(
            f"var has no column {column!r}.",
            where=where,
            found=f"columns {', '.join(map(str, var.columns)) or 'none'}, and the index",
            expected=f"{parameter}: one of these, or index",
            fix=f"Correct {parameter} in the samplesheet.",
        )
    return [str(value) for value in var[column]]


# --- loom and text ----------------------------------------------------------------------------------


def _read_loom(path: Path, stack: ExitStack) -> _Read:
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
    names, names_from = _symbol_column(var.set_index(name, drop=False), None, path.name)
    obs = pd.DataFrame({k: v for k, v in columns.items() if len(v) == len(barcodes)})
    return _Read(
        _Source((cells, genes), cells * genes, blocks), barcodes, names, "loom", "matrix", path.name,
        _id_column(var, None, path.name), symbols_from=names_from.replace("var index", f"row_attrs/{name}"), obs=obs,
    )  # fmt: skip


def _row_blocks(path: Path, separator: str, width: int) -> Iterator[pd.DataFrame]:
    """The rows of a table after the first, the first column as their index, some at a time."""
    with _unzipped(path) as stream:
        yield from pd.read_csv(
            stream, sep=separator, header=None, skiprows=1, index_col=0, chunksize=max(1, CHUNK // width),
            dtype={0: str}, keep_default_na=False, na_values=["", "NA", "NaN", "nan"], encoding="utf-8-sig",
        )  # fmt: skip


def _read_text(path: Path, stack: ExitStack) -> _Read:
    """Dense csv or tsv, cells x genes or genes x cells, the first row and column being names.

    Read in blocks of rows, each made sparse and looked at: a scaled matrix is refused at its first block.
    """
    if (content := guards.content_of(path)) and not (content == "gzip" and path.suffix == ".gz"):
        raise UserError(
            "The table is no text.",
            where=str(path),
            found=content,
            expected="comma- or tab-separated text, packed with gzip where its name ends in .gz",
            fix="Export it as CSV, or give the file the ending of what it is.",
        )
    with _unzipped(path) as stream:
        first, second = (guards.read_line(stream, path.name) for _ in range(2))
    lines = [first.decode("utf-8-sig"), second.decode("utf-8")]
    if not lines[1].strip():
        raise UserError(
            "The table is empty.",
            where=str(path),
            found="no line after the header" if lines[0].strip() else "no text",
            expected="names in the first row and first column, counts elsewhere",
            fix="Check that the table was written whole.",
        )
    separator = max(("\t", ",", ";"), key=lines[0].count)
    fields = [next(csv.reader([line.rstrip("\r\n")], delimiter=separator)) for line in lines]
    if separator not in lines[0]:
        raise UserError(
            "The table has one column only.",
            where=str(path),
            found=lines[0].strip()[:80],
            expected="comma- or tab-separated: names in the first row and first column, counts elsewhere",
            fix="Separate the columns by commas or tabs.",
        )
    header = [name.strip() for name in fields[0]]
    # R's write.table leaves the corner out: one name fewer than there are columns
    width = len(fields[1])
    if width not in (len(header), len(header) + 1):
        raise UserError(
            "The table's rows differ in length.",
            where=f"{path.name}, line 2",
            found=f"{width} columns where the header has {len(header)}",
            expected="the same number of columns in every row",
            fix="Write the table again, with a name for every column.",
        )
    columns = header if width == len(header) + 1 else header[1:]
    if "" in columns:
        raise UserError(
            "The table has a column without a name.",
            where=f"{path.name}, column {len(header) - len(columns) + columns.index('') + 1}",
            found="an empty name in the first line",
            expected="names in the first row and first column, counts elsewhere",
            fix="Name the column or remove it; commas at the end of each line are an empty column.",
        )
    row_names: list[str] = []
    blocks: list[sparse.csr_matrix] = []
    for chunk in _row_blocks(path, separator, width):
        text = [i for i, kind in enumerate(chunk.dtypes) if kind.kind not in "iufb"]
        if text:
            value = next(str(v) for v in chunk.iloc[:, text[0]] if not _is_number(v))
            raise UserError(
                "The table has something other than numbers in it.",
                where=f"{path.name}, column {columns[text[0]]!r}",
                found=repr(value[:60]),
                expected="counts; names in the first row and the first column only",
                fix="Drop columns of labels or descriptions, or put them into another file.",
            )
        values = chunk.to_numpy()
        found = fault(values)
        if found is not None and not found.startswith("fractions"):
            raise not_raw(found, path.name)
        row_names += [str(name) for name in chunk.index]
        blocks.append(sparse.csr_matrix(values))
    loaded = sparse.csr_matrix(sparse.vstack(blocks, format="csr"))
    guards.check_shape(loaded.shape[0], loaded.shape[1], path.name)
    genes_in_rows = gene_names.known_share(row_names) > gene_names.known_share(columns)
    messages = [f"The table has {'genes' if genes_in_rows else 'cells'} in rows."]
    if genes_in_rows:
        loaded, row_names, columns = sparse.csr_matrix(loaded.T), columns, row_names
    return _Read(
        _Source(loaded.shape, loaded.nnz, lambda: (block for _, block in matrix_blocks(loaded))),
        row_names, columns, "csv" if separator != "\t" else "tsv", "table", path.name, messages=messages,
    )  # fmt: skip


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
