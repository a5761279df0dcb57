"""Evidence per cluster: the reference's markers, chosen and looked for, at any depth."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from annotator_cells import made_cells
from no_opinions import SILENT, UNCOMPARED
from spikgpt.annotator import reference_markers
from spikgpt.annotator.reference_markers import Marker, ReferenceMarkers, seen, seen_shares, thinning
from spikgpt.base.tsv import read_tsv, write_tsv
from spikgpt.cohort import evidence, populations
from spikgpt.cohort.contradictions import (
    CONTRADICTION_COLUMNS,
    contradiction_table,
    of_clusters_and_types,
    sentence,
)
from spikgpt.cohort.evidence import (
    EVIDENCE_COLUMNS,
    MarkerEvidence,
    commonest,
    evidence_table,
    judge_markers,
    nearest_types,
    verdict,
)
from spikgpt.cohort.markers import find_markers
from spikgpt.cohort.populations import POPULATION_COLUMNS, find_populations, pairs_to_judge, unknown_populations
from spikgpt.cohort.tables import read_cohort
from test_cohort import ODD, TYPES, annotated, joined, small, small_table  # noqa: F401

NASTY = ('=HYPERLINK("x")', "+1", "-2", "@sum", "a\tb", "x, y", "naïve τ; ☃", ODD)
"""Labels that a spreadsheet, a table or a browser could take for something else than text."""


def chosen(types: dict[str, int], seed: int = 1, depth: float = 1.0) -> tuple[ReferenceMarkers, ad.AnnData]:
    data, _ = made_cells(types, seed=seed, name="ref")
    counts = sp.csr_matrix(data.layers["counts"])
    if depth != 1:
        counts.data = np.random.default_rng(0).binomial(counts.data, depth)
        counts.eliminate_zeros()
    classes = sorted(types)
    codes = np.array([classes.index(label) for label in data.obs["cell_type"]])
    totals = np.asarray(counts.sum(1), dtype=float).ravel()
    return ReferenceMarkers.choose(counts, list(data.var_names), codes, classes, totals), data


def test_thinning_is_the_binomials_expectation():
    draw = np.random.default_rng(0)
    for count, ratio in ((1, 0.5), (5, 0.2), (40, 0.01)):
        drawn = (draw.binomial(count, ratio, 200_000) > 0).mean()
        assert float(seen(np.array(count), np.array(ratio))) == pytest.approx(drawn, abs=0.005)
    assert list(seen(np.array([0, 0, 3]), np.array([0.5, 1.0, 1.0]))) == [0, 0, 1]
    assert list(thinning(np.array([50.0, 100, 400]), 100)) == [1, 1, 0.25]
    counts = sp.csr_matrix(draw.poisson(0.5, (300, 4)))
    codes = np.arange(300) % 2
    whole = seen_shares(counts, np.full(300, 10.0), codes, 3, 10)
    assert whole[0, 0] == pytest.approx((counts[::2, 0].toarray() > 0).mean())
    assert (whole[2] == 0).all()


def test_shares_do_not_depend_on_the_size_of_blocks(monkeypatch):
    counts = sp.csr_matrix(np.random.default_rng(1).poisson(1, (50, 6)))
    codes, totals = np.arange(50) % 3, np.asarray(counts.sum(1), dtype=float).ravel()
    whole = seen_shares(counts, totals, codes, 3, 3)
    monkeypatch.setattr(reference_markers, "_BLOCK_CELLS", 7)
    np.testing.assert_allclose(seen_shares(counts, totals, codes, 3, 3), whole)


def test_markers_are_those_of_the_type_whatever_its_size_and_depth():
    found, _ = chosen({"B cell": 60, "NK cell": 6, "T cell": 400, "platelet": 2})
    own = {"B cell": range(20), "NK cell": range(20, 40), "T cell": range(40, 60)}
    assert set(found.types) == set(own)  # two platelets have no markers
    for name, numbers in own.items():
        genes = [marker.gene for marker in found.types[name]]
        assert 3 <= len(genes) <= 10
        assert set(genes) <= {f"GENE{number}" for number in numbers}, name
        for marker in found.types[name]:
            assert marker.inside[0] - marker.outside[0] >= 0.2
            assert marker.inside == sorted(marker.inside, reverse=True)
    # a reference of a quarter of the depth has the same kind of markers, at its own depth
    shallow, _ = chosen({"B cell": 60, "NK cell": 60, "T cell": 60}, depth=0.25)
    assert shallow.depths[0] < 0.4 * found.depths[0]
    for name, numbers in own.items():
        assert {marker.gene for marker in shallow.types[name]} <= {f"GENE{number}" for number in numbers}
    assert ReferenceMarkers.from_dict(found.as_dict()) == found


def test_a_type_that_is_only_deeper_gets_no_markers():
    draw = np.random.default_rng(0)
    rate = draw.lognormal(-1, 1, 100)
    counts = sp.csr_matrix(np.concatenate([draw.poisson(rate, (80, 100)), draw.poisson(4 * rate, (80, 100))]))
    totals = np.asarray(counts.sum(1), dtype=float).ravel()
    names = [f"G{number}" for number in range(100)]
    found = ReferenceMarkers.choose(counts, names, np.repeat([0, 1], 80), ["shallow", "deep"], totals)
    assert found.types == {}
    one = ReferenceMarkers.choose(counts, names, np.repeat([0, 1], [159, 1]), ["many", "one"], totals)
    assert one.types == {}


def test_shares_between_depths_are_interpolated():
    marker = Marker("G", [0.8, 0.4], [0.2, 0.1])
    assert marker.at(100, [100.0, 50.0]) == (0.8, 0.2)
    assert marker.at(np.sqrt(5000), [100.0, 50.0]) == pytest.approx((0.6, 0.15))
    assert marker.at(500, [100.0, 50.0]) == (0.8, 0.2)


@pytest.mark.parametrize(
    ("own", "cells", "rest", "rest_cells", "said"),
    [
        (0.7, 100, 0.1, 500, "found"),
        (0.3, 100, 0.1, 500, "missing"),  # nearer to 0.1 than to 0.8, however many cells
        (0.7, 100, 0.68, 500, "unclear"),  # everywhere: ambient RNA
        (0.6, 10, 0.3, 12, "unclear"),  # too few cells to tell
        (0.6, 10, 0.3, 5, "found"),  # no rest to speak of: the reference alone
    ],
)
def test_verdict_of_a_marker(own, cells, rest, rest_cells, said):
    assert verdict(own, cells, rest, rest_cells, 0.8, 0.1) == said


def query(depth: float) -> tuple[ad.AnnData, pd.DataFrame]:
    """B cells (cluster 0), NK cells called T cells (1), and a handful of T cells (2), at a share of the depth."""
    data, _ = made_cells({"B cell": 80, "NK cell": 60, "T cell": 8}, seed=5, name="q", batches=("one",))
    counts = sp.csr_matrix(data.layers["counts"])
    counts.data = np.random.default_rng(1).binomial(counts.data, depth).astype(np.int32)
    kind = data.obs["cell_type"].map({"B cell": 0, "NK cell": 1, "T cell": 2}).to_numpy()
    cells = pd.DataFrame(
        {
            "sample": "s",
            "spikgpt_cluster": kind.astype(str),
            "spikgpt_best_match": np.array(["B cell", "T cell", "T cell"])[kind],
            "total_counts": np.asarray(counts.sum(1)).ravel(),
        }
    )
    made = ad.AnnData(sp.csr_matrix(counts.shape, dtype=np.float32), var=data.var, layers={"counts": counts})
    made.varm["measured"] = pd.DataFrame({"s": True}, index=made.var_names)
    return made, cells


@pytest.mark.parametrize("depth", [1.0, 0.25, 0.08])
def test_markers_of_the_right_type_are_found_and_of_the_wrong_one_missing(depth, tmp_path, monkeypatch):
    reference, _ = chosen({"B cell": 100, "NK cell": 100, "T cell": 100})
    reference.types["B cell"].append(Marker("NOT HERE", [0.9] * 5, [0.1] * 5))
    data, cells = query(depth)
    data.write_h5ad(tmp_path / "cohort.h5ad")
    pairs = [("0", "B cell"), ("1", "T cell"), ("1", "NK cell"), ("2", "T cell"), ("0", "no such type")]
    judged = judge_markers(tmp_path / "cohort.h5ad", cells, reference, pairs)
    right, wrong, real = judged["0", "B cell"], judged["1", "T cell"], judged["1", "NK cell"]
    assert len(right.found) >= 0.8 * right.tested == 0.8 * 10
    assert right.not_measured == ["NOT HERE"]
    assert right.depth == min(reference.depths[0], cells.loc[cells["spikgpt_cluster"] == "0", "total_counts"].median())
    # the label says T, the genes say NK
    assert len(wrong.missing) >= 0.8 * wrong.tested == 0.8 * 10
    assert len(real.found) >= 0.8 * real.tested
    # eight cells say nothing, nor does a type without markers
    assert judged["2", "T cell"].tested == judged["0", "no such type"].tested == 0
    monkeypatch.setattr(evidence, "_BLOCK_ELEMENTS", 300)
    assert judge_markers(tmp_path / "cohort.h5ad", cells, reference, pairs[::-1]) == judged


def test_a_query_shallower_than_all_that_is_known_is_not_judged(tmp_path):
    reference, _ = chosen({"B cell": 100, "NK cell": 100, "T cell": 100})
    data, cells = query(0.03)
    data.write_h5ad(tmp_path / "cohort.h5ad")
    found = judge_markers(tmp_path / "cohort.h5ad", cells, reference, [("0", "B cell")])["0", "B cell"]
    assert (found.tested, np.isnan(found.depth)) == (0, True)


def test_commonest():
    values = pd.Series(["b", "a", "b", "a", "c"])
    assert commonest(values) == ("a", 40)
    assert commonest(values, but="a") == ("b", 40)
    assert commonest(values[:1], but="b") == ("", 0)


@pytest.fixture(scope="module")
def cells(joined) -> pd.DataFrame:  # noqa: F811
    return read_cohort(joined)[0]


PLANTED = ReferenceMarkers(
    [20.0, 10.0], {name: [Marker(f"mark_{at}", [0.99, 0.98], [0.05, 0.03])] for at, name in enumerate(TYPES)}
)

IN_REFERENCE = dict.fromkeys(TYPES, 100)


def test_evidence_of_the_small_cohort(cells, joined, tmp_path):  # noqa: F811
    nearest = nearest_types(cells)
    judged = judge_markers(joined, cells, PLANTED, [(name, of) for name, (of, _) in nearest.items()])
    table = evidence_table(cells, judged, 0.05, SILENT, UNCOMPARED, {})
    assert list(table.columns) == list(EVIDENCE_COLUMNS)
    assert table["cells"].sum() == len(cells)
    by_type = table.set_index("cell_type")
    assert set(by_type.index) == {*TYPES, "Unknown"}
    for at, name in enumerate(TYPES):
        assert by_type.loc[name, "markers_found"] == f"mark_{at}"
        assert by_type.loc[name, "percent"] > 95
    unknown = by_type.loc["Unknown"]
    assert (unknown["nearest_type"], unknown["markers_found"], unknown["markers_missing"]) == ("B cell", "", "mark_1")
    assert unknown["reasons"] == f"outside_reference={unknown['unknown_cells']}"
    wholesale = [row["rejected_types"] for _, row in table.iterrows()]
    assert wholesale == [
        f"{row['nearest_type']}={row['unknown_cells']}/{row['cells']}" if row["cell_type"] == "Unknown" else ""
        for _, row in table.iterrows()
    ]
    assert unknown["expected_unknown"] == pytest.approx(0.05 * unknown["cells"])
    assert unknown["median_confidence"] == pytest.approx(0.4)
    # names are text: a reader of tab-separated tables gets back every character of them
    write_tsv(tmp_path / "evidence.tsv", table)
    again = read_tsv(tmp_path / "evidence.tsv")
    assert list(again["cell_type"]) == list(table["cell_type"])
    assert ODD in set(again["nearest_type"])


def test_runner_up_is_another_type_than_the_one_judged(cells):
    mixed = cells.copy()
    mixed["spikgpt_best_match"] = np.where(np.arange(len(cells)) % 10 == 0, "=2+2", mixed["spikgpt_best_match"])
    table = evidence_table(mixed, {}, 0.05, SILENT, UNCOMPARED, {})
    for row in table.itertuples():
        assert row.runner_up != row.nearest_type
    assert "=2+2" in set(table["runner_up"])
    assert table["markers_found"].eq("").all()


@pytest.mark.parametrize("name", NASTY)
def test_names_survive_in_both_tables(cells, joined, tmp_path, name):  # noqa: F811
    renamed = cells.copy()
    for column in ("spikgpt_cell_type", "spikgpt_best_match", "spikgpt_cluster_cell_type"):
        renamed[column] = renamed[column].astype(str).replace("B cell", name)
    found = find_populations(renamed, 0.05)
    judged = {(cluster, name): MarkerEvidence(5.0, ["G1"], ["G2"]) for cluster in found}
    write_tsv(tmp_path / "e.tsv", evidence_table(renamed, judged, 0.05, SILENT, UNCOMPARED, {}))
    write_tsv(
        tmp_path / "u.tsv",
        unknown_populations(
            renamed, found, find_markers(joined)[0], judged, 0.05, SILENT, PLANTED, {**IN_REFERENCE, name: 100}
        ),
    )
    assert name in set(read_tsv(tmp_path / "e.tsv")["cell_type"])
    row = read_tsv(tmp_path / "u.tsv").iloc[0]
    assert (row["nearest_type"], row["nearest_markers_missing"]) == (name, "G2")


def test_a_planted_population_is_found(cells, joined):  # noqa: F811
    found = find_populations(cells, 0.05)
    assert len(found) == 1
    judged = judge_markers(joined, cells, PLANTED, pairs_to_judge(found, PLANTED))
    assert len(judged) == len(TYPES)
    table = unknown_populations(cells, found, find_markers(joined)[0], judged, 0.05, SILENT, PLANTED, IN_REFERENCE)
    assert list(table.columns) == list(POPULATION_COLUMNS)
    row = table.iloc[0]
    assert row["unknown_cells"] == (cells["spikgpt_cell_type"] == "Unknown").sum()
    assert row["nearest_type"] == "B cell"
    assert row["nearest_markers_missing"] == "mark_1"
    assert row["samples"] == 3
    assert row["markers"].split(", ")[0] == "mark_3"
    assert row["cells_per_sample"].startswith("s2=")


def test_no_population_where_unknowns_are_spread_or_of_low_quality(cells, tmp_path):
    spread = cells.copy()
    spread["spikgpt_cell_type"] = np.where(np.arange(len(cells)) % 20 == 0, "Unknown", "T cell")
    assert find_populations(spread, 0.05) == {}
    # a high rate allows many: a third of a cluster is no population at a rate of a fifth
    third = cells.copy()
    third["spikgpt_cell_type"] = np.where(np.arange(len(cells)) % 3 == 0, "Unknown", "T cell")
    third["spikgpt_unknown_reason"] = "low_confidence"
    assert find_populations(third, 0.05)
    assert find_populations(third, 0.2) == {}
    shallow = cells.copy()
    unknown = shallow["spikgpt_cell_type"] == "Unknown"
    shallow["spikgpt_unknown_reason"] = np.where(unknown, "low_quality", "")
    assert find_populations(shallow, 0.05) == {}
    empty = unknown_populations(shallow, {}, pd.DataFrame(columns=["cluster"]), {}, 0.05, SILENT, PLANTED, IN_REFERENCE)
    write_tsv(tmp_path / "u.tsv", empty)
    assert (tmp_path / "u.tsv").read_text() == "\t".join(POPULATION_COLUMNS) + "\n"


def test_flags_name_what_else_could_explain_a_population(cells, joined):  # noqa: F811
    genes = find_markers(joined)[0]
    found = find_populations(cells, 0.05)
    plain = unknown_populations(cells, found, genes, {}, 0.05, SILENT, PLANTED, IN_REFERENCE).iloc[0]["qc_flags"]
    assert plain == "hardly a marker of its own: ambient RNA or damaged cells"  # it has mark_3 alone
    name = next(iter(found))
    three = genes[genes["cluster"] == name].head(3).assign(log2fc=2.0, p_adj=0.001)
    assert unknown_populations(cells, found, three, {}, 0.05, SILENT, PLANTED, IN_REFERENCE).iloc[0]["qc_flags"] == ""
    odd = cells.copy()
    unknown = (odd["spikgpt_cell_type"] == "Unknown").to_numpy()
    odd["doublet_score"] = odd["doublet_score"] / 10 + 0.5 * (unknown & (np.arange(len(odd)) % 5 < 3))
    odd["total_counts"] = np.where(unknown, 10, 100)
    odd["pct_counts_mt"] = np.where(unknown, 30.0, 5.0)
    odd = odd[(odd["sample"] == "s2") | ~unknown]
    name = next(iter(find_populations(odd, 0.05)))
    markers = [f"G{number}" for number in range(6)]
    both = {(name, of): MarkerEvidence(9.0, markers[:5], markers[5:]) for of in ("B cell", ODD)}
    both[name, "T cell"] = MarkerEvidence(9.0, markers[:2], markers[2:])
    few = genes[(genes["cluster"] != name) | (genes["gene"] == "mark_3")]
    flags = unknown_populations(odd, {name: 1e-9}, few, both, 0.05, SILENT, PLANTED, IN_REFERENCE).iloc[0]["qc_flags"]
    for part in (
        "doublets: ",
        "% of its cells are among the 10 % with the highest doublet scores",
        "low depth: 10 % of the counts of other cells of its samples",
        "high mitochondrial share: median 30 % against 5 % in its samples",
        "nearly all cells from one sample",
        "hardly a marker of its own: ambient RNA or damaged cells",
        f"doublets: most markers of {ODD} and of B cell at once",
    ):
        assert part in flags, part
    # no doublet score at all (looking for them was switched off) is no sign of doublets
    odd["doublet_score"] = np.nan
    assert (
        "highest doublet scores"
        not in unknown_populations(odd, {name: 1e-9}, genes, {}, 0.05, SILENT, PLANTED, IN_REFERENCE).iloc[0][
            "qc_flags"
        ]
    )
    # types that show each other's markers anyway are no mixture
    related = ReferenceMarkers([20.0, 10.0], {}, [sorted(("B cell", ODD))])
    few_flags = unknown_populations(odd, {name: 1e-9}, few, both, 0.05, SILENT, related, IN_REFERENCE).iloc[0]
    assert "at once" not in few_flags["qc_flags"]
    assert populations.rejected(odd).sum() == (odd["spikgpt_cell_type"] == "Unknown").sum()


def test_depth_and_mitochondria_are_compared_within_samples(cells):
    # one sample is a tenth as deep as the other and has more mitochondrial counts; the cluster is of it alone
    shallow = (cells["sample"] == "s2").to_numpy()
    odd = cells.assign(total_counts=np.where(shallow, 100, 1000), pct_counts_mt=np.where(shallow, 30.0, 5.0))
    inside = shallow & (np.arange(len(cells)) % 3 == 0)
    nothing = pd.Series(np.nan, index=cells.index)
    assert populations.quality_flags(odd, inside, nothing) == ["nearly all cells from one sample"]
    odd.loc[inside, "total_counts"] = 40
    flags = populations.quality_flags(odd, inside, nothing)
    assert "low depth: 40 % of the counts of other cells of its samples" in flags


def marker_rows(genes: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"cluster": "5", "gene": genes, "log2fc": 2.0, "p_adj": 1e-4})


@pytest.mark.parametrize(
    ("found", "own", "in_reference", "said"),
    [
        (8, 3, 400, "pDC"),  # most markers, three of them above all other cells
        (8, 2, 400, ""),  # cells called by that type show them as much: a new type beside it
        (7, 3, 400, ""),
        (6, 3, 15, "pDC"),  # rare in the reference, and the nearest: half of them suffice
        (4, 3, 15, ""),
    ],
)
def test_a_population_that_shows_a_types_markers_is_probably_that_type(found, own, in_reference, said):
    genes = [f"G{number}" for number in range(10)]
    judged = {"pDC": MarkerEvidence(9.0, genes[:found], genes[found:]), "B cell": MarkerEvidence(9.0, [], ["X", "Y"])}
    of_reference = {"pDC": in_reference, "B cell": 500}
    assert populations.known_type(marker_rows(genes[:own]), judged, "pDC", of_reference) == said
    # of two that fit the nearest one is named
    both = {"DC": MarkerEvidence(9.0, genes), **judged}
    assert populations.known_type(marker_rows(genes[:own]), both, "pDC", {**of_reference, "DC": 90}) == (
        said or ("DC" if own >= 3 else "")
    )


def test_related_types_are_those_that_show_each_others_markers():
    draw = np.random.default_rng(0)
    codes = np.repeat([0, 1, 2], 60)
    shown = np.full((3, 40), 0.03)
    shown[0, :16], shown[1, 8:24], shown[2, 24:] = 0.9, 0.9, 0.9  # the first two share eight genes
    shown[1, 2:8] = 0.6  # and the second shows most of the first's own
    counts = sp.csr_matrix((draw.random((180, 40)) < shown[codes]).astype(float))
    totals = np.full(180, 100.0)
    found = ReferenceMarkers.choose(counts, [f"G{n}" for n in range(40)], codes, ["CD4", "CD8", "B"], totals)
    assert found.related == [["CD4", "CD8"]]
    assert ReferenceMarkers.from_dict(found.as_dict()) == found


def test_a_cluster_that_shows_genes_its_label_excludes(tmp_path):
    draw = np.random.default_rng(0)
    labels = ["CD4 T cell", "T helper", "CD8 T cell", "B cell", "monocyte"]
    kind = np.repeat(np.arange(5), 40)
    genes = ["CD8A", "CD8B", "CD79A", "CD14"]
    shown = np.array([[0.5, 0.6, 0.05, 0.02], [0.02, 0.02, 0.05, 0.02], [0.5, 0.6, 0.05, 0.02],
                      [0.02, 0.02, 0.95, 0.02], [0.02, 0.02, 0.05, 0.9]])  # fmt: skip
    counts = sp.csr_matrix((draw.random((200, 4)) < shown[kind]).astype(np.int32))
    made = ad.AnnData(counts.astype(np.float32), var=pd.DataFrame(index=genes), layers={"counts": counts})
    made.varm["measured"] = pd.DataFrame({"one": True, "panel": [False, False, True, True]}, index=made.var_names)
    made.write_h5ad(tmp_path / "cohort.h5ad")
    cells = pd.DataFrame(
        {
            "sample": "one",
            "spikgpt_cluster": kind.astype(str),
            "spikgpt_cluster_cell_type": np.array(labels)[kind],
            "spikgpt_cell_type": np.array(labels)[kind],
        }
    )
    terms = {"T helper": "CL:0000624"}
    found = of_clusters_and_types(tmp_path / "cohort.h5ad", cells, terms)["cluster"]
    # of a sample that did not measure CD8A and CD8B nothing can be said
    panel = cells.assign(sample=np.where(kind == 0, "panel", "one"))
    assert of_clusters_and_types(tmp_path / "cohort.h5ad", panel, terms) == {"cluster": {}, "type": {}}
    assert list(found) == ["0"]
    (wrong,) = found["0"]
    assert (wrong.lineage, wrong.genes) == ("CD8 T", ("CD8A", "CD8B"))
    assert wrong.estimate > 0.8
    assert wrong.sentence().startswith(f"{100 * wrong.share:.0f} % show CD8A/CD8B (")

    # where the cluster's cells are labelled CD8, the label is right and the cluster's name is not
    split = cells.assign(spikgpt_cell_type=np.where(kind == 0, "CD8 T cell", cells["spikgpt_cell_type"]))
    both = of_clusters_and_types(tmp_path / "cohort.h5ad", split, terms)
    assert (list(both["cluster"]), both["type"]) == (["0"], {})
    # and where its CD4 labels lie in a cluster of another name, the labels are wrong
    moved = cells.assign(spikgpt_cluster_cell_type=np.where(kind == 0, "CD8 T cell", cells["spikgpt_cell_type"]))
    both = of_clusters_and_types(tmp_path / "cohort.h5ad", moved, terms)
    assert (both["cluster"], list(both["type"])) == ({}, ["CD4 T cell"])
    table = contradiction_table(moved, both)
    assert list(table.columns) == list(CONTRADICTION_COLUMNS)
    write_tsv(tmp_path / "contradictions.tsv", table)
    (row,) = read_tsv(tmp_path / "contradictions.tsv").to_dict("records")
    assert (row["of"], row["group"], row["cells"], row["lineage"]) == ("type", "CD4 T cell", "40", "CD8 T")
    assert sentence(row) == both["type"]["CD4 T cell"][0].sentence()
