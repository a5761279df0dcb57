"""Marker genes of clusters."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from spikgpt.cohort import markers
from spikgpt.cohort.files import join_cohort
from spikgpt.cohort.markers import MARKER_COLUMNS, find_markers
from test_cohort import annotated, joined, small, small_table, write_small  # noqa: F401


def test_markers_are_scanpys_t_test(joined, monkeypatch):  # noqa: F811
    import scanpy as sc

    found = find_markers(joined)
    data = sc.read_h5ad(joined)
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
    pd.testing.assert_frame_equal(find_markers(joined), found)


def test_the_planted_gene_leads_its_cluster(joined):  # noqa: F811
    found = find_markers(joined)
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
        found = find_markers(tmp_path / f"{name}.h5ad")
        assert list(found.columns) == list(MARKER_COLUMNS)
        assert np.isfinite(found["score"].astype(float)).all()
