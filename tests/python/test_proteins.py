"""Antibody and hashtag counts: read beside the genes, carried to the cells that are left, joined over samples."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from spikgpt.cohort.files import join_cohort, run_facts, write_sample
from spikgpt.read_input.matrix import open_matrix
from spikgpt.read_input.proteins import write_proteins
from test_cohort import RUN, small, small_table  # noqa: F401
from test_import import GENES, IDS, SYMBOLS, VOCAB, barcodes, counts, write_10x_h5  # noqa: F401

TYPES = (
    ["Gene Expression"] * 100 + ["Antibody Capture"] * 12 + ["Multiplexing Capture"] * 3 + ["CRISPR Guide Capture"] * 5
)
NAMES = [*SYMBOLS[:100], *(f"CD{k}" for k in range(11)), "CD3", *(f"tag {k}" for k in range(3)), *SYMBOLS[115:]]


def read_back(folder, matrix, kept):
    with open_matrix(matrix, VOCAB) as found:
        messages = write_proteins(found.read, found.barcodes, kept, folder / "p.h5ad")
    return messages, folder / "p.h5ad"


def test_antibodies_and_hashtags_are_kept_and_guides_are_not(tmp_path, counts, barcodes, monkeypatch):  # noqa: F811
    matrix = write_10x_h5(tmp_path / "m.h5", counts, barcodes, IDS, NAMES, TYPES, ["GRCh38"] * GENES)
    monkeypatch.setattr("spikgpt.read_input.sources.BLOCK", 500)
    kept = np.arange(len(barcodes)) % 3 != 0
    messages, path = read_back(tmp_path, matrix, kept)
    assert messages == []
    made = ad.read_h5ad(path)
    assert list(made.obs_names) == list(np.array(barcodes)[kept])
    np.testing.assert_array_equal(made.X.toarray(), counts.toarray()[kept, 100:115])
    assert list(made.var_names) == [*(f"CD{k}" for k in range(11)), "CD3-2", "tag 0", "tag 1", "tag 2"]
    assert list(made.var["feature_type"]) == TYPES[100:115]


def test_custom_features_are_hashtags_by_their_names_alone(tmp_path, counts, barcodes):  # noqa: F811
    """Ten hashtags as users name them, and two other custom features; every hashtag's counts are those of the file."""
    tags = [
        "Hashtag_1", "HTO-2", "hto3-ACCCACCAGTAAGAC", "anti-human_Hashtag4", "Human HTO5", "CMO306", "LMO_7",
        "SampleTag08", "s9_HTO", "hashtag 10",
    ]  # fmt: skip
    names = [*SYMBOLS[: GENES - 12], *tags, "guide_KRAS_1", "PHOTON"]
    types = ["Gene Expression"] * (GENES - 12) + ["Custom"] * 12
    ids = [*IDS[: GENES - 12], *names[GENES - 12 :]]
    matrix = write_10x_h5(tmp_path / "m.h5", counts, barcodes, ids, names, types, ["GRCh38"] * GENES)
    messages, path = read_back(tmp_path, matrix, np.ones(len(barcodes), dtype=bool))
    assert messages == []
    made = ad.read_h5ad(path)
    assert list(made.var_names) == tags
    assert set(made.var["feature_type"]) == {"Custom"}
    np.testing.assert_array_equal(made.X.toarray(), counts.toarray()[:, GENES - 12 : GENES - 2])


def test_a_matrix_of_genes_alone_writes_nothing(tmp_path, counts, barcodes):  # noqa: F811
    matrix = write_10x_h5(tmp_path / "m.h5", counts, barcodes, IDS, SYMBOLS, ["Gene Expression"] * GENES, [""] * GENES)
    messages, path = read_back(tmp_path, matrix, np.ones(len(barcodes), dtype=bool))
    assert messages == []
    assert not path.exists()


def test_values_that_are_no_counts_are_told_and_not_carried(tmp_path, counts, barcodes):  # noqa: F811
    values = counts.toarray().astype(np.float32)
    values[:, 100:] *= 0.7
    matrix = write_10x_h5(tmp_path / "m.h5", values, barcodes, IDS, NAMES, TYPES, ["GRCh38"] * GENES)
    messages, path = read_back(tmp_path, matrix, np.ones(len(barcodes), dtype=bool))
    assert "not carried" in messages[0]
    assert "fractions" in messages[0]
    assert not path.exists()


@pytest.fixture
def proteins(small, tmp_path):  # noqa: F811
    """Files of two of the three samples: more cells than are left, in another order; one feature in common."""
    made = {}
    for sample, names in (("s2", ["CD3", "CD4"]), ("s10", ["CD19", "CD3"])):
        cells = ad.read_h5ad(small.folder / f"{sample}.norm.h5ad").obs_names
        order = [*cells[::-1], "gone-1"]
        x = np.random.default_rng(len(made)).poisson(3, (len(order), 2)).astype(np.int32)
        var = pd.DataFrame({"feature_type": "Antibody Capture"}, index=pd.Index(names, name="feature"))
        data = ad.AnnData(sp.csr_matrix(x), pd.DataFrame(index=order), var)
        data.write_h5ad(tmp_path / f"{sample}.protein.h5ad", convert_strings_to_categoricals=False)
        made[sample] = data.to_df()
    return made


def test_cells_keep_their_counts_and_other_samples_have_none(small, small_table, proteins, tmp_path):  # noqa: F811
    from spikgpt.base.names import read_embeddings

    vectors = read_embeddings(small.files(".embedding.npy"))
    for sample in small.samples:
        source = tmp_path / f"{sample}.protein.h5ad"
        write_sample(
            tmp_path / f"{sample}.h5ad", small.folder / f"{sample}.norm.h5ad", vectors[sample],
            pd.read_parquet(small.folder / f"{sample}.annotation.parquet"),
            pd.read_parquet(small.folder / f"{sample}.second_opinion.parquet"),
            small_table, run_facts(RUN, {"annotator_sha256": "a", "scgpt_sha256": "b"}), sample, {},
            source if source.exists() else None,
        )  # fmt: skip
    one = ad.read_h5ad(tmp_path / "s2.h5ad")
    np.testing.assert_array_equal(one.obsm["protein"], proteins["s2"].loc[one.obs_names])
    assert list(one.uns["protein"]["names"]) == ["CD3", "CD4"]
    assert "protein" not in ad.read_h5ad(tmp_path / "a.b-c.h5ad").obsm
    join_cohort(tmp_path / "cohort.h5ad", [tmp_path / f"{sample}.h5ad" for sample in small.samples])
    cohort = ad.read_h5ad(tmp_path / "cohort.h5ad")
    assert list(cohort.uns["protein"]["names"]) == ["CD19", "CD3", "CD4"]
    assert list(cohort.uns["protein"]["feature_types"]) == ["Antibody Capture"] * 3
    of = cohort.obs["sample"].astype(str).to_numpy()
    assert np.isnan(cohort.obsm["protein"][of == "a.b-c"]).all()
    for sample, columns in (("s2", [1, 2]), ("s10", [0, 1])):
        own = cohort.obsm["protein"][of == sample]
        names = [name.rsplit(":", 1)[0] for name in cohort.obs_names[of == sample]]
        np.testing.assert_array_equal(own[:, columns], proteins[sample].loc[names])
        assert np.isnan(np.delete(own, columns, axis=1)).all()
