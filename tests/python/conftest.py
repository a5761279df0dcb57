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


SHARED_RUNS = {"small_data": "small run", "small_run": "small run", "stub_project": "stub project"}
"""Fixtures of test_pipeline.py that tests use one after the other."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Which tests one process runs, where several share them: those of a file, as they share what it makes.

    Each other test of test_pipeline.py is a run of its own: it goes by itself.
    """
    for item in items:
        runs = [SHARED_RUNS[name] for name in getattr(item, "fixturenames", ()) if name in SHARED_RUNS]
        alone = item.name if item.path.name == "test_pipeline.py" else item.path.name
        item.add_marker(pytest.mark.xdist_group(runs[0] if runs else alone))


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
