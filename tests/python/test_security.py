"""Attacks: files that carry code, unpack to more than a disk holds, point elsewhere, or have names that do harm."""

import ast
import gzip
import hashlib
import json
import os
import pickle
import re
import shutil
import socket
import stat
import subprocess
import tarfile
import zipfile
from pathlib import Path

import bad_files as bad
import h5py
import numpy as np
import pytest
import torch
from bad_files import CELLS, COUNTS, GENES
from conftest import BIN, ROOT
from scipy import sparse
from spikgpt.base import guards
from spikgpt.base.guards import strange_name
from test_bad_input import files, run

pytestmark = pytest.mark.filterwarnings("ignore")


class Trap:
    """Unpickled, it leaves a file."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple:
        return Path.touch, (self.witness,)


def refused(script: str, make: bad.Maker, folder: Path, monkeypatch, capfd) -> str:
    """Run a script on attacked files: it must end with a user's error and leave no file. What it said."""
    args = make(folder)
    before = files(folder)
    capfd.readouterr()
    assert run(script, args, folder, monkeypatch) == 65
    told = capfd.readouterr().err
    assert told.startswith("SpikGPT stopped: ")
    assert "Traceback" not in told
    assert files(folder) == before
    return told


# --- code in files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["zip", "bare"])
def test_a_pickle_in_the_weights_does_not_run(tmp_path, monkeypatch, capfd, form):
    witness = tmp_path / "ran"

    def attack(folder: Path) -> None:
        if form == "zip":
            torch.save({"encoder.embedding.weight": Trap(witness)}, folder / "best_model.pt")
        else:
            (folder / "best_model.pt").write_bytes(pickle.dumps(Trap(witness)))

    told = refused("embed_scgpt.py", bad.checkpoint(attack), tmp_path, monkeypatch, capfd)
    assert "a pickle with code in it is never run" in told
    assert not witness.exists()


def test_a_pickle_in_an_annotator_does_not_run(tmp_path, monkeypatch, capfd):
    witness = tmp_path / "ran"

    def attack(folder: Path) -> None:
        content = pickle.dumps({"present": Trap(witness)})
        (folder / "model.safetensors").write_bytes(content)
        bad.config(lambda c: c.update(tensors_sha256=hashlib.sha256(content).hexdigest()), signed=True)(folder)

    assert "does not fit config.json" in refused(
        "check_annotator.py", bad.annotator(attack), tmp_path, monkeypatch, capfd
    )
    assert not witness.exists()


def test_a_pickle_in_an_embedding_does_not_run(tmp_path, monkeypatch, capfd):
    witness = tmp_path / "ran"
    make = bad.annotate(np.array([Trap(witness)] * CELLS, dtype=object))
    assert "Python objects" in refused("annotate.py", make, tmp_path, monkeypatch, capfd)
    assert not witness.exists()


def test_a_pickle_in_place_of_a_matrix_does_not_run(tmp_path, monkeypatch, capfd):
    witness = tmp_path / "ran"
    make = bad.bytes_of(pickle.dumps(Trap(witness)), "m.h5ad")
    assert "a Python pickle" in refused("import_counts.py", make, tmp_path, monkeypatch, capfd)
    assert not witness.exists()


def test_a_pickle_within_an_h5ad_does_not_run(tmp_path, monkeypatch):
    witness = tmp_path / "ran"
    code = pickle.dumps(Trap(witness))

    def attack(file: h5py.File) -> None:
        file["uns/spikgpt"] = np.void(code)
        file["obs/kind"] = np.array([np.void(code)] * CELLS)
        file["obs"].attrs["column-order"] = np.array(["kind"], dtype=object)
        for place in ("obs/kind", "var/_index"):
            file[place].attrs["pickle"] = np.void(code)

    assert run("import_counts.py", bad.edited_h5ad(attack)(tmp_path), tmp_path, monkeypatch) in (0, 65)
    assert not witness.exists()


def zarr_with(change: dict, of: str = "obs/_index") -> bad.Maker:
    """A zarr whose array `of` has another description."""

    def write(path: Path) -> None:
        bad.cells(sparse.csr_matrix(COUNTS)).write_zarr(path)
        about = path / of / ".zarray"
        about.write_text(json.dumps(json.loads(about.read_text()) | change))

    return bad.import_counts(write, "m.zarr")


