"""What clusters and types show of marker genes, and the heat maps of it."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from spikgpt.annotator.lineages import LINEAGES
from spikgpt.cohort.marker_expression import BEST, EXPRESSION_COLUMNS, Group, expression_table, genes_to_show
from spikgpt.cohort.markers import find_markers
from spikgpt.report.markers import markers_of_clusters, markers_of_types
from test_cohort import ODD, annotated, joined, small, small_table  # noqa: F401
from test_report import given, head, inputs  # noqa: F401


def test_best_markers_then_lineages():
    markers = pd.DataFrame(
        [("0", gene) for gene in ("A", "CD8A", "B", "late")] + [("1", gene) for gene in ("B", "C")],
        columns=["cluster", "gene"],
    )
    assert BEST == 3
    assert genes_to_show(markers, ["A", "B", "C", "CD8A", "CD8B", "late"]) == {
        "A": "cluster 0",
        "CD8A": "cluster 0, CD8 T lineage",
        "B": "cluster 0, cluster 1",
        "C": "cluster 1",
        "CD8B": "CD8 T lineage",
    }


def test_mean_and_share_are_of_the_cells_that_measured_the_gene():
    markers = pd.DataFrame({"cluster": ["0"], "gene": ["A"]})
    groups = [Group("cluster", "0", "T", 10), Group("type", "T", "T", 4)]
    cells, total, above = np.array([[5.0, 10], [0, 4]]), np.array([[10.0, 0], [0, 0]]), np.array([[4.0, 0], [0, 0]])
    made = expression_table(markers, groups, ["A", "other"], cells, total, above)
    assert list(made.columns) == list(EXPRESSION_COLUMNS)
    assert list(made["cells"]) == [10, 4]
    assert list(made["mean"].iloc[:1]) == [2.0]
    assert list(made["pct"].iloc[:1]) == [80.0]
    assert made[["mean", "pct"]].iloc[1].isna().all()


def test_every_number_is_that_of_the_cohort(joined):  # noqa: F811
    markers, shown = find_markers(joined)
    cells = ad.read_h5ad(joined)
    measured = cells.varm["measured"]
    groups = cells.obs["spikgpt_cluster"].nunique() + cells.obs["spikgpt_cell_type"].nunique()
    genes = set(markers.groupby("cluster")["gene"].head(BEST))
    assert len(shown) == groups * len(genes)
    for row in shown.itertuples(index=False):
        of = cells.obs["spikgpt_cluster" if row.of == "cluster" else "spikgpt_cell_type"] == row.group
        assert row.cells == of.sum()
        has = np.array([bool(measured.loc[row.gene, sample]) for sample in cells.obs["sample"]])
        values = cells[of.to_numpy() & has, row.gene].X.toarray().ravel()
        assert row.mean == pytest.approx(values.mean(), rel=1e-5)
        assert row.pct == pytest.approx(100 * (values > 0).mean(), rel=1e-5)


def test_heat_maps_hold_every_cluster_and_type(inputs):  # noqa: F811
    clusters, types = markers_of_clusters(inputs), markers_of_types(inputs)
    table = inputs.tables["marker_expression.tsv"]
    genes = list(dict.fromkeys(table["gene"]))
    assert [row.split()[0] for row in clusters.data] == list(inputs.tables["evidence.tsv"]["cluster"])
    assert list(next(iter(clusters.data.values()))) == genes
    assert len(types.data) == inputs.cells["spikgpt_cell_type"].nunique()
    assert list(types.data)[-1] == "Unknown"
    # a type's name is no markup
    assert not any("<script>" in row for section in (clusters, types) for row in section.data)
    first = table.iloc[0]
    assert clusters.data[next(iter(clusters.data))][first["gene"]] == pytest.approx(float(first["pct"]), abs=0.051)
    inputs.tables["marker_expression.tsv"] = table.iloc[:0]
    assert markers_of_clusters(inputs) is None
    del inputs.tables["marker_expression.tsv"]
    assert markers_of_types(inputs) is None


def test_lineage_genes_are_shown_where_they_were_measured():
    markers = pd.DataFrame({"cluster": [], "gene": []}, dtype=str)
    genes = [gene for lineage in LINEAGES for gene in lineage.genes]
    assert list(genes_to_show(markers, genes)) == genes
