#!/usr/bin/env python3
"""Write bin/spikgpt/closure.tsv: which files of the package each script of bin/ can reach by its imports.

Nextflow hashes the scripts that a task calls, not the package they import. Each process puts a digest of its script's
row into its task, so that -resume runs a task again when, and only when, code that it can import has changed. The rows
follow from the import statements alone, wherever in a module they stand; a data file belongs to the module whose
text names it.

    .venv/bin/python tools/code_closure.py
"""

import ast
from pathlib import Path

BIN = Path(__file__).resolve().parents[1] / "bin"
TABLE = BIN / "spikgpt" / "closure.tsv"

FOLDERS = ("base", "read_input", "quality_control", "scgpt", "profiles", "annotator", "cohort", "report")
"""Of the package, in the order of the pipeline: a folder imports itself and those before it."""


def module_imports(path: Path, package: Path) -> set[Path]:
    """Files of the package that a file imports directly, packages' ``__init__.py`` among them."""
    found: set[Path] = set()

    def add(dotted: str) -> bool:
        """Adds the file of a dotted name below the package; False where there is none."""
        parts = dotted.split(".")
        if parts[0] != package.name:
            return False
        place = package.joinpath(*parts[1:])
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if len(parts) > 1 and not file.is_file():
            return False
        found.add(file)
        # importing a.b.c runs a and a.b first
        found.update(package.joinpath(*parts[1:end], "__init__.py") for end in range(1, len(parts)))
        return True

    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for name in node.names:
                add(name.name)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0 and add(node.module):
            for name in node.names:
                add(f"{node.module}.{name.name}")
    return {file for file in found if file.is_file()}


def closure(script: Path, package: Path) -> list[Path]:
    """All files of the package that a script can reach, data files of its modules too; sorted."""
    reached: set[Path] = set()
    waiting = [script]
    while waiting:
        path = waiting.pop()
        for file in module_imports(path, package) - reached:
            reached.add(file)
            waiting.append(file)
    data = {
        file
        for module in reached
        for file in module.parent.iterdir()
        if file.is_file()
        and file.suffix not in (".py", ".pyc")
        and f'"{file.name}"' in module.read_text(encoding="utf-8")
    }
    return sorted(reached | data)


def closures(folder: Path) -> dict[str, list[str]]:
    """Each script of a ``bin`` folder with its files, relative to the folder; scripts without any are left out."""
    rows = {
        script.name: [str(file.relative_to(folder)) for file in closure(script, folder / "spikgpt")]
        for script in sorted(folder.glob("*.py"))
    }
    return {name: files for name, files in rows.items() if files}


def written(rows: dict[str, list[str]]) -> str:
    """The table as text."""
    head = "# which files of the package each script can reach; made by tools/code_closure.py\n"
    return head + "".join(f"{script}\t{' '.join(files)}\n" for script, files in rows.items())


if __name__ == "__main__":
    TABLE.write_text(written(closures(BIN)), encoding="utf-8")
