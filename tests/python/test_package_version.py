"""The versions that tasks tell are those of the installed packages."""

import re
import subprocess
import sys
from importlib.metadata import version

import pytest
from conftest import BIN, ROOT

MODULES = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("modules/local/*/main.nf"))
ASKED = sorted(set(re.findall(r"eval\('package_version\.py ([\w.-]+)'\)", MODULES)) - {"scgpt"})


def told(package: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, BIN / "package_version.py", package], capture_output=True, text=True, check=False
    )


def test_modules_ask_for_packages():
    assert {"scanpy", "torch", "scikit-learn", "umap-learn", "anndata"} <= set(ASKED)


@pytest.mark.parametrize("package", ASKED)
def test_version_is_that_of_the_installed_package(package):
    assert told(package).stdout == version(package) + "\n"


def test_a_package_that_is_not_there_is_an_error():
    missing = told("no-such-package-here")
    assert missing.returncode != 0
    assert "no-such-package-here" in missing.stderr
    assert not missing.stdout
