"""Labels from the tissue profiles alone, which samples get them, and the choice among several annotators."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from conftest import ROOT
from spikgpt import UNKNOWN
from spikgpt.annotator.choice import distinct, fits, from_profiles
from spikgpt.annotator.removed import nearest_classes
from spikgpt.base.columns import OPINION, OPINION_SCORE
from spikgpt.base.h5ad import count_data
from spikgpt.base.ontology import NO_TERM, TERM
from spikgpt.cohort.annotators import ANNOTATOR_COLUMNS, annotators_table, unknown_rates
from spikgpt.profiles.correlation import per_10k
from spikgpt.profiles.labels import (
    BLOOD_SHARE,
    WITHOUT_OPINION,
    annotation,
    blood_classes,
    blood_share,
    class_terms,
    looks_like_blood,
)
from spikgpt.profiles.library import Library
from spikgpt.profiles.opinion import CUT, second_opinion
from stored_cells import on_disk

FOLDER = ROOT / "assets" / "cell_profiles"
DEMO = ROOT / ".demo" / "data"


@pytest.fixture(scope="module")
def library():
    return Library.read(FOLDER)


@pytest.fixture(scope="module")
def pancreas():
    """The demo's sample without its labels, and their true labels."""
    cells = ad.read_h5ad(DEMO / "human1_lib3.h5ad")
    truth = pd.read_csv(DEMO / "truth.tsv", sep="\t").set_index("barcode")["cell_type"]
    return cells, truth.reindex(cells.obs_names)


def opinions(library, counts, symbols, gene_ids=None):
    """Second opinions and their figures, as the step writes them."""
    names = [f"c{at}" for at in range(counts.shape[0])]
    ids = [""] * len(symbols) if gene_ids is None else gene_ids
    table, figures = second_opinion(library, lambda: [sp.csr_matrix(counts)], list(symbols), ids, names)
    figures["blood_share"] = blood_share(library, figures["classes"])
    return table, figures


@pytest.fixture(scope="module")
def told(library, pancreas):
    return opinions(library, pancreas[0].X, pancreas[0].var_names)


@pytest.fixture(scope="module")
def labelled(library, told):
    return annotation(*told, library)


def without(library, *classes):
    """The library without the profiles of some classes."""
    kept = np.flatnonzero(~np.isin(library.codes, [library.classes.index(name) for name in classes]))
    return Library(
        library.genes, library.gene_ids, library.values[:, kept], library.profiles.iloc[kept], library.classes,
        library.codes[kept], library.merged, library.terms,
    )  # fmt: skip


# --- labels ---------------------------------------------------------------------------------------------


def test_the_demo_is_labelled_without_its_reference(labelled, pancreas):
    """Each class that is there is found, in cells whose authors say so."""
    table, figures = labelled
    truth = pancreas[1].to_numpy()
    label = table["spikgpt_cell_type"].to_numpy()
    for of, name, share in (
        (("alpha", "beta", "delta", "gamma"), "pancreatic islet cell", 0.8),
        (("acinar", "ductal"), "epithelial cell", 0.8),
        (("endothelial",), "endothelial cell", 0.8),
        (("macrophage",), "monocyte or macrophage", 0.5),
    ):
        assert (label[np.isin(truth, of)] == name).mean() > share, name
    # fibroblasts and pericytes are told apart badly: many stellate cells get both together, or no label, but no other
    stroma = {
        "fibroblast or other stromal cell", "pericyte or smooth muscle cell",
        "fibroblast, pericyte or smooth muscle cell",
    }  # fmt: skip
    stellate = label[np.isin(truth, ("activated_stellate", "quiescent_stellate"))]
    assert set(stellate) - {UNKNOWN} <= stroma
    assert np.isin(stellate, list(stroma)).mean() > 0.4
    # two profiles of mast cells are few: the five cells are named, none surely enough for a label
    assert set(table.loc[truth == "mast", "spikgpt_best_match"]) == {"mast cell"}
    assert figures["unknown"] == (label == UNKNOWN).sum() < 0.2 * len(label)


