"""10x layouts: a folder or archive of matrix, barcodes and features, and Cell Ranger's .h5."""

import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

import h5py
import pandas as pd
from scipy import sparse

from spikgpt.base import guards
from spikgpt.base.errors import UserError
from spikgpt.read_input.features import GENE_EXPRESSION, HUMAN_GENOME, gene_expression_only
from spikgpt.read_input.market import market_header, market_source
from spikgpt.read_input.sources import Read, Source, csr_blocks, unzipped

MATRIX_FILES = ("matrix.mtx", "quants_mat.mtx")
BARCODE_FILES = ("barcodes.tsv", "quants_mat_rows.txt")
FEATURE_FILES = ("features.tsv", "genes.tsv", "quants_mat_cols.txt")


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


def read_folder(folder: Path, format: str = "10x folder") -> Read:
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
            f"The 10x folder has no {' and no '.join(absent)}.",
            where=str(folder),
            found=", ".join(sorted(p.name for p in folder.iterdir())[:8]),
            expected="matrix.mtx[.gz], barcodes.tsv[.gz], features.tsv[.gz] or genes.tsv[.gz] together",
            fix="Copy the whole folder that the quantifier wrote.",
        )
    barcodes = _table(barcode_path)[0].tolist()
    features = _table(feature_path)
    rows, columns, *_ = market_header(matrix_path)
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
    chosen, ids, names, left_out, messages = gene_expression_only(ids, names, types, None, where)
    return Read(
        market_source(matrix_path, turned),
        barcodes=barcodes,
        names=names,
        gene_ids=ids,
        chosen=chosen,
        format=format,
        counts_from=matrix_path.name,
        where=where,
        feature_types_left_out=left_out,
        messages=messages,
    )


def _table(path: Path) -> pd.DataFrame:
    """A headless tab-separated file as text; no value is taken for missing."""
    with unzipped(path, guards.LARGEST_TABLES) as stream:
        try:
            return pd.read_csv(
                stream, sep="\t", header=None, dtype=str, keep_default_na=False, quoting=3, skip_blank_lines=False,
                encoding="utf-8-sig",
            )  # fmt: skip
        except pd.errors.EmptyDataError:
            return pd.DataFrame({0: pd.Series([], dtype=str)})


def read_archive(path: Path, stack: ExitStack) -> Read:
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
    read = read_folder(folder, "10x archive")
    read.messages = [message.replace(folder.name, path.name) for message in read.messages]
    read.where = path.name
    return read


def read_10x_h5(path: Path) -> Read:
    """Cell Ranger's .h5, version 2 (a group for every genome) or 3 and later.

    scanpy.read_10x_h5 holds the whole matrix in memory, several times and with 64-bit places; a raw matrix
    may not fit. It is CSR of barcodes x features on disk already, so blocks of it are read by h5py.
    """
    with h5py.File(path, "r") as file:
        groups = sorted(file.keys())
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
    chosen, ids, names, more_left_out, more = gene_expression_only(ids, names, types, genome_of, path.name)

    def blocks() -> Iterator[sparse.csr_matrix]:
        with h5py.File(path, "r") as file:
            yield from csr_blocks(file[group], features)

    return Read(
        Source((cells, features), values, blocks),
        barcodes=barcodes,
        names=names,
        gene_ids=ids,
        chosen=chosen,
        format="10x h5",
        counts_from=f"{group}/data",
        where=path.name,
        feature_types_left_out={**left_out, **more_left_out},
        messages=[*messages, *more],
    )


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
