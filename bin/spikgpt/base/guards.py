"""Limits and refusals for files that come from outside: bombs, links to other files, code, formulas.

What a limit stops is a damaged file, a mistake or an attack; each message says the limit. They are far above
what any sequencer gives, and below what would fill a task's memory or disk.
"""

import io
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from spikgpt.base.errors import UserError

LARGEST_CELLS = 50_000_000
"""Barcodes of one matrix. Cell Ranger's raw matrices list up to some 12 million."""
LARGEST_GENES = 1_000_000
"""Features of one matrix."""
LARGEST_UNPACKED = 100 * 1024**3
"""Bytes that an archive, a compressed file or a stored matrix may unpack to."""
LARGEST_TABLES = 4 * 1024**3
"""Bytes of what is read whole: names and tables of cells and genes."""
LARGEST_LINE = 256 * 1024**2
"""Bytes of a line of text: a header of some ten million barcodes."""
LARGEST_RATIO = 1032
"""How many times a byte of gzip unpacks at most: the format allows no more."""

NEVER_READ = ("uns", "obsm", "obsp", "varm", "varp")
"""Groups of an AnnData that no import looks at."""

ZARR_CODECS = frozenset(
    ("blosc", "bytes", "bz2", "crc32c", "delta", "fixedscaleoffset", "gzip", "lz4", "lzma", "packbits", "shuffle",
     "transpose", "vlen-bytes", "vlen-utf8", "zlib", "zstd")
)  # fmt: skip
"""Ways to store a zarr array that are read. Others are not, above all `pickle`, which runs code."""