def test_a_label_is_its_best_match_and_unknown_has_a_reason(labelled, library, told):
    table, figures = labelled
    known = table["spikgpt_cell_type"] != UNKNOWN
    assert (table.loc[known, "spikgpt_best_match"] == table.loc[known, "spikgpt_cell_type"]).all()
    assert (table.loc[known, "spikgpt_confidence"] >= CUT - 1e-6).all()
    assert (table.loc[~known, "spikgpt_confidence"] < CUT).all()
    assert (table["spikgpt_best_match"] != UNKNOWN).all()
    assert set(table.loc[~known, "spikgpt_unknown_reason"]) == {"low_confidence"}
    assert set(table.loc[known, "spikgpt_unknown_reason"]) == {""}
    terms = class_terms(library)
    assert [terms.get(name, NO_TERM) for name in table["spikgpt_cell_type"]] == table[TERM].tolist()
    assert terms["pancreatic islet cell"] == "CL:0008024"
    # nothing is measured that could be a p-value, and no rate is promised
    assert table["spikgpt_p_value"].isna().all()
    assert table["spikgpt_p_value"].dtype == np.float32
    assert "no rate" in figures["not_calibrated"][0]
    assert figures["annotator_sha256"] == library.digest
    np.testing.assert_array_equal(table["spikgpt_cell_type"].replace(UNKNOWN, ""), told[0][OPINION])


def test_every_digest_changes_with_the_profiles(tmp_path, library):
    for path in FOLDER.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert Library.read(tmp_path).digest == library.digest
    with (tmp_path / "classes.tsv").open("a") as file:
        file.write("T cell, B cell or both\tCL:0000542\tT cell|B cell\n")
    assert Library.read(tmp_path).digest != library.digest


def test_mouse_cells_panels_and_antibodies_get_no_label(library, pancreas):
    cells, _ = pancreas
    few = cells[:80]
    mouse = opinions(library, few.X, [name.capitalize() for name in few.var_names])
    antibodies = opinions(library, few.X[:, :150], [f"CD{at}_TotalSeqB" for at in range(150)])
    panel = opinions(library, few.X[:, :500], few.var_names[:500])
    for said in (mouse, antibodies, panel):
        table, figures = annotation(*said, library)
        assert (table["spikgpt_cell_type"] == UNKNOWN).all()
        assert (table["spikgpt_best_match"] == "").all()
        assert (table["spikgpt_confidence"] == 0).all()
        assert set(table["spikgpt_unknown_reason"]) == {"low_gene_match"}
        assert figures["unknown_by_reason"]["low_gene_match"] == 80
        assert not looks_like_blood(said[1])
        assert "other species" in figures["tissue_warning"]


def test_cells_of_a_class_that_the_profiles_lack_get_no_label(library, pancreas):
    """As cell lines, which are like no profile: the demo's islet cells, with no islet among the profiles."""
    cells, truth = pancreas
    table, _ = annotation(*opinions(without(library, "pancreatic islet cell"), cells.X, cells.var_names), library)
    islet = truth.isin(["alpha", "beta", "delta", "gamma"]).to_numpy()
    assert (table.loc[islet, "spikgpt_cell_type"] == UNKNOWN).mean() > 0.95


def test_a_cell_without_a_count_is_too_shallow_and_no_cell_is_no_error(library, pancreas):
    counts = sp.csr_matrix(pancreas[0].X[:30]).tolil()
    counts[4] = 0
    table, figures = annotation(*opinions(library, counts.tocsr(), pancreas[0].var_names), library)
    assert table.loc[4, ["spikgpt_cell_type", "spikgpt_best_match", "spikgpt_unknown_reason"]].tolist() == [
        UNKNOWN, "", "low_quality",
    ]  # fmt: skip
    assert figures["unknown_by_reason"]["low_quality"] == 1
    none, figures = annotation(*opinions(library, pancreas[0].X[:0], pancreas[0].var_names), library)
    assert len(none) == figures["cells"] == 0
    assert figures["median_confidence"] is None


