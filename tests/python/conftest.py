"""What all tests of the package share: the import path and the demo's real cells."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = ROOT / "bin"
sys.path.insert(0, str(BIN))
# tests run scripts as the pipeline does: by name, from PATH
os.environ["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture(scope="session")
def demo_data() -> Path:
    """Folder with the demo's real cells: reference.h5ad, human1_lib3.h5ad, human1_lib3/, truth.tsv."""
    subprocess.run([ROOT / "tools" / "demo" / "get_data"], check=True)
    return ROOT / ".demo" / "data"


@pytest.fixture
def script(tmp_path):
    """Run a script of bin/ in an empty folder; gives the finished process, output as text."""

    def run(name: str, *args: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [name, *map(str, args)], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
        )

    return run