def test_a_zarr_of_pickles_is_not_read(tmp_path, monkeypatch, capfd):
    witness = tmp_path / "ran"

    def write(path: Path) -> None:
        bad.cells(sparse.csr_matrix(COUNTS)).write_zarr(path)
        about = path / "obs" / "_index" / ".zarray"
        content = json.loads(about.read_text())
        about.write_text(json.dumps(content | {"filters": [{"id": "pickle", "protocol": 4}], "compressor": None}))
        for chunk in about.parent.glob("[0-9]*"):
            chunk.write_bytes(pickle.dumps(np.array([Trap(witness)] * CELLS, dtype=object)))

    told = refused("import_counts.py", bad.import_counts(write, "m.zarr"), tmp_path, monkeypatch, capfd)
    assert "the codec pickle, which runs code" in told
    assert not witness.exists()


FORBIDDEN = {
    "pickle.load", "pickle.loads", "pickle.Unpickler", "joblib.load", "dill.load", "dill.loads", "yaml.load",
    "os.system", "os.popen", "eval", "exec", "marshal.loads", "shelve.open", "pd.read_pickle",
    "tar.extract", "tar.extractall",
}  # fmt: skip
NETWORK = {"socket", "urllib", "http", "requests", "ftplib", "aiohttp", "httpx", "huggingface_hub"}