def test_removed_cells_get_their_likeliest_class(library, pancreas):
    cells, truth = pancreas
    counts = sp.csr_matrix(cells.X[:40]).tolil()
    counts[3] = 0
    made = count_data(
        counts.tocsr().astype(np.int32), cells.obs_names[:40].to_numpy(dtype=object), list(cells.var_names),
        [""] * cells.n_vars,
    )  # fmt: skip
    with on_disk(made) as stored:
        table = nearest_classes(library, stored, "s")
    assert table["nearest_type"][3] == ""
    islet = truth[:40].isin(["alpha", "beta", "delta", "gamma"]).to_numpy() & (np.arange(40) != 3)
    assert (table.loc[islet, "nearest_type"] == "pancreatic islet cell").mean() > 0.9
    with on_disk(made[:0].copy()) as stored:
        assert nearest_classes(library, stored, "s").empty


# --- which sample is blood ------------------------------------------------------------------------------


def test_blood_classes_are_those_of_the_ontology(library):
    blood = blood_classes(library)
    assert {"T cell", "erythroid cell", "T or NK cell", "megakaryocyte or platelet", "blood progenitor cell"} <= blood
    assert not {"endothelial cell", "epithelial cell", "neuron", "trophoblast cell"} & blood


def simulated(library, cells_of):
    """Counts of cells drawn from profiles: class to number of cells."""
    random = np.random.default_rng(0)
    shares = per_10k(library.values).T / 1e4
    columns = [
        random.choice(np.flatnonzero(library.codes == library.classes.index(name)), number)
        for name, number in cells_of.items()
    ]
    return sp.csr_matrix(random.poisson(shares[np.concatenate(columns)] * 3000))


@pytest.mark.parametrize(
    ("cells", "blood"),
    [
        ({"T cell": 60, "B cell": 20, "monocyte or macrophage": 40, "megakaryocyte or platelet": 5}, True),
        ({"T cell": 60, "monocyte or macrophage": 40, "epithelial cell": 60}, False),
        ({"neuron": 60, "astrocyte": 40}, False),
    ],
)
def test_a_sample_looks_like_blood_by_the_classes_of_its_cells(library, cells, blood):
    _, figures = opinions(library, simulated(library, cells), library.genes)
    assert looks_like_blood(figures) is blood
    assert (figures["blood_share"] >= BLOOD_SHARE) is blood


def test_a_sample_that_the_profiles_can_hardly_judge_is_not_taken_for_blood():
    known = {"blood_share": 1.0, "cells": 100, "with_opinion": 49}
    assert not looks_like_blood(known)
    assert looks_like_blood({**known, "with_opinion": 50})
    assert not looks_like_blood({"blood_share": None, "cells": 0, "with_opinion": 0})


# --- the choice -----------------------------------------------------------------------------------------


def test_the_source_of_labels_follows_the_rule():
    assert from_profiles("tissue", True)
    assert not from_profiles("first", False)
    assert from_profiles("unless_blood", False)
    assert not from_profiles("unless_blood", True)
    assert distinct(["annotator", "pbmc", "annotator"]) == ["annotator", "pbmc", "annotator (2)"]


def figures_of(likeness, unknown=5):
    return {
        "sample": "s", "cells": 50, "unknown": unknown, "median_confidence": 0.9, "likeness": likeness,
        "not_calibrated": [], "annotator_sha256": f"{likeness}", "unknown_rate": 0.05,
    }  # fmt: skip


