"""Files that are written whole or not at all, and JSON."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spikgpt.base.errors import UserError


@contextmanager
def whole_file(path: str | Path, optional: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `path`, renamed to it only when the block ends well.

    With `optional` the block need not write it, and then there is no file.
    """
    path = Path(path)
    # the ending stays the same: writers choose a format or a compression by it
    partial = path.with_name(f".partial-{path.name}")
    try:
        yield partial
        if partial.exists() or not optional:
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as UTF-8 JSON with a stable layout; NaN is refused (not JSON)."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_json_object(path: Path, what: str, *, expected: str = "a JSON object", fix: str) -> dict[str, Any]:
    """The JSON object that a file holds.

    Parameters
    ----------
    what
        What the file is, as the message begins.
    expected, fix
        As in `UserError`.

    Raises
    ------
    UserError
        The file is no JSON, or JSON of another kind.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{what} is not JSON.", where=str(path), found=f"no JSON: {error}", expected=expected, fix=fix
        ) from error
    if not isinstance(content, dict):
        raise UserError(
            f"{what} is not a JSON object.",
            where=str(path),
            found=f"no JSON object: {type(content).__name__}",
            expected=expected,
            fix=fix,
        )
    return content
