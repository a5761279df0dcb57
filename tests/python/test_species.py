"""Species: told from the genes, named by their tables, read by scGPT through orthologs, and kept apart."""

import json
from collections import Counter
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from mouse_copy import mouse_copy
from scipy import sparse
from spikgpt.annotator.folder import check_species
from spikgpt.base.errors import UserError
from spikgpt.base.genes import (
    haemoglobin_genes,
    human_genes,
    immunoglobulin_genes,
    mitochondrial_genes,
    ribosomal_genes,
    vocabulary,
)
from spikgpt.base.h5ad import ORTHOLOG, count_data, stored, write_h5ad
from spikgpt.base.mouse_genes import MGI, mouse_genes
from spikgpt.base.normalisation import normalise_cells
from spikgpt.base.species import (
    HUMAN,
    MOUSE,
    ORTHOLOGS,
    SPECIES,
    human_orthologs,
    is_known_in,
    orthologs,
    species_of,
    told_by,
    unify_other,
)
from spikgpt.profiles.library import Library
from spikgpt.profiles.opinion import second_opinion
from spikgpt.read_input.counts import import_counts
from spikgpt.read_input.matrix import read_matrix
from spikgpt.read_input.reference import import_reference
from spikgpt.scgpt.checkpoint import read_checkpoint
from spikgpt.scgpt.embed import CountsFile, Embedder

MINI = ROOT / "assets" / "scgpt-mini"
HUMAN_NAMES = [name for name in human_genes() if name.isalpha() and name.isupper()][:2000]
MOUSE_NAMES = [name for name in mouse_genes().id_of if name[0].isupper() and name[1:].islower()][:2000]
NO_IDS = [""] * 2000


@pytest.fixture(scope="module")
def human(demo_data) -> ad.AnnData:
    return ad.read_h5ad(demo_data / "human1_lib3.h5ad")[:120].copy()


@pytest.fixture(scope="module")
def mouse_h5ad(human, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("mouse") / "mouse.h5ad"
    mouse_copy(human).write_h5ad(path)
    return path


# --- tables -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("table", "words"), [(MGI, ("MGI", "CC BY 4.0")), (ORTHOLOGS, ("Ensembl", "MIT"))])
def test_tables_say_where_they_come_from(table, words):
    head = [line for line in table.read_text(encoding="utf-8").splitlines()[:4] if line.startswith("#")]
    assert len(head) == 3
    for word in (*words, "source:", "sha256", "Made by tools/genes/"):
        assert word in " ".join(head)


@pytest.mark.parametrize(("species", "fewest"), [("mouse", 16_000), ("pig", 15_000), ("rhesus_macaque", 15_000)])
def test_orthologs_are_one_to_one_and_known(species, fewest):
    table = orthologs()[species]
    assert len(table) > fewest
    assert max(Counter(table.values()).values()) == 1
    # all but a few human names are HGNC's or GENCODE's of today
    assert np.mean([is_known_in(name, HUMAN) for name in table.values()]) > 0.99
    assert table[{"mouse": "Gcg"}.get(species, "GCG")] == "GCG"
    # two insulin genes in mice: no ortholog alone
    assert ("INS" in table.values()) == (species != "mouse")


# --- which species ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "ids", "species"),
    [
        (MOUSE_NAMES, NO_IDS, "mouse"),
        (HUMAN_NAMES, NO_IDS, None),
        ([f"ENSMUSG{n:011d}.2" for n in range(2000)], NO_IDS, "mouse"),
        (HUMAN_NAMES, [f"ENSSSCG{n:011d}" for n in range(2000)], "pig"),
        (HUMAN_NAMES, [f"ENSMMUG{n:011d}" for n in range(2000)], "rhesus_macaque"),
        (HUMAN_NAMES, [f"ENSMFAG{n:011d}" for n in range(2000)], "cynomolgus_macaque"),
        (HUMAN_NAMES, [f"ENSG{n:011d}" for n in range(2000)], "human"),
        ([f"Gcg_ENSMUSG{n:011d}" for n in range(2000)], NO_IDS, "mouse"),
        ([*MOUSE_NAMES[:1998], "RT1-A2", "RT1-Da"], NO_IDS, "rat"),
        ([*MOUSE_NAMES[:1998], "H2-K1", "H2-Aa"], NO_IDS, "mouse"),
        (["1", "2", "3"], ["", "", ""], None),
        # a few mouse names among many human ones, such as transgenes
        ([*HUMAN_NAMES[:1990], *MOUSE_NAMES[:10]], NO_IDS, None),
    ],
)
def test_the_species_is_told_from_the_genes(names, ids, species):
    assert told_by(names, ids)[0] == species


