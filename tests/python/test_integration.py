"""Integration by Harmony: when it is used, what it changes, and what it leaves alone."""

from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from spikgpt.annotator.lineages import WrongLineage
from spikgpt.base.names import read_embeddings
from spikgpt.base.tsv import read_tsv, write_tsv
from spikgpt.cohort.batch_mixing import MIXING_COLUMNS, batch_mixing, read_and_score
from spikgpt.cohort.clusters import cells_of_samples, cluster_cohort, cluster_embedding, write_cohort_cells
from spikgpt.cohort.contradictions import contradiction_table
from spikgpt.cohort.files import join_cohort
from spikgpt.cohort.integration import MIXED, Integration, decide, read_integration, uses_harmony
from spikgpt.report.integration import clusters_of_one_batch
from spikgpt.report.summary import in_short, warnings_and_remarks
from spikgpt.report.types import BEFORE, cell_map
from test_batch_mixing import cells
from test_cohort import annotated, joined, small, small_table  # noqa: F401
from test_report import given, head, inputs  # noqa: F401


def scores(before: float, after: float, lost: float = 0.0, clisi: float = 0.98) -> pd.DataFrame:
    """Two types whose batches mix so far before and after, and a cLISI of type B that falls by `lost`."""
    rows = []
    for name, ilisi, fallen in (("scGPT", before, 0.0), ("Harmony", after, lost)):
        rows += [
            (name, "all", 400, 2, 3, ilisi, 1.0, 0.5, clisi),
            (name, "B", 200, 2, 3, 0.8 * ilisi, 0.8, 0.5, clisi - fallen),
            (name, "T", 100, 2, 3, 0.5 * ilisi, 0.5, 0.5, clisi),
            (name, "Unknown", 100, 2, 3, 1 - ilisi, 1.0, 0.5, clisi - 0.9 * (name == "Harmony")),
        ]
    return pd.DataFrame(rows, columns=list(MIXING_COLUMNS))


@pytest.mark.parametrize(
    ("asked", "table", "used", "reason"),
    [
        ("auto", scores(0.1, 0.8), "harmony", "batches part within the types, and labels keep apart"),
        ("auto", scores(0.6, 0.8), "none", "batches mix within the types as it is"),
        ("auto", scores(0.1, 0.1), "none", "Harmony does not mix the batches better"),
        # three labels: cLISI falls by as many neighbours of another label as its scale's halves
        ("auto", scores(0.1, 0.8, lost=0.1), "none", "10 % more of the neighbours of B would be of another label"),
        ("auto", scores(0.1, 0.8, lost=0.04), "harmony", "labels keep apart"),
        ("harmony", scores(0.6, 0.8, lost=0.1), "harmony", "--integrate harmony was given"),
        ("none", scores(0.1, 0.8), "none", "--integrate none was given"),
    ],
)
def test_when_harmony_is_used(asked, table, used, reason, tmp_path):
    found = decide(asked, table, 2)
    assert found.used == used
    assert reason in found.reason
    # of what mixing of these sizes would give; Unknown is no type
    assert found.mixing_before == pytest.approx(table["ilisi"].iloc[0])
    write_tsv(tmp_path / "integration.tsv", found.table())
    assert read_integration(read_tsv(tmp_path / "integration.tsv")) == found
    assert uses_harmony(str(tmp_path / "integration.tsv")) is (used == "harmony")
    assert not uses_harmony(None)


@pytest.mark.parametrize("asked", ["auto", "harmony"])
def test_nothing_to_integrate(asked):
    empty = pd.DataFrame(columns=list(MIXING_COLUMNS))
    assert decide(asked, empty, 1) == Integration(asked, "none", "there is one batch", 1)
    assert decide(asked, empty, 2).reason == "there are fewer than 100 cells to compare"
    assert decide("auto", scores(0.1, 0.9).query("cell_type == 'all'"), 2).reason.startswith("no type")


def test_a_type_of_one_batch_is_not_put_among_another():
    """T cells are of the second batch alone; Harmony takes the first batch's B cells for their counterpart."""
    labels = np.repeat(["B", "T"], [400, 300])
    batches = np.repeat(["b1", "b2"], [300, 400])
    z = np.random.default_rng(0).normal(size=(700, 10)).astype(np.float32)
    z[batches == "b2", 0] += 3
    z[labels == "T", 1] += 3
    table = batch_mixing(z, batches, labels, 0)
    found = decide("auto", table, 2)
    assert found.mixing_before < MIXED < found.mixing_after
    assert found.used == "none"
    assert "of the neighbours of T would be of another label" in found.reason


