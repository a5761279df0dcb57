"""Genes that cells of a broad class are expected to show, chosen from the profiles (tools/assets/expected_genes.py).

They support or contradict a label; nothing is labelled by them.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikgpt.base.tsv import read_tsv
from spikgpt.profiles.library import Floats, Library

EXPECTED = "expected_genes.tsv"
"""File of the library's folder: class, gene, best first."""
DEPTHS = (2000.0, 1000.0, 500.0, 250.0, 125.0)
"""Counts per cell at which the shares of cells that show a gene are given; the genes were chosen at the first."""
SUPPORTS = 0.5
"""A label is supported where this share of the genes that its class is expected to show is shown ..."""
CONTRADICTS = 0.2
"""... and contradicted where less than this is. Of the profiles of a withheld paper 82 % show half of their own class's
genes and 3 % less than a fifth; of another class's, 4 % show half and 82 % less than a fifth."""
MIN_TESTED = 3
"""Fewer genes that could be looked for say nothing."""


def shown(values: Floats, depth: float) -> Floats:
    """Expected share of cells that show each gene, ``(genes, profiles)``: 1 - exp(-depth x share of the RNA).

    ``values`` (genes, profiles) log1p of counts per 10,000.
    """
    return -np.expm1(-depth * np.expm1(values) / 1e4)


def member_codes(library: Library) -> dict[str, tuple[int, ...]]:
    """The places of the classes that a class is, or that two together are."""
    return {
        name: tuple(library.classes.index(of) for of in library.merged.get(name, (name,))) for name in library.terms
    }


def class_shares(
    library: Library, members: Sequence[int], columns: NDArray[Any], depth: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shares ``(genes,)`` of cells that show each gene in the classes ``members`` and outside of them, where each class
    counts alike; by the profiles ``columns``."""
    each, codes = shown(library.values[:, columns], depth), library.codes[columns]
    inside = each[:, np.isin(codes, members)].mean(axis=1)
    outside = [each[:, codes == code].mean(axis=1) for code in sorted(set(codes.tolist()) - set(members))]
    return inside, np.mean(outside, axis=0)


def verdict(found: int, tested: int) -> str:
    """``supports``, ``contradicts``, ``unclear``, or nothing where too few genes could be looked for."""
    if tested < MIN_TESTED:
        return ""
    share = found / tested
    return "supports" if share >= SUPPORTS else "contradicts" if share < CONTRADICTS else "unclear"


def read_expected(folder: str | Path, library: Library) -> dict[str, list[tuple[str, list[float], list[float]]]]:
    """Of each class that has some, its genes, each with the shares of cells that show it inside and outside of the
    class at each of the `DEPTHS`."""
    table = read_tsv(Path(folder) / EXPECTED)
    # of these genes alone: a twentieth of all
    place = {gene: at for at, gene in enumerate(dict.fromkeys(table["gene"]))}
    rows = [library.genes.index(gene) for gene in place]
    library = replace(library, genes=list(place), values=library.values[rows])
    every = np.arange(len(library.codes))
    members = member_codes(library)
    made = {}
    for name, genes in table.groupby("class", sort=False)["gene"]:
        levels = [class_shares(library, members[str(name)], every, depth) for depth in DEPTHS]
        made[str(name)] = [
            (
                gene,
                [round(float(inside[place[gene]]), 4) for inside, _ in levels],
                [round(float(outside[place[gene]]), 4) for _, outside in levels],
            )
            for gene in genes
        ]
    return made