@pytest.mark.parametrize("path", sorted(BIN.rglob("*.py")), ids=lambda path: str(path.relative_to(BIN)))
def test_the_code_runs_no_pickle_no_shell_and_no_network(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            named = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            assert not {name.split(".")[0] for name in named} & NETWORK
        if not isinstance(node, ast.Call):
            continue
        name, given = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
        assert name not in FORBIDDEN, f"line {node.lineno}"
        assert given.get("allow_pickle") != "True", f"line {node.lineno}"
        assert given.get("shell") != "True", f"line {node.lineno}"
        assert name != "torch.load" or given.get("weights_only") == "True", f"line {node.lineno}"


# --- archives -----------------------------------------------------------------------------------------------


def through_a_link(tar: tarfile.TarFile) -> None:
    """A link to a folder, and a file in it."""
    bad.member("m", tarfile.SYMTYPE, "/tmp")(tar)
    bad.member("m/matrix.mtx")(tar)


@pytest.mark.parametrize(
    ("add", "told"),
    [
        (bad.member("../matrix.mtx"), "a path outside the archive"),
        (bad.member("a/../../matrix.mtx"), "a path outside the archive"),
        (bad.member("/tmp/matrix.mtx"), "a path outside the archive"),
        (bad.member("matrix.mtx", tarfile.SYMTYPE), "a link or device"),
        (bad.member("matrix.mtx", tarfile.LNKTYPE, "../secret"), "a link or device"),
        (bad.member("matrix.mtx", tarfile.CHRTYPE), "a link or device"),
        (bad.member("matrix.mtx", tarfile.BLKTYPE), "a link or device"),
        (bad.member("matrix.mtx", tarfile.FIFOTYPE), "a link or device"),
        (through_a_link, "a link or device"),
    ],
    ids=["up", "up within", "absolute", "symbolic link", "hard link", "device", "disk", "pipe", "through a link"],
)
def test_an_archive_that_leaves_its_folder_is_not_unpacked(tmp_path, monkeypatch, capfd, add, told):
    work = tmp_path / "work"
    work.mkdir()
    assert told in refused("import_counts.py", bad.archive(add), work, monkeypatch, capfd)
    assert files(tmp_path) == ["work", "work/m.tar.gz"]


def zipped(add) -> bad.Maker:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            add(archive)

    return bad.import_counts(write, "m.zip")


def a_link(archive: zipfile.ZipFile) -> None:
    about = zipfile.ZipInfo("m/matrix.mtx")
    about.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(about, "/etc/passwd")


@pytest.mark.parametrize(
    ("add", "told"),
    [
        (lambda archive: archive.writestr("../matrix.mtx", ""), "a path outside the archive"),
        (lambda archive: archive.writestr("a/../../matrix.mtx", ""), "a path outside the archive"),
        (lambda archive: archive.writestr("/tmp/matrix.mtx", ""), "a path outside the archive"),
        (lambda archive: archive.writestr("C:/matrix.mtx", ""), "a path outside the archive"),
        (a_link, "a link or device"),
    ],
    ids=["up", "up within", "absolute", "drive", "link"],
)
def test_a_zip_that_leaves_its_folder_is_not_unpacked(tmp_path, monkeypatch, capfd, add, told):
    work = tmp_path / "work"
    work.mkdir()
    assert told in refused("import_counts.py", zipped(add), work, monkeypatch, capfd)
    assert files(tmp_path) == ["work", "work/m.zip"]


def hdf5_of_zeros(path: Path) -> None:
    """An HDF5 signature, and zeros that pack well."""
    path.write_bytes(gzip.compress(b"\x89HDF\r\n\x1a\n" + bytes(4 << 20)))


# --- bombs --------------------------------------------------------------------------------------------------


def claiming(size: int):
    """An archive whose header says that a file has so many bytes."""

    def add(tar: tarfile.TarFile) -> None:
        about = tarfile.TarInfo("matrix.mtx")
        about.size = size
        tar.fileobj.write(about.tobuf())  # the bytes themselves are not there

    return add


def packed(name: str, line: bytes, times: int) -> bad.Maker:
    """A 10x folder with a file of many equal lines, packed."""

    def write(path: Path) -> None:
        bad.triplet(path, packed=True)
        (path / name).write_bytes(gzip.compress(line * times))

    return bad.import_counts(write, "m")


def huge(file: h5py.File, key: str, shape: tuple, dtype: object) -> None:
    """A data set of this shape that takes no room: all of it is fill."""
    if key in file:
        about = dict(file[key].attrs)
        del file[key]
    else:
        about = {}
    made = file.create_dataset(key, shape, dtype, chunks=(1 << 16,) * len(shape))
    made.attrs.update(about)


BOMBS = {
    "zip": (zipped(lambda archive: archive.writestr("m/matrix.mtx", bytes(4 << 20))), "4,194,304 bytes and more",
            "at most 3,145,728 bytes"),
    "packed h5ad": (bad.import_counts(hdf5_of_zeros, "m.h5ad.gz"), "more than 3,145,728 bytes",
                    "at most 3,145,728 bytes"),
    "tar": (bad.archive(claiming(300 * 1024**3)), "300 GiB and more", "at most 100 GiB"),
    "gzip of barcodes": (packed("barcodes.tsv.gz", b"ACGTACGT-1\n", 1 << 18), "more than 1,048,576 bytes",
                         "at most 1,048,576"),
    "gzip of comments": (packed("matrix.mtx.gz", b"%%MatrixMarket matrix coordinate integer general\n", 20_000),
                         "and 10001 comments", "a line with rows, columns and values"),
    "gzip of one line": (packed("matrix.mtx.gz", b"%%MatrixMarket " + b"x" * (1 << 21), 1), "1,048,576 bytes and more",
                         "shorter lines"),
    "csv of one line": (bad.bytes_of(gzip.compress(b"x," * (1 << 20)), "m.csv.gz"), "1,048,576 bytes and more",
                        "shorter lines"),
    "csv without end": (bad.bytes_of(gzip.compress(b",CD3D,MS4A1\n" + b"c1,1,2\n" * (1 << 19)), "m.csv.gz"),
                        "more than 3,145,728 bytes", "at most 3,145,728 bytes"),
    "HDF5 names": (bad.edited_h5ad(lambda f: huge(f, "obs/_index", (10**9,), h5py.string_dtype())),
                   "GiB of names and tables",
                   "at most 1,048,576 bytes"),
    "HDF5 values": (bad.edited_h5ad(lambda f: huge(f, "X/data", (10**14,), "i4")), "100,000,000,000,000 values",
                    "at most 100 GiB"),
    "HDF5 pointers": (bad.edited_h5ad(lambda f: huge(f, "X/indptr", (10**9,), "i8")), "GiB of names and tables",
                      "at most 1,048,576 bytes"),
    "HDF5 dense": (bad.hdf5(lambda f: huge(f, "matrix", (10**8, 10**8), "i4"), "m.loom"),
                   "100,000,000 x 100,000,000",
                   "at most 100 GiB"),
    "10x barcodes": (bad.hdf5(lambda f: (bad.ten_x(f), huge(f, "matrix/barcodes", (10**9,), "S18"))),
                     "GiB of names and tables",
                     "at most 1,048,576 bytes"),
    "zarr names": (zarr_with({"shape": [10**12]}), "1,000,000,000,000 values", "of names and tables"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_with_the_limit(name, tmp_path, monkeypatch, capfd):
    make, found, limit = BOMBS[name]
    # smaller limits, so that a test need not unpack gigabytes to reach them
    monkeypatch.setattr(guards, "LARGEST_TABLES", 1 << 20)
    monkeypatch.setattr(guards, "LARGEST_LINE", 1 << 20)
    if name in ("csv without end", "zip", "packed h5ad"):
        monkeypatch.setattr(guards, "LARGEST_UNPACKED", 3 << 20)
    told = refused("import_counts.py", make, tmp_path, monkeypatch, capfd)
    assert found in told
    assert limit in told


# --- files that point elsewhere -----------------------------------------------------------------------------


def external_link(file: h5py.File) -> None:
    del file["X"]
    file["X"] = h5py.ExternalLink("/tmp/secret.h5", "/X")


def external_storage(file: h5py.File) -> None:
    del file["X"]
    file.create_dataset("X", (CELLS, GENES), "u1", external=[("/etc/passwd", 0, CELLS * GENES)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((CELLS, GENES), "i4")
    layout[:] = h5py.VirtualSource("/tmp/secret.h5", "X", (CELLS, GENES))
    del file["X"]
    file.create_virtual_dataset("X", layout)


@pytest.mark.parametrize("edit", [external_link, external_storage, virtual], ids=lambda edit: edit.__name__)
def test_an_h5ad_does_not_bring_other_files_into_the_results(tmp_path, monkeypatch, capfd, edit):
    told = refused("import_counts.py", bad.edited_h5ad(edit), tmp_path, monkeypatch, capfd)
    assert "takes data from other files" in told
    assert "m.h5ad, /X" in told


def test_a_circle_of_links_ends(tmp_path, monkeypatch):
    def circle(file: h5py.File) -> None:
        file["obs/again"] = file["/"]
        file["obs/soft"] = h5py.SoftLink("/nowhere")

    args = bad.edited_h5ad(circle)(tmp_path)
    assert run("import_counts.py", args, tmp_path, monkeypatch) == 0


def test_a_named_datatype_is_no_data(tmp_path, monkeypatch):
    def name_a_datatype(file: h5py.File) -> None:
        file["obs/kind"] = np.dtype("f8")

    args = bad.edited_h5ad(name_a_datatype)(tmp_path)
    with h5py.File(tmp_path / "m.h5ad") as file:
        assert isinstance(file["obs/kind"], h5py.Datatype)
    assert run("import_counts.py", args, tmp_path, monkeypatch) == 0


@pytest.mark.parametrize("path", ["/etc/passwd", "/etc", "/dev/null"])
def test_a_path_to_a_file_of_the_system_is_no_matrix_and_is_not_shown(path, tmp_path, monkeypatch, capfd):
    make = lambda folder: ["--sample", "s1", "--matrix", path, "--scgpt-model", bad.MINI]  # noqa: E731
    told = refused("import_counts.py", make, tmp_path, monkeypatch, capfd)
    assert path in told
    assert "root:" not in told


@pytest.mark.parametrize(
    "address",
    [
        "http://example.org/m.h5",
        "HTTPS://example.org/m.h5",
        "ftp://example.org/m.h5",
        "file:///etc/passwd",
        "data:/text",
    ],
)
def test_a_sheet_does_not_make_the_run_fetch_something(address, tmp_path, monkeypatch, capfd):
    make = bad.check_input(f"sample,filtered\na,{address}\n")
    assert "has a URL of an unsupported kind" in refused("check_input.py", make, tmp_path, monkeypatch, capfd)


# --- names --------------------------------------------------------------------------------------------------

HOSTILE_SAMPLES = [
    "a;id", "$(id)", "`id`", "a|b", "a&b", "a b", "'a'", '"a"', "a\\b", "../a", "/etc/a", "-rf", ".hidden", "=1+1",
    "@a", "<script>", "a%0a", "a*", "a?", "~root", "é", "a\u202eb", "x" * 101, "con/aux", "#a",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE_SAMPLES)
def test_a_sample_has_no_name_that_does_harm(name, tmp_path, monkeypatch, capfd):
    quoted = name.replace('"', '""')
    make = bad.check_input(f'sample,filtered\n"{quoted}",x.h5\n')
    assert "line 2, column sample" in refused("check_input.py", make, tmp_path, monkeypatch, capfd)


@pytest.mark.parametrize(
    "name", ["=1+1", "@SUM(A1)", " =x", "+cmd|' /C calc'!A0", "-2+3+cmd|x", "-A1(B2)", "a\x00b", "a\x1b[2J"]
)
def test_names_that_a_spreadsheet_would_run_are_strange(name):
    assert strange_name(name)


@pytest.mark.parametrize(
    "name", ["+dox", "-", "-IFN", "CD4+ T", "T cell (CD8)", "a=b", "x@y", "β", "", "tab\there", "<b>"]
)
def test_names_of_biology_are_not(name):
    assert strange_name(name) is None


def test_no_text_of_a_user_reaches_a_shell_unquoted():
    texts = r"(?:meta\.(?:batch|condition|donor|symbol_col|geneid_col|counts_layer)|label_key|batch_key)"
    for path in sorted((ROOT / "modules").rglob("main.nf")):
        for script in re.findall(r'"""(.*?)"""', path.read_text(), re.S):
            assert not re.search(rf"\$\{{\s*{texts}\b|\${texts}\b", script), path
        for line in path.read_text().splitlines():
            if "--" in line and re.search(rf"\$\{{.*\b{texts}\b", line):
                assert re.search(rf"shellQuote\({texts}", line), f"{path}: {line}"


# --- network and places -------------------------------------------------------------------------------------


def test_steps_need_no_network(tmp_path, monkeypatch):
    def blocked(*_args: object, **_more: object) -> None:
        raise AssertionError("a step asked for the network")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, blocked)
    monkeypatch.setattr(socket, "getaddrinfo", blocked)
    monkeypatch.setattr(socket, "create_connection", blocked)
    sample = bad.h5ad(bad.cells(sparse.csr_matrix(COUNTS)))(tmp_path)
    (tmp_path / "thresholds.json").write_text('{"min_genes": 1}')
    counts = ["--sample", "s1", "--h5ad", "s1.counts.h5ad"]
    model = ["--scgpt-model", bad.MINI]
    embedding = ["--embedding", "s1.000000000.embedding.npy"]
    for name, args in (
        ("check_input.py", bad.check_input("sample,filtered\na,x.h5\n")(tmp_path)),
        ("import_counts.py", sample),
        ("import_reference.py", bad.reference()(tmp_path)),
        ("qc_metrics.py", counts),
        ("detect_doublets.py", [*counts, "--seed", 0]),
        ("filter_cells.py", [*counts, "--qc", "s1.qc.parquet", "--doublets", "s1.doublets.parquet", "--thresholds",
                             "thresholds.json"]),
        ("normalise.py", ["--sample", "s1", "--h5ad", "s1.filtered.h5ad"]),
        ("check_annotator.py", ["--annotator", bad.BUNDLED, *model]),
        ("embed_scgpt.py", ["--sample", "s1", "--h5ad", "s1.norm.h5ad", *model, "--start", 0, "--end", CELLS]),
        ("annotate.py", ["--sample", "s1", "--h5ad", "s1.norm.h5ad", *embedding, "--annotator", bad.BUNDLED, *model]),
    ):  # fmt: skip
        assert run(name, args, tmp_path, monkeypatch) == 0, name


def test_a_step_writes_into_its_own_folder_alone(tmp_path):
    work, home, temporary = (tmp_path / name for name in ("work", "home", "temporary"))
    for folder in (work, home, temporary):
        folder.mkdir()
    with tarfile.open(work / "m.tar.gz", "w:gz") as tar:
        tar.add(bad.triplet(tmp_path / "m"), "m")
    shutil.rmtree(tmp_path / "m")
    done = subprocess.run(
        ["import_counts.py", "--sample", "s1", "--matrix", "m.tar.gz", "--scgpt-model", bad.MINI], cwd=work,
        timeout=120, env={**os.environ, "HOME": str(home), "TMPDIR": str(temporary), "PYTHONDONTWRITEBYTECODE": "1"},
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert files(tmp_path) == sorted(
        ["home", "temporary", "work", "work/m.tar.gz", "work/s1.counts.h5ad", "work/s1.import.json"]
    )
