"""Makes the files of the corpus of bad input: small, each wrong in one way."""

import gzip
import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import torch
from conftest import ROOT
from scipy import sparse
from spikgpt.annotator.folder_files import digest
from spikgpt.base.genes import human_genes

CELLS, GENES = 40, 100
MINI = ROOT / "assets" / "scgpt-mini"
BUNDLED = ROOT / "assets" / "annotators" / "pbmc"
SYMBOLS = [name for name in json.loads((MINI / "vocab.json").read_text()) if name in human_genes()][:GENES]
BARCODES = [f"{''.join('ACGT'[(n >> 2 * place) % 4] for place in range(8))}-1" for n in range(CELLS)]
COUNTS = np.random.default_rng(0).poisson(1.5, (CELLS, GENES)).astype(np.int32)

Maker = Callable[[Path], list]
"""Writes the files of a case into a folder, and gives the arguments that name them."""


# --- samplesheets --------------------------------------------------------------------------


def check_input(content: str | bytes | None) -> Maker:
    """A samplesheet of this content (None: a folder in its place)."""

    def make(folder: Path) -> list:
        sheet = folder / "sheet.csv"
        if content is None:
            sheet.mkdir()
        else:
            sheet.write_bytes(content.encode() if isinstance(content, str) else content)
        return ["--samplesheet", "sheet.csv", "--samplesheet-schema", ROOT / "assets" / "schema_input.json"]

    return make


def workbook() -> bytes:
    """What saving as .xlsx and calling it .csv gives."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr("xl/workbook.xml", "<workbook/>")
    return made.getvalue()


# --- matrices -----------------------------------------------------------------------------------------------


def cells(counts: object = COUNTS, symbols: list[str] = SYMBOLS, barcodes: list[str] = BARCODES, **more) -> ad.AnnData:
    return ad.AnnData(counts, obs=pd.DataFrame(index=barcodes), var=pd.DataFrame(index=symbols), **more)


def import_counts(write: Callable[[Path], object], name: str, *more: object) -> Maker:
    """A matrix that `write` writes to a path with this name."""

    def make(folder: Path) -> list:
        write(folder / name)
        return ["--sample", "s1", "--matrix", name, "--scgpt-model", MINI, *more]

    return make


def h5ad(made: ad.AnnData, **more) -> Maker:
    return import_counts(lambda path: made.write_h5ad(path), "m.h5ad", *[x for pair in more.items() for x in pair])


def bytes_of(content: bytes, name: str) -> Maker:
    return import_counts(lambda path: path.write_bytes(content), name)


def table(values: np.ndarray = COUNTS, corner: str = "", ending: str = "\n", tail: str = "") -> str:
    lines = [",".join([corner, *SYMBOLS]) + tail]
    lines += [",".join([name, *map(str, row)]) + tail for name, row in zip(BARCODES, values, strict=True)]
    return ending.join(lines) + ending


def triplet(
    folder: Path,
    *,
    counts: np.ndarray = COUNTS,
    head: str = "%%MatrixMarket matrix coordinate integer general",
    sizes: str = "",
    barcodes: list[str] = BARCODES,
    features: list[list[str]] | None = None,
    packed: bool = False,
) -> Path:
    """A 10x folder; `sizes` replaces the line of sizes."""
    folder.mkdir()
    at = sparse.coo_matrix(counts.T)
    lines = [head, sizes or f"{at.shape[0]} {at.shape[1]} {at.nnz}"]
    lines += [f"{row + 1} {column + 1} {value}" for row, column, value in zip(at.row, at.col, at.data, strict=True)]
    rows = features if features is not None else [[name, name, "Gene Expression"] for name in SYMBOLS]
    for name, content in (
        ("matrix.mtx", lines), ("barcodes.tsv", barcodes), ("features.tsv", ["\t".join(row) for row in rows]),
    ):  # fmt: skip
        text = "".join(f"{line}\n" for line in content).encode()
        (folder / f"{name}.gz").write_bytes(gzip.compress(text)) if packed else (folder / name).write_bytes(text)
    return folder


def folder_of(**changes) -> Maker:
    return import_counts(lambda path: triplet(path, **changes), "m")


def cut(write: Callable[[Path], object], name: str, file: str = "", share: float = 0.5) -> Maker:
    """What `write` writes, with one file cut short."""

    def make(path: Path) -> None:
        write(path)
        target = path / file if file else path
        whole = target.read_bytes()
        target.write_bytes(whole[: int(share * len(whole))])

    return import_counts(make, name)


def without(file: str) -> Maker:
    def make(path: Path) -> None:
        triplet(path)
        (path / file).unlink()

    return import_counts(make, "m")


def hdf5(fill: Callable[[h5py.File], object], name: str = "m.h5") -> Maker:
    def make(path: Path) -> None:
        with h5py.File(path, "w") as file:
            fill(file)

    return import_counts(make, name)


def ten_x(file: h5py.File, kind: str = "Gene Expression", cells: int = CELLS) -> None:
    """Cell Ranger's layout; `cells` is what its shape claims."""
    at = sparse.csr_matrix(COUNTS)
    group = file.create_group("matrix")
    group["data"], group["indices"], group["indptr"] = at.data, at.indices, at.indptr
    group["shape"] = np.array([GENES, cells])
    group["barcodes"] = np.array(BARCODES, dtype="S")
    for key, values in (("id", SYMBOLS), ("name", SYMBOLS), ("feature_type", [kind] * GENES)):
        group[f"features/{key}"] = np.array(values, dtype="S")


