"""Labelled samples for the filters of quality control, and damaged cells put among them.

Real samples are as their authors left them, so every cell counts as a true one. Constructed ones are drawn from mean
profiles of cell types (`cell_profiles/` of the data folder): tissues in which one type differs from all others, such as
glia among neurons or cardiomyocytes in a heart.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse
from spikgpt.base.genes import mitochondrial_genes

MITOCHONDRIAL = (
    "MT-ND1", "MT-ND2", "MT-CO1", "MT-CO2", "MT-ATP8", "MT-ATP6", "MT-CO3", "MT-ND3", "MT-ND4L", "MT-ND4", "MT-ND5",
    "MT-ND6", "MT-CYB",
)  # fmt: skip
REAL = {
    "pbmc3k": {}, "pbmc4k_soupx": {}, "kang_ifnb2k": {}, "kang_ctrl12k_1287genes": {}, "pbmc_3tech_savercat": {},
    "sc_mixology_cell_lines": {"singlet": ("demuxlet_cls", "SNG")}, "baron_mouse": {"upper": True},
}  # fmt: skip
"""h5ad files of the data folder: counts in X, obs cell_type and batch; each batch is a sample."""
KINDS = ("thinned", "ambient", "leaky", "mitochondrial")


@dataclass
class Sample:
    """Counts (cells, genes) int64 with the type of each cell, and what damaged it ("" for a true cell)."""

    set: str
    counts: sparse.csr_matrix
    symbols: list[str]
    types: np.ndarray
    damage: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=object))
    barcodes: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=object))


def real_sets(data: Path, wheel: Path | None, only: tuple[str, ...] = ()) -> Iterator[Sample]:
    """The sets of the folder that are there; Baron's human cells from the demo's wheel."""
    for name, how in REAL.items():
        path = data / f"{name}.h5ad"
        if path.exists() and (not only or name in only):
            yield from _from_h5ad(path, **how)
    if wheel is not None and (not only or "baron_human" in only):
        from make_data import read_baron

        cells = read_baron(wheel)
        libraries = cells.obs["library"].to_numpy().astype(str)
        yield from _parts("baron_human", cells.X, list(cells.var_names), cells.obs["cell_type"], libraries)


def _from_h5ad(path: Path, upper: bool = False, singlet: tuple[str, str] | None = None) -> Iterator[Sample]:
    cells = ad.read_h5ad(path)
    if singlet:
        cells = cells[(cells.obs[singlet[0]] == singlet[1]).to_numpy()]
    symbols = [str(name).upper() if upper else str(name) for name in cells.var_names]
    yield from _parts(path.stem, cells.X, symbols, cells.obs["cell_type"], cells.obs["batch"].astype(str).to_numpy())


def _parts(name: str, counts: Any, symbols: list[str], types: pd.Series, batches: np.ndarray) -> Iterator[Sample]:
    counts, types = sparse.csr_matrix(counts).astype(np.int64), types.astype(str).to_numpy().astype(object)
    for batch in sorted(set(batches)):
        yield Sample(name, counts[batches == batch], symbols, types[batches == batch])


# --- damage -------------------------------------------------------------------------------------------


def damaged(sample: Sample, seed: int, share: float = 0.05, kinds: tuple[str, ...] = KINDS) -> Sample:
    """The sample with `share` of its cells once more as damaged barcodes of each kind; at least five of each.

    thinned: every count stays with probability 0.1. ambient: the same, and twice as many counts from the sample's sum.
    leaky: counts stay with 0.3, mitochondrial ones all, and more of these until they are 25 to 60 %. mitochondrial: the
    cell as it is, with mitochondrial counts added to 25 to 60 %.

    A sample without mitochondrial genes gets them first: 13 genes, a share with median 4 % and CV 0.5.
    """
    rng = np.random.default_rng(seed)
    sample = _with_mitochondrial(sample, rng)
    mito, counts = mitochondrial_genes(sample.symbols), sample.counts
    cells = counts.shape[0]
    number = max(5, round(share * cells))
    bulk = _shares(np.asarray(counts.sum(axis=0)).ravel().astype(float))
    mito_profile = _shares(np.asarray(counts[:, mito].sum(axis=0)).ravel() + 1.0)
    parts, damage, types = [counts], [np.full(cells, "", dtype=object)], [sample.types]
    for kind in kinds:
        pick = rng.choice(cells, number, replace=False)
        whole = counts[pick]
        types.append(sample.types[pick])
        damage.append(np.full(number, kind, dtype=object))
        if kind == "thinned":
            made = thinned(whole, 0.1, rng)
        elif kind == "ambient":
            made = with_ambient(whole, 0.1, 0.2, bulk, rng)
        else:
            stays = np.where(mito, 1.0, 0.3 if kind == "leaky" else 1.0)
            made = whole.copy()
            made.data = rng.binomial(made.data, stays[made.indices])
            made.eliminate_zeros()
            total = np.asarray(made.sum(axis=1)).ravel()
            has = np.asarray(made[:, mito].sum(axis=1)).ravel()
            wanted = rng.uniform(0.25, 0.6, number)
            more = np.maximum(0, np.ceil((wanted * total - has) / (1 - wanted))).astype(int)
            added = drawn(more, mito_profile, rng).tocoo()
            places = np.flatnonzero(mito)[added.col]
            made = (made + sparse.csr_matrix((added.data, (added.row, places)), shape=made.shape)).tocsr()
        parts.append(made)
    counts = sparse.vstack(parts).tocsr().astype(np.int64)
    counts.eliminate_zeros()
    counts.sort_indices()
    return shuffled(replace(sample, counts=counts, types=np.concatenate(types), damage=np.concatenate(damage)), rng)


def shuffled(sample: Sample, rng: np.random.Generator) -> Sample:
    """In random order, with random barcodes."""
    order = rng.permutation(sample.counts.shape[0])
    barcodes = np.array(["".join(rng.choice(list("ACGT"), 16)) for _ in order], dtype=object)
    return replace(
        sample, counts=sample.counts[order], types=sample.types[order], damage=sample.damage[order], barcodes=barcodes
    )


def _with_mitochondrial(sample: Sample, rng: np.random.Generator, median: float = 4.0) -> Sample:
    if mitochondrial_genes(sample.symbols).any():
        return sample
    total = np.asarray(sample.counts.sum(axis=1)).ravel()
    share = np.minimum(median / 100 * np.exp(rng.normal(0, 0.5, len(total))), 0.6)
    number, profile = rng.poisson(total * share / (1 - share)), rng.dirichlet(np.full(13, 3.0))
    genes = sparse.csr_matrix(np.vstack([rng.multinomial(n, profile) for n in number]))
    counts = sparse.hstack([sample.counts, genes]).tocsr()
    return replace(sample, counts=counts, symbols=[*sample.symbols, *MITOCHONDRIAL])


def _shares(values: np.ndarray) -> np.ndarray:
    return values / values.sum()


def thinned(counts: sparse.csr_matrix, stays: float, rng: np.random.Generator) -> sparse.csr_matrix:
    made = counts.copy()
    made.data = rng.binomial(made.data.astype(np.int64), np.full(made.data.size, stays))
    made.eliminate_zeros()
    return made


def drawn(numbers: np.ndarray, profile: np.ndarray, rng: np.random.Generator) -> sparse.csr_matrix:
    """So many counts of a profile in each row."""
    return sparse.vstack([sparse.csr_matrix(rng.multinomial(n, profile)) for n in numbers]).tocsr()


def with_ambient(
    counts: sparse.csr_matrix, own: float, ambient: float, profile: np.ndarray, rng: np.random.Generator
) -> sparse.csr_matrix:
    """`own` of each cell's counts, and `ambient` times its total from a profile."""
    total = np.asarray(counts.sum(axis=1)).ravel()
    made = thinned(counts, own, rng) if own else sparse.csr_matrix(counts.shape, dtype=np.int64)
    return made + drawn(rng.poisson(ambient * total), profile, rng)


