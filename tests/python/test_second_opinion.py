"""The second opinion: the library, its judges, silence, and what contradicts a label."""

import json
import re

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from conftest import ROOT
from scipy.stats import rankdata, spearmanr
from spikgpt.base.cell_ontology import ancestors, cell_ontology, current_term, term_of_label, term_of_name
from spikgpt.base.columns import OPINION, OPINION_SCORE
from spikgpt.base.errors import UserError
from spikgpt.base.genes import human_genes
from spikgpt.cohort.second_opinion import NOTHING, group_opinions, read_probabilities, with_profiles
from spikgpt.profiles.correlation import Correlation, Offset, per_10k, shared
from spikgpt.profiles.kinship import check_labels, contradicts
from spikgpt.profiles.library import Library, decoded, encoded
from spikgpt.profiles.opinion import CUT, MIN_GENES, decide, second_opinion
from spikgpt.profiles.ranks import count_ranks, spearman, standard_ranks

FOLDER = ROOT / "assets" / "cell_profiles"


@pytest.fixture(scope="module")
def library():
    return Library.read(FOLDER)


@pytest.fixture(scope="module")
def pancreas():
    """250 cells of the demo's sample, and their true labels."""
    cells = ad.read_h5ad(ROOT / ".demo" / "data" / "human1_lib3.h5ad")
    truth = pd.read_csv(ROOT / ".demo" / "data" / "truth.tsv", sep="\t").set_index("barcode")["cell_type"]
    return cells[:250].copy(), truth.reindex(cells.obs_names[:250])


def told(library, cells, block=1000, symbols=None):
    """The second opinion on cells, read in blocks of so many."""
    counts = sp.csr_matrix(cells.X).astype(np.int32)
    return second_opinion(
        library,
        lambda: (counts[start : start + block] for start in range(0, counts.shape[0], block)),
        list(cells.var_names) if symbols is None else symbols,
        [""] * cells.n_vars,
        list(cells.obs_names),
    )


# --- the ontology ---------------------------------------------------------------------------------------


def test_the_ontology_knows_names_ancestors_and_replaced_terms():
    assert term_of_name("nk CELL") == "CL:0000623"
    assert term_of_name("no such cell") is None
    assert {"CL:0000084", "CL:0000542", "CL:0000000"} <= ancestors("CL:0000625")
    assert ancestors("CL:9999999") == frozenset()
    assert current_term("CL:0000003") == "CL:0000000"
    assert all(set(term.parents) <= cell_ontology().keys() for term in cell_ontology().values())


@pytest.mark.parametrize(
    ("label", "term"),
    [
        ("CD14+ Monocytes", "CL:0001054"),
        ("T_cell", "CL:0000084"),
        ("Naive CD4 T", "CL:0000084"),
        ("NK", "CL:0000623"),
        ("type B pancreatic cell", "CL:0000169"),
        ("alpha", None),  # of the retina in mice, says the ontology
        ("cluster 7", None),
        ("some cell", None),
    ],
)
def test_a_free_label_means_a_term_or_none(label, term):
    assert term_of_label(label) == term


# --- the library ----------------------------------------------------------------------------------------


def test_the_library_keeps_identity_genes_and_current_names(library):
    assert {"INS", "GCG", "SST", "PPY", "ALB", "RHO", "PRM1", "SFTPC", "CGA", "MYH6", "KRT5"} <= set(library.genes)
    known = human_genes()
    assert all(known[gene].gene_id == gene_id for gene, gene_id in zip(library.genes, library.gene_ids, strict=True)
               if gene in known)  # fmt: skip
    assert len(set(library.genes)) == len(library.genes)
    assert library.values.shape == (len(library.genes), len(library.profiles)) == (6950, 274)
    assert len(library.classes) == 31


def test_every_profile_s_term_lies_in_its_class(library):
    """But for four that are broader than it, or that the ontology files elsewhere."""
    assert all(current_term(term) == term for term in library.profiles["cell_type_ontology_term_id"])
    outside = {
        name
        for name, term, of in library.profiles[["cell_type", "cell_type_ontology_term_id", "class"]].itertuples(
            index=False
        )
        if not ancestors(term).intersection(library.terms[of])
    }
    assert outside == {"mononuclear phagocyte", "glial cell", "ciliated cell", "mucus secreting cell"}
    for name, members in library.merged.items():
        assert set(members) <= set(library.classes)
        for member in members:
            assert library.terms[name][0] in ancestors(library.terms[member][0])