@pytest.mark.parametrize(
    ("names", "ids", "asked", "species", "told"),
    [
        (MOUSE_NAMES, NO_IDS, None, "mouse", "The genes are of mouse"),
        (MOUSE_NAMES, NO_IDS, "mouse", "mouse", "The genes are of mouse"),
        (HUMAN_NAMES, NO_IDS, None, "human", ""),
        (HUMAN_NAMES, NO_IDS, "human", "human", ""),
        (HUMAN_NAMES, NO_IDS, "pig", "pig", "--species says so"),
    ],
)
def test_the_parameter_says_what_symbols_do_not(names, ids, asked, species, told):
    found, sentence = species_of(names, ids, asked, "m.h5ad")
    assert found == species
    assert told in sentence
    assert bool(sentence) == (species != "human")


@pytest.mark.parametrize(
    ("names", "ids", "asked", "words"),
    [
        (MOUSE_NAMES, NO_IDS, "human", "symbols are of mouse genes"),
        (MOUSE_NAMES, NO_IDS, "pig", "so mouse"),
        (HUMAN_NAMES, NO_IDS, "mouse", "so human, pig or macaque"),
        (HUMAN_NAMES, [f"ENSG{n:011d}" for n in range(2000)], "rhesus_macaque", "most Ensembl ids begin with ENSG"),
        (HUMAN_NAMES, [f"ENSRNOG{n:011d}" for n in range(2000)], None, "ENSRNOG"),
        (HUMAN_NAMES, [f"ENSABCG{n:011d}" for n in range(2000)], "human", "ENSABCG"),
    ],
)
def test_a_contradiction_and_an_unknown_species_are_refused(names, ids, asked, words):
    with pytest.raises(UserError) as error:
        species_of(names, ids, asked, "m.h5ad")
    assert words in str(error.value)
    assert "m.h5ad" in str(error.value)


# --- names --------------------------------------------------------------------------------------------


def test_mouse_genes_take_the_symbol_of_today():
    genes = unify_other(
        ["Sept4", "Gcg", "ENSMUSG00000000394.1", "old", "Gcg_ENSMUSG00000000394", "eGFP"],
        ["", "", "", "ENSMUSG00000057666", "", ""],
        MOUSE,
        "m",
    )
    assert genes.symbols == ["Septin4", "Gcg", "Gcg", "Gapdh", "Gcg", "eGFP"]
    assert genes.gene_ids == [
        *("ENSMUSG00000020486", "ENSMUSG00000000394", "ENSMUSG00000000394", "ENSMUSG00000057666"),
        *("ENSMUSG00000000394", ""),
    ]
    with pytest.raises(UserError, match="no name"):
        unify_other(["Gcg", " "], ["", ""], MOUSE, "m")


def test_mitochondrial_genes_of_a_pig_are_found():
    genes = unify_other(["ND1", "COX1", "GCG", "ENSSSCG00000000001"], ["", "", "", ""], "pig", "m")
    assert genes.symbols == ["MT-ND1", "MT-CO1", "GCG", "ENSSSCG00000000001"]
    assert human_orthologs(genes.symbols, "pig") == ["MT-ND1", "MT-CO1", "GCG", ""]
    assert mitochondrial_genes(genes.symbols).tolist() == [True, True, False, False]