# --- constructed --------------------------------------------------------------------------------------

_BRAIN, _LUNG, _MARROW, _HEART, _LIVER, _PANCREAS = (
    "Brain_AllenBrainAtlas", "Lung_HCA", "ImmuneCensus_HCA", "Heart_HCA", "Liver_HCA", "Pancreas_HCA",
)  # fmt: skip
Kind = tuple[str, str, str, int, int, float, float, str]
"""Study and type of the profile, name, cells, median counts, spread of log counts, mitochondrial share, special."""

TISSUES: dict[str, tuple[Kind, ...]] = {
    "cortex_nuclei": (
        (_BRAIN, "L2.3.IT", "L2/3 IT", 180, 20000, 0.35, 0, ""), (_BRAIN, "L4.IT", "L4 IT", 120, 18000, 0.35, 0, ""),
        (_BRAIN, "L6.CT", "L6 CT", 70, 16000, 0.35, 0, ""), (_BRAIN, "PVALB", "PVALB", 60, 14000, 0.35, 0, ""),
        (_BRAIN, "VIP", "VIP", 50, 12000, 0.35, 0, ""), (_BRAIN, "SST", "SST", 50, 13000, 0.35, 0, ""),
        (_BRAIN, "Oligodendrocyte", "Oligodendrocyte", 30, 3000, 0.4, 0, ""),
        (_BRAIN, "Astrocyte", "Astrocyte", 20, 3500, 0.4, 0, ""), (_BRAIN, "OPC", "OPC", 15, 3500, 0.4, 0, ""),
        (_BRAIN, "Microglia", "Microglia", 15, 2000, 0.4, 0, ""),
    ),
    "tumour": (
        (_LUNG, "alveolar.epithelial.cell.type.2", "Epithelial", 250, 9000, 0.5, 0.08, ""),
        (_LUNG, "fibroblast", "Fibroblast", 120, 6000, 0.45, 0.05, ""),
        (_LUNG, "blood.vessel.cell", "Endothelial", 80, 4500, 0.45, 0.05, ""),
        (_LUNG, "MARCOpos.macrophage", "Macrophage", 80, 6500, 0.5, 0.05, ""),
        (_LUNG, "CD4+.T.cell", "CD4 T", 90, 2200, 0.4, 0.04, ""),
        (_LUNG, "CD8+.cytotoxic.T.cell", "CD8 T", 60, 2200, 0.4, 0.04, ""),
        (_LUNG, "plasma.cell", "Plasma cell", 55, 7000, 0.5, 0.03, "clonal"),
        (_LUNG, "B.cell", "B", 17, 1800, 0.4, 0.04, ""), (_LUNG, "mast.cell", "Mast", 16, 3500, 0.4, 0.04, ""),
        (_MARROW, "erythroid.cell.type.2", "Red cell", 20, 1200, 0.5, 0.005, "red"),
    ),
    "heart": (
        (_HEART, "Ventricular_Cardiomyocyte", "Ventricular CM", 250, 6000, 0.5, 0.40, ""),
        (_HEART, "Atrial_Cardiomyocyte", "Atrial CM", 40, 5000, 0.5, 0.35, ""),
        (_HEART, "Fibroblast", "Fibroblast", 120, 2500, 0.4, 0.06, ""),
        (_HEART, "Endothelial", "Endothelial", 120, 2200, 0.4, 0.05, ""),
        (_HEART, "Pericytes", "Pericyte", 60, 1800, 0.4, 0.05, ""),
        (_HEART, "Smooth_muscle_cells", "Smooth muscle", 20, 2000, 0.4, 0.10, ""),
        (_HEART, "Myeloid", "Myeloid", 30, 2000, 0.4, 0.04, ""),
        (_HEART, "Adipocytes", "Adipocyte", 15, 3500, 0.4, 0.15, ""),
    ),
    "heart_few_cm": (
        (_HEART, "Fibroblast", "Fibroblast", 200, 2500, 0.4, 0.05, ""),
        (_HEART, "Endothelial", "Endothelial", 200, 2200, 0.4, 0.05, ""),
        (_HEART, "Ventricular_Cardiomyocyte", "Ventricular CM", 25, 6000, 0.5, 0.40, ""),
        (_HEART, "Myeloid", "Myeloid", 40, 2000, 0.4, 0.04, ""),
    ),
    "liver": (
        (_LIVER, "Hep.1", "Hepatocyte 1", 180, 9000, 0.5, 0.25, ""),
        (_LIVER, "Hep.3", "Hepatocyte 3", 100, 8000, 0.5, 0.20, ""),
        (_LIVER, "Central.venous.LSECs", "LSEC", 60, 2500, 0.4, 0.05, ""),
        (_LIVER, "Non.inflammatory.macrophages", "Kupffer", 50, 2500, 0.4, 0.05, ""),
        (_LIVER, "CD3+.alpha.beta.T.cells", "T", 60, 1500, 0.4, 0.04, ""),
        (_LIVER, "NK.like.cells", "NK", 40, 1500, 0.4, 0.04, ""),
        (_LIVER, "Antibody.secreting.B.cells", "Plasma cell", 18, 5000, 0.5, 0.03, "clonal"),
        (_LIVER, "Cholangiocytes", "Cholangiocyte", 16, 5000, 0.4, 0.06, ""),
        (_LIVER, "Erthyroid.cells", "Red cell", 18, 1000, 0.5, 0.01, "red"),
    ),
    "pancreas_small_acinar": (
        (_PANCREAS, "type.B.pancreatic.cell", "Beta", 200, 8000, 0.4, 0.05, ""),
        (_PANCREAS, "pancreatic.A.cell", "Alpha", 150, 8000, 0.4, 0.05, ""),
        (_PANCREAS, "pancreatic.ductal.cell", "Ductal", 60, 6000, 0.4, 0.06, ""),
        (_PANCREAS, "pancreatic.D.cell", "Delta", 30, 7000, 0.4, 0.05, ""),
        (_PANCREAS, "acinar.cell", "Acinar", 15, 700, 0.4, 0.03, ""),
        (_PANCREAS, "mesenchymal.cell", "Mesenchymal", 25, 5000, 0.4, 0.04, ""),
        (_MARROW, "erythroid.cell.type.2", "Red cell", 15, 500, 0.4, 0.005, "red"),
    ),
}  # fmt: skip
INTO_BLOOD: tuple[Kind, ...] = (
    (_MARROW, "plasma.cell", "Plasma cell", 30, 9000, 0.45, 0, "clonal"),
    (_MARROW, "erythroid.cell.type.2", "Red cell", 20, 1500, 0.45, 0, "red"),
    (_MARROW, "megakaryocyte", "Platelet", 25, 600, 0.45, 0, ""),
)  # fmt: skip
"""Put among the real cells of pbmc4k_soupx."""
HAEMOGLOBIN = {"HBB": 0.45, "HBA2": 0.3, "HBA1": 0.2}
AMBIENT = 0.03
"""Ambient counts of a constructed cell, as a share of the median total."""