def test_one_byte_holds_a_value_closely():
    values = np.linspace(0, 9.2, 1000)
    assert np.abs(decoded(encoded(values)) - values).max() < 0.04
    assert encoded(np.zeros(1))[0] == 0


@pytest.mark.parametrize("damage", ["genes.tsv", "profiles.safetensors", "rows"])
def test_a_broken_library_is_a_users_error(tmp_path, damage):
    for path in FOLDER.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    if damage == "rows":
        lines = (tmp_path / "genes.tsv").read_text().splitlines(keepends=True)
        (tmp_path / "genes.tsv").write_text("".join(lines[:-1]))
    else:
        (tmp_path / damage).unlink()
    with pytest.raises(UserError, match="library of cell profiles"):
        Library.read(tmp_path)


def test_a_gene_is_found_by_its_id_and_else_by_its_symbol(library):
    ins, gcg = library.genes.index("INS"), library.genes.index("GCG")
    columns = library.columns_in(["Ins", "whatever", "GCG"], ["", library.gene_ids[ins], ""])
    assert (columns[ins], columns[gcg]) == (1, 2)
    assert (columns >= 0).sum() == 2  # a mouse's Ins is not found


# --- the judges -----------------------------------------------------------------------------------------


def test_ranks_and_correlations_are_scipys():
    random = np.random.default_rng(0)
    dense = random.poisson(0.7, (20, 60)).astype(float)
    dense[3] = 0
    counts = sp.csr_matrix(dense)
    ranks = count_ranks(counts)
    for row in range(20):
        np.testing.assert_allclose(ranks[row].data, rankdata(dense[row][dense[row] > 0]))
    profiles = random.random((4, 60))
    found = spearman(counts, standard_ranks(profiles))
    for row in range(20):
        for at in range(4):
            expected = 0.0 if row == 3 else spearmanr(dense[row], profiles[at]).statistic
            assert found[row, at] == pytest.approx(expected, abs=1e-9)


def test_only_what_all_classes_share_is_an_offset():
    differences = np.array([[1.0, 2.0, 0.0], [1.0, -2.0, 0.0], [1.0, 0.1, 3.0]])
    offset = shared(differences, np.ones(3))
    assert offset[0] == pytest.approx(1.0)
    assert offset[1] == 0.0
    assert offset[2] < 0.5


def test_a_batch_s_gene_factors_are_taken_off(library):
    """Cells of six classes whose genes are all measured worse or better by the same factors: the offset finds these."""
    random = np.random.default_rng(0)
    profiles = [library.profiles["class"].tolist().index(name) for name in
                ("T cell", "B cell", "monocyte or macrophage", "endothelial cell", "hepatocyte", "neuron")]  # fmt: skip
    shares = per_10k(library.values)[:, profiles].T / 1e4
    factor = np.exp(random.normal(0, 1.0, shares.shape[1]))
    shares = shares * factor
    shares /= shares.sum(1, keepdims=True)
    counts = sp.csr_matrix(random.poisson(np.repeat(shares, 40, axis=0) * 4000).astype(float))
    plain = Correlation.of(library.values, library.codes)
    offset = Offset(plain)
    offset.add(counts)
    corrected, classes = offset.corrected()
    truth = np.repeat(profiles, 40)
    own = np.arange(len(truth))
    assert classes >= 5
    gain = corrected.with_cells(counts)[own, truth] - plain.with_cells(counts)[own, truth]
    assert gain.mean() > 0.01


def test_few_cells_give_no_offset(library):
    offset = Offset(Correlation.of(library.values, library.codes))
    offset.add(sp.csr_matrix(np.round(per_10k(library.values)[:, :3].T)))
    assert offset.corrected() == (offset.judge, 0)


def test_a_cell_between_two_that_go_together_is_given_both(library):
    values = np.zeros((4, len(library.classes)))
    t, nk, endo = (library.classes.index(name) for name in
                   ("T cell", "NK or other innate lymphoid cell", "endothelial cell"))  # fmt: skip
    values[0, [t, nk]] = 0.9, 0.1
    values[1, [t, nk]] = 0.5, 0.4
    values[2, [t, endo]] = 0.5, 0.5
    names, scores = decide(values, library, CUT)
    assert names == ["T cell", "T or NK cell", "", ""]
    np.testing.assert_allclose(scores, [0.9, 0.9, 0.5, 0.0])
    assert CUT > 0.5