def test_gene_groups_of_mice():
    assert all(mitochondrial_genes(["mt-Nd1", "mt-Cytb", "mt-Rnr2"]))
    assert all(ribosomal_genes(["Rps6", "Rpl13a", "Rpsa", "Rplp0"]))
    assert not ribosomal_genes(["Rps6ka1"]).any()
    assert all(haemoglobin_genes(["Hba-a1", "Hba-a2", "Hba-x", "Hbb-bs", "Hbb-bt", "Hbb-b1", "Hbb-bh1", "Hbb-y"]))
    assert not haemoglobin_genes(["Hbegf", "Hbp1", "Hbs1l"]).any()
    assert all(immunoglobulin_genes(["Ighg1", "Ighg2b", "Ighg2c", "Ighm", "Igha", "Igkc", "Igkv1-110", "Jchain"]))
    assert not immunoglobulin_genes(["Ighmbp2", "Iglon5"]).any()


# --- reading and embedding ----------------------------------------------------------------------------


def test_a_mouse_is_read_in_its_own_genes_and_said(mouse_h5ad, human, tmp_path):
    stats = import_counts("m", mouse_h5ad, tmp_path / "m.h5ad", MINI, 0.3, True)
    made, given = ad.read_h5ad(tmp_path / "m.h5ad"), ad.read_h5ad(mouse_h5ad)
    assert stats["species"] == "mouse"
    assert list(made.var_names) == list(given.var_names)
    assert (made.X != given.X).nnz == 0
    assert set(made.var[ORTHOLOG]) <= set(human.var_names)
    assert made.var.loc["Gcg"].tolist() == ["ENSMUSG00000000394", "GCG"]
    # this copy was made of orthologs alone
    assert stats["ortholog_genes"] == stats["ortholog_counts"] == 1.0
    assert any("one ortholog of a human gene" in message for message in stats["messages"])


def test_genes_without_an_ortholog_count_for_the_floor(human, tmp_path):
    cells = mouse_copy(human)
    # most counts on genes that no human gene is the one ortholog of
    extra = sparse.csr_matrix(np.full((cells.n_obs, 40), 400, dtype=np.int32))
    names = [name for name in mouse_genes().id_of if name not in orthologs()[MOUSE]][:40]
    few = cells[:, cells.var_names.isin(list(cells.var_names)[:200])]
    ad.AnnData(
        sparse.hstack([few.X, extra]).tocsr(), obs=cells.obs, var=pd.DataFrame(index=[*few.var_names, *names])
    ).write_h5ad(tmp_path / "m.h5ad")
    with pytest.raises(UserError) as error:
        import_counts("m", tmp_path / "m.h5ad", tmp_path / "out.h5ad", MINI, 0.3, True)
    assert "by way of a human ortholog" in str(error.value)
    assert "40 of 240 genes are not the one ortholog" in str(error.value)
    stats = import_counts("m", tmp_path / "m.h5ad", tmp_path / "out.h5ad", MINI, 0.0, True)
    assert stats["gene_match_counts"] < 0.3
    assert stats["ortholog_counts"] == pytest.approx(float(few.X.sum() / (few.X.sum() + extra.sum())), abs=1e-6)


def test_make_names_and_antibodies_in_a_mouse_matrix(mouse_h5ad, tmp_path):
    cells = ad.read_h5ad(mouse_h5ad)
    names = list(cells.var_names)
    # R's make.names, a gene that looks like an antibody, and three antibodies
    names[:2] = ["Hba.a1", "Cd209a"]
    names[-3:] = ["CD3_TotalSeqA", "CD4_TotalSeqA", "CD8_TotalSeqA"]
    cells.var_names = names
    cells.write_h5ad(tmp_path / "m.h5ad")
    matrix = read_matrix(tmp_path / "m.h5ad", vocabulary(MINI))
    assert "Hba-a1" in matrix.symbols
    assert "Cd209a" in matrix.symbols
    assert matrix.feature_types_left_out == {"Antibody Capture": 3}


