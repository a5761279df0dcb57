"""Gene names: one symbol a gene, and a wrong species is noticed."""

import json

import numpy as np
import pytest
from scipy import sparse
from spikgpt.base.errors import UserError
from spikgpt.base.genes import (
    HGNC,
    GeneNames,
    Spelling,
    check_match,
    guess_why,
    haemoglobin_genes,
    human_genes,
    match,
    mitochondrial_genes,
    ribosomal_genes,
    sum_duplicates,
    symbol_of_id,
    unify,
    vocabulary,
)

CD3D, MS4A1, TENT5C = "ENSG00000167286", "ENSG00000156738", "ENSG00000183508"
TABLE = [symbol for symbol in dict.fromkeys(symbol_of_id().values()) if symbol.isalnum() and symbol.isupper()]


def test_table_is_gencode_44():
    assert len(symbol_of_id()) == 62754
    assert symbol_of_id()[CD3D] == "CD3D"


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["CD3D", "MS4A1"], None),
        ([CD3D, MS4A1], None),
        ([f"{CD3D}.12", f"{MS4A1}.3"], None),
        (["CD3D", "MS4A1"], [f"{CD3D}.12", MS4A1]),
        ([CD3D, MS4A1], [CD3D, MS4A1]),
        ([f"CD3D_{CD3D}", f"{MS4A1}.2|MS4A1"], None),
        ([" CD3D", "MS4A1 "], ["", ""]),
    ],
)
def test_any_naming_gives_the_same_genes(names, ids):
    genes = unify(names, frozenset({"CD3D", "MS4A1"}), ids)
    assert genes.symbols == ["CD3D", "MS4A1"]
    assert genes.gene_ids == [CD3D, MS4A1]


def test_hgnc_names():
    genes = human_genes()
    assert len(genes) > 39_000
    assert genes["CXCL8"].gene_id == "ENSG00000169429"
    assert "IL8" in genes["CXCL8"].previous
    # a name says nothing when it is a gene's current symbol, or meant several
    older = [name for gene in genes.values() for name in (*gene.previous, *gene.aliases)]
    assert len(older) == len(set(older))
    assert not set(older) & genes.keys()
    head = HGNC.read_text(encoding="utf-8").splitlines()[:3]
    assert "licence CC0" in head[1]
    assert "sha256 " in head[2]


@pytest.mark.parametrize("vocab", [{"TENT5C"}, {"FAM46C"}, {"FAM46C", "TENT5C"}, set()])
@pytest.mark.parametrize("ids", [[TENT5C], None])
@pytest.mark.parametrize("name", ["FAM46C", "TENT5C", TENT5C])
def test_a_gene_has_one_symbol_whatever_the_file_calls_it(vocab, ids, name):
    genes = unify([name], frozenset(vocab), ids)
    assert (genes.symbols, genes.gene_ids) == (["TENT5C"], [TENT5C])
    spelled = Spelling(frozenset(vocab)).of("TENT5C")
    assert spelled == ("TENT5C" if "TENT5C" in vocab else "FAM46C" if vocab else None)


@pytest.mark.parametrize(
    ("name", "vocab", "symbol"),
    [
        ("IL8", {"CXCL8"}, "CXCL8"),
        ("IL8", {"IL8"}, "CXCL8"),
        ("SEPT4", {"SEPT4"}, "SEPTIN4"),
        # an alias is followed where the model does not know it as it is
        ("GCP1", {"CXCL8"}, "CXCL8"),
        ("GCP1", {"GCP1"}, "GCP1"),
        ("MARC1", set(), "MTARC1"),
        # a current symbol is not touched
        ("CD3D", set(), "CD3D"),
        # names that several genes had
        ("NAP1", {"CXCL8"}, "NAP1"),
        ("il8", {"IL8"}, "il8"),
    ],
)
def test_previous_symbols_and_aliases(name, vocab, symbol):
    assert unify([name], frozenset(vocab)).symbols == [symbol]


