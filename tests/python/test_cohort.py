"""Clusters of the cohort and the annotated h5ad files; the small cohort that the other tests of the report use."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
from spikgpt.base.colours import UNKNOWN_COLOUR, cell_type_colours
from spikgpt.base.columns import OBS_COLUMNS
from spikgpt.base.names import read_embeddings
from spikgpt.cohort import files as cohort
from spikgpt.cohort.clusters import cluster_cohort, cluster_embedding, majority_labels, standardise, write_cohort_cells
from spikgpt.cohort.files import join_cohort, run_facts, write_sample
from spikgpt.cohort.tables import read_cohort
from spikgpt.profiles.library import Library

ODD = '<script>alert("x")</script>, it\'s\ta "B cell" — β' + "x" * 300
"""A cell type's name with everything in it that breaks HTML, tables and plots."""

TYPES = ("T cell", "B cell", ODD)
LYMPHOCYTE = "lymphocyte & <b>more</b>"
"""A level above the first two types."""
LIBRARY = Library.read(Path(__file__).resolve().parents[2] / "assets" / "cell_profiles")
RUN = {
    "pipeline": "spikgpt",
    "version": "0.1.0",
    "parameters": {"input": "s.csv", "unknown_rate": 0.05, "seed": 0, "reference": None, "max_genes": 1200},
}


@dataclass
class Small:
    """Files of a small cohort: `TYPES` around centres of their own, and a planted fourth one, all Unknown."""

    folder: Path
    samples: list[str]

    def files(self, ending: str) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if path.name.endswith(ending))

    def cluster(self, **options):
        given = {"resolution": 0.5, "seed": 0} | options
        table, _ = cluster_cohort(
            self.files(".norm.h5ad"), self.files(".embedding.npy"), self.files(".annotation.parquet"), **given
        )
        return table

    def annotate(
        self, table, out: Path, extra: dict[str, str] | None = None, samples: list[str] | None = None
    ) -> list[Path]:
        """Write every sample's annotated h5ad, or that of some; `extra` are columns of the samplesheet's own."""
        out.mkdir(exist_ok=True)
        vectors = read_embeddings(self.files(".embedding.npy"))
        for sample in self.samples if samples is None else samples:
            facts = run_facts(RUN, json.loads((self.folder / f"{sample}.annotation.json").read_text()))
            write_sample(
                out / f"{sample}.h5ad",
                self.folder / f"{sample}.norm.h5ad",
                vectors[sample],
                pd.read_parquet(self.folder / f"{sample}.annotation.parquet"),
                pd.read_parquet(self.folder / f"{sample}.second_opinion.parquet"),
                table,
                facts,
                sample,
                extra or {},
            )
        return sorted(out.iterdir())


