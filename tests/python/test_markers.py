"""Marker genes of clusters."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from spikgpt.cohort import markers
from spikgpt.cohort.files import join_cohort
from spikgpt.cohort.markers import MARKER_COLUMNS, find_markers
from test_cohort import annotated, joined, small, small_table, write_small  # noqa: F401


def test_markers_are_scanpys_t_test(joined, monkeypatch, tmp_path):  # noqa: F811
    import scanpy as sc

    data = sc.read_h5ad(joined)
    data = data[:, (data.var["n_samples_measured"] == 3).to_numpy()].copy()
    joined = tmp_path / "shared.h5ad"
    data.write_h5ad(joined)
    found = find_markers(joined)[0]
    sc.tl.rank_genes_groups(data, "spikgpt_cluster", method="t-test", pts=True)
    theirs = sc.get.rank_genes_groups_df(data, None)
    theirs = theirs.set_index(["group", "names"])
    for row in found.itertuples(index=False):
        other = theirs.loc[(row.cluster, row.gene)]
        assert row.score == pytest.approx(other["scores"], rel=1e-4)
        assert row.log2fc == pytest.approx(other["logfoldchanges"], rel=1e-3, abs=1e-4)
        assert row.p_adj == pytest.approx(other["pvals_adj"], rel=1e-3)
        assert row.pct_in == pytest.approx(100 * other["pct_nz_group"], abs=1e-4)
        assert row.pct_out == pytest.approx(100 * other["pct_nz_reference"], abs=1e-4)
    monkeypatch.setattr(markers, "BLOCK", 60)
    pd.testing.assert_frame_equal(find_markers(joined)[0], found)


def test_the_planted_gene_leads_its_cluster(joined):  # noqa: F811
    found = find_markers(joined)[0]
    assert list(found.columns) == list(MARKER_COLUMNS)
    types = ad.read_h5ad(joined).obs.groupby("spikgpt_cluster", observed=True)["spikgpt_cluster_cell_type"].first()
    first = found.groupby("cluster")["gene"].first()
    assert first[types.index[types == "Unknown"][0]] == "mark_3"
    assert first[types.index[types == "T cell"][0]] == "mark_0"
    assert set(first) == {f"mark_{k}" for k in range(4)}
    assert (found["score"] > 0).all()
    assert (found.groupby("cluster").size() <= 50).all()


def test_one_cluster_or_one_cell_has_no_markers(tmp_path):
    for name, sizes in (("one", {"s": 1}), ("three", {"s": 3})):
        tiny = write_small(tmp_path / name, sizes)
        join_cohort(tmp_path / f"{name}.h5ad", tiny.annotate(tiny.cluster(), tmp_path / f"{name}_out"))
        found = find_markers(tmp_path / f"{name}.h5ad")[0]
        assert list(found.columns) == list(MARKER_COLUMNS)
        assert np.isfinite(found["score"].astype(float)).all()


def test_genes_that_a_sample_did_not_measure_make_no_difference(tmp_path):
    """One sample lacks the gene that marks a cluster: its zeros are no cells without the gene."""
    cohort = write_small(tmp_path / "whole", {"a": 60, "b": 60})
    files = cohort.annotate(cohort.cluster(), tmp_path / "out")
    join_cohort(tmp_path / "whole.h5ad", files)
    whole = find_markers(tmp_path / "whole.h5ad")[0]
    lacking = ad.read_h5ad(files[1])
    lacking[:, [name for name in lacking.var_names if name != "mark_0"]].copy().write_h5ad(files[1])
    join_cohort(tmp_path / "part.h5ad", files)
    made = ad.read_h5ad(tmp_path / "part.h5ad")
    assert made.var["n_samples_measured"]["mark_0"] == 1
    assert (made.var["n_samples_measured"].drop(["mark_0", "only_a", "only_b"]) == 2).all()
    assert made.varm["measured"].loc["mark_0"].tolist() == [True, False]
    assert not made.var.loc["mark_0", "highly_variable"]
    # the markers of the gene are those of the first sample alone
    join_cohort(tmp_path / "one.h5ad", files[:1])
    part = find_markers(tmp_path / "part.h5ad")[0].set_index(["cluster", "gene"])
    one = find_markers(tmp_path / "one.h5ad")[0].set_index(["cluster", "gene"])
    both = [at for at in part.index if at[1] == "mark_0"]
    assert both
    for at in both:
        for column in ("score", "log2fc", "pct_in", "pct_out"):
            assert part.loc[at, column] == pytest.approx(one.loc[at, column])
    assert set(part.index) <= set(whole.set_index(["cluster", "gene"]).index) | set(one.index)