def run_choice(script, folder, library, rule, *, blood, annotators, told):
    """Run the script on `annotators`, name to figures; returns its table and its figures."""
    table, figures = told
    table.to_parquet(folder / "s.second_opinion.parquet", index=False)
    (folder / "s.second_opinion.json").write_text(json.dumps({**figures, "looks_like_blood": blood}))
    given = []
    for at, (name, own) in enumerate(annotators):
        (folder / f"{at}").mkdir()
        pd.DataFrame({"barcode": table["barcode"], "spikgpt_cell_type": name}).to_parquet(folder / f"{at}/a.parquet")
        (folder / f"{at}/a.json").write_text(json.dumps(own))
        given.append(name)
    done = script(
        "choose_labels.py", "--sample", "s", "--rule", rule, "--profiles", FOLDER,
        "--scgpt-model", ROOT / "assets" / "scgpt-mini", "--second-opinion", "s.second_opinion.parquet",
        "--second-opinion-stats", "s.second_opinion.json",
        "--annotation", *(f"{at}/a.parquet" for at in range(len(given))),
        "--stats", *(f"{at}/a.json" for at in range(len(given))), "--name", *given,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return pd.read_parquet(folder / "s.annotation.parquet"), json.loads((folder / "s.annotation.json").read_text())


@pytest.mark.parametrize(
    ("rule", "blood", "profiles"),
    [("first", False, False), ("tissue", True, True), ("unless_blood", True, False), ("unless_blood", False, True)],
)
def test_the_script_takes_labels_where_the_rule_says(script, tmp_path, library, told, rule, blood, profiles):
    annotators = [] if rule == "tissue" else [("pbmc", figures_of(0.6)), ("mine", figures_of(0.9))]
    table, figures = run_choice(script, tmp_path, library, rule, blood=blood, annotators=annotators, told=told)
    assert figures["sample"] == "s"
    assert [entry["gives_labels"] for entry in figures["annotators"]] == [not profiles, False][: len(annotators)]
    if profiles:
        assert "pancreatic islet cell" in set(table["spikgpt_cell_type"])
        assert (figures["labels_from"], len(figures["scgpt_sha256"])) == ("profiles", 64)
    else:
        # the first one given, whichever fits better
        assert set(table["spikgpt_cell_type"]) == {"pbmc"}
        assert figures["annotator_sha256"] == "0.6"


def test_the_table_says_which_annotator_fits_best_and_which_gives_labels():
    said = {"cells": 50, "with_opinion": 40}
    several = {
        **figures_of(0.6),
        "rule": "first",
        "annotators": fits(["pbmc", "mine"], [figures_of(0.6), figures_of(0.9, 10)], 0),
    }
    profiled = {"labels_from": "profiles", "median_confidence": 0.95, "unknown_rate": WITHOUT_OPINION}
    profiled["annotators"] = fits(["pbmc"], [figures_of(0.4)], None)
    table = annotators_table(["a", "b", "c", "gone"], {"a": several, "b": figures_of(0.8), "c": profiled},
                             dict.fromkeys("abc", said), "own")  # fmt: skip
    assert list(table.columns) == list(ANNOTATOR_COLUMNS)
    rows = table[["sample", "annotator", "gives_labels", "fits_best"]].to_numpy().tolist()
    assert rows == [
        ["a", "pbmc", "yes", "no"], ["a", "mine", "no", "yes"], ["a", "tissue", "no", ""],
        ["b", "own", "yes", ""], ["b", "tissue", "no", ""],
        ["c", "pbmc", "no", ""], ["c", "tissue", "yes", ""],
    ]  # fmt: skip
    assert table["labelled_percent"].tolist()[:3] == [90, 80, 80]
    assert np.isnan(table["fit"].tolist()[2])


def test_unknown_cells_are_expected_at_the_rate_of_what_labelled_their_sample():
    cells = pd.DataFrame({"sample": ["a", "b", "a"]})
    figures = {"a": {"labels_from": "profiles", "unknown_rate": WITHOUT_OPINION}, "b": {"unknown_rate": 0.05}}
    assert unknown_rates(cells, figures, 0.1).tolist() == [WITHOUT_OPINION, 0.1, WITHOUT_OPINION]


def test_opinions_and_scores_that_labels_come_from_are_the_second_opinion_s(told):
    assert {OPINION, OPINION_SCORE} <= set(told[0].columns)
