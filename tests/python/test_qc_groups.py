"""Groups of like cells: a type that differs is not damaged, and damage does not become a type."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from spikgpt.base.genes import immunoglobulin_genes
from spikgpt.base.h5ad import count_data
from spikgpt.base.metrics import cell_metrics
from spikgpt.quality_control import groups
from spikgpt.quality_control.groups import clusters, find_groups, own_share, poisson_excess
from spikgpt.quality_control.rules import DEFAULTS, group_bounds, removal_reasons, thresholds_from
from spikgpt.quality_control.rules import MAD_RULES as RULES
from stored_cells import on_disk

ANTIBODY = ["IGHG1", "IGHA1", "IGKC", "IGLC2", "JCHAIN"]
RED = ["HBA1", "HBA2", "HBB"]
MITO = [f"MT-{i}" for i in range(13)]
GENES = [f"GENE{i}" for i in range(1500)] + MITO + ANTIBODY + RED


def profile(rng: np.random.Generator, own: int) -> np.ndarray:
    """A type: common expression, and 150 genes that are its own."""
    base = np.random.default_rng(99).gamma(0.3, 1.0, len(GENES))
    base[[GENES.index(gene) for gene in MITO + ANTIBODY + RED]] = 0
    base[own * 150 : (own + 1) * 150] += rng.gamma(1.0, 4.0, 150)
    return base / base.sum()


def drawn(rng: np.random.Generator, shares: np.ndarray, cells: int, median: float, mito: float = 0.04) -> np.ndarray:
    totals = median * rng.lognormal(0, 0.35, cells)
    shares = shares * (1 - mito)
    shares[[GENES.index(gene) for gene in MITO]] = mito / 13
    variation = rng.gamma(10, 0.1, (cells, len(shares)))
    return rng.poisson(totals[:, None] * shares * variation)


def tissue(kind: str) -> tuple[ad.AnnData, np.ndarray]:
    """Cells of common types and of one that differs, with the type of each."""
    rng = np.random.default_rng(0)
    parts = [("a", drawn(rng, profile(rng, 0), 150, 9000)), ("b", drawn(rng, profile(rng, 1), 120, 7000))]
    parts.append(("c", drawn(rng, profile(rng, 2), 100, 8000)))
    if kind == "plasma":
        # 30 to 80 % of the counts in one heavy and one light chain
        made = drawn(rng, profile(rng, 3), 30, 7000)
        for at, row in enumerate(made):
            total = int(row.sum() * rng.uniform(0.4, 4))
            row[GENES.index(ANTIBODY[at % 2])] = total // 2
            row[GENES.index(ANTIBODY[2 + at % 2])] = total // 2
        parts.append((kind, made))
    elif kind == "glia":
        # a seventh of the neurons' counts
        parts.append((kind, drawn(rng, profile(rng, 3), 20, 1100)))
    elif kind == "red":
        # hardly any gene but haemoglobin
        shares = 0.05 * profile(rng, 3)
        shares[[GENES.index(gene) for gene in RED]] = [0.3, 0.25, 0.4]
        parts.append((kind, drawn(rng, shares, 15, 1000, 0.005)))
    elif kind == "muscle":
        # mitochondria are a third of what a cardiomyocyte transcribes
        parts.append((kind, drawn(rng, profile(rng, 3), 40, 7000, 0.35)))
    counts = sparse.csr_matrix(np.concatenate([part for _, part in parts]).astype(np.int32))
    types = np.array([name for name, part in parts for _ in range(len(part))])
    barcodes = np.array([f"c{at:04d}" for at in rng.permutation(len(types))])
    return count_data(counts, barcodes, GENES, [""] * len(GENES)), types


def with_damage(adata: ad.AnnData, types: np.ndarray) -> tuple[ad.AnnData, np.ndarray]:
    """Twenty further barcodes of each kind: thinned to a tenth, that with ambient RNA, mitochondrial."""
    rng = np.random.default_rng(1)
    counts = adata.X.toarray()
    bulk = counts.sum(axis=0) / counts.sum()
    made = []
    for kind in ("thinned", "ambient", "mitochondrial"):
        cells = counts[rng.choice(len(counts), 20, replace=False)]
        if kind == "mitochondrial":
            broken = rng.binomial(cells, 0.3)
            broken[:, [GENES.index(gene) for gene in MITO]] += rng.poisson(
                broken.sum(axis=1, keepdims=True) * rng.uniform(0.7, 1.5, (20, 1)) / 13, (20, 13)
            )
        else:
            broken = rng.binomial(cells, 0.1)
            if kind == "ambient":
                broken = broken + rng.poisson(0.2 * cells.sum(axis=1, keepdims=True) * bulk)
        made.append((kind, broken))
    counts = sparse.csr_matrix(np.concatenate([counts, *[part for _, part in made]]).astype(np.int32))
    types = np.concatenate([types, *[np.full(20, kind) for kind, _ in made]])
    barcodes = np.concatenate([np.asarray(adata.obs_names), [f"d{at:04d}" for at in range(60)]])
    return count_data(counts, barcodes, GENES, [""] * len(GENES)), types


def judged(adata: ad.AnnData, **thresholds: float) -> tuple[np.ndarray, pd.DataFrame, list[dict]]:
    with on_disk(adata) as cells:
        metrics = cell_metrics(cells.blocks(), cells.barcodes, cells.symbols).join(find_groups(cells, 0))
    chosen = thresholds_from(thresholds, "sheet")
    reasons, bounds = removal_reasons(metrics, np.zeros(adata.n_obs, dtype=bool), chosen)
    return reasons, metrics, bounds


@pytest.mark.parametrize("kind", ["plasma", "glia", "red", "muscle"])
def test_a_type_that_differs_keeps_its_cells(kind):
    adata, types = tissue(kind)
    reasons, metrics, _ = judged(adata)
    lost = pd.Series(reasons != "").groupby(types).mean()
    assert (lost <= 0.2).all(), lost
    # the type has groups of its own (plasma cells one for each clone)
    of = pd.crosstab(metrics["group"], types)
    assert of.loc[of[kind] > 0.9 * of.sum(axis=1), kind].sum() >= 0.9 * (types == kind).sum()


@pytest.mark.parametrize("kind", ["plasma", "glia", "red"])
def test_damage_is_removed(kind):
    adata, types = with_damage(*tissue(kind))
    reasons, metrics, _ = judged(adata)
    damage = np.isin(types, ["thinned", "ambient", "mitochondrial"])
    gone = pd.Series(reasons[damage] != "").groupby(types[damage]).mean()
    assert (gone >= 0.85).all(), gone
    lost = pd.Series(reasons[~damage] != "").groupby(types[~damage]).mean()
    assert (lost <= 0.2).all(), lost
    # no group is of debris
    of = pd.crosstab(metrics["group"], damage)
    assert (of[True] < of[False]).all()


def test_the_order_of_cells_and_the_blocks_change_nothing(monkeypatch):
    adata, _ = with_damage(*tissue("glia"))
    reasons, metrics, bounds = judged(adata)
    order = np.random.default_rng(5).permutation(adata.n_obs)
    again, shuffled, same = judged(adata[order].copy())
    assert (again == reasons[order]).all()
    assert shuffled.equals(metrics.iloc[order].reset_index(drop=True))
    assert same == bounds
    monkeypatch.setattr("spikgpt.base.h5ad.BLOCK", 5000)
    assert judged(adata)[1].equals(metrics)


def test_cells_that_are_not_drawn_get_their_group_too(monkeypatch):
    adata, types = tissue("glia")
    everything = judged(adata)[1]
    monkeypatch.setattr(groups, "LARGEST_GRAPH", 200)
    reasons, some, _ = judged(adata)
    assert some["in_bounds"].sum() <= 200
    tables = pd.crosstab(everything["group"], some["group"]).to_numpy()
    assert tables.max(axis=1).sum() >= 0.97 * adata.n_obs
    assert (pd.Series(reasons != "").groupby(types).mean() <= 0.2).all()


def test_every_rule_can_be_switched_off():
    adata, _ = with_damage(*tissue("red"))
    reasons, _, bounds = judged(adata)
    rules = {row["rule"] for row in bounds}
    assert rules == {"min_genes", "no_programme", *RULES}
    assert {"no_programme", "pct_counts_mt"} <= set(reasons)
    for name in DEFAULTS:
        rule = {"no_programme_odds": "no_programme"}.get(name, name.removesuffix("_nmads"))
        reasons, _, bounds = judged(adata, **{name: 0})
        assert rule not in reasons, name
        assert rule not in {row["rule"] for row in bounds}, name
    assert set(judged(adata, **dict.fromkeys(DEFAULTS, 0))[0]) == {""}


def test_min_genes_gives_way_to_a_group_of_few_genes_unless_it_is_given():
    adata, types = tissue("red")
    genes = adata.X.getnnz(axis=1)
    assert (genes[types == "red"] < 200).all()
    assert (judged(adata)[0][types == "red"] == "").mean() >= 0.8
    reasons, _, bounds = judged(adata, min_genes=200)
    assert (reasons[types == "red"] == "min_genes").all()
    assert {row["lower"] for row in bounds if row["rule"] == "min_genes"} == {200.0}


def test_bounds_tell_what_was_removed_from_each_group():
    adata, _ = with_damage(*tissue("plasma"))
    reasons, metrics, bounds = judged(adata, max_mito_percentage=60)
    for row in bounds:
        inside = np.ones(adata.n_obs, dtype=bool) if row["group"] == "all" else metrics["group"] == row["group"]
        assert row["removed"] == (inside & (reasons == row["rule"])).sum()
    assert sum(row["removed"] for row in bounds) == (reasons != "").sum()
    assert [row["group"] for row in bounds if row["rule"] == "max_mito_percentage"] == ["all"]
    genes = dict(zip(metrics["group"], metrics["group_genes"].astype(str), strict=True))
    assert any("IG" in names for names in genes.values())
    assert sorted(genes) == list(range(1, len(genes) + 1))
    sizes = metrics["group"].value_counts().sort_index()
    assert sizes.is_monotonic_decreasing


def test_small_groups_are_drawn_to_the_sample():
    rng = np.random.default_rng(0)
    rule = RULES["pct_counts_mt"]
    values = np.concatenate([rng.normal(5, 1, 500), rng.normal(9, 1, 300), rng.normal(7, 1, 3)])
    group = np.repeat([0, 1, 2], [500, 300, 3])
    found = group_bounds(values, group, 4, 3, rule)
    overall, own = np.median(values), [np.median(values[group == g]) for g in range(3)]
    assert abs(found.centre[0] - own[0]) < 0.02
    assert abs(found.centre[1] - own[1]) < 0.02
    # three cells say little of their spread, a group without a cell nothing
    assert found.centre[3] == overall
    assert found.mad[2] == pytest.approx(found.mad[3], rel=0.3)
    alone = group_bounds(values[:500], np.zeros(500, dtype=int), 1, 3, rule)
    assert alone.centre[0] == np.median(values[:500])
    assert alone.mad[0] == pytest.approx(np.median(np.abs(values[:500] - alone.centre[0])))


def test_own_share_is_what_a_mixture_leaves_over():
    rng = np.random.default_rng(0)
    known = rng.dirichlet(np.full(800, 0.3), 3)
    mixed = rng.poisson(20_000 * np.array([0.5, 0.2, 0.3]) @ known)
    assert abs(own_share(mixed, known)) < 0.02
    other = rng.poisson(20_000 * (0.7 * known[0] + 0.3 * rng.dirichlet(np.full(800, 0.3))))
    assert 0.1 < own_share(other, known) < 0.3


def test_poisson_excess_is_the_expectation_of_what_is_drawn():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(500, 0.2))
    draws = [np.maximum(rng.poisson(3000 * shares) - 3000 * shares, 0).sum() / 3000 for _ in range(300)]
    assert poisson_excess(shares, 3000) == pytest.approx(np.mean(draws), rel=0.02)


def test_little_data_is_one_group():
    adata, _ = tissue("glia")
    assert (clusters(adata.X[:19], 0) == 0).all()
    few = adata.X[:, :5]
    assert (clusters(few[few.getnnz(axis=1) > 0], 0) == 0).all()
    # cells that are all alike
    assert (clusters(sparse.csr_matrix(np.tile(adata.X[:1].toarray(), (40, 1))), 0) == 0).all()


def test_immunoglobulins_are_told_from_their_neighbours():
    yes = ["IGHG1", "IGHA2", "IGHM", "IGHD", "IGHE", "IGHV3-23", "IGHD1-1", "IGHJ4", "IGHGP", "IGKC", "IGKV1-5",
           "IGKJ1", "IGLC2", "IGLV2-14", "IGLL1", "IGLL5", "JCHAIN"]  # fmt: skip
    no = ["IGHMBP2", "IGLON5", "IGF1", "IGSF1", "IGFBP7", "IGDCC3", "JCAD", "LRIG1"]
    assert immunoglobulin_genes(yes).all()
    assert not immunoglobulin_genes(no).any()
