"""Genes that cells of a broad class are expected to show: the table, and the evidence that it gives."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from conftest import ROOT
from no_opinions import SILENT
from spikgpt import UNKNOWN
from spikgpt.base.h5ad import MEASURED
from spikgpt.cohort.expected_genes import (
    EXPECTED_COLUMNS,
    SHOWN_COLUMNS,
    class_of_label,
    classes_to_ask,
    expected_markers,
    expected_table,
    likeliest_classes,
    shown_table,
)
from spikgpt.cohort.second_opinion import Likeness
from spikgpt.profiles.correlation import per_10k
from spikgpt.profiles.expected import DEPTHS, MIN_TESTED, class_shares, member_codes, shown, verdict
from spikgpt.profiles.library import Library

FOLDER = ROOT / "assets" / "cell_profiles"


@pytest.fixture(scope="module")
def library():
    return Library.read(FOLDER)


@pytest.fixture(scope="module")
def markers(library):
    return expected_markers(FOLDER, library)


def test_identity_genes_are_expected_and_fillings_are_not(markers, library):
    """PNLIP, of the pancreas alone, stands in every epithelial profile: the source fills what a study does not list."""
    genes = {name: [marker.gene for marker in own] for name, own in markers.types.items()}
    assert {"CD3D", "CD3E", "TRAC"} <= set(genes["T cell"])
    assert {"MS4A1", "CD79A"} <= set(genes["B cell"])
    assert {"CLDN5", "ECSCR"} <= set(genes["endothelial cell"])
    assert {"KRT8", "KRT18"} <= set(genes["epithelial cell"])
    assert {"PNLIP", "REG1A"}.isdisjoint(genes["epithelial cell"])
    assert {"CPA3", "MS4A2"} <= set(genes["mast cell"])
    assert set(genes) == set(library.terms)
    for own in markers.types.values():
        for marker in own:
            assert len(marker.inside) == len(marker.outside) == len(DEPTHS)
            assert marker.inside == sorted(marker.inside, reverse=True)


def test_a_gene_is_seen_as_often_as_its_share_of_the_rna_says(library):
    values = np.log1p(np.array([[0.0], [5.0], [1e4]]))
    np.testing.assert_allclose(shown(values, 2000)[:, 0], [0, 1 - np.exp(-1), 1], atol=1e-12)
    every = np.arange(len(library.codes))
    t_cell = member_codes(library)["T cell"]
    inside, outside = class_shares(library, t_cell, every, 2000)
    cd3d = library.genes.index("CD3D")
    assert inside[cd3d] > 0.5 > 0.2 > outside[cd3d]
    assert member_codes(library)["T or NK cell"] == (
        *t_cell,
        *member_codes(library)["NK or other innate lymphoid cell"],
    )


def test_half_of_the_genes_support_and_less_than_a_fifth_contradicts():
    assert [verdict(found, 10) for found in (10, 5, 4, 2, 1, 0)] == [
        "supports", "supports", "unclear", "unclear", "contradicts", "contradicts",
    ]  # fmt: skip
    assert verdict(MIN_TESTED - 1, MIN_TESTED - 1) == ""


def test_a_label_means_the_most_special_class_that_covers_it(library):
    assert class_of_label(library, "beta", {"beta": "CL:0000169"}) == "pancreatic islet cell"
    assert class_of_label(library, "acinar", {"acinar": "CL:0002064"}) == "epithelial cell"
    assert class_of_label(library, "T or NK cell", {}) == "T or NK cell"
    assert class_of_label(library, "cluster 7", {}) == ""


@pytest.fixture
def cohort(tmp_path, library):
    """Four clusters of cells drawn from profiles; the third is labelled wrongly, the last is Unknown."""
    random = np.random.default_rng(0)
    shares = per_10k(library.values).T / 1e4
    of = np.repeat(["T cell", "B cell", "endothelial cell", "hepatocyte"], 40)
    columns = [random.choice(np.flatnonzero(library.codes == library.classes.index(name))) for name in of]
    counts = sp.csr_matrix(random.poisson(shares[columns] * 3000)).astype(np.int32)
    labels = dict(zip("0123", ("CD4 T", "B cell", "B cell", UNKNOWN), strict=True))
    cluster = np.repeat(list("0123"), 40)
    cells = pd.DataFrame(
        {
            "sample": "s", "spikgpt_cluster": cluster, "spikgpt_cluster_cell_type": [labels[c] for c in cluster],
            "spikgpt_best_match": "B cell", "total_counts": np.asarray(counts.sum(axis=1)).ravel(),
        }
    )  # fmt: skip
    made = ad.AnnData(sp.csr_matrix(counts, dtype=np.float32), var=pd.DataFrame({"gene_id": ""}, index=library.genes))
    made.layers["counts"] = counts
    made.varm[MEASURED] = pd.DataFrame({"s": True}, index=library.genes)
    made.write_h5ad(tmp_path / "cohort.h5ad")
    return tmp_path / "cohort.h5ad", cells, of


def test_right_labels_are_supported_and_a_wrong_one_is_contradicted(cohort, library, markers):
    h5ad, cells, of = cohort
    likeness = {**{name: SILENT[name] for name in "012"}, "3": Likeness("hepatocyte", 0.9)}
    asked = classes_to_ask(cells, library, {"CD4 T": "CL:0000624"}, likeness)
    assert asked == {
        "0": ("T cell", "label"), "1": ("B cell", "label"), "2": ("B cell", "label"),
        "3": ("hepatocyte", "second_opinion"),
    }  # fmt: skip
    table = expected_table(h5ad, cells, asked, markers, library, of.astype(object))
    assert list(table.columns) == list(EXPECTED_COLUMNS)
    assert table["verdict"].tolist() == ["supports", "supports", "contradicts", "supports"]
    first = table.iloc[0]
    assert first["genes_seen"] == len(first["seen"].split(", "))
    assert first["genes_tested"] == 10 - len(first["not_measured"].split())
    assert "CD3D" in first["seen"]


def test_clusters_without_a_label_or_an_opinion_are_not_asked(cohort, library, markers):
    h5ad, cells, of = cohort
    asked = classes_to_ask(cells.assign(spikgpt_cluster_cell_type=UNKNOWN), library, {}, SILENT)
    assert asked == {}
    assert expected_table(h5ad, cells, asked, markers, library, of.astype(object)).empty
    assert list(shown_table(h5ad, cells, asked, markers).columns) == list(SHOWN_COLUMNS)


def test_shares_of_cells_that_show_the_genes_of_the_classes_found(cohort, library, markers):
    h5ad, cells, _ = cohort
    asked = {"0": ("T cell", "label"), "1": ("B cell", "label")}
    table = shown_table(h5ad, cells, asked, markers)
    assert set(table["class"]) == {"T cell", "B cell"}
    assert set(table["cluster"]) == set("0123")
    share = table.set_index(["cluster", "gene"])["percent"]
    assert share["0", "CD3D"] > 40 > 10 > share["1", "CD3D"]
    assert share["1", "MS4A1"] > 25 > 10 > share["0", "MS4A1"]
    # thinned to the median depth, not above that at which the genes were chosen
    assert table["depth"].unique().tolist() == [2000.0]


def test_two_classes_that_go_together_are_asked_for_as_one(cohort, library, markers):
    h5ad, cells, of = cohort
    table = expected_table(h5ad, cells, {"0": ("T or NK cell", "label")}, markers, library, of.astype(object))
    assert table.iloc[0]["verdict"] == "supports"


def test_the_likeliest_class_of_a_cell_that_was_not_judged_is_none():
    values = np.array([[0.2, 0.8], [0, 0]], dtype=np.float32)
    assert likeliest_classes(values, ["a", "b"]).tolist() == ["b", ""]
