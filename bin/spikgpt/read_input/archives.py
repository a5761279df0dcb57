"""tar, zip and gzip around a matrix: only plain files with expected names are unpacked, into a fresh folder."""

import io
import os
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from spikgpt.base import guards
from spikgpt.base.errors import UserError
from spikgpt.read_input.folders import TRIPLET
from spikgpt.read_input.sources import is_gzip, unzipped

WHOLE = re.compile(r"(?i)\.(h5ad|h5|hdf5|loom)(\.gz)?$")
"""Files that are a matrix by themselves."""
TABLE = re.compile(r"(?i)\.(csv|tsv|txt)(\.gz)?$")
WANTED = re.compile(r"(?i)\.(mtx|csv|tsv|txt)(\.gz)?$|" + WHOLE.pattern[4:])
TAR = 257
"""Where the word ustar stands in a tar."""


def is_archive(path: Path) -> bool:
    """Whether a file is a tar, packed or not, a zip, or gzip around an HDF5 file; by its content."""
    if zipfile.is_zipfile(path):
        # the end of a file that is something else may look like that of a zip
        with path.open("rb") as file:
            packed = file.read(2) == b"PK"
        # Excel's workbooks are zips
        return (
            packed
            and "[Content_Types].xml" not in (names := zipfile.ZipFile(path).namelist())
            and not any(name.startswith("xl/") for name in names)
        )
    if path.name.lower().endswith((".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")):
        return True
    return _start(path)[TAR : TAR + 5] == b"ustar" or (is_gzip(path) and _start(path).startswith(b"\x89HDF"))


def _start(path: Path) -> bytes:
    try:
        with unzipped(path) as stream:
            return bytes(stream.read(TAR + 5))
    except (OSError, EOFError):
        return b""


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The matrix in an archive: a file that is one by itself, or a folder; gone with the context.

    Raises
    ------
    UserError
        The archive would write outside of its folder, unpacks to more than the limit, or has no matrix or several.
    """
    with ExitStack() as stack:
        # in the task's own folder: the system's may be a small disk in memory
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="spikgpt-", dir=os.curdir)))
        if is_gzip(path) and _start(path).startswith(b"\x89HDF"):
            name = re.sub(r"(?i)\.gz$", "", path.name)
            with unzipped(path) as stream, (temporary / name).open("wb") as out:
                shutil.copyfileobj(stream, out)
            yield temporary / name
            return
        unpack = _zip if zipfile.is_zipfile(path) else _tar
        taken, others = unpack(path, temporary)
        whole = [file for file in taken if WHOLE.search(file.name)]
        if any(re.search(r"(?i)\.mtx(\.gz)?$", file.name) for file in taken):
            yield temporary
            return
        single = whole or [file for file in taken if TABLE.search(file.name)]
        if len(single) != 1:
            raise UserError(
                "The archive has several matrices." if single else "The archive has no matrix.",
                where=str(path),
                found=", ".join(sorted(file.name for file in single)[:6] or others[:6]) or "nothing",
                expected=f"{TRIPLET}; or one file that is a matrix",
                fix="Unpack it and give one of them." if single else "Pack the folder that the quantifier wrote.",
            )
        yield single[0]


class _Room:
    """Checks the members of an archive: their names, and what they unpack to in all."""

    def __init__(self, path: Path, temporary: Path) -> None:
        self.path, self.temporary, self.unpacked = path, temporary, 0
        self.taken: list[Path] = []
        self.others: list[str] = []

    def check(self, name: str, plain: bool) -> None:
        inside = PurePosixPath(name.replace("\\", "/"))
        outside = inside.is_absolute() or ".." in inside.parts or ":" in (inside.parts or ("",))[0]
        if outside or not plain:
            raise UserError(
                "The archive is not safe to unpack.",
                where=str(self.path),
                found=f"{name!r}, " + ("a link or device" if not plain else "a path outside the archive"),
                expected="plain files below the archive's own folder",
                fix="Pack the folder again: tar czf matrix.tar.gz filtered_feature_bc_matrix",
            )

    def take(self, name: str, size: int, open_member: Callable[[], IO[bytes]]) -> None:
        inside = PurePosixPath(name)
        # macOS puts ._matrix.mtx.gz beside matrix.mtx.gz, and a folder __MACOSX into a zip
        if inside.name.startswith(".") or "__MACOSX" in inside.parts or not WANTED.search(inside.name):
            self.others.append(inside.name)
            return
        self.unpacked += size
        if self.unpacked > guards.LARGEST_UNPACKED:
            raise guards.too_large(
                "The archive unpacks to more than any matrix needs.",
                str(self.path),
                f"{guards.gib(self.unpacked)} and more",
                f"at most {guards.gib(guards.LARGEST_UNPACKED)}",
            )
        target = self.temporary.joinpath(*inside.parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        with open_member() as source, target.open("wb") as out:
            # a header may claim less than there is
            bounded: Any = guards.Bounded(_Reads(source), size, self.path.name)
            shutil.copyfileobj(io.BufferedReader(bounded, 1 << 20), out)
        self.taken.append(target)


class _Reads:
    """`readinto` for a stream that has only `read`."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream

    def readinto(self, buffer: Any) -> int:
        data = self.stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _tar(path: Path, temporary: Path) -> tuple[list[Path], list[str]]:
    """Unpack the wanted files of a tar; these, and the names of the others."""
    room = _Room(path, temporary)
    with tarfile.open(path) as tar:
        for member in tar:
            room.check(member.name, member.isfile() or member.isdir())
            if member.isfile():

                def content(member: tarfile.TarInfo = member) -> IO[bytes]:
                    stream = tar.extractfile(member)
                    assert stream is not None  # a plain file has content
                    return stream

                room.take(member.name, member.size, content)
    return room.taken, room.others


def _zip(path: Path, temporary: Path) -> tuple[list[Path], list[str]]:
    """Unpack the wanted files of a zip; these, and the names of the others."""
    room = _Room(path, temporary)
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            room.check(member.filename, kind in (0, stat.S_IFREG, stat.S_IFDIR))
            if member.flag_bits & 1:
                raise UserError(
                    "The archive is encrypted.",
                    where=f"{path}, {member.filename}",
                    found="a file with a password",
                    expected="an archive without one",
                    fix="Unpack it and give the folder.",
                )
            if not member.is_dir():

                def content(member: zipfile.ZipInfo = member) -> IO[bytes]:
                    return archive.open(member)

                room.take(member.filename, member.file_size, content)
    return room.taken, room.others
