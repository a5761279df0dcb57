"""The package mirrors the pipeline: which folder may import which, and which code a script can reach."""

import ast
import re
import sys
from pathlib import Path

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))
from code_closure import FOLDERS, TABLE, closures, module_imports, written

PACKAGE = ROOT / "bin" / "spikgpt"


def misplaced(package: Path) -> list[str]:
    """Imports that go up or sideways, as `module -> imported module`."""
    place = {name: number for number, name in enumerate(FOLDERS)}
    wrong = []
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).parts
        if len(parts) == 1:
            continue
        for name in module_imports(path, package):
            target = name.relative_to(package).parts
            allowed = target == ("__init__.py",) or (len(target) > 1 and place[target[0]] <= place[parts[0]])
            if not allowed:
                wrong.append(f"{'/'.join(parts)} -> {'/'.join(target)}")
    return wrong


def test_every_folder_has_a_place():
    assert {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(FOLDERS)
    assert sorted(path.name for path in PACKAGE.glob("*.py")) == ["__init__.py", "cli.py"]


def test_no_folder_imports_what_comes_after_it():
    assert misplaced(PACKAGE) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("base/errors.py", "from spikgpt.cohort.tables import composition"),
        ("quality_control/cells.py", "import spikgpt.annotator.train"),
        ("quality_control/cells.py", "from spikgpt.annotator import train"),
        ("annotator/train.py", "from spikgpt.cli import parser"),
        ("scgpt/embed.py", "def later():\n    from spikgpt.report import sections"),
    ],
)
def test_the_rule_finds_an_import_that_goes_up(tmp_path, module, line):
    package = tmp_path / "spikgpt"
    for name in ("__init__", "cli", *(f"{folder}/__init__" for folder in FOLDERS)):
        path = package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    for name in (
        "cohort/tables",
        "annotator/train",
        "report/sections",
        "base/errors",
        "quality_control/cells",
        "scgpt/embed",
    ):
        (package / f"{name}.py").write_text("")
    assert misplaced(package) == []
    (package / module).write_text(line + "\n")
    assert misplaced(package)


def test_the_command_line_is_imported_by_scripts_alone():
    for path in PACKAGE.rglob("*.py"):
        assert "spikgpt.cli" not in path.read_text(encoding="utf-8") or path.name == "cli.py", path


def test_the_table_of_code_is_that_of_the_imports():
    """`tools/code_closure.py` writes it anew."""
    assert TABLE.read_text(encoding="utf-8") == written(closures(ROOT / "bin"))


def test_the_table_of_code_holds_what_a_script_imports():
    """What a script names itself is in its row, and only the report's script reaches the report."""
    rows = closures(ROOT / "bin")
    assert "spikgpt/report/sections.py" in rows["make_report.py"]
    assert [name for name, files in rows.items() if "spikgpt/report/sections.py" in files] == ["make_report.py"]
    assert "spikgpt/base/gene_names.tsv" in rows["import_counts.py"]
    for script, files in rows.items():
        statements = [
            node
            for node in ast.walk(ast.parse((ROOT / "bin" / script).read_text(encoding="utf-8")))
            if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        named = {node.module for node in statements if isinstance(node, ast.ImportFrom) and node.module}
        for module in (name for name in named if name.startswith("spikgpt.")):
            path = module.replace(".", "/")
            assert f"{path}.py" in files or f"{path}/__init__.py" in files, (script, module)


def test_every_task_is_given_the_digest_of_its_own_script():
    """The process that calls annotate.py has digestOf('annotate.py') among its inputs, and so on for each."""
    calls = "\n".join(path.read_text() for path in ROOT.glob("subworkflows/local/*/main.nf"))
    rows = closures(ROOT / "bin")
    called = set()
    for module in sorted(ROOT.glob("modules/local/*/main.nf")):
        text = module.read_text()
        process = re.search(r"^process (\w+)", text, re.M).group(1)
        scripts = set(re.findall(r"^ +(?:\w+=\S+ )?(\w+\.py) ", text.split("script:")[1], re.M))
        if process == "MULTIQC":  # a program of others
            assert not scripts
            continue
        (script,) = scripts
        assert re.search(r"input:\n(?:.*\n)*?    val digest\n\n", text), process
        arguments = re.search(rf"^    {process}\((.*?)\)$", calls, re.M | re.S).group(1)
        assert re.findall(r"digestOf\('([\w.]+)'", arguments) == [script], process
        called.add(script)
    assert called == set(rows)
