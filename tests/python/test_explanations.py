"""tables/explanations.tsv: which clusters it explains, by which genes, the same however the cohort is read."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from annotator_cells import made_cells
from spikgpt import UNKNOWN
from spikgpt.annotator.annotation import Annotator
from spikgpt.annotator.train import train_annotator
from spikgpt.annotator.training_set import Reference
from spikgpt.base.columns import OUTSIDE_REFERENCE
from spikgpt.cohort import explanations as module
from spikgpt.cohort.explanations import EXPLANATION_COLUMNS, TOP, explained, explanations

PLACE = {"B cell": 0, "NK cell": 20, "T cell": 40}
"""First of the 20 genes that `made_cells` raises in a type."""


@pytest.fixture(scope="module")
def annotator() -> Annotator:
    data, embedding = made_cells(dict.fromkeys(PLACE, 60), seed=1, name="reference")
    reference = Reference.of(
        data.layers["counts"], list(data.var_names), embedding, data.obs["cell_type"], data.obs["batch"],
        data.obs_names, "expression",
    )  # fmt: skip
    return train_annotator(
        reference, scgpt={"name": "none", "sha256": ""}, unknown_rate=0.05, features="expression", seed=0, threads=1,
        leave_one_out=False,
    )[0]  # fmt: skip


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> tuple[ad.AnnData, pd.DataFrame]:
    """Two samples; clusters are types, one is Unknown. The second sample did not measure GENE0 and GENE1."""
    parts = []
    for seed, name in ((5, "one"), (6, "two")):
        data, _ = made_cells({**dict.fromkeys(PLACE, 30), "platelet": 20}, seed=seed, name=name)
        data.obs["sample"] = name
        parts.append(data)
    second = parts[1].layers["counts"].tolil()
    second[:, :2] = 0
    parts[1].layers["counts"] = second.tocsr()
    data = ad.concat(parts)
    data.varm["measured"] = pd.DataFrame(
        {"one": True, "two": [name not in ("GENE0", "GENE1") for name in data.var_names]}, index=data.var_names
    )
    truth = data.obs["cell_type"].to_numpy(dtype=object)
    label = np.where(truth == "platelet", UNKNOWN, truth)
    cells = pd.DataFrame(
        {
            "sample": data.obs["sample"].to_numpy(),
            "barcode": data.obs_names,
            "spikgpt_cluster": pd.Series(truth).map({"B cell": "0", "NK cell": "1", "T cell": "2", "platelet": "3"}),
            "spikgpt_cluster_cell_type": label,
            "spikgpt_cell_type": label,
            "spikgpt_best_match": np.where(truth == "platelet", "B cell", truth),
            "spikgpt_unknown_reason": np.where(truth == "platelet", OUTSIDE_REFERENCE.name, ""),
            "spikgpt_p_value": 0.5,
        }
    )
    return data, cells


def written(folder, data: ad.AnnData):
    path = folder / "cohort.h5ad"
    data.write_h5ad(path)
    return path


def test_clusters_are_explained_by_the_genes_of_their_type(annotator, cohort, tmp_path):
    data, cells = cohort
    table = explanations(written(tmp_path, data), cells, annotator, None)
    assert tuple(table.columns) == EXPLANATION_COLUMNS
    assert table.groupby("cluster")["cell_type"].first().to_dict() == {"0": "B cell", "1": "NK cell", "2": "T cell"}
    assert (table["cells"] == 60).all()
    markers = annotator.config["markers"]["types"]
    for _, mine in table.groupby("cluster"):
        name = mine["cell_type"].iloc[0]
        own = {f"GENE{PLACE[name] + number}" for number in range(20)}
        assert list(mine["rank"]) == list(range(1, len(mine) + 1))
        assert len(mine) <= TOP
        assert set(mine["gene"][:8]) <= own
        assert mine["attribution"].is_monotonic_decreasing
        assert 0 < mine["share_percent"].sum() <= 100
        seen = mine[mine["gene"].isin(own)]
        assert (seen["mean_in_cluster"] > seen["mean_in_other_types"]).all()
        assert np.allclose(seen["mean_in_cluster"], seen["mean_in_type"], atol=0.4)
        listed = {marker["gene"] for marker in markers[name]}
        assert set(mine["gene"][mine["reference_marker"] == "yes"]) == set(mine["gene"]) & listed


def test_means_are_of_the_cells_whose_sample_measured_the_gene(annotator, cohort, tmp_path):
    data, cells = cohort
    table = explanations(written(tmp_path, data), cells, annotator, None)
    mine = table[(table["cluster"] == "0") & table["gene"].isin(["GENE0", "GENE1"])]
    assert len(mine)
    counts = data.layers["counts"].toarray()
    rows = ((cells["spikgpt_cell_type"] == "B cell") & (cells["sample"] == "one")).to_numpy()
    for row in mine.itertuples():
        gene = data.var_names.get_loc(row.gene)
        known = [data.var_names.get_loc(name) for name in annotator.genes]
        expected = np.log1p(1e4 * counts[rows, gene].sum() / counts[np.ix_(rows, known)].sum())
        assert row.mean_in_cluster == pytest.approx(expected)


def test_neither_blocks_nor_the_order_of_cells_change_the_table(annotator, cohort, tmp_path, monkeypatch):
    data, cells = cohort
    whole = explanations(written(tmp_path, data), cells, annotator, None)
    # within the samples, which follow each other
    order = np.lexsort((np.random.default_rng(0).permutation(len(cells)), cells["sample"]))
    monkeypatch.setattr(module, "BLOCK", 2_000)
    again = explanations(
        written(tmp_path, data[order].copy()), cells.iloc[order].reset_index(drop=True), annotator, None
    )
    pd.testing.assert_frame_equal(again, whole, check_exact=False, rtol=1e-9)


def test_labels_of_the_profiles_and_unknown_clusters_have_no_row(annotator, cohort, tmp_path):
    data, cells = cohort
    path = written(tmp_path, data)
    assert explanations(path, cells, None, None).empty
    by_profiles = cells.assign(spikgpt_p_value=np.where(cells["sample"] == "two", np.nan, 0.5))
    table = explanations(path, by_profiles, annotator, None)
    assert (table["cells"] == 30).all()
    none = explanations(path, cells.assign(spikgpt_p_value=np.nan), annotator, None)
    assert none.empty
    assert tuple(none.columns) == EXPLANATION_COLUMNS


def test_a_cell_with_another_label_than_its_cluster_explains_nothing(cohort):
    _, cells = cohort
    other = cells.copy()
    other.loc[other["spikgpt_cluster"] == "1", "spikgpt_cluster_cell_type"] = "T cell"
    clusters, groups = explained(other, list(PLACE), np.ones(len(other), dtype=bool))
    assert clusters == [("0", "B cell"), ("2", "T cell")]
    assert set(groups[other["spikgpt_cluster"] == "1"]) == {-1}
    assert set(groups[other["spikgpt_cluster"] == "2"]) == {1}