def write_small(folder: Path, sizes: dict[str, int], seed: int = 0) -> Small:
    """Write norm.h5ad, embedding, annotation and their statistics of samples of so many cells.

    Type k has gene `mark_k` alone; every sample has one gene that the others lack.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(4, 12)) * 4
    for at, (sample, cells) in enumerate(sizes.items()):
        kind = np.arange(cells) % 4
        vectors = (centres[kind] + rng.normal(size=(cells, 12))).astype(np.float32)
        vectors = 100 + vectors / 50  # as scGPT's: all nearly in one direction
        genes = [*(f"mark_{k}" for k in range(4)), *(f"gene_{g}" for g in range(30)), f"only_{sample}"]
        counts = rng.poisson(0.7, (cells, len(genes))).astype(np.int32)
        counts[:, :4] = rng.poisson(0.05, (cells, 4))
        counts[np.arange(cells), kind] += rng.poisson(8, cells).astype(np.int32) + 1
        scaled = counts / counts.sum(1, keepdims=True) * 1e4
        obs = pd.DataFrame(index=[f"AAAC{i:05d}-1" for i in range(cells)])  # the same barcodes in every sample
        obs["sample"] = pd.Categorical([sample] * cells)
        obs["batch"] = pd.Categorical([f"run, {at}"] * cells)
        obs["donor"] = pd.Categorical([""] * cells)
        obs["condition"] = pd.Categorical([("<b>ctrl</b>", "stim")[at % 2]] * cells)
        obs["n_genes_by_counts"] = (counts > 0).sum(1).astype(np.int32)
        obs["total_counts"] = counts.sum(1).astype(np.float32)
        for name in ("pct_counts_mt", "pct_counts_ribo", "pct_counts_hb", "pct_counts_in_top_20_genes"):
            obs[name] = rng.random(cells).astype(np.float32)
        obs["doublet_score"] = rng.random(cells).astype(np.float32)
        obs["predicted_doublet"] = False
        ad.AnnData(
            sp.csr_matrix(np.log1p(scaled), dtype=np.float32),
            obs=obs,
            var=pd.DataFrame({"gene_id": [f"ENSG{g}" if at else "" for g in genes]}, index=genes),
            layers={"counts": sp.csr_matrix(counts)},
        ).write_h5ad(folder / f"{sample}.norm.h5ad")
        for start, stop in ((0, cells // 2), (cells // 2, cells)):
            if start < stop or cells == 0:
                np.save(folder / f"{sample}.{start:09d}.embedding.npy", vectors[start:stop])
                stats = {"sample": sample, "start": start, "end": stop, "scgpt_sha256": "ab" * 32,
                         "scgpt_name": "scgpt-mini", "bundled": True, "truncated_cells": 1,
                         "cells_without_genes": 0}  # fmt: skip
                (folder / f"{sample}.{start:09d}.embedding.json").write_text(json.dumps(stats))
        unknown = kind == 3
        best = np.array([*TYPES, "B cell"], dtype=object)[kind]
        annotation = pd.DataFrame(
            {
                "barcode": obs.index,
                "spikgpt_cell_type": np.where(unknown, "Unknown", best),
                "spikgpt_best_match": best,
                "spikgpt_confidence": np.where(unknown, 0.4, 0.95).astype(np.float32),
                "spikgpt_p_value": np.where(unknown, 0.01, rng.uniform(0.06, 1, cells)).astype(np.float32),
                "spikgpt_unknown_reason": np.where(unknown, "outside_reference", ""),
                "spikgpt_runner_up": "T cell",
                "cell_type_ontology_term_id": np.where(kind == 0, "CL:0000084", "unknown"),
                "spikgpt_level_cell_type": np.where(unknown, "Unknown", np.where(kind == 1, LYMPHOCYTE, best)),
                "spikgpt_level_term_id": np.where(kind == 1, "CL:0000542", "unknown"),
                "spikgpt_level": np.where(unknown, "", np.where(kind == 1, "ancestor 1", "leaf")),
                "spikgpt_label_set": np.where(unknown, "", best),
                "spikgpt_agreement": np.where(unknown, 0.5, 1.0).astype(np.float32),
                "spikgpt_judge_embedding": best,
                "spikgpt_judge_expression": np.where(unknown, "T cell", best),
                "spikgpt_judge_regression": "",
                "spikgpt_judge_celltypist": "",
            }
        )
        annotation.to_parquet(folder / f"{sample}.annotation.parquet", index=False)
        said = np.array(["T cell", "epithelial cell", "", "pancreatic islet cell"], dtype=object)[kind]
        opinions = pd.DataFrame({"barcode": obs.index, "spikgpt_second_opinion": said})
        opinions["spikgpt_second_opinion_score"] = np.where(said == "", 0.5, 0.9).astype(np.float32)
        for name in LIBRARY.classes:
            opinions[name] = np.where(said == name, 0.9, 0.0).astype(np.float32)
        opinions.to_parquet(folder / f"{sample}.second_opinion.parquet", index=False)
        (folder / f"{sample}.second_opinion.json").write_text(json.dumps({"sample": sample, "messages": []}))
        stats = {"sample": sample, "annotator_sha256": "cd" * 32, "scgpt_sha256": "ab" * 32, "tissue_warning": None}
        (folder / f"{sample}.annotation.json").write_text(json.dumps(stats))
        qc = obs.drop(columns=["sample", "batch", "donor", "condition", "doublet_score", "predicted_doublet"])
        qc.reset_index(names="barcode").to_parquet(folder / f"{sample}.qc.parquet", index=False)
    return Small(folder, sorted(sizes))


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Small:
    return write_small(tmp_path_factory.mktemp("small"), {"s2": 80, "s10": 60, "a.b-c": 60})


@pytest.fixture(scope="session")
def small_table(small):
    return small.cluster()


@pytest.fixture(scope="session")
def annotated(small, small_table, tmp_path_factory) -> list[Path]:
    return small.annotate(small_table, tmp_path_factory.mktemp("annotated"))


@pytest.fixture(scope="session")
def joined(annotated, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("joined") / "cohort.h5ad"
    join_cohort(path, annotated)
    return path


def test_clusters_are_the_planted_types_and_sorted_by_sample(small, small_table):
    cells = small_table.to_pandas()
    assert list(cells.columns) == [
        "sample", "barcode", "umap_1", "umap_2", "spikgpt_cluster", "spikgpt_cluster_cell_type",
    ]  # fmt: skip
    assert list(cells["sample"].drop_duplicates()) == ["a.b-c", "s10", "s2"]
    labels = np.concatenate(
        [pd.read_parquet(small.folder / f"{s}.annotation.parquet")["spikgpt_cell_type"] for s in small.samples]
    )
    assert (cells["spikgpt_cluster_cell_type"].to_numpy() == labels).mean() > 0.98
    assert np.isfinite(cells[["umap_1", "umap_2"]]).all().all()
    sizes = cells["spikgpt_cluster"].value_counts()
    assert list(sizes.sort_index().to_numpy()) == sorted(sizes, reverse=True)


def test_order_of_files_and_chunks_changes_no_byte(small, small_table, tmp_path):
    again, _ = cluster_cohort(
        small.files(".norm.h5ad")[::-1],
        small.files(".embedding.npy")[::-1],
        small.files(".annotation.parquet")[::-1],
        resolution=0.5,
        seed=0,
    )
    write_cohort_cells(tmp_path / "a", small_table)
    write_cohort_cells(tmp_path / "b", again)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    for sample, vectors in read_embeddings(small.files(".embedding.npy")).items():
        np.save(tmp_path / f"{sample}.000000000.embedding.npy", vectors)
    whole, _ = cluster_cohort(
        small.files(".norm.h5ad"),
        tmp_path.glob("*.npy"),
        small.files(".annotation.parquet"),
        resolution=0.5,
        seed=0,
    )
    assert whole.equals(small_table)


@pytest.mark.parametrize("cells", [1, 2, 3, 5, 11])
def test_few_cells(cells):
    vectors = np.random.default_rng(0).normal(size=(cells + 1, 4)).astype(np.float32)
    vectors[0] = np.nan
    clusters, umap, *_ = cluster_embedding(vectors, resolution=1.0, seed=0)
    assert clusters[0] == ""
    assert np.isnan(umap[0]).all()
    assert all(re.fullmatch(r"\d+", name) for name in clusters[1:])
    assert np.isfinite(umap[1:]).all()


def test_more_cells_than_the_graph_holds_are_placed_by_their_neighbours(monkeypatch):
    rng = np.random.default_rng(0)
    of = rng.integers(0, 3, 400)
    embedding = (6 * rng.normal(size=(3, 8))[of] + rng.normal(size=(400, 8))).astype(np.float32)
    embedding[7] = np.nan
    monkeypatch.setattr("spikgpt.cohort.clusters.LARGEST_GRAPH", 150)
    clusters, umap, *_ = cluster_embedding(embedding, resolution=0.1, seed=0)
    assert clusters[7] == ""
    known = np.arange(400) != 7
    assert np.isfinite(umap[known]).all()
    # each planted group is one cluster, and lies in one place
    assert len(set(zip(of[known], clusters[known], strict=True))) == 3
    centres = np.stack([umap[known & (of == group)].mean(axis=0) for group in range(3)])
    nearest = np.linalg.norm(umap[known, None] - centres, axis=2).argmin(axis=1)
    assert (nearest == of[known]).all()
    again = cluster_embedding(embedding, resolution=0.1, seed=0)
    assert (again[0] == clusters).all()
    np.testing.assert_array_equal(again[1], umap)


def test_a_cohort_too_large_for_exact_neighbours():
    """From 4,096 cells on scanpy leaves the neighbours to pynndescent, whose releases it does not all understand."""
    rng = np.random.default_rng(0)
    of = rng.integers(0, 3, 4200)
    embedding = (6 * rng.normal(size=(3, 8))[of] + rng.normal(size=(4200, 8))).astype(np.float32)
    clusters, umap, *_ = cluster_embedding(embedding, resolution=0.05, seed=0)
    assert len(set(zip(of, clusters, strict=True))) == 3
    again = cluster_embedding(embedding, resolution=0.05, seed=0)
    assert (again[0] == clusters).all()
    np.testing.assert_array_equal(again[1], umap)


def test_no_cell_with_an_embedding():
    clusters, umap, *_ = cluster_embedding(np.full((3, 4), np.nan, np.float32), resolution=1.0, seed=0)
    assert list(clusters) == ["", "", ""]
    assert np.isnan(umap).all()


def test_identical_embeddings_are_one_place():
    clusters, umap, *_ = cluster_embedding(np.ones((40, 4), np.float32), resolution=1.0, seed=0)
    assert (clusters != "").all()
    assert np.isfinite(umap).all()
    flat = np.ones((40, 4), np.float32)
    standardise(flat)
    assert (flat == 0).all()


def test_unknown_names_a_cluster_only_as_its_majority():
    clusters = np.array(["0"] * 5 + ["1"] * 4 + ["2"] * 3 + ["3"] * 2 + [""], dtype=object)
    labels = np.array(
        ["Unknown", "Unknown", "T", "T", "B", "Unknown", "Unknown", "Unknown", "T", "Z", "A", "Unknown",
         "Unknown", "Unknown", "T"],
        dtype=object,
    )  # fmt: skip
    assert majority_labels(clusters, labels) == {"": "", "0": "T", "1": "Unknown", "2": "A", "3": "Unknown"}


def test_files_that_do_not_belong_together_are_refused(small, tmp_path):
    with pytest.raises(ValueError, match="not of the same samples"):
        cluster_cohort(
            small.files(".norm.h5ad")[1:],
            small.files(".embedding.npy"),
            small.files(".annotation.parquet"),
            resolution=1,
            seed=0,
        )
    np.save(tmp_path / "s.000000005.embedding.npy", np.zeros((2, 2), np.float32))
    with pytest.raises(ValueError, match="expected 0"):
        read_embeddings(tmp_path.glob("*.npy"))


def test_sample_h5ad_is_the_contract(small, annotated):
    made = ad.read_h5ad(annotated[-1])
    given = ad.read_h5ad(small.folder / "s2.norm.h5ad")
    assert annotated[-1].name == "s2.h5ad"
    assert list(made.obs.columns) == list(OBS_COLUMNS)
    assert list(made.obs_names) == list(given.obs_names)
    assert (made.X != given.X).nnz == 0
    assert made.X.dtype == np.float32
    assert (made.layers["counts"] != given.layers["counts"]).nnz == 0
    assert made.layers["counts"].dtype == np.int32
    assert list(made.var["gene_id"]) == list(given.var["gene_id"])
    assert set(made.obsm) == {"X_scGPT", "X_umap"}
    assert made.obsm["X_scGPT"].dtype == np.float32
    run = made.uns["spikgpt"]
    assert run["version"] == "0.1.0"
    assert run["annotator_sha256"] == "cd" * 32
    assert run["scgpt_sha256"] == "ab" * 32
    assert float(run["parameters"]["unknown_rate"]) == 0.05
    for column, kind in made.obs.dtypes.items():
        assert isinstance(kind, pd.CategoricalDtype) or kind in (np.int64, np.float32, bool), column
    categories = list(made.obs["spikgpt_cell_type"].cat.categories)
    assert categories == [*sorted(TYPES), "Unknown"]
    colours = list(made.uns["spikgpt_cell_type_colors"])
    assert colours == [cell_type_colours(TYPES)[name] for name in categories]
    assert colours[-1] == UNKNOWN_COLOUR
    assert len(set(colours)) == 4


def test_join_is_anndatas_outer_concat(annotated, joined, monkeypatch, tmp_path):
    made = ad.read_h5ad(joined)
    whole = ad.concat(
        {path.stem: ad.read_h5ad(path) for path in annotated}, join="outer", index_unique=":", uns_merge="same"
    )[:, made.var_names]
    assert list(made.var_names) == sorted(made.var_names)
    assert {"only_s2", "only_s10", "only_a.b-c"} <= set(made.var_names)
    assert list(made.obs_names) == list(whole.obs_names)
    assert made.obs_names.is_unique
    assert (made.X != whole.X).nnz == 0
    assert (made.layers["counts"] != whole.layers["counts"]).nnz == 0
    np.testing.assert_array_equal(made.obsm["X_scGPT"], whole.obsm["X_scGPT"])
    np.testing.assert_array_equal(made.obsm["X_umap"], whole.obsm["X_umap"])
    for column in OBS_COLUMNS:
        assert list(made.obs[column]) == list(whole.obs[column]), column
    # chosen within batches, and not among the genes that no cell has
    assert made.var["highly_variable"].dtype == bool
    assert made.var["highly_variable"].any()
    seen = np.asarray(made.layers["counts"].sum(axis=0)).ravel() > 0
    assert not made.var["highly_variable"][~seen].any()
    # the first sample has no Ensembl ids, the others do
    assert made.var.loc["gene_1", "gene_id"] == "ENSGgene_1"
    assert made.uns["spikgpt"]["annotator_sha256"] == "cd" * 32
    # neither the order of the files nor the size of the blocks is seen in the result
    monkeypatch.setattr(cohort, "BLOCK", 50)
    join_cohort(tmp_path / "again.h5ad", annotated[::-1])
    again = ad.read_h5ad(tmp_path / "again.h5ad")
    assert (again.X != made.X).nnz == 0
    assert again.obs.equals(made.obs)
    assert again.var.equals(made.var)


def test_joined_file_has_the_same_bytes_again(annotated, joined, tmp_path):
    join_cohort(tmp_path / "cohort.h5ad", annotated[::-1])
    assert (tmp_path / "cohort.h5ad").read_bytes() == joined.read_bytes()


def test_columns_of_the_samplesheets_own_follow_the_contract(small, small_table, tmp_path):
    files = small.annotate(small_table, tmp_path / "out", {"age": "40", "time point": ""})
    join_cohort(tmp_path / "cohort.h5ad", files)
    for path in (files[0], tmp_path / "cohort.h5ad"):
        obs = ad.read_h5ad(path).obs
        assert list(obs.columns) == [*OBS_COLUMNS, "age", "time point"]
        assert set(obs["age"]) == {"40"}
        assert set(obs["time point"]) == {""}
    cells, _ = read_cohort(tmp_path / "cohort.h5ad")
    assert list(cells.columns[-2:]) == ["age", "time point"]


def test_scanpy_works_on_the_joined_file(joined):
    import scanpy as sc

    data = sc.read_h5ad(joined)
    sc.tl.rank_genes_groups(data, "spikgpt_cluster", method="t-test")
    sc.pp.highly_variable_genes(data, n_top_genes=10)
    assert data.var["highly_variable"].sum() == 10


@pytest.mark.parametrize("sizes", [{"lone": 1}, {"lone": 3}, {"x": 1, "y": 1}])
def test_a_cohort_of_a_cell_or_three(sizes, tmp_path):
    tiny = write_small(tmp_path / "in", sizes)
    table = tiny.cluster()
    made = tiny.annotate(table, tmp_path / "out")
    join_cohort(tmp_path / "cohort.h5ad", made)
    cells = ad.read_h5ad(tmp_path / "cohort.h5ad")
    assert cells.n_obs == sum(sizes.values())
    assert all(":" in name for name in cells.obs_names)
    write_cohort_cells(tmp_path / "c.parquet", table)
    assert pq.read_table(tmp_path / "c.parquet").schema.metadata