def test_batches_of_other_composition_are_no_batch_effect():
    z, _, labels = cells(0)
    batches = np.where(labels == "T", "b2", "b1")
    swapped = np.random.default_rng(0).random(len(z)) < 0.1
    batches[swapped] = np.where(batches[swapped] == "b1", "b2", "b1")
    table = batch_mixing(z, batches, labels, 0)
    assert table["ilisi"].iloc[0] < 0.3
    assert decide("auto", table, 2).reason == "batches mix within the types as it is"


def test_batches_share_clusters_only_where_they_are_integrated():
    z, batches, labels = cells(2)
    z[5] = np.nan
    plain = cluster_embedding(z, resolution=0.2, seed=0)
    both = cluster_embedding(z, resolution=0.2, seed=0, batches=batches)
    assert plain.integrated is None
    assert plain.unintegrated is None

    def mixed(clusters: np.ndarray) -> list[float]:
        return [(batches[clusters == name] == "b1").mean() for name in sorted(set(clusters) - {""})]

    assert all(share < 0.1 or share > 0.9 for share in mixed(plain.clusters))
    assert all(0.3 < share < 0.7 for share in mixed(both.clusters))
    assert len(set(zip(both.clusters[labels == "B"], labels[labels == "B"], strict=True)) - {("", "B")}) == 1
    np.testing.assert_array_equal(both.unintegrated, plain.umap)
    assert both.integrated.dtype == np.float32
    assert np.isnan(both.integrated[5]).all()
    assert np.isfinite(np.delete(both.integrated, 5, axis=0)).all()
    again = cluster_embedding(z, resolution=0.2, seed=0, batches=batches)
    np.testing.assert_array_equal(again.integrated, both.integrated)
    assert (again.clusters == both.clusters).all()


@pytest.fixture(scope="module")
def integrated(small):  # noqa: F811
    def made(step: int):
        files = (small.files(ending)[::step] for ending in (".norm.h5ad", ".embedding.npy", ".annotation.parquet"))
        return cluster_cohort(*files, resolution=0.5, seed=0, integrate=True)

    return made


def test_each_sample_gets_its_own_part(small, integrated, tmp_path):  # noqa: F811
    table, places = integrated(1)
    again, same = integrated(-1)
    assert again.equals(table, check_metadata=True)
    np.testing.assert_array_equal(same, places)
    parts = dict(cells_of_samples(table, places))
    assert list(parts) == small.samples
    for name, part in parts.items():
        write_cohort_cells(tmp_path / f"{name}.cohort.parquet", part)
    whole = [pq.read_table(tmp_path / f"{name}.cohort.parquet") for name in parts]
    assert sum(len(part) for part in whole) == len(table)
    assert all(part.schema.metadata == table.schema.metadata for part in whole)


def test_the_files_hold_what_clusters_rest_on(small, integrated, tmp_path):  # noqa: F811
    table, places = integrated(1)
    vectors = read_embeddings(small.files(".embedding.npy"))
    for name, part in cells_of_samples(table, places):
        small.annotate(part, tmp_path / "out", samples=[name])
    made = [tmp_path / "out" / f"{name}.h5ad" for name in small.samples]
    for path, start in zip(made, np.cumsum([0, *(len(vectors[name]) for name in small.samples)]), strict=False):
        sample = ad.read_h5ad(path)
        rows = slice(start, start + sample.n_obs)
        assert set(sample.obsm) == {"X_scGPT", "X_umap", "X_integrated", "X_umap_unintegrated"}
        np.testing.assert_array_equal(sample.obsm["X_integrated"], places[rows])
        np.testing.assert_array_equal(sample.obsm["X_scGPT"], vectors[path.stem])
        before = table.to_pandas()[["umap_1_unintegrated", "umap_2_unintegrated"]].to_numpy()
        np.testing.assert_array_equal(sample.obsm["X_umap_unintegrated"], before[rows])
    join_cohort(tmp_path / "cohort.h5ad", made)
    cohort = ad.read_h5ad(tmp_path / "cohort.h5ad")
    np.testing.assert_array_equal(cohort.obsm["X_integrated"], places)
    np.testing.assert_array_equal(cohort.obs["spikgpt_cluster"].astype(str), table["spikgpt_cluster"].to_pylist())


def test_scores_and_decision_of_files(small):  # noqa: F811
    files = (small.files(ending) for ending in (".norm.h5ad", ".embedding.npy", ".annotation.parquet"))
    table, found = read_and_score(*files, "auto", 0)
    assert set(table["embedding"]) == {"scGPT", "Harmony"}
    assert (found.batches, found.used) == (3, "none")