# --- samples --------------------------------------------------------------------------------------------


def test_a_pancreas_is_named_without_a_reference(library, pancreas):
    cells, truth = pancreas
    table, figures = told(library, cells)
    assert list(table.columns) == ["barcode", OPINION, OPINION_SCORE, *library.classes]
    assert table[OPINION_SCORE].dtype == np.float32
    said = table.set_index("barcode")[OPINION]
    expected = {
        **dict.fromkeys(("alpha", "beta", "gamma", "delta"), "pancreatic islet cell"),
        "acinar": "epithelial cell", "ductal": "epithelial cell", "endothelial": "endothelial cell",
    }  # fmt: skip
    compared = [(said[name], expected[of]) for name, of in truth.items() if of in expected and said[name]]
    assert len(compared) > 150
    assert np.mean([a == b for a, b in compared]) > 0.97
    assert figures["with_opinion"] == (table[OPINION] != "").sum() == sum(figures["classes"].values())
    assert figures["messages"] == []


def test_neither_blocks_nor_the_order_of_cells_and_genes_change_a_byte(library, pancreas):
    cells, _ = pancreas
    whole, figures = told(library, cells)
    pieces, _ = told(library, cells, block=37)
    pd.testing.assert_frame_equal(whole, pieces, check_exact=True)
    random = np.random.default_rng(1)
    rows, columns = random.permutation(cells.n_obs), random.permutation(cells.n_vars)
    other, mixed = told(library, cells[rows, columns].copy())
    pd.testing.assert_frame_equal(
        whole.set_index("barcode"), other.set_index("barcode").reindex(whole["barcode"]), check_exact=True
    )
    assert figures == mixed


def test_another_species_and_a_panel_are_given_nothing_and_it_is_said(library, pancreas):
    cells, _ = pancreas
    mouse, figures = told(library, cells, symbols=[name.capitalize() for name in cells.var_names])
    assert (mouse[OPINION] == "").all()
    assert (mouse[OPINION_SCORE] == 0).all()
    assert figures["with_opinion"] == 0
    assert re.search(rf"\d+ of the 6950 genes.*at least {MIN_GENES}", figures["messages"][0])


def test_cells_without_a_count_and_no_cells_at_all(library, pancreas):
    cells = pancreas[0].copy()
    cells.X = sp.csr_matrix(cells.shape, dtype=np.int32)
    table, figures = told(library, cells)
    assert (table[OPINION] == "").all()
    assert figures["offset_classes"] == 0
    few = pancreas[0][:30].copy()
    few.X = sp.vstack([sp.csr_matrix((1, few.n_vars), dtype=np.int32), sp.csr_matrix(few.X)[1:]]).tocsr()
    table, _ = told(library, few)
    assert table.loc[0, OPINION] == ""
    assert table.loc[0, OPINION_SCORE] == 0
    none, figures = told(library, pancreas[0][:0].copy())
    assert (len(none), figures["cells"], figures["classes"]) == (0, 0, {})


# --- a reference's labels, clusters and populations ------------------------------------------------------


@pytest.fixture(scope="module")
def checked(library, pancreas):
    """Opinions, likeliest classes, and true labels with the terms that a reference would give them."""
    cells, truth = pancreas
    table, _ = told(library, cells)
    terms = {
        "alpha": "CL:0000171", "beta": "CL:0000169", "delta": "CL:0000173", "gamma": "CL:0002275",
        "acinar": "CL:0002064", "ductal": "CL:0002079", "endothelial": "CL:0000115", "macrophage": "CL:0000235",
        "quiescent_stellate": "CL:0002410",
    }  # fmt: skip
    return table[OPINION].tolist(), table[library.classes].idxmax(axis=1).tolist(), truth.tolist(), terms


def test_true_labels_pass_and_labels_of_other_cells_do_not(library, checked):
    said, likeliest, truth, terms = checked
    good = check_labels(library, said, likeliest, truth, terms)
    assert good["kappa"] > 0.7
    assert good["contradicted"] <= 0.02 * good["with_opinion"]
    assert good["messages"] == []
    assert "activated_stellate" in good["labels_without_term"]
    shuffled = [truth[at] for at in np.random.default_rng(0).permutation(len(truth))]
    bad = check_labels(library, said, likeliest, shuffled, terms)
    assert abs(bad["kappa"]) < 0.15
    assert "hardly agree with the tissue profiles" in bad["messages"][0]