KINDS = (
    (b"PK\x03\x04", "a zip archive or an Excel workbook"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"\x1f\x8b", "gzip"),
    (b"\x89HDF", "HDF5"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"RDX", "R data"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
    (b"<!DOCTYPE", "a web page"),
    (b"<html", "a web page"),
    (b"%PDF", "a PDF"),
)


def gib(size: int) -> str:
    """Bytes in words."""
    return f"{size / 1024**3:,.0f} GiB" if size >= 1024**3 else f"{size:,} bytes"


def content_of(path: Path) -> str:
    """What the first bytes of a file say it is; "" where they say nothing."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        start = file.read(32)
    return kind_of(start) if start else "an empty file"


def kind_of(start: bytes) -> str:
    """What the first bytes of a file say it is; "" where they say nothing."""
    return next((kind for mark, kind in KINDS if start.startswith(mark)), "")


def too_large(what: str, where: str, found: str, expected: str) -> UserError:
    """The error of a limit."""
    return UserError(
        what,
        where=where,
        found=found,
        expected=expected,
        fix="Check where the file comes from, and copy it again: such a size is a damaged file or an attack.",
    )


def check_shape(cells: int, genes: int, where: str) -> None:
    """Refuse a matrix without cells or genes, and one that claims more than the limits."""
    if min(cells, genes) <= 0:
        raise UserError(
            "The matrix is empty.",
            where=where,
            found=f"{cells} cells x {genes} genes",
            expected="at least one cell and one gene",
            fix="Check that the file is the one the quantifier wrote, and that it was copied whole.",
        )
    if cells > LARGEST_CELLS or genes > LARGEST_GENES:
        raise too_large(
            "The matrix claims to be larger than any sample.",
            where,
            f"{cells:,} cells x {genes:,} genes",
            f"at most {LARGEST_CELLS:,} cells x {LARGEST_GENES:,} genes",
        )


class Bounded(io.RawIOBase):
    """A stream that ends with an error after a number of bytes."""

    def __init__(self, stream: Any, at_most: int, where: str) -> None:
        super().__init__()
        self.stream, self.at_most, self.where, self.seen = stream, at_most, where, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        read = self.stream.readinto(buffer)
        self.seen += read
        if self.seen > self.at_most:
            raise too_large(
                "The file unpacks to more than any matrix needs.",
                self.where,
                f"more than {gib(self.at_most)}",
                f"at most {gib(self.at_most)}",
            )
        return int(read)


def read_line(stream: Any, where: str) -> bytes:
    """The next line of a stream of bytes, up to `LARGEST_LINE`."""
    line = stream.readline(LARGEST_LINE)
    if len(line) == LARGEST_LINE:
        raise too_large("A line of the file has no end.", where, f"{gib(LARGEST_LINE)} and more", "shorter lines")
    return bytes(line)


def check_hdf5(path: Path, unread: Sequence[str] = NEVER_READ) -> None:
    """Refuse an HDF5 file that points to other files, or whose datasets claim more than the limits.

    `unread` names groups that nothing is read from. External links, external storage and virtual datasets would read
    another file of this machine into the results.
    """
    tables = 0
    with h5py.File(path, "r") as file:
        waiting: list[h5py.Group] = [file]
        seen = set()
        while waiting:
            group = waiting.pop()
            for name in group:
                place = f"{group.name.rstrip('/')}/{name}"
                link = group.get(name, getlink=True)
                item = None if isinstance(link, h5py.ExternalLink) else group.get(name)
                if isinstance(item, h5py.Group):
                    # hard links may form circles
                    address = h5py.h5o.get_info(item.id).addr
                    if address not in seen and place.lstrip("/") not in unread:
                        seen.add(address)
                        waiting.append(item)
                    continue
                # a name without content is missed by who looks for it; a named datatype holds no data
                if not isinstance(item, h5py.Dataset) and not isinstance(link, h5py.ExternalLink):
                    continue
                if item is None or item.is_virtual or item.external:
                    raise UserError(
                        "The file takes data from other files.",
                        where=f"{path.name}, {place}",
                        found=f"a link to {link.filename}" if item is None else "data stored outside of the file",
                        expected="a file that holds all of its data",
                        fix="Write the data into one file (h5repack, or anndata's write_h5ad).",
                    )
                size = int(np.prod(item.shape or (0,), dtype=object)) * item.dtype.itemsize
                if size > LARGEST_UNPACKED:
                    raise too_large(
                        "The file claims to hold more than any matrix needs.",
                        f"{path.name}, {place}",
                        f"{' x '.join(f'{n:,}' for n in item.shape)} values, {gib(size)}",
                        f"at most {gib(LARGEST_UNPACKED)}",
                    )
                if item.ndim == 1 and name not in ("data", "indices"):
                    tables += size
                if tables > LARGEST_TABLES:
                    raise too_large(
                        "The names and tables of the file claim to be larger than any sample's.",
                        f"{path.name}, {place}",
                        f"{gib(tables)} of names and tables",
                        f"at most {gib(LARGEST_TABLES)}",
                    )


def _with_inner(codecs: Iterable[Any]) -> Iterator[Any]:
    """Codecs, and in place of one that packs chunks into shards those it uses itself."""
    for codec in codecs:
        if isinstance(codec, dict) and codec.get("name") == "sharding_indexed":
            inner = codec.get("configuration") or {}
            yield from _with_inner([*(inner.get("codecs") or []), *(inner.get("index_codecs") or [])])
        else:
            yield codec


def check_zarr(folder: Path) -> None:
    """Refuse a zarr with arrays beyond the limits, or stored in a way that may run code when it is read."""
    tables = 0
    for path in sorted([*folder.rglob(".zarray"), *folder.rglob("zarr.json")]):
        about = json.loads(path.read_text(encoding="utf-8"))
        place = path.parent.relative_to(folder)
        if not isinstance(about, dict) or "shape" not in about or place.parts[:1] in [(n,) for n in NEVER_READ]:
            continue
        codecs = [*(about.get("filters") or []), about.get("compressor"), *(about.get("codecs") or [])]
        for codec in filter(None, _with_inner(codecs)):
            name = str(codec.get("id") or codec.get("name"))
            if name.removeprefix("numcodecs.") not in ZARR_CODECS:
                raise UserError(
                    "The zarr is stored in a way that is not read.",
                    where=f"{folder.name}, {place}",
                    found=f"the codec {name}" + (", which runs code" if name.endswith("pickle") else ""),
                    expected=f"one of {', '.join(sorted(ZARR_CODECS))}",
                    fix="Write it again with one of these codecs; anndata's write_zarr uses them by default.",
                )
        shape = [int(n) for n in about["shape"]]
        # eight bytes a value: what it is decoded to
        size = 8 * int(np.prod(shape or [1], dtype=object))
        tables += size if len(shape) == 1 and place.name not in ("data", "indices") else 0
        if size > LARGEST_UNPACKED or tables > LARGEST_TABLES:
            raise too_large(
                "The zarr claims to hold more than any matrix needs.",
                f"{folder.name}, {place}",
                f"{' x '.join(f'{n:,}' for n in shape)} values",
                f"at most {gib(LARGEST_UNPACKED)} a matrix, {gib(LARGEST_TABLES)} of names and tables",
            )


FORMULA = re.compile(r"^\s*(?:[=@]|[+-].*[(|!])")
"""What a spreadsheet takes for a formula; `+dox` and `-` are names of conditions, and do no harm."""


def strange_name(name: str) -> str | None:
    """What keeps a name out of tables and reports, in words; None when nothing does."""
    if FORMULA.match(name):
        return "begins as a formula that a spreadsheet would run"
    if any(unicodedata.category(sign) in ("Cc", "Cs") and sign != "\t" for sign in name):
        return "holds a control character"
    return None


def check_names(names: Iterable[str], what: str, where: str) -> None:
    """Refuse names that would do harm in the tables of the results.

    Parameters
    ----------
    what
        What they name, as in ``barcodes``.
    """
    for number, name in enumerate(names, start=1):
        # most names are letters and digits: only those that could be strange are looked at closely
        if (name[:1] in "=@+- " or not name.isprintable()) and (found := strange_name(name)):
            raise UserError(
                f"One of the {what} is no name.",
                where=f"{where}, number {number}",
                found=f"{name[:60]!r} {found}",
                expected="a name without control characters that does not begin as a formula (=, @, or + and - "
                "before a call)",
                fix="Rename it.",
            )
