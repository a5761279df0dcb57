#!/usr/bin/env python3
"""Write docs/benchmarks.md and its pictures from the JSON files of a folder; no number is typed by hand."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "bin"), str(Path(__file__).resolve().parent)]

from spikgpt.base.files import whole_file  # noqa: E402
from spikgpt.cli import launch, parser  # noqa: E402

SECTIONS = (
    "annotator", "attention", "unknown", "levels", "explanations", "teach", "blood", "species", "profiles", "speed",
    "embed", "qc", "filters", "integration", "six_samples", "conditions", "resources",
)  # fmt: skip
"""In the order of the page; each is a module of `sections` and a JSON file, and is left out where there is no file."""

HEAD = """# Benchmarks

Every number and picture on this page is made by `bench/write_docs.py` from the JSON files in
`docs/benchmarks/`; a test compares the two. Goals that are missed are listed as such.

    make bench [DATA=folder] [SEEDS=3]    every method on every split, then bench-speed; into results/bench
    make bench-unknown DATA=folder        the share of Unknown at several rates, on many pairs; into docs/benchmarks
    make bench-species DATA=folder        mouse cells: one mouse to another, human to mouse; into docs/benchmarks
    make bench-levels DATA=folder         answers on levels, on five pairs and with types left out; into docs/benchmarks
    make bench-attention DATA=folder      three kinds of attention, with and without; into docs/benchmarks
    make bench-explanations DATA=folder   the genes that labels rest on; into docs/benchmarks
    make bench-teach DATA=folder          types taught from Unknown cells, and what is refused; into docs/benchmarks
    make bench-speed                      seconds of training and annotating alone
    make bench-profiles DATA=folder       the second opinion; into results/bench
    make bench-integration DATA=folder    clusters with and without Harmony; into docs/benchmarks
    make bench-conditions DATA=folder     conditions compared, beside R's limma, DESeq2, edgeR; into docs/benchmarks
    make annotator DATA=folder            the bundled annotator of human blood; into docs/benchmarks
    make bench-docs                       takes what was measured into docs/

The run fetches Baron's pancreas cells itself. The other splits need a folder of h5ad files with raw counts in `X`, gene
symbols as `var_names`, and in `obs` `cell_type` (authors' label), `batch`, and for PBMC `coarse` (labels with the same
words in all sets: `CD4 T`, `CD8 T`, `B`, `NK`, `Mono CD14`, `Mono CD16`, `DC`, `Platelet`, ...; `Mono` where a set does
not tell the two apart, `unassigned` where it has none):

| file | cells |
|---|---|
| `pbmc3k.h5ad` | 10x Genomics' PBMC 3k (v1 chemistry), Seurat's tutorial labels |
| `pbmc4k_soupx.h5ad` | 10x Genomics' PBMC 4k (v2), as the R package SoupX carries it |
| `kang_ifnb2k.h5ad` | Kang 2018 (GSE96583), 1,000 control and 1,000 stimulated PBMC; `batch` is `CTRL` or `STIM` |
| `pbmc_3tech_savercat.h5ad` | PBMC of three 10x chemistries, from SAVERCAT |
| `kang_ctrl12k_1287genes.h5ad` | Kang 2018, 12,000 PBMC of 8 donors, 1,287 genes; `bench-unknown`, `bench-conditions` |
| `baron_mouse.h5ad` | Baron 2016, mouse pancreas; `batch`: `mouse1`, `mouse2`; for `bench-unknown`, `bench-species` |
| `sc_mixology_cell_lines.h5ad` | Tian 2019, cell lines; `batch` is protocol and plate; for `bench-unknown` |

`bench-attention` reads all of them. Splits whose files are not there are named and skipped, as are SingleR without
Rscript and r-bioc-singler, and scANVI without scvi-tools.
"""


def page(folder: Path) -> str:
    """The whole page from the JSON files of ``folder``."""
    import importlib
    import json

    parts = [HEAD]
    for name in SECTIONS:
        path = folder / f"{name}.json"
        if path.exists():
            parts.append(importlib.import_module(f"sections.{name}").render(json.loads(path.read_text("utf-8"))))
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def draw(folder: Path, out: Path) -> None:
    """Every section's pictures as SVG files in ``out``; the same figures give the same bytes."""
    import importlib
    import json

    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "spikgpt", "svg.fonttype": "none", "font.size": 9}):
        for name in SECTIONS:
            path = folder / f"{name}.json"
            if not path.exists():
                continue
            section = importlib.import_module(f"sections.{name}")
            if hasattr(section, "pictures"):
                for file, figure in section.pictures(json.loads(path.read_text("utf-8"))).items():
                    with whole_file(out / file) as partial:
                        figure.savefig(partial, metadata={"Date": None})


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--figures", type=Path, default=Path("docs/benchmarks"), help="folder of the JSON files")
    command.add_argument("--out", type=Path, default=Path("docs"), help="folder for benchmarks.md and benchmarks/*.svg")
    given = command.parse_args()
    (given.out / "benchmarks").mkdir(parents=True, exist_ok=True)
    draw(given.figures, given.out / "benchmarks")
    with whole_file(given.out / "benchmarks.md") as partial:
        partial.write_text(page(given.figures), encoding="utf-8")


if __name__ == "__main__":
    launch(main)