def test_some_wrong_labels_are_counted_and_the_commonest_named(library, checked):
    said, likeliest, truth, terms = checked
    some = ["endothelial" if label == "beta" and at % 3 == 0 else label for at, label in enumerate(truth)]
    found = check_labels(library, said, likeliest, some, terms)
    assert found["contradicted"] > 20
    assert "most often endothelial that looks like pancreatic islet cell" in found["messages"][0]


def test_labels_that_mean_nothing_are_not_compared(library, checked):
    said, likeliest, truth, _ = checked
    found = check_labels(library, said, likeliest, [f"cluster {len(label)}" for label in truth], {})
    assert (found["compared"], found["kappa"], found["with_opinion"], found["messages"]) == (0, None, 0, [])


def test_the_script_checks_a_reference(script, tmp_path, pancreas):
    cells, truth = pancreas
    made = ad.AnnData(cells.X, obs=pd.DataFrame({"cell_type": truth.to_numpy()}, index=cells.obs_names))
    made.var = pd.DataFrame({"gene_id": ""}, index=cells.var_names)
    made.layers["counts"] = sp.csr_matrix(cells.X).astype(np.int32)
    made.write_h5ad(tmp_path / "reference.norm.h5ad")
    done = script(
        "second_opinion.py", "--sample", "reference", "--reference", "--profiles", FOLDER, "--h5ad",
        "reference.norm.h5ad",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "reference.second_opinion.json").read_text())
    assert figures["cells"] == 250
    # without terms only names that the ontology knows are compared
    assert figures["labels"]["kappa"] > 0.5
    assert "beta" in figures["labels"]["labels_without_term"]


def test_a_population_looks_like_its_class_and_has_a_nearest_profile(library, pancreas, tmp_path):
    cells, truth = pancreas
    table, _ = told(library, cells)
    made = ad.AnnData(
        sp.csr_matrix(cells.X).astype(np.float32), var=pd.DataFrame({"gene_id": ""}, index=cells.var_names)
    )
    made.layers["counts"] = sp.csr_matrix(cells.X).astype(np.int32)
    made.write_h5ad(tmp_path / "cohort.h5ad")
    table.to_parquet(tmp_path / "s.second_opinion.parquet")
    probabilities = read_probabilities([tmp_path / "s.second_opinion.parquet"], table, library.classes)
    groups = {name: (truth == name).to_numpy() for name in ("alpha", "acinar")} | {"few": np.arange(250) < 5}
    found = with_profiles(group_opinions(probabilities, groups, library), tmp_path / "cohort.h5ad", groups, library)
    assert found["alpha"].opinion == "pancreatic islet cell"
    assert (found["alpha"].profile, found["alpha"].source) == ("pancreatic A cell", "Enge et al. 2017, Cell 171:321")
    assert found["alpha"].correlation > 0.8
    assert (found["acinar"].opinion, found["acinar"].profile) == ("epithelial cell", "acinar cell")
    assert found["few"] == NOTHING
    with pytest.raises(ValueError, match="not of the same cells"):
        read_probabilities([tmp_path / "s.second_opinion.parquet"], table[::-1], library.classes)


# --- conflicts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opinion", "term", "expected"),
    [
        ("T cell", "CL:0000236", True),  # a B cell
        ("T cell", "CL:0000625", False),  # a CD8 T cell
        ("T cell", "CL:0000623", False),  # an NK cell: never against each other
        ("T or NK cell", "CL:0000623", False),
        ("T or NK cell", "CL:0000786", True),
        ("epithelial cell", "CL:0000182", False),  # a hepatocyte is one
        ("hepatocyte", "CL:0000066", False),  # the label is broader
        ("pancreatic islet cell", "CL:0002079", True),  # a ductal cell
        ("B or plasma cell", "CL:0000788", False),
        ("monocyte, macrophage or dendritic cell", "CL:0000784", False),
        ("neuron", "CL:0000988", True),  # a hematopoietic cell
        ("neuron", "CL:0000000", False),
        ("epithelial cell", "CL:0000187", True),  # a muscle cell lies above classes
        ("epithelial cell", "CL:0001034", None),  # a cell in vitro: no class has it
    ],
)
def test_an_opinion_contradicts_a_label_by_the_terms_above_both(library, opinion, term, expected):
    assert contradicts(library, opinion, term) is expected
