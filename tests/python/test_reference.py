"""The labelled reference: checked, told about, never filtered."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from scipy import sparse
from spikgpt.base.errors import UserError
from spikgpt.read_input.reference import import_reference

GENES = ["CD3D", "MS4A1", "NKG7", "LYZ", "GNLY", "CD8A", "CD4", "PPBP"]
CELLS = 60


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({"<pad>": 0, **{g: i + 1 for i, g in enumerate(GENES)}}))
    return folder


@pytest.fixture
def reference() -> ad.AnnData:
    counts = np.random.default_rng(0).poisson(2.0, (CELLS, len(GENES))) + 1
    obs = pd.DataFrame(
        {"cell_type": ["B cell", "T cell", "NK cell"] * 20, "donor": ["d1", "d2"] * 30},
        index=[f"c{i}" for i in range(CELLS)],
    )
    return ad.AnnData(sparse.csr_matrix(counts, dtype=np.float32), obs=obs, var=pd.DataFrame(index=GENES))


@pytest.fixture
def read(tmp_path, model, reference):
    def run(label_key="cell_type", batch_key=None, exclude=(), merge=False, **obs):
        for name, values in obs.items():
            reference.obs[name] = values
        reference.write_h5ad(tmp_path / "ref.h5ad")
        return import_reference(tmp_path / "ref.h5ad", label_key, batch_key, model, 0.3, exclude, merge)

    return run


def test_all_cells_go_on_in_the_layout_of_norm(read, reference):
    adata, stats = read(batch_key="donor")
    assert adata.n_obs == CELLS
    assert list(adata.obs_names) == list(reference.obs_names)
    assert list(adata.obs.columns[:5]) == ["cell_type", "sample", "batch", "donor", "condition"]
    assert adata.obs["cell_type"].tolist() == reference.obs["cell_type"].tolist()
    assert adata.obs["batch"].tolist() == reference.obs["donor"].tolist()
    assert isinstance(adata.obs["cell_type"].dtype, pd.CategoricalDtype)
    assert set(adata.obs["sample"]) == {"reference"}
    assert adata.obs["total_counts"].tolist() == np.asarray(reference.X.sum(axis=1)).ravel().tolist()
    assert (adata.layers["counts"] != reference.X).nnz == 0
    assert adata.X.dtype == np.float32
    assert stats["classes"] == {"B cell": 20, "NK cell": 20, "T cell": 20}
    assert stats["batches"] == {"d1": 30, "d2": 30}
    assert stats["messages"] == []
    assert stats["gene_match_counts"] == 1.0


def test_without_batches_it_is_one(read):
    adata, stats = read()
    assert set(adata.obs["batch"]) == {"reference"}
    assert stats["batches"] == {"reference": CELLS}
    assert stats["batch_key"] is None


def test_numbers_as_batches_are_names(read):
    adata, _ = read(batch_key="lane", lane=[1, 2] * 30)
    assert set(adata.obs["batch"]) == {"1", "2"}


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (["B"] * 60, r"one cell type only(?s:.)*'B' for all 60 cells"),
        (["0", "1", "2"] * 20, r"labels of the reference are numbers(?s:.)*0, 1, 2(?s:.)*clusters"),
        ([0, 1, 2] * 20, r"labels of the reference are numbers"),
        ([0.0, 1.0] * 30, r"labels of the reference are numbers"),
        (["B", "unknown"] * 30, r"one cell type only(?s:.)*'B' for all 30 cells"),
        (["B cell", "B cells", "T"] * 20, r"spelling alone(?s:.)*'B cell' \(20 cells\) and 'B cells' \(20 cells\)"),
    ],
)
def test_unusable_labels_are_refused(read, labels, told):
    with pytest.raises(UserError, match=told):
        read(cell_type=labels)


@pytest.mark.parametrize(
    "label",
    [
        np.nan, "", "nan", "Unknown", "unknown 2", "UNKNOWN", "unassigned", "Unassigned cells", "Doublet",
        "T/B doublets", "other", "Others", "Unclassified", "low quality", "Low_Quality", "not assigned", "?", "debris",
        "cell", "NA",
    ],
)  # fmt: skip
def test_cells_whose_label_says_nothing_are_left_out_and_told(read, reference, label):
    labels = ["B", "T", label] * 20
    adata, stats = read(cell_type=labels)
    kept = [name for name, given in zip(reference.obs_names, labels, strict=True) if given in ("B", "T")]
    assert list(adata.obs_names) == kept
    assert stats["cells"] == 40
    assert stats["classes"] == {"B": 20, "T": 20}
    assert sum(stats["excluded_labels"].values()) == 20
    assert any("20 of 60 cells" in message for message in stats["messages"])
    assert (adata.layers["counts"] != reference[kept].X).nnz == 0


@pytest.mark.parametrize(
    "label", ["Other T", "unknown-like T", "NK cell", "Negative B", "Rest T", "mixed lineage", "no-go", "T cell 2"]
)
def test_names_of_types_are_not_taken_for_no_label(read, label):
    assert label in read(cell_type=["B", "T", label] * 20)[1]["classes"]


COMMA = "CD4-positive, alpha-beta T cell"


@pytest.mark.parametrize(
    "exclude", [["b CELL"], ["B cell,NK cell"], [f'"{COMMA}", B cell'], [COMMA], ["B cell", COMMA]]
)
def test_labels_are_excluded_as_asked(read, exclude):
    _, stats = read(exclude=exclude, cell_type=["B cell", COMMA, "NK cell", "x", "y", "z"] * 10)
    gone = {name for name in ("B cell", "NK cell", COMMA) if name.lower() in " ".join(exclude).lower()}
    assert set(stats["excluded_labels"]) == gone
    assert set(stats["classes"]) == {"B cell", COMMA, "NK cell", "x", "y", "z"} - gone


def test_a_label_to_exclude_that_is_not_there_is_refused(read):
    with pytest.raises(UserError, match=r"no label 'B cels'(?s:.)*did you mean 'B cell'".replace("did", "Did")):
        read(exclude=["B cels"])


def test_labels_of_one_spelling_are_merged_when_asked(read):
    labels = ["B cell", "B cell", "b-cells", "CD4+ T", "CD4- T", "B_Cell"] * 10
    _, stats = read(cell_type=labels, merge=True)
    assert stats["classes"] == {"B cell": 40, "CD4+ T": 10, "CD4- T": 10}
    assert any("'B cell' (20 cells) and 'B_Cell' (10 cells) and 'b-cells'" in text for text in stats["messages"])


def test_ids_of_the_ontology_are_shown_by_name(read):
    _, stats = read("term", term=["CL:0000236", "CL:0000084", "CL_0000623"] * 20)
    assert stats["classes"] == {"B cell": 20, "T cell": 20, "natural killer cell": 20}
    assert stats["ontology"] == {"B cell": "CL:0000236", "T cell": "CL:0000084", "natural killer cell": "CL:0000623"}
    assert any("ids of the Cell Ontology" in text for text in stats["messages"])


def test_a_missing_column_is_refused_with_those_there_are(read):
    with pytest.raises(UserError, match=r"no column 'celltype'(?s:.)*cell_type, donor(?s:.)*did you mean cell_type"):
        read(label_key="celltype")
    with pytest.raises(UserError, match=r"--batch_key Donor(?s:.)*did you mean donor"):
        read(batch_key="Donor")
    with pytest.raises(UserError, match="have no batch"):
        read(batch_key="lane", lane=[None, "1"] * 30)


def test_ontology_terms_go_on_and_odd_ones_are_told(read):
    terms = ["CL:0000236", "CL:0000084", "CL:0000623"] * 20
    adata, stats = read(batch_key="donor", cell_type_ontology_term_id=terms)
    assert adata.obs["cell_type_ontology_term_id"].tolist() == terms
    assert stats["ontology"] == {"B cell": "CL:0000236", "NK cell": "CL:0000623", "T cell": "CL:0000084"}
    assert stats["messages"] == []
    terms[0], terms[1] = "CL:0000787", "not one"
    adata, stats = read(batch_key="donor", cell_type_ontology_term_id=pd.Categorical(terms))
    assert set(adata.obs["cell_type_ontology_term_id"]) == {"unknown", "CL:0000623"}
    assert stats["ontology"] == {"NK cell": "CL:0000623"}
    assert "B cell (CL:0000236, CL:0000787); T cell (CL:0000084, not one)" in stats["messages"][0]
    # training reads them there, for the model card
    assert list(adata.uns["messages"]) == stats["messages"]
    adata, stats = read(batch_key="donor", cell_type_ontology_term_id=[np.nan] * CELLS)
    assert "cell_type_ontology_term_id" not in adata.obs
    assert (stats["ontology"], stats["messages"]) == ({}, [])


def test_scaled_and_empty_cells_are_refused(read, reference):
    original = reference.X.toarray()
    empty = original.copy()
    empty[3] = 0
    reference.X = sparse.csr_matrix(empty)
    with pytest.raises(UserError, match=r"1 cells of the reference have no counts"):
        read()
    reference.X = original - original.mean(axis=0)
    with pytest.raises(UserError, match=r"does not hold raw counts(?s:.)*ref.h5ad"):
        read()


def test_a_table_has_no_labels(tmp_path, model, reference):
    reference.to_df().astype(int).to_csv(tmp_path / "ref.csv")
    with pytest.raises(UserError, match="a csv file, which has no obs columns"):
        import_reference(tmp_path / "ref.csv", "cell_type", None, model, 0.3)


def test_coarser_labels_go_on_with_the_reference(tmp_path, model, reference):
    reference.obs["lineage"] = ["lymphoid"] * CELLS
    reference.obs["class"] = ["B", "T or NK", "T or NK"] * 20
    reference.write_h5ad(tmp_path / "ref.h5ad")
    levels = ("lineage", "class")
    adata, _ = import_reference(tmp_path / "ref.h5ad", "cell_type", None, model, 0.3, levels=levels)
    assert json.loads(adata.uns["label_levels"]) == {
        "B cell": ["lymphoid", "B"], "NK cell": ["lymphoid", "T or NK"], "T cell": ["lymphoid", "T or NK"],
    }  # fmt: skip
    assert "label_levels" not in import_reference(tmp_path / "ref.h5ad", "cell_type", None, model, 0.3)[0].uns
    with pytest.raises(UserError, match="no column 'clas'") as told:
        import_reference(tmp_path / "ref.h5ad", "cell_type", None, model, 0.3, levels=["clas"])
    assert "did you mean class" in str(told.value)
    assert "--label_levels" in str(told.value)


def test_script(tmp_path, script, reference):
    reference.write_h5ad(tmp_path / "ref.h5ad")
    # a whole checkpoint: the script checks it
    arguments = ("--reference", "ref.h5ad", "--scgpt-model", ROOT / "assets" / "scgpt-mini", "--label-key")
    done = script("import_reference.py", *arguments, "cell_type", "--batch-key", "donor")
    assert done.returncode == 0, done.stderr
    assert ad.read_h5ad(tmp_path / "reference.norm.h5ad").n_obs == CELLS
    assert json.loads((tmp_path / "reference.json").read_text())["cells"] == CELLS
    done = script("import_reference.py", *arguments, "nope")
    assert done.returncode == 65
    assert "Traceback" not in done.stderr