def constructed_sets(data: Path, seed: int) -> Iterator[Sample]:
    """Tissues of drawn cells; other seeds give other cells."""
    folder = data / "cell_profiles"
    if not folder.is_dir():
        return
    stored = np.load(folder / "profiles.npz")
    table = pd.read_csv(folder / "profiles.tsv", sep="\t")
    profiles, genes = np.expm1(stored["log1p_cp10k"].astype(np.float64)), [str(gene) for gene in stored["genes"]]
    rng = np.random.default_rng(seed)

    def cells_of(kind: Kind) -> sparse.csr_matrix:
        study, name, _, cells, median, spread, _, special = kind
        at = np.flatnonzero((table["study"] == study) & (table["type"] == name))[0]
        return _drawn_cells(profiles[:, at].copy(), genes, cells, median, spread, special, rng)

    for name, kinds in TISSUES.items():
        parts = [_add_mitochondrial(cells_of(kind), kind[6], rng) for kind in kinds]
        types = np.array([kind[2] for kind in kinds for _ in range(kind[3])], dtype=object)
        counts = sparse.vstack(parts).tocsr()
        bulk = _shares(np.asarray(counts.sum(axis=0)).ravel().astype(float))
        ambient = rng.poisson(AMBIENT * np.median(np.asarray(counts.sum(axis=1)).ravel()), counts.shape[0])
        counts = (counts + drawn(ambient, bulk, rng)).tocsr().astype(np.int64)
        counts.eliminate_zeros()
        counts.sort_indices()
        yield Sample(name, counts, [*genes, *MITOCHONDRIAL], types)
    for blood in real_sets(data, None, ("pbmc4k_soupx",)):
        more = [_on_genes(cells_of(kind), genes, blood.symbols) for kind in INTO_BLOOD]
        types = np.array([kind[2] for kind in INTO_BLOOD for _ in range(kind[3])], dtype=object)
        counts = sparse.vstack([blood.counts, *more]).tocsr().astype(np.int64)
        yield Sample("pbmc4k_and_small_types", counts, blood.symbols, np.concatenate([blood.types, types]))


