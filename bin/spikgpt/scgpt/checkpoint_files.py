"""The files of a scGPT checkpoint and their digest, without reading them: torch takes two seconds to import."""

import hashlib
from pathlib import Path

from spikgpt.base.errors import UserError

LAYOUTS = (
    ("args.json", "vocab.json", "best_model.pt"),
    ("config.json", "vocab.json", "model.safetensors"),
)
_COMPLETE = "args.json, vocab.json and best_model.pt, or config.json, vocab.json and model.safetensors"


def checkpoint_files(folder: str | Path) -> tuple[Path, Path, Path]:
    """Configuration, vocabulary and weights of the checkpoint.

    Raises
    ------
    UserError
        The folder holds neither layout whole, or both.
    """
    folder = Path(folder)
    whole = [names for names in LAYOUTS if all((folder / name).is_file() for name in names)]
    if len(whole) == 1:
        config, vocabulary, weights = (folder / name for name in whole[0])
        return config, vocabulary, weights
    there = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else None
    raise UserError(
        "The scGPT checkpoint is ambiguous: it has two sets of weights." if whole else
        "The scGPT checkpoint is not complete.",
        where=str(folder),
        found="no such folder" if there is None else ", ".join(there) or "an empty folder",
        expected=_COMPLETE,
        fix="Remove one set." if whole else "Give --scgpt_model the folder of a complete scGPT checkpoint.",
    )  # fmt: skip


def checkpoint_sha256(folder: str | Path) -> str:
    """One digest of the checkpoint's three files, by name and content; other files do not count."""
    total = hashlib.sha256()
    for path in checkpoint_files(folder):
        with path.open("rb") as file:
            total.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()