def test_scgpt_reads_the_orthologs(mouse_h5ad, human, tmp_path):
    """The same bytes as the human cells that the copy was made of, cut to the genes with a mouse ortholog."""
    checkpoint = read_checkpoint(MINI)
    has_ortholog = human.var_names.isin(list(orthologs()[MOUSE].values()))
    cut = human[:12, has_ortholog].copy()
    import_counts("m", mouse_h5ad, tmp_path / "m.counts.h5ad", MINI, 0.3, True)
    with stored(tmp_path / "m.counts.h5ad") as cells:
        normalise_cells(cells, tmp_path / "m.norm.h5ad", "m")
    counts = CountsFile(tmp_path / "m.norm.h5ad")
    ours = Embedder(checkpoint, counts.symbols, sample="m").embed(*counts.rows(0, 12))
    theirs = Embedder(checkpoint, list(cut.var_names), sample="h").embed(sparse.csr_matrix(cut.X), list(cut.obs_names))
    assert np.isfinite(ours).all()
    assert ours.tobytes() == theirs.tobytes()


# --- kept apart ---------------------------------------------------------------------------------------


def test_a_reference_carries_its_species(demo_data, tmp_path):
    reference = ad.read_h5ad(demo_data / "reference.h5ad")[:200]
    mouse_copy(reference).write_h5ad(tmp_path / "reference.h5ad")
    made, stats = import_reference(tmp_path / "reference.h5ad", "cell_type", None, MINI, 0.3)
    assert made.uns["species"] == stats["species"] == "mouse"
    assert ORTHOLOG in made.var
    with pytest.raises(UserError, match="not of human, which --species says"):
        import_reference(tmp_path / "reference.h5ad", "cell_type", None, MINI, 0.3, species="human")


@pytest.mark.parametrize(("species", "of_mouse"), [("human", True), ("mouse", False)])
def test_an_annotator_is_for_its_own_species(species, of_mouse, tmp_path):
    counts = sparse.csr_matrix(np.ones((3, 2), dtype=np.int32))
    read_as = ["GCG", "SST"] if of_mouse else None
    cells = count_data(counts, np.array(["a", "b", "c"]), ["Gcg", "Sst"], ["", ""], read_as)
    write_h5ad(cells, tmp_path / "s.norm.h5ad")
    with pytest.raises(UserError, match=f"of {species} cells, and the sample is not"):
        check_species(species, tmp_path / "s.norm.h5ad", tmp_path)
    check_species("human" if species == "mouse" else "mouse", tmp_path / "s.norm.h5ad", tmp_path)


def test_the_bundled_annotator_refuses_a_mouse(mouse_h5ad, tmp_path, script):
    import_counts("m", mouse_h5ad, tmp_path / "m.norm.h5ad", MINI, 0.3, True)
    np.save(tmp_path / "m.000000000.embedding.npy", np.zeros((120, 8), dtype=np.float32))
    done = script(
        "annotate.py", "--sample", "m", "--h5ad", "m.norm.h5ad", "--embedding", "m.000000000.embedding.npy",
        "--annotator", ROOT / "assets" / "annotators" / "pbmc", "--scgpt-model", MINI,
    )  # fmt: skip
    assert done.returncode == 65
    assert "The annotator is of human cells, and the sample is not." in done.stderr
    assert not list(tmp_path.glob("*.parquet"))


def test_the_human_profiles_say_nothing_of_another_species(human):
    counts = sparse.csr_matrix(human.X)
    # the names of a pig's genes are those of human ones: the names alone would give opinions
    table, figures = second_opinion(
        Library.read(ROOT / "assets" / "cell_profiles"), lambda: [counts], list(human.var_names),
        [""] * human.n_vars, list(human.obs_names), human=False,
    )  # fmt: skip
    assert (table["spikgpt_second_opinion"] == "").all()
    assert figures["with_opinion"] == 0
    assert "human" in figures["messages"][0]


def test_species_of_the_schema_are_those_of_the_package():
    schema = json.loads((ROOT / "nextflow_schema.json").read_text(encoding="utf-8"))
    parameter = next(g["properties"]["species"] for g in schema["$defs"].values() if "species" in g["properties"])
    assert parameter["enum"] == list(SPECIES)
