"""Starts the pipeline, for the tools that disturb it or load it."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def start(folder: Path, *words: str, env: dict[str, str] | None = None) -> subprocess.Popen:
    """The pipeline with these words, started in `folder` in a session of its own; its output is in log.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            ["nextflow", "run", str(ROOT), "-ansi-log", "false", *words],
            cwd=folder, stdout=log, stderr=log, start_new_session=True, env={**os.environ, **(env or {})},
        )  # fmt: skip
