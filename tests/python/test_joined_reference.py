"""Several labelled files as one reference: what is joined, what is refused, and that their order is of no account."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from scipy import sparse
from spikgpt.base.errors import UserError
from spikgpt.base.h5ad import REFERENCE_FILES
from spikgpt.read_input.joined_reference import one_type_each
from spikgpt.read_input.reference import import_reference

GENES = ["CD3D", "MS4A1", "NKG7", "LYZ", "GNLY", "CD8A", "CD4", "PPBP"]
KNOWN = [*GENES, "CD19", "CD79A", "CD79B", "PAX5"]
"""To the checkpoint."""


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({"<pad>": 0, **{g: i + 1 for i, g in enumerate(KNOWN)}}))
    return folder


def made(labels, seed, genes=GENES, **obs) -> ad.AnnData:
    counts = np.random.default_rng(seed).poisson(30.0, (len(labels), len(genes))) + 1
    frame = pd.DataFrame({"cell_type": labels, **obs}, index=[f"c{i}" for i in range(len(labels))])
    return ad.AnnData(sparse.csr_matrix(counts, dtype=np.float32), obs=frame, var=pd.DataFrame(index=list(genes)))


@pytest.fixture
def read(tmp_path, model):
    """Write files by name, and import them in the order given."""

    def run(batch_key=None, exclude=(), merge=False, levels=(), least=0.3, **files):
        for name, data in files.items():
            data.write_h5ad(tmp_path / f"{name}.h5ad")
        paths = [tmp_path / f"{name}.h5ad" for name in files]
        return import_reference(paths, "cell_type", batch_key, model, least, exclude, merge, None, levels)

    return run


def test_cells_of_all_files_are_joined_on_the_genes_that_all_measured(read):
    one, two = made(["B cell", "NK cell"] * 20, 0), made(["B cell", "T cell"] * 15, 1, ["LYZ", *GENES[:3], "ACTB"])
    adata, stats = read(one=one, two=two)
    assert list(adata.var_names) == ["CD3D", "MS4A1", "NKG7", "LYZ"]  # in the order of the first file
    expected = np.concatenate([one[:, adata.var_names].X.toarray(), two[:, adata.var_names].X.toarray()])
    assert (adata.layers["counts"].toarray() == expected).all()
    assert list(adata.obs_names[[0, 39, 40, 69]]) == ["c0:one", "c39:one", "c0:two", "c29:two"]
    assert adata.obs["batch"].tolist() == ["one"] * 40 + ["two"] * 30
    assert json.loads(adata.uns[REFERENCE_FILES]) == {"one": ["one"], "two": ["two"]}
    assert stats["classes"] == {"B cell": 35, "NK cell": 20, "T cell": 15}
    lost = 1 - one[:, adata.var_names].X.sum() / one.X.sum()
    assert stats["files"]["one"]["genes_not_shared"] == 4
    assert stats["files"]["one"]["counts_not_shared"] == pytest.approx(lost, abs=1e-6)
    assert stats["files"]["two"]["types"] == {"B cell": 15, "T cell": 15}
    told = " ".join(stats["messages"])
    assert "joined from 2 files: one (40 cells, 8 genes, 2 types, 1 batch); two (30 cells, 5 genes" in told
    assert (
        "4 genes are measured in all of them and are used; left out for want of them in another file: 4 of one" in told
    )
    assert "Types that several files have: B cell." in told
    # training reads them there, for log and model card
    assert list(adata.uns["messages"]) == stats["messages"]


def test_the_order_of_the_files_changes_nothing(read, tmp_path):
    from spikgpt.base.h5ad import write_h5ad

    one, two = made(["B cell", "NK cell"] * 20, 0), made(["b  CELL", "T cell"] * 15, 1, GENES[2:])
    made_of = {}
    for at, files in enumerate(({"one": one, "two": two}, {"two": two, "one": one})):
        adata, stats = read(**files)
        write_h5ad(adata, tmp_path / f"joined{at}.h5ad")
        made_of[at] = ((tmp_path / f"joined{at}.h5ad").read_bytes(), json.dumps(stats))
    assert made_of[0] == made_of[1]


def test_batches_of_a_file_stay_and_bear_its_name(read):
    one = made(["B cell", "NK cell"] * 20, 0, donor=["d1", "d2"] * 20)
    adata, _ = read("donor", one=one, two=made(["B cell", "NK cell"] * 15, 1, donor="d1"))
    assert set(adata.obs["batch"]) == {"one:d1", "one:d2", "two:d1"}
    with pytest.raises(UserError, match=r"no column 'donor'(?s:.)*three.h5ad, --batch_key donor"):
        read("donor", one=one, three=made(["B cell"] * 10, 2))


def test_each_file_is_checked_and_named(read, tmp_path, model):
    one, two = made(["B cell", "NK cell"] * 20, 0), made(["B cell", "NK cell"] * 15, 1)
    two.obs.columns = ["label"]
    with pytest.raises(UserError, match=r"no column 'cell_type'(?s:.)*two.h5ad, --label_key cell_type"):
        read(one=one, two=two)
    two = made(["B cell"] * 15, 1, ["MS4A1", "CD19", "CD79A", "CD79B", "PAX5"])
    one = made(["B cell", "NK cell"] * 20, 0, [*GENES, "CD19"])
    with pytest.raises(UserError, match=r"too few genes in common(?s:.)*one.h5ad and two.h5ad(?s:.)*2 genes in all"):
        read(one=one, two=two, least=0.3)
    with pytest.raises(UserError, match=r"Two files of the reference have one name(?s:.)*one.h5ad, one.loom"):
        import_reference([tmp_path / "a" / "one.h5ad", tmp_path / "one.loom"], "cell_type", None, model, 0.3)


def test_one_file_may_have_one_type_and_all_need_two(read):
    one = made(["B cell"] * 20, 0)
    assert read(one=one, two=made(["NK cell"] * 20, 1))[1]["classes"] == {"B cell": 20, "NK cell": 20}
    with pytest.raises(UserError, match=r"one cell type only(?s:.)*'B cell' for all 40 cells"):
        read(one=one, two=made(["b cell"] * 20, 1))


def test_cells_that_two_files_have_are_taken_once(read):
    one = made(["B cell", "NK cell"] * 20, 0)
    two = ad.concat([one[:7], made(["T cell"] * 20, 1)])
    two.obs_names = [f"x{i}" for i in range(27)]
    two.obs["cell_type"] = "T cell"
    adata, stats = read(one=one, two=two)
    assert adata.n_obs == 60
    assert stats["classes"]["T cell"] == 20
    assert any("7 cells of two are in one too" in text for text in stats["messages"])
    # cells whose barcodes are others are others, whatever their counts
    one.obs_names, two.obs_names = (
        [f"{letter * 12}{i}" for i in range(len(cells))] for letter, cells in (("A", one), ("C", two))
    )
    assert read(one=one, two=two)[0].n_obs == 67
    with pytest.raises(UserError, match=r"no cell of its own(?s:.)*two(?s:.)*40 cells that are in one"):
        read(one=one, two=one.copy())


def test_labels_to_exclude_may_be_in_one_file_alone(read):
    files = {"one": made(["B cell", "NK cell"] * 20, 0), "two": made(["B cell", "T cell"] * 15, 1)}
    assert read(exclude=["T cell"], **files)[1]["classes"] == {"B cell": 35, "NK cell": 20}
    with pytest.raises(UserError, match=r"no label 'mast' to exclude(?s:.)*B cell, NK cell, T cell"):
        read(exclude=["mast"], **files)


def test_labels_that_differ_in_spelling_are_refused_or_merged_as_those_of_one_file_are(read):
    files = {"one": made(["Bcells", "NK"] * 20, 0), "two": made(["b-cell", "T"] * 15, 1)}
    with pytest.raises(UserError, match=r"spelling alone(?s:.)*one.h5ad and two.h5ad(?s:.)*merge_similar_labels"):
        read(**files)
    assert read(merge=True, **files)[1]["classes"] == {"Bcells": 35, "NK": 20, "T": 15}


def test_coarse_columns_must_agree_between_files(read):
    one = made(["B cell", "NK cell"] * 20, 0, level=["B", "T or NK"] * 20)
    adata, _ = read(levels=["level"], one=one, two=made(["B cell", "T cell"] * 15, 1, level=["B", "T or NK"] * 15))
    assert json.loads(adata.uns["label_levels"])["T cell"] == ["T or NK"]
    with pytest.raises(UserError, match=r"several names at a coarser level(?s:.)*B cell: B \(20 cells\), lymphoid"):
        read(levels=["level"], one=one, two=made(["B cell", "T cell"] * 15, 1, level="lymphoid"))


def joined_labels(*files):
    """`one_type_each` of files given as label to (cells, term or "")."""
    told: list[str] = []
    labels = [[label for label, (cells, _) in of_file.items() for _ in range(cells)] for of_file in files]
    terms = [{label: term for label, (_, term) in of_file.items() if term} for of_file in files]
    return *one_type_each(labels, terms, list("abc")[: len(files)], told), told


def test_labels_of_one_type_are_one_by_text_or_term():
    renamed, terms, told = joined_labels(
        {"CD14+ Mono": (5, "CL:0001054"), "NK cells": (3, ""), "pDC": (2, "")},
        {"cd14 monocyte": (9, "CL:0001054"), "natural killer cell": (3, "CL:0000623"), "PDC": (4, "CL:0000784")},
    )
    assert renamed == [
        {"CD14+ Mono": "cd14 monocyte", "NK cells": "NK cells", "pDC": "PDC"},
        {"cd14 monocyte": "cd14 monocyte", "natural killer cell": "NK cells", "PDC": "PDC"},
    ]
    assert terms == {"cd14 monocyte": "CL:0001054", "NK cells": "CL:0000623", "PDC": "CL:0000784"}
    assert len(told) == 1
    assert "'CD14+ Mono' (a), 'cd14 monocyte' (b) as 'cd14 monocyte'" in told[0]
    assert "'NK cells' (a), 'natural killer cell' (b) as 'NK cells'" in told[0]


def test_labels_of_one_file_are_never_joined_by_a_term():
    renamed, _, told = joined_labels(
        {"B": (5, "CL:0000236"), "B activated": (5, "CL:0000236")}, {"B": (5, "CL:0000236"), "b lymph": (5, "")},
        {"lymphocyte B": (5, "CL:0000236")},
    )  # fmt: skip
    assert all(old == new for of_file in renamed for old, new in of_file.items())
    assert told == [
        "Labels with the term CL:0000236 were kept apart, as one file has several: 'B' (a), 'B activated' (a), "
        "'B' (b), 'lymphocyte B' (c)."
    ]


def test_a_label_with_two_terms_has_none():
    _, terms, told = joined_labels({"T": (5, "CL:0000084"), "B": (2, "")}, {"T": (5, "CL:0000624")})
    assert terms == {}
    assert told == ["Labels to which the files give different terms, left without one: T (CL:0000084, CL:0000624)."]


def test_a_coarser_label_of_another_file_is_told(read):
    fine = made(
        ["CD4", "CD8", "B cell"] * 10, 0, cell_type_ontology_term_id=["CL:0000624", "CL:0000625", "CL:0000236"] * 10
    )
    _, stats = read(coarse=made(["T cell", "B cell"] * 10, 1), fine=fine)
    told = [text for text in stats["messages"] if "coarser" in text]
    assert told == [
        "'T cell' (coarse) is 'T cell' in the Cell Ontology, which has types of another file below it: 'CD4', 'CD8'. "
        "Its label is coarser than theirs."
    ]


def test_script(tmp_path, script):
    made(["B cell", "NK cell"] * 20, 0).write_h5ad(tmp_path / "one.h5ad")
    made(["B cell", "T cell"] * 20, 1).write_h5ad(tmp_path / "two.h5ad")
    model = ROOT / "assets" / "scgpt-mini"  # a whole checkpoint: the script checks it
    done = script(
        "import_reference.py", "--reference", "two.h5ad", "one.h5ad", "--label-key", "cell_type",
        "--scgpt-model", model,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert ad.read_h5ad(tmp_path / "reference.norm.h5ad").n_obs == 80
    assert list(json.loads((tmp_path / "reference.json").read_text())["files"]) == ["one", "two"]
    done = script(
        "import_reference.py", "--reference", "one.h5ad", "one.h5ad", "--label-key", "cell_type",
        "--scgpt-model", model,
    )  # fmt: skip
    assert done.returncode == 65
    assert "Two files of the reference have one name" in done.stderr
    assert "Traceback" not in done.stderr