def test_a_symbol_that_only_the_model_and_the_file_know_stays():
    clone = "RP11-34P13.7"
    assert unify([clone], frozenset({clone}), ["ENSG00000238009"]).symbols == [clone]
    assert unify([clone], frozenset(), ["ENSG00000238009"]).symbols == ["ENSG00000238009"]


def test_old_spellings_of_the_model_count_as_matched():
    found = match(["CXCL8", "SEPTIN4", "MADEUP"], np.array([6, 3, 1]), frozenset({"IL8", "SEPT4", "CD3D", "CD4"}))
    assert (found.genes, found.counts, found.vocabulary) == (pytest.approx(2 / 3), 0.9, 0.5)


def test_duplicates_of_one_gene_are_summed():
    genes = unify(["IL8", "CXCL8", "ENSG00000169429.13"], frozenset({"IL8"}))
    summed, symbols, ids, _messages = sum_duplicates(sparse.csr_matrix(np.int32([[1, 2, 4]])), genes)
    assert (symbols, ids, summed.toarray().tolist()) == (["CXCL8"], ["ENSG00000169429"], [[7]])


def test_unknown_ids_and_symbols_stay():
    genes = unify(["ENSG99999999999", "MYGENE", "ENSMUSG00000032094"], frozenset())
    assert genes.symbols == ["ENSG99999999999", "MYGENE", "ENSMUSG00000032094"]
    assert genes.gene_ids == ["ENSG99999999999", "", "ENSMUSG00000032094"]


def test_symbols_of_many_genes_get_no_id():
    assert unify(["Y_RNA"], frozenset()).gene_ids == [""]


def test_nameless_genes_are_refused():
    with pytest.raises(UserError, match=r"1 genes have no name(?s:.)*gene number 2"):
        unify(["CD3D", " "], frozenset())


def test_counts_of_one_symbol_are_added_up():
    counts = sparse.csr_matrix(np.array([[1, 2, 4, 8], [0, 0, 1, 0]], dtype=np.int32))
    genes = GeneNames(["A", "B", "A", "A"], ["", "id2", "id3", "id4"], "file", [])
    summed, symbols, ids, messages = sum_duplicates(counts, genes)
    assert symbols == ["A", "B"]
    assert ids == ["id3", "id2"]
    assert summed.toarray().tolist() == [[13, 2], [1, 0]]
    assert summed.dtype == np.int32
    assert messages == ["3 rows of genes share 1 symbols; their counts were added up (A)."]


def test_vocabulary_leaves_special_tokens_out(tmp_path):
    (tmp_path / "vocab.json").write_text(json.dumps({"<pad>": 0, "<cls>": 1, "CD3D": 2}))
    assert vocabulary(tmp_path) == {"CD3D"}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"a": 1'])
def test_broken_vocabularies_are_refused(tmp_path, content):
    with pytest.raises(UserError, match="vocabulary"):
        vocabulary(tmp_path)
    (tmp_path / "vocab.json").write_text(content)
    with pytest.raises(UserError, match="vocabulary"):
        vocabulary(tmp_path)


# A model of 8,000 genes and one of 30,000; matrices of all genes, of 20,000, and of a panel of 1,300.
SMALL, LARGE = frozenset(TABLE[::4][:8000]), frozenset(TABLE[:30_000])


@pytest.mark.parametrize("vocab", [SMALL, LARGE], ids=["small model", "large model"])
@pytest.mark.parametrize(
    "symbols", [TABLE, TABLE[::2][:20_000], [s for s in TABLE if s in SMALL][:1300]], ids=["all", "20k", "panel"]
)
def test_human_matrices_pass_with_any_model(vocab, symbols):
    totals = np.random.default_rng(0).negative_binomial(0.3, 0.001, len(symbols))
    found = check_match(symbols, [""] * len(symbols), totals, vocab, 0.3, "m")
    assert found.best >= 0.3
    assert 0 <= found.genes <= 1


