"""Terms of the Cell Ontology: from the reference's column to every cell."""

import pandas as pd
import pytest
from spikgpt.base.ontology import label_terms, labels_to_terms, terms_of


def test_one_well_formed_term_a_label_is_taken():
    labels = ["B cell", "B cell", "T cell", "worm cell", "fly cell"]
    terms = ["CL:0000236", " CL:0000236 ", "CL:0000084", "WBbt:0005186", "FBbt:00005106"]
    assert label_terms(labels, terms) == (
        {"B cell": "CL:0000236", "T cell": "CL:0000084", "worm cell": "WBbt:0005186", "fly cell": "FBbt:00005106"},
        [],
    )


@pytest.mark.parametrize("term", ["B cell", "CL_0000236", "CL:236", "CL:0000236 || CL:0000084", "CL:0000548", "na:1"])
def test_a_malformed_or_forbidden_term_is_left_out_and_said(term):
    found, messages = label_terms(["B", "T"], [term, "CL:0000084"])
    assert found == {"T": "CL:0000084"}
    assert len(messages) == 1
    assert f"B ({term})" in messages[0]


def test_several_terms_of_a_label_are_left_out_and_said():
    found, messages = label_terms(["B", "B", "T", "NK"], ["CL:0000236", "CL:0000787", "CL:0000084", "unknown"])
    assert found == {"T": "CL:0000084"}
    assert "several" in messages[0]
    assert "B (CL:0000236, CL:0000787)" in messages[0]
    assert messages[1].endswith("without a cell_type_ontology_term_id: NK.")


def test_missing_terms_of_some_cells_do_not_hide_the_label_s_one():
    assert label_terms(["B", "B", "T"], ["", "CL:0000236", "nan"])[0] == {"B": "CL:0000236"}
    assert label_terms(["B", "T"], ["unknown", ""]) == ({}, [])  # a column of nothing is no news


def test_unknown_is_the_schemas_word():
    labels = pd.Series(["B", "Unknown", "other"])
    assert list(labels_to_terms(labels, {"B": "CL:0000236"})) == ["CL:0000236", "unknown", "unknown"]


def test_terms_of_an_imported_reference():
    obs = pd.DataFrame({"cell_type": ["B", "T"], "cell_type_ontology_term_id": ["CL:0000236", "unknown"]})
    assert terms_of(obs) == {"B": "CL:0000236"}
    assert terms_of(obs[["cell_type"]]) == {}