def archive(add: Callable[[tarfile.TarFile], object], name: str = "m.tar.gz") -> Maker:
    def make(path: Path) -> None:
        with tarfile.open(path, "w:gz") as tar:
            add(tar)

    return import_counts(make, name)


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "/etc/passwd") -> Callable[[tarfile.TarFile], object]:
    about = tarfile.TarInfo(name)
    about.type, about.linkname = kind, link
    return lambda tar: tar.addfile(about, io.BytesIO(b""))


def edited_h5ad(edit: Callable[[h5py.File], object]) -> Maker:
    def make(path: Path) -> None:
        cells(sparse.csr_matrix(COUNTS)).write_h5ad(path)
        with h5py.File(path, "r+") as file:
            edit(file)

    return import_counts(make, "m.h5ad")


def replace(file: h5py.File, key: str, values: object) -> None:
    about = dict(file[key].attrs)
    del file[key]
    file[key] = values
    file[key].attrs.update(about)


# --- references ---------------------------------------------------------------------------------------------


def reference(labels: object = None, *more: object, column: str = "cell_type", **changes) -> Maker:
    """A reference with these labels; two types in turn where none are given."""

    def make(folder: Path) -> list:
        made = cells(**changes)
        made.obs[column] = [("B cell", "T cell")[n % 2] for n in range(CELLS)] if labels is None else labels
        made.obs["library"] = ["one", None] * (CELLS // 2)
        made.write_h5ad(folder / "ref.h5ad")
        return ["--reference", "ref.h5ad", "--label-key", "cell_type", "--scgpt-model", MINI, *more]

    return make


# --- model folders ------------------------------------------------------------------------------------------


def annotator(edit: Callable[[Path], object], scgpt: Path = MINI) -> Maker:
    """The bundled annotator, changed."""

    def make(folder: Path) -> list:
        shutil.copytree(BUNDLED, folder / "annotator")
        edit(folder / "annotator")
        return ["--annotator", "annotator", "--scgpt-model", scgpt]

    return make


def config(change: Callable[[dict], object], signed: bool = False) -> Callable[[Path], None]:
    """An edit of config.json; `signed` gives it the digest that fits."""

    def edit(folder: Path) -> None:
        path = folder / "config.json"
        content = json.loads(path.read_text())
        change(content)
        if signed:
            content["digest"] = digest(content)
        path.write_text(json.dumps(content))

    return edit


def checkpoint(edit: Callable[[Path], object], script_args: bool = True) -> Maker:
    """The bundled scGPT checkpoint, changed; for the step that embeds."""

    def make(folder: Path) -> list:
        shutil.copytree(MINI, folder / "scgpt")
        edit(folder / "scgpt")
        made = cells(sparse.csr_matrix(COUNTS), layers={"counts": sparse.csr_matrix(COUNTS)})
        made.write_h5ad(folder / "s1.norm.h5ad")
        return ["--sample", "s1", "--h5ad", "s1.norm.h5ad", "--scgpt-model", "scgpt", "--start", 0, "--end", 2]

    return make


def other_checkpoint(folder: Path) -> list:
    """The bundled annotator with a checkpoint that is not its own."""
    shutil.copytree(MINI, folder / "scgpt")
    about = json.loads((folder / "scgpt" / "args.json").read_text())
    (folder / "scgpt" / "args.json").write_text(json.dumps(about | {"name": "mine"}))
    return ["--annotator", BUNDLED, "--scgpt-model", "scgpt"]


def with_checkpoint(make: Maker, edit: Callable[[Path], object]) -> Maker:
    """A case with a changed copy of the bundled scGPT checkpoint in place of itself."""

    def changed(folder: Path) -> list:
        shutil.copytree(MINI, folder / "scgpt")
        edit(folder / "scgpt")
        return ["scgpt" if value is MINI else value for value in make(folder)]

    return changed


def truncate(path: Path, share: float = 0.5) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])


def state(change: Callable[[dict], object]) -> Callable[[Path], None]:
    """An edit of the checkpoint's weights."""

    def edit(folder: Path) -> None:
        weights = torch.load(folder / "best_model.pt", weights_only=True)
        change(weights)
        torch.save(weights, folder / "best_model.pt")

    return edit


# --- the step that annotates --------------------------------------------------------------------------------


def annotate(embedding: np.ndarray, symbols: list[str] = SYMBOLS, *more: object) -> Maker:
    """A sample with this embedding, for the bundled annotator."""

    def make(folder: Path) -> list:
        made = cells(sparse.csr_matrix(COUNTS), symbols, layers={"counts": sparse.csr_matrix(COUNTS)})
        made.write_h5ad(folder / "s1.norm.h5ad")
        np.save(folder / "s1.000000000.embedding.npy", embedding)
        return ["--sample", "s1", "--h5ad", "s1.norm.h5ad", "--embedding", "s1.000000000.embedding.npy",
                "--annotator", BUNDLED, "--scgpt-model", MINI, *more]  # fmt: skip

    return make