def _drawn_cells(
    profile: np.ndarray,
    genes: list[str],
    cells: int,
    median: float,
    spread: float,
    special: str,
    rng: np.random.Generator,
    variation: float = 0.4,
) -> sparse.csr_matrix:
    """Lognormal totals; every gene's share times a gamma of that CV from cell to cell; Poisson counts.

    red: 95 % haemoglobin. clonal: one heavy and one light chain have 30 to 80 % of the counts.
    """
    if special == "red":
        at = [genes.index(gene) for gene in HAEMOGLOBIN if gene in genes]
        red = np.zeros_like(profile)
        red[at] = list(HAEMOGLOBIN.values())[: len(at)]
        profile = red + 0.05 * _shares(profile)
    totals = median * np.exp(rng.normal(0, spread, cells))
    antibody = np.array([g.startswith(("IGH", "IGK", "IGL")) and not g.startswith("IGHMBP") for g in genes])
    rows = []
    for total in totals:
        cell = _shares(profile * rng.gamma(1 / variation**2, variation**2, len(profile)))
        if special == "clonal":
            heavy = rng.choice([gene for gene in ("IGHG1", "IGHA1", "IGHM", "IGHG3") if gene in genes])
            light = rng.choice([gene for gene in ("IGKC", "IGLC2", "IGLC3", "IGLL5") if gene in genes])
            cell[antibody] *= 0.1
            cell = _shares(cell)
            share = rng.uniform(0.3, 0.8)
            cell *= 1 - share
            cell[genes.index(heavy)] += 0.45 * share
            cell[genes.index(light)] += 0.5 * share
            if "JCHAIN" in genes:
                cell[genes.index("JCHAIN")] += 0.05 * share
        rows.append(sparse.csr_matrix(rng.poisson(total * cell)))
    return sparse.vstack(rows).tocsr().astype(np.int64)


def _add_mitochondrial(counts: sparse.csr_matrix, share: float, rng: np.random.Generator) -> sparse.csr_matrix:
    if not share:
        return sparse.hstack([counts, sparse.csr_matrix((counts.shape[0], 13), dtype=np.int64)]).tocsr()
    total = np.asarray(counts.sum(axis=1)).ravel()
    shares = np.minimum(share * np.exp(rng.normal(0, 0.35, len(total))), 0.85)
    profile = rng.dirichlet(np.full(13, 5.0))
    numbers = rng.poisson(total * shares / (1 - shares))
    return sparse.hstack([counts, sparse.csr_matrix(np.vstack([rng.multinomial(n, profile) for n in numbers]))]).tocsr()


def _on_genes(counts: sparse.csr_matrix, genes: list[str], wanted: list[str]) -> sparse.csr_matrix:
    """The same cells on other genes; counts of a gene that is not among them are lost."""
    place = {gene: at for at, gene in enumerate(wanted)}
    entries = counts.tocoo()
    columns = np.array([place.get(gene, -1) for gene in genes])[entries.col]
    known = columns >= 0
    return sparse.csr_matrix(
        (entries.data[known], (entries.row[known], columns[known])), shape=(counts.shape[0], len(wanted))
    )