@pytest.mark.parametrize("vocab", [SMALL, LARGE], ids=["small model", "large model"])
@pytest.mark.parametrize(
    ("names", "told"),
    [
        ([symbol.title() for symbol in TABLE[:5000] if symbol.title() != symbol], "mouse (or rat)"),
        ([f"ENSMUSG{i:011d}" for i in range(5000)], "Ensembl ids of mouse"),
        ([f"ENSDARG{i:011d}" for i in range(5000)], "Ensembl ids of zebrafish"),
        ([f"ENSABCG{i:011d}" for i in range(5000)], "Ensembl ids of another species"),
        ([f"ENST{i:011d}.1" for i in range(5000)], "transcripts"),
        ([f"NM_{i:06d}" for i in range(5000)], "transcripts"),
        ([f"{200_000 + i}_s_at" for i in range(5000)], "array probes"),
        ([f"ILMN_{i:07d}" for i in range(5000)], "array probes"),
        ([str(i) for i in range(5000)], "numbers"),
        (["".join(np.random.default_rng(i).choice(list("ACGT"), 16)) + "-1" for i in range(2000)], "swapped"),
        ([f"ENSG9{i:010d}" for i in range(5000)], "outdated or newer"),
        ([symbol.lower() for symbol in TABLE[:5000]], "lower case"),
        (["Foo_Bar", "Baz Qux"], "Another species"),
    ],
)
def test_other_genes_are_refused_with_names_and_a_guess(vocab, names, told):
    totals = np.arange(len(names), 0, -1)
    with pytest.raises(UserError) as error:
        check_match(names, [""] * len(names), totals, vocab, 0.3, "sample.h5ad")
    text = str(error.value)
    assert told in text
    assert "sample.h5ad" in text
    assert ", ".join(names[:10]) in text
    assert "at least 30%" in text


def test_case_is_never_folded():
    assert match(["Cd3d", "cd3d"], np.array([5, 5]), frozenset({"CD3D"})).best == 0


def test_shares_of_genes_counts_and_vocabulary():
    found = match(["A", "B", "C", "D"], np.array([6, 2, 2, 0]), frozenset({"A", "D", "X", "Y"}))
    assert (found.genes, found.counts, found.vocabulary) == (pytest.approx(1 / 3), 0.6, 0.5)
    assert found.best == 0.6
    nothing = match([], np.array([]), frozenset())
    assert (nothing.genes, nothing.counts, nothing.vocabulary) == (0, 0, 0)


def test_ids_of_another_species_are_seen_beside_symbols():
    assert "mouse (ENSMUSG" in guess_why(["Foo1", "Foo2"], ["ENSMUSG00000032094", "ENSMUSG00000032095"], frozenset())[0]


def test_gene_groups():
    symbols = [
        "MT-ND1",
        "MTOR",
        "mt-Co1",
        "RPS6",
        "RPL13A",
        "RPLP0",
        "RPSA",
        "RPS6KA1",
        "RPL7L1",
        "HBA1",
        "HBB",
        "HBG2",
    ]
    symbols += ["HBEGF", "HBP1", "HBS1L", "HBZ", "RPS4X", "RPS27L", "RPSAP58"]
    assert [s for s, is_in in zip(symbols, mitochondrial_genes(symbols), strict=True) if is_in] == ["MT-ND1", "mt-Co1"]
    ribosomal = [s for s, is_in in zip(symbols, ribosomal_genes(symbols), strict=True) if is_in]
    assert {"RPS6", "RPL13A", "RPLP0", "RPSA", "RPS4X"} <= set(ribosomal)
    assert "RPS6KA1" not in ribosomal
    assert [s for s, is_in in zip(symbols, haemoglobin_genes(symbols), strict=True) if is_in] == [
        "HBA1", "HBB", "HBG2", "HBZ",
    ]  # fmt: skip