def test_clusters_of_one_batch_whose_type_others_have():
    rows = [
        ("0", "T", "b1", 10),
        ("1", "T", "b2", 10),
        ("2", "B", "b1", 10),
        ("3", "NK", "b1", 5),
        ("3", "NK", "b2", 5),
    ]
    made = pd.DataFrame(
        [(cluster, label, batch) for cluster, label, batch, number in rows for _ in range(number)],
        columns=["spikgpt_cluster", "spikgpt_cell_type", "batch"],
    )
    made["spikgpt_cluster_cell_type"] = made["spikgpt_cell_type"]
    # B cells are of one batch alone: that is no batch effect
    assert clusters_of_one_batch(made) == (["0", "1"], 4)


@pytest.fixture
def own(inputs):  # noqa: F811
    """Inputs of the report that a test may change."""
    return replace(inputs, cells=inputs.cells.copy(), tables=dict(inputs.tables), umap=inputs.umap.copy())


def told(own, found: Integration) -> tuple[str, str]:
    own.tables["integration.tsv"] = found.table().astype(object).where(lambda t: t.notna(), "").astype(str)
    warnings, _ = warnings_and_remarks(own)
    return in_short(own).data, "".join(w for w in warnings if "part within the types" in w)


def test_the_first_screen_says_what_was_used_and_why(own):
    used = Integration(
        "auto", "harmony", "batches part within the types, and labels keep apart", 3, 0.02, 0.8, 0.99, 0.98
    )
    short, warned = told(own, used)
    assert "<b>Integrated</b>: clusters, map and markers rest on the embedding after Harmony" in short
    assert "mixing within types 0.02 before Harmony, 0.80 after; cLISI 0.99 before, 0.98 after" in short
    assert not warned
    # the small cohort's batches are of one condition each
    assert "Every batch has one condition" in short
    own.cells["condition"] = np.where(np.arange(len(own.cells)) % 2, "ctrl", "stim")
    short, warned = told(own, used)
    assert "Every batch has one condition" not in short
    short, warned = told(own, Integration("auto", "harmony", "r", 3, 0.02, MIXED - 0.1, 0.99, 0.98))
    assert "batches part within the types even after Harmony (mixing 0.40, under 0.5)" in warned
    short, warned = told(own, Integration("none", "none", "--integrate none was given", 3, 0.02, 0.8, 0.99, 0.98))
    assert "<b>Not integrated</b>: --integrate none was given" in short
    assert "batches part within the types (mixing 0.02" in warned
    assert "<code>--integrate harmony</code>" in warned


def test_a_label_that_its_cells_contradict_is_a_warning(own):
    wrong = WrongLineage("CD4 <b>T", "CD8 T", ("CD8A", "CD8B"), 0.3, 0.8, 0.05, 0.33)
    cells = own.cells.assign(spikgpt_cell_type="CD4 <b>T", spikgpt_cluster_cell_type="CD4 <b>T")
    table = contradiction_table(cells, {"cluster": {}, "type": {"CD4 <b>T": [wrong]}})
    own.tables["contradictions.tsv"] = table.astype(str)
    warnings, _ = warnings_and_remarks(own)
    (told_of,) = [warning for warning in warnings if "the label excludes" in warning]
    assert "<b>Label CD4 &lt;b&gt;T</b> (200 cells): its cells show genes that the label excludes: 30 % show" in told_of
    assert "about 33 % may be CD8 T cells" in told_of


def tabs(section) -> list[str]:
    return [tab["name"] for tab in section.options["pconfig"]["data_labels"]]


def test_map_tabs_by_batch_condition_and_donor(own):
    cells = own.cells
    cells["donor"] = np.where(cells["sample"] == "s2", "d1", "<i>d2</i>")
    made = cell_map(own)
    assert tabs(made)[:5] == ["By type", "By sample", "By batch", "By condition", "By donor"]
    assert set(made.data[4]) == {"d1", "&lt;i&gt;d2&lt;/i&gt;"}
    # a batch that was not given is the sample: that tab would be the samples' again
    cells["batch"] = cells["sample"]
    cells["condition"] = np.where(cells["sample"] == "s10", "run 1", "")
    cells["donor"] = "one"
    made = cell_map(own)
    assert tabs(made)[:4] == ["By type", "By sample", "By condition", "By confidence"]
    assert set(made.data[2]) == {"run 1", "(not given)"}


def test_the_map_before_integration_is_beside_the_one_after(own):
    assert BEFORE not in tabs(cell_map(own))
    own.umap["umap_1_unintegrated"] = -own.umap["umap_1"]
    own.umap["umap_2_unintegrated"] = own.umap["umap_2"]
    made = cell_map(own)
    assert tabs(made)[-1] == BEFORE
    after, before = (sorted(p["x"] for points in made.data[at].values() for p in points) for at in (0, -1))
    np.testing.assert_allclose(sorted(-x for x in before), after)
    assert "after Harmony" in made.description
