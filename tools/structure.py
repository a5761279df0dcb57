#!/usr/bin/env python3
"""Write the listing of docs/structure.md: one line for every folder and every file of code.

The line of a file is the first sentence of its docstring, or of the comment that it begins with. A folder of the
package has that of its __init__.py; other folders, and the files at the root, have theirs in LINES.

    .venv/bin/python tools/structure.py
"""

import ast
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "structure.md"
BEGIN, END = "<!-- tools/structure.py: begin -->\n", "<!-- end -->\n"

LINES = {
    "CHANGELOG.md": "What changed, by version",
    "CITATIONS.md": "The works that the pipeline is built on",
    "LICENSE": "MIT",
    "Makefile": "The commands of users and developers",
    "README.md": "Start here",
    "main.nf": "The pipeline: its subworkflows in order, and the parameters that each gets",
    "nextflow.config": "Defaults of all parameters, and the profiles",
    "nextflow_schema.json": "Types, bounds and help texts of all parameters",
    "nf-test.config": "Settings of nf-test",
    "pyproject.toml": "Settings of ruff, mypy and pytest",
    "tower.yml": "The results that Seqera Platform shows",
    ".ci": "The command that must pass before a change is merged",
    ".github/workflows": "The same on GitHub: tests, linters, images",
    "assets": "Files that the pipeline reads at run time: schema of the samplesheet, configuration of MultiQC",
    "assets/annotators/pbmc": "The bundled annotator of human blood, with its model card",
    "assets/annotators/tissue": "The model card of the tissue profiles as an annotator",
    "assets/cell_profiles": "Mean profiles of human cell types for the second opinion, with source and licence",
    "assets/scgpt-mini": "The bundled scGPT checkpoint, with its model card",
    "bench": "Commands that measure the pipeline and other methods; their figures become docs/benchmarks.md",
    "bench/env": "Locked packages of the bench",
    "bench/library": "What the commands of the bench share: splits, methods, scores",
    "bench/sections": "One module for each section of docs/benchmarks.md",
    "bin": "One script for each process; Nextflow puts the folder on the tasks' PATH",
    "conf": "Resources, publishing, containers and profiles",
    "containers": "The images, and the locked AWS command line in them",
    "containers/multiqc": "The image of MultiQC",
    "containers/scgpt": "The image of the scgpt package",
    "containers/spikgpt": "The image of all other processes",
    "docs": "Pages on usage, output, method, structure, benchmarks, reliability, reproducibility, clouds, nf-core",
    "docs/benchmarks": "Measured figures, and the plots made from them",
    "docs/images": "Pictures of the README",
    "docs/reliability": "Measured figures on faults, load and dependencies",
    "modules/local": "One process in each folder, with its nf-test in `tests/`",
    "subworkflows/local": "The steps of main.nf, each made of several processes, with its nf-test in `tests/`",
    "tests": "The nf-test of the whole pipeline",
    "tests/lib": "What nf-tests share: small inputs, and a reader of h5ad files and tables",
    "tests/python": "Tests by pytest: the package, its scripts, the pipeline through Nextflow, the docs",
    "tools": "Commands of developers",
    "tools/assets": "Make and judge the bundled checkpoint, annotator, cell profiles and table of the Cell Ontology",
    "tools/audit": "List packages, licences and known vulnerabilities",
    "tools/audit/env": "Locked packages of the audit",
    "tools/demo": "The demo's cells and its summary",
    "tools/env": "Locked packages of the pipeline, and Nextflow",
    "tools/genes": "Make the table of gene symbols",
    "tools/nfcore": "The checks of nf-core, without a network",
    "tools/reliability": "Measure faults and load; write docs/reliability.md",
    "tools/cellxgene": "Locked packages of the validator of CELLxGENE",
    "tools/report": "Check a report in a browser",
}
"""What does not say itself what it is: folders outside of the package, and files at the root."""

EACH = ("modules/local", "subworkflows/local")
"""Folders whose own folders are listed like files, by their main.nf."""

SPEAKING = {".py", ".nf", ".config", ""}
"""Endings of files that say what they are; no ending is a shell script."""


def first_sentence(text: str) -> str:
    """Up to the first point that ends a sentence, the colon before a block, or an empty line; on one line."""
    end = re.search(r"[.:]*(?=\n\n|$)|:(?=\n )|\.+(?=\n| [A-Z`])", text.strip())
    return " ".join(text.strip()[: end.start() if end else None].split())


def says(path: Path) -> str:
    """What a file says of itself; empty for one that says nothing."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return first_sentence(ast.get_docstring(ast.parse(text)) or "")
    if path.suffix == ".nf":
        # the comment right above the process or the workflow
        comment = re.search(r"((?:^//.*\n)+)(?:process|workflow) \w*", text, re.MULTILINE)
        return first_sentence(re.sub(r"^// ?", "", comment[1], flags=re.MULTILINE)) if comment else ""
    if path.suffix == ".config":
        comment = re.match(r"/\*\n(.*?)\*/", text, re.DOTALL)
        return first_sentence(re.sub(r"^ \* ?", "", comment[1], flags=re.MULTILINE)) if comment else ""
    comment = re.match(r"#!.*\n((?:#.*\n)+)", text)
    return first_sentence(re.sub(r"^# ?", "", comment[1], flags=re.MULTILINE)) if comment else ""


def tracked(root: Path) -> list[Path]:
    """Files that git tracks, relative to the repository."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True).stdout
    return sorted(Path(name) for name in names.split("\0") if name and (root / name).is_file())


def listing(root: Path) -> str:
    """The listing as Markdown.

    Raises
    ------
    ValueError
        A folder or a file at the root has no line in LINES, or a line has no folder or file.
    """
    files = tracked(root)
    package = {path.parent for path in files if path.name == "__init__.py" and path.parts[:2] == ("bin", "spikgpt")}
    own = {Path(*f.parts[:3]) for f in files if str(Path(*f.parts[:2])) in EACH and len(f.parts) > 3}
    folders = {f.parent for f in files if not own & set(f.parents)} | set(map(Path, EACH))
    folders -= {Path("."), *package}
    top = {f for f in files if len(f.parts) == 1 and not f.name.startswith(".")}
    missing, gone = (folders | top) - set(map(Path, LINES)), set(map(Path, LINES)) - (folders | top)
    if missing or gone:
        raise ValueError(
            f"LINES in tools/structure.py: nothing on {sorted(map(str, missing))}, and no {sorted(map(str, gone))}"
        )
    parts = ["### `/`\n", "".join(f"- `{f}`: {LINES[str(f)]}\n" for f in sorted(top))]
    for folder in sorted(folders | package):
        about = says(root / folder / "__init__.py") if folder in package else LINES[str(folder)]
        parts.append(f"### `{folder}/`\n\n{about}.\n")
        lines = [
            f"- `{path.name}/`: {says(root / path / 'main.nf')}\n" for path in sorted(own) if path.parent == folder
        ]
        for file in files:
            if file.parent == folder and file.suffix in SPEAKING and file.name != "__init__.py" and says(root / file):
                lines.append(f"- `{file.name}`: {says(root / file)}\n")
        parts.append("".join(lines))
    return "\n".join(part for part in parts if part)


def page(root: Path) -> str:
    """docs/structure.md with the listing as it should be."""
    text = (root / "docs" / "structure.md").read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    return f"{head}{BEGIN}{listing(root)}{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page(ROOT), encoding="utf-8")
