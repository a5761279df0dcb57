"""The pipeline as a user runs it: through Nextflow, from raw counts to the report."""

import gzip
import json
import os
import shutil
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT
from mouse_copy import mouse_copy
from run_pipeline import ended, launcher, nextflow, told
from same_results import differences
from small_data import write_small_data

CONTRACT = [
    "sample", "batch", "donor", "condition",
    "n_genes_by_counts", "total_counts", "pct_counts_mt", "doublet_score", "predicted_doublet",
    "spikgpt_cell_type", "spikgpt_best_match", "spikgpt_confidence", "spikgpt_p_value", "spikgpt_unknown_reason",
    "cell_type_ontology_term_id",
    "spikgpt_level_cell_type", "spikgpt_level_term_id", "spikgpt_level", "spikgpt_label_set", "spikgpt_agreement",
    "spikgpt_judge_embedding", "spikgpt_judge_expression", "spikgpt_judge_regression", "spikgpt_judge_celltypist",
    "spikgpt_second_opinion", "spikgpt_second_opinion_score",
    "spikgpt_cluster", "spikgpt_cluster_cell_type",
]  # fmt: skip


REASONS = {"", "low_confidence", "outside_reference", "low_gene_match", "low_quality"}


pytestmark = pytest.mark.skipif(shutil.which("nextflow") is None, reason="nextflow is not on PATH")


@pytest.fixture(scope="session")
def small_data(demo_data):
    """The sheet of two small samples; kept under .demo/test, where nf-test finds it too."""
    return write_small_data(demo_data, ROOT / ".demo" / "test" / "data")


def small_args(sheet: Path) -> tuple:
    return ("-profile", "local,test", "--input", sheet, "--reference", sheet.parent / "reference.h5ad",
            "--batch_key", "library")  # fmt: skip


@pytest.fixture(scope="session")
def small_run(small_data):
    """Results of a real run on the small samples, with the files between the steps."""
    folder = ROOT / ".demo" / "test" / "small"
    shutil.rmtree(folder, ignore_errors=True)
    outside = {"HOME": folder / "home", "TMPDIR": folder / "temporary"}
    for place in outside.values():
        place.mkdir(parents=True)
    (folder / "inputs.json").write_text(json.dumps(inputs_of(small_data)))
    own = os.environ.get("NXF_HOME", Path.home() / ".nextflow")
    run = nextflow(
        folder, *small_args(small_data), "--outdir", "results", "--publish_intermediates", NXF_HOME=own, **outside
    )
    assert run.returncode == 0, told(run)
    return folder / "results"


def inputs_of(sheet: Path) -> dict[str, int]:
    """When each file was written that tasks of the small run read."""
    folders = (sheet.parent, ROOT / "bin", ROOT / "assets")
    found = [path for folder in folders for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return {str(path): path.stat().st_mtime_ns for path in sorted(found)}


def test_tasks_leave_nothing_outside_of_their_folders(small_run, small_data):
    for name in ("home", "temporary"):
        assert list((small_run.parent / name).rglob("*")) == []
    assert inputs_of(small_data) == json.loads((small_run.parent / "inputs.json").read_text())


def read_table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", keep_default_na=False, dtype={"spikgpt_cluster": str})


def test_results_are_those_of_the_contract(small_run):
    wanted = [
        "annotated/small.h5ad", "annotated/raw.h5ad", "annotated/cohort.h5ad",
        "tables/cells.tsv.gz", "tables/composition.tsv", "tables/markers.tsv", "tables/unknown_populations.tsv",
        "tables/removed_by_type.tsv", "tables/qc_thresholds.tsv", "tables/judges.tsv",
        "tables/evidence.tsv", "tables/explanations.tsv", "tables/second_opinion.tsv",
        "tables/annotators.tsv", "tables/expected_genes.tsv", "tables/expected_genes_shown.tsv",
        "tables/removed_cells.tsv.gz", "tables/cells_per_step.tsv", "tables/batch_mixing.tsv", "tables/benchmark.tsv",
        "tables/genes_measured.tsv", "tables/integration.tsv", "tables/marker_expression.tsv",
        "tables/contradictions.tsv",
        "tables/markers_seurat.tsv", "tables/samples.tsv",
        "tables/conditions.tsv",
        "tables/pseudobulk/counts.tsv.gz", "tables/pseudobulk/samples.tsv", "tables/pseudobulk/pseudobulk.h5ad",
        "tables/loupe/small.csv", "tables/loupe/raw.csv", "tables/cell_types/small.csv", "tables/cell_types/raw.csv",
        "annotator/config.json", "annotator/model.safetensors", "annotator/README.md",
        "multiqc/multiqc_report.html",
        "pipeline_info/params.json", "pipeline_info/trace.tsv", "pipeline_info/timeline.html",
        "pipeline_info/report.html", "pipeline_info/dag.html", "pipeline_info/spikgpt_software_mqc_versions.yml",
    ]  # fmt: skip
    missing = [name for name in wanted if not (small_run / name).exists() or not (small_run / name).stat().st_size]
    assert not missing


def test_cells_table_and_h5ad_say_the_same(small_run):
    cells = read_table(small_run / "tables" / "cells.tsv.gz")
    assert list(cells.columns) == ["sample", "barcode", *CONTRACT[1:]]
    cohort = anndata.read_h5ad(small_run / "annotated" / "cohort.h5ad")
    assert cohort.n_obs == len(cells)
    for column in ("sample", "batch", "condition", "spikgpt_cell_type", "spikgpt_best_match", "spikgpt_cluster"):
        assert list(cohort.obs[column].astype(str)) == list(cells[column].astype(str)), column
    np.testing.assert_allclose(cohort.obs["spikgpt_p_value"], cells["spikgpt_p_value"], atol=1e-6)
    assert set(cells["condition"]) == {"it's <b>, 'quoted' & $HOME", "control"}


def test_every_cell_is_annotated_or_removed_with_a_reason(small_run, small_data):
    cells = read_table(small_run / "tables" / "cells.tsv.gz")
    removed = read_table(small_run / "tables" / "removed_cells.tsv.gz")
    given = set(anndata.read_h5ad(small_data.parent / "small.h5ad").obs_names)
    kept = set(cells.loc[cells["sample"] == "small", "barcode"])
    gone = set(removed.loc[removed["sample"] == "small", "barcode"])
    assert kept | gone == given
    assert not kept & gone
    assert removed["reason"].ne("").all()
    # a removed cell has a nearest type, and is counted in no table of annotated cells
    assert removed["nearest_type"].ne("").any()
    by_type = pd.read_csv(small_run / "tables" / "removed_by_type.tsv", sep="\t", keep_default_na=False)
    assert (by_type["kept"].sum(), by_type["removed"].sum()) == (len(cells), len(removed))


def test_unknown_is_what_the_p_value_says(small_run):
    cells = read_table(small_run / "tables" / "cells.tsv.gz")
    unknown = cells["spikgpt_cell_type"] == "Unknown"
    assert (unknown == (cells["spikgpt_p_value"] <= 0.05)).all()
    assert set(cells["spikgpt_unknown_reason"]) <= REASONS
    assert ((cells["spikgpt_unknown_reason"] != "") == unknown).all()
    assert (cells.loc[~unknown, "spikgpt_cell_type"] == cells.loc[~unknown, "spikgpt_best_match"]).all()
    reference = anndata.read_h5ad(small_run.parents[1] / "data" / "reference.h5ad")
    assert set(cells["spikgpt_best_match"]) <= set(reference.obs["cell_type"])
    assert cells["spikgpt_confidence"].between(0, 1).all()


def test_h5ad_holds_counts_normalised_expression_and_embedding(small_run, small_data):
    sample = anndata.read_h5ad(small_run / "annotated" / "small.h5ad")
    given = anndata.read_h5ad(small_data.parent / "small.h5ad")[sample.obs_names]
    counts = sample.layers["counts"].toarray()
    assert np.issubdtype(sample.layers["counts"].dtype, np.integer)
    assert list(sample.obs.columns) == CONTRACT
    assert counts.sum() == given.X.sum()
    expected = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)
    np.testing.assert_allclose(sample.X.toarray(), expected, rtol=1e-4, atol=1e-5)
    embedding = sample.obsm["X_scGPT"]
    assert embedding.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-5)
    assert sample.obsm["X_umap"].shape == (sample.n_obs, 2)
    assert "gene_id" in sample.var
    run = sample.uns["spikgpt"]
    assert run["version"] == "0.1.0"
    assert int(run["seed"]) == 0
    assert len(run["annotator_sha256"]) == 64
    assert len(run["scgpt_sha256"]) == 64


def test_known_cells_get_their_label(small_run, demo_data):
    cells = read_table(small_run / "tables" / "cells.tsv.gz")
    truth = pd.read_csv(demo_data / "truth.tsv", sep="\t", index_col="barcode")["cell_type"]
    cells["truth"] = cells["barcode"].map(truth)
    known = cells[cells["truth"].isin(set(cells["spikgpt_best_match"])) & (cells["spikgpt_cell_type"] != "Unknown")]
    assert (known["spikgpt_cell_type"] == known["truth"]).mean() > 0.95


def test_three_in_four_of_the_withheld_type_are_rejected(small_run, demo_data):
    cells = read_table(small_run / "tables" / "cells.tsv.gz")
    truth = pd.read_csv(demo_data / "truth.tsv", sep="\t", index_col="barcode")["cell_type"]
    alpha = cells[cells["barcode"].map(truth) == "alpha"]
    # 30 of 39, by a reference of 450 cells
    assert (alpha["spikgpt_cell_type"] == "Unknown").mean() > 0.75


def test_the_withheld_type_is_a_population_with_its_known_markers(small_run, demo_data):
    cells = read_table(small_run / "tables" / "cells.tsv.gz")
    truth = pd.read_csv(demo_data / "truth.tsv", sep="\t", index_col="barcode")["cell_type"]
    alpha = cells[cells["barcode"].map(truth) == "alpha"]
    home = alpha["spikgpt_cluster"].value_counts().idxmax()
    found = pd.read_csv(small_run / "tables" / "unknown_populations.tsv", sep="\t", keep_default_na=False, dtype=str)
    row = found.set_index("cluster").loc[home]
    assert int(row["unknown_cells"]) > 0.75 * len(alpha)
    assert row["samples"] == "2"
    # glucagon and transthyretin make an alpha cell; no reference cell told the pipeline so
    assert {"GCG", "TTR"} <= set(row["markers"].split(", ")[:3])
    # the nearest type of the reference is not what they are: its own hormone is missing
    assert row["nearest_type"] == "gamma"
    assert "PPY" in row["nearest_markers_missing"].split(", ")
    assert row["qc_flags"] == ""


def test_evidence_finds_the_references_markers_in_labelled_clusters(small_run):
    evidence = pd.read_csv(
        small_run / "tables" / "evidence.tsv", sep="\t", keep_default_na=False, dtype={"cluster": str}
    )
    cells = read_table(small_run / "tables" / "cells.tsv.gz")
    assert evidence["cells"].sum() == (cells["spikgpt_cluster"] != "").sum()
    config = json.loads((small_run / "annotator" / "config.json").read_text())
    sure = evidence[(evidence["percent"] > 90) & (evidence["cells"] >= 25) & (evidence["cell_type"] != "Unknown")]
    assert set(sure["cell_type"]) >= {"beta", "ductal"}
    shares: dict[str, list[float]] = {}
    for row in sure.itertuples():
        markers = [marker["gene"] for marker in config["markers"]["types"][row.cell_type]]
        found, missing = row.markers_found.split(", "), row.markers_missing.split(", ")
        assert set(found) <= set(markers)
        assert not set(found) & set(missing)
        shares.setdefault(row.cell_type, []).append(len(found) / len(markers))
    # a small cluster of a type that several clusters share need not stand out in all of its markers
    assert min(min(of_type) for of_type in shares.values()) >= 0.4, shares
    assert min(max(of_type) for of_type in shares.values()) > 0.8, shares


def test_cells_per_step_add_up_from_barcodes_to_labels(small_run):
    table = read_table(small_run / "tables" / "cells_per_step.tsv")
    steps = table.pivot(index="sample", columns="step", values="cells")
    cells = read_table(small_run / "tables" / "cells.tsv.gz")
    removed = read_table(small_run / "tables" / "removed_cells.tsv.gz")
    for sample, count in steps.iterrows():
        mine, gone = cells[cells["sample"] == sample], removed[removed["sample"] == sample]
        assert count["after filters"] == len(mine) == count["annotated"] + count["Unknown"]
        assert count["Unknown"] == (mine["spikgpt_cell_type"] == "Unknown").sum()
        assert count["called"] - len(gone) == count["after filters"]
        assert count["after ambient"] - count["after doublets"] == (gone["reason"] == "predicted_doublet").sum()
        assert count["called"] == count["after ambient"]
    assert steps.loc["raw", "barcodes"] == 1620
    assert steps.loc["raw", "called"] < 200
    assert steps.loc["small", "barcodes"] == steps.loc["small", "called"] == 150


def test_cell_calling_finds_the_cells_among_the_droplets(small_run):
    cells = read_table(small_run / "tables" / "cells.tsv.gz")
    removed = read_table(small_run / "tables" / "removed_cells.tsv.gz")
    called = pd.concat([cells, removed]).query("sample == 'raw'")["barcode"]
    assert called.str.startswith("empty_").sum() <= 2
    assert (~called.str.startswith("empty_")).sum() >= 110


def test_the_report_names_checkpoint_samples_and_versions(small_run):
    html = (small_run / "multiqc" / "multiqc_report.html").read_text(encoding="utf-8")
    assert "scgpt-mini" in html
    assert "<b>, 'quoted'" not in html  # names from the user are text, never markup
    versions = yaml.safe_load((small_run / "pipeline_info" / "spikgpt_software_mqc_versions.yml").read_text())
    assert versions["Workflow"]["SpikGPT"] == "0.1.0"
    assert {"torch", "spikingjelly", "scikit-learn"} <= set(versions["TRAIN_ANNOTATOR"])


def test_chunks_cores_and_order_change_no_byte(small_run, small_data, tmp_path):
    header, *samples = small_data.read_text().splitlines()
    sheet = tmp_path / "samplesheet.csv"
    sheet.write_text("\n".join([header, *reversed(samples)]) + "\n")
    config = tmp_path / "cores.config"
    config.write_text("process { withLabel: 'two_cores|two_cores_more_memory' { cpus = 1 } }\n")
    reference = ("--reference", small_data.parent / "reference.h5ad", "--batch_key", "library")
    run = nextflow(tmp_path, "-c", config, "-profile", "local,test", "--input", sheet, *reference,
                   "--outdir", "results", "--chunk_cells", 100)  # fmt: skip
    assert run.returncode == 0, told(run)
    assert told(run).count("EMBED_SCGPT") >= 5 + 2 + 2
    assert differences(small_run, tmp_path / "results") == []


def test_a_difference_between_results_is_found(small_run, tmp_path):
    other = tmp_path / "results"
    for folder in ("tables", "annotator", "annotated"):
        shutil.copytree(small_run / folder, other / folder)
    assert differences(small_run, other) == []
    (other / "tables" / "composition.tsv").write_text("half")
    (other / "annotator" / "README.md").unlink()
    with h5py.File(other / "annotated" / "raw.h5ad", "r+") as file:
        file["obsm/X_scGPT"][0, 0] += 1e-6
        file["obs/pct_counts_mt"][1] = -1
    assert differences(small_run, other) == [
        "tables/composition.tsv", "annotator/README.md: in one alone",
        "annotated/raw.h5ad: obs/pct_counts_mt", "annotated/raw.h5ad: obsm/X_scGPT",
    ]  # fmt: skip


def test_a_trained_annotator_gives_the_same_cells_again(small_run, small_data, tmp_path):
    run = nextflow(tmp_path, "-profile", "local,test", "--input", small_data, "--annotator", small_run / "annotator",
                   "--outdir", "results")  # fmt: skip
    assert run.returncode == 0, told(run)
    assert "TRAIN_ANNOTATOR" not in told(run)
    again = tmp_path / "results" / "tables" / "cells.tsv.gz"
    assert again.read_bytes() == (small_run / "tables" / "cells.tsv.gz").read_bytes()
    assert not (tmp_path / "results" / "annotator").exists()


def named_run(small_run: Path, folder: Path, name: str) -> Path:
    """A copy of the results whose one unknown population, the alpha cells, has a name; gives the table's path."""
    for part in ("tables", "annotated", "annotator"):
        shutil.copytree(small_run / part, folder / part)
    path = folder / "tables" / "unknown_populations.tsv"
    table = read_table(path).fillna("")
    assert len(table) == 1
    table.assign(name=name, taught_by="A. Person").to_csv(path, sep="\t", index=False)
    return path


def test_a_population_that_was_named_is_called_by_its_name(small_run, small_data, demo_data, tmp_path):
    table = named_run(small_run, tmp_path / "before", "pancreatic A cell")
    run = nextflow(tmp_path, "-profile", "local,test", "--input", small_data, "--teach", table,
                   "--outdir", "results")  # fmt: skip
    assert run.returncode == 0, told(run)
    results = tmp_path / "results"
    config = json.loads((results / "annotator" / "config.json").read_text())
    before = json.loads((small_run / "annotator" / "config.json").read_text())
    assert config["classes"] == [*before["classes"], "pancreatic A cell"]
    assert "| A. Person |" in (results / "annotator" / "README.md").read_text()
    truth = pd.read_csv(demo_data / "truth.tsv", sep="\t", index_col="barcode")["cell_type"]
    old, new = (read_table(folder / "tables" / "cells.tsv.gz") for folder in (small_run, results))
    alpha = (new["barcode"].map(truth) == "alpha").to_numpy()
    assert (new["spikgpt_cell_type"] == "pancreatic A cell")[alpha].mean() >= 0.9
    assert (new["spikgpt_cell_type"] == "pancreatic A cell")[~alpha].sum() <= 1
    other = (new["spikgpt_best_match"] != "pancreatic A cell").to_numpy()
    assert old.columns.equals(new.columns)
    labels = [name for name in CONTRACT if name.startswith("spikgpt_") and "cluster" not in name]
    # as the files have them: a column with an empty place, as the judges' agreement on a taught type, is read as text
    written = [
        pd.read_csv(folder / "tables" / "cells.tsv.gz", sep="\t", keep_default_na=False, dtype=str).loc[other, labels]
        for folder in (small_run, results)
    ]
    assert written[0].equals(written[1])
    assert (new["cell_type_ontology_term_id"] == "CL:0000171")[(new["spikgpt_cell_type"] == "pancreatic A cell")].all()
    evidence = read_table(results / "tables" / "evidence.tsv").query("cell_type == 'pancreatic A cell'").to_csv()
    assert any(marker["gene"] in evidence for marker in config["markers"]["types"]["pancreatic A cell"])
    assert read_table(results / "tables" / "unknown_populations.tsv").empty
    report = (results / "multiqc" / "multiqc_report.html").read_text()
    assert "Taught: pancreatic A cell" in report


def test_a_population_that_cannot_be_taught_ends_the_run(small_run, small_data, tmp_path):
    """By its name, or as the results are not beside the table: before any cell is read."""
    table = named_run(small_run, tmp_path / "before", "beta")
    args = ("-profile", "local,test", "--input", small_data, "--outdir", "results", "--teach")
    run = nextflow(tmp_path, *args, table)
    assert run.returncode != 0
    assert "SpikGPT stopped: A population cannot be called beta." in told(run)
    assert "EMBED_SCGPT" not in told(run)
    assert not (tmp_path / "results" / "annotator").exists()
    shutil.copy2(table, tmp_path / "alone.tsv")
    run = nextflow(tmp_path, *args, tmp_path / "alone.tsv")
    assert run.returncode != 0
    assert "SpikGPT stopped: The results that the table of --teach belongs to are not beside it" in told(run)
    run = nextflow(tmp_path, *args[:-2], tmp_path / "before", "-resume", "--teach", table)
    assert run.returncode != 0
    assert "SpikGPT stopped: The results would replace those that are taught from" in told(run)


ENDOCRINE = {"pancreatic endocrine cell": "CL:0008024"}
"""The coarse label of `with_coarse_labels`, and its term."""


def with_coarse_labels(cells: anndata.AnnData) -> anndata.AnnData:
    """The cells with one label for beta, delta and gamma cells."""
    ((label, term),) = ENDOCRINE.items()
    fine = cells.obs["cell_type"].isin(["beta", "delta", "gamma"])
    for column, value in (("cell_type", label), ("cell_type_ontology_term_id", term)):
        cells.obs[column] = cells.obs[column].astype(str).where(~fine, value)
    return cells


def test_mouse_cells_with_a_mouse_reference_of_two_files(small_data, demo_data, tmp_path):
    """Human cells with their genes renamed to the mouse orthologs, through the whole pipeline.

    One file of the reference tells the endocrine cells apart, the other does not.
    """
    cells = {name: mouse_copy(anndata.read_h5ad(small_data.parent / f"{name}.h5ad")) for name in ("reference", "small")}
    files = {library[-4:]: cells["reference"][cells["reference"].obs["library"] == library].copy()
             for library in ("human1_lib1", "human1_lib2")}  # fmt: skip
    with_coarse_labels(files["lib1"])
    for name, data in (files | {"small": cells["small"]}).items():
        data.write_h5ad(tmp_path / f"{name}.h5ad")
    sheet = tmp_path / "sheet.csv"
    sheet.write_text(f"sample,filtered\nsmall,{tmp_path}/small.h5ad\n")
    run = nextflow(tmp_path, "-profile", "local,test", "--input", sheet,
                   "--reference", f"{tmp_path}/lib2.h5ad,{tmp_path}/lib1.h5ad",
                   "--batch_key", "library", "--species", "mouse", "--outdir", "results")  # fmt: skip
    assert run.returncode == 0, told(run)
    results = tmp_path / "results"
    config = json.loads((results / "annotator" / "config.json").read_text())
    assert config["species"] == "mouse"
    # cells of the coarse file are learned as the types that they are, and the report says so
    assert not ENDOCRINE.keys() & set(config["classes"])
    fine = cells["reference"].obs["cell_type"].value_counts()
    assert config["class_cells"]["beta"] == pytest.approx(fine["beta"], rel=0.05)
    assert config["training"]["batches"].keys() == {"lib1:human1_lib1", "lib2:human1_lib2"}
    cohort = anndata.read_h5ad(results / "annotated" / "cohort.h5ad")
    assert {"Gcg", "Sst"} <= set(cohort.var_names)
    assert cohort.var.loc["Sst", "human_ortholog"] == "SST"
    assert cohort.var.loc["Sst", "gene_id"].startswith("ENSMUSG")
    assert (cohort.obs["spikgpt_second_opinion"] == "").all()
    assert np.isfinite(cohort.obsm["X_scGPT"]).all()
    markers = read_table(results / "tables" / "markers.tsv")
    assert set(markers["gene"]) <= set(cells["small"].var_names)
    report = (results / "multiqc" / "multiqc_report.html").read_text()
    assert "The genes are of mouse" in report
    assert "one ortholog of a human gene" in report
    assert "pancreatic endocrine cell&#39; of lib1 is coarser than labels of other files" in report
    assert "were trained on as the finer types" in report
    # labels are right as in the run on the human genes
    truth = pd.read_csv(demo_data / "truth.tsv", sep="\t", index_col="barcode")["cell_type"]
    table = read_table(results / "tables" / "cells.tsv.gz")
    table["truth"] = table["barcode"].map(truth)
    known = table[table["truth"].isin(set(table["spikgpt_best_match"])) & (table["spikgpt_cell_type"] != "Unknown")]
    assert (known["spikgpt_cell_type"] == known["truth"]).mean() > 0.95


def test_without_a_reference_a_pancreas_gets_broad_classes(small_data, tmp_path):
    run = nextflow(tmp_path, "-profile", "local,test", "--input", small_data, "--outdir", "results")
    assert run.returncode == 0, told(run)
    results = tmp_path / "results"
    cells = read_table(results / "tables" / "cells.tsv.gz")
    assert (cells["spikgpt_cell_type"] == "pancreatic islet cell").mean() > 0.4
    assert {"epithelial cell", "endothelial cell", "Unknown"} <= set(cells["spikgpt_cell_type"])
    assert set(cells["spikgpt_p_value"].astype(str)) <= {"", "nan"}
    islet = cells["spikgpt_cell_type"] == "pancreatic islet cell"
    assert set(cells.loc[islet, "cell_type_ontology_term_id"]) == {"CL:0008024"}
    used = read_table(results / "tables" / "annotators.tsv")
    assert used[["sample", "annotator", "gives_labels"]].to_numpy().tolist() == [
        [sample, name, answer] for sample in ("raw", "small") for name, answer in (("pbmc", "no"), ("tissue", "yes"))
    ]
    expected = read_table(results / "tables" / "expected_genes.tsv")
    assert "contradicts" not in set(expected.loc[expected["class_from"] == "label", "verdict"])
    # the opinion is the label: it is not held against it again
    assert read_table(results / "tables" / "second_opinion.tsv").empty
    cohort = anndata.read_h5ad(results / "annotated" / "cohort.h5ad")
    assert np.isnan(cohort.obs["spikgpt_p_value"]).all()
    assert not (results / "annotator").exists()
    report = (results / "multiqc" / "multiqc_report.html").read_text(encoding="utf-8")
    assert "Labels from the tissue profiles" in report
    assert "tumour or normal" in report


def test_a_sample_without_cells_is_skipped_and_said(small_data, small_run, tmp_path):
    sheet = tmp_path / "sheet.csv"
    sheet.write_text(
        "sample,filtered,min_genes\n"
        f"good,{small_data.parent}/small.h5ad,\n"
        f"empty,{small_data.parent}/small.h5ad,1000000\n"
    )
    run = nextflow(tmp_path, "-profile", "local,test", "--input", sheet, "--annotator", small_run / "annotator",
                   "--outdir", "results")  # fmt: skip
    assert run.returncode == 0, told(run)
    results = tmp_path / "results"
    assert sorted(path.name for path in (results / "annotated").iterdir()) == ["cohort.h5ad", "good.h5ad"]
    assert set(read_table(results / "tables" / "removed_cells.tsv.gz").query("sample == 'empty'")["reason"])
    assert "empty" in (results / "multiqc" / "multiqc_report.html").read_text(encoding="utf-8")


def test_no_cell_in_any_sample_is_an_error(small_data, small_run, tmp_path):
    sheet = tmp_path / "sheet.csv"
    sheet.write_text(f"sample,filtered,min_genes\nempty,{small_data.parent}/small.h5ad,1000000\n")
    run = nextflow(tmp_path, "-profile", "local,test", "--input", sheet, "--annotator", small_run / "annotator",
                   "--outdir", "results")  # fmt: skip
    assert run.returncode != 0
    assert "SpikGPT stopped: No sample has a cell left" in told(run)


def test_real_cells_are_read_in_a_plain_environment(small_data, tmp_path):
    """One sample through every step, under names that only UTF-8 can tell."""
    folder = tmp_path / "läuft [1]"
    folder.mkdir()
    shutil.copy2(small_data.parent / "small.h5ad", folder / "größe [1]*.h5ad")
    (folder / "sheet.csv").write_text("sample,filtered,batch\na,größe [1]*.h5ad,Zürich\n", encoding="utf-8")
    path = os.pathsep.join(map(str, (launcher(tmp_path / "launcher"), os.environ["PATH"])))
    command = ["nextflow", "run", str(ROOT), "-ansi-log", "false", "-profile", "local,test", "--input", "sheet.csv",
               "--outdir", "out"]  # fmt: skip
    run = ended(command, folder, {"PATH": path, "HOME": str(tmp_path), "LC_ALL": "C"})
    assert run.returncode == 0, told(run)
    assert set(anndata.read_h5ad(folder / "out" / "annotated" / "a.h5ad").obs["batch"]) == {"Zürich"}


def test_gzip_tables_carry_no_time(small_run):
    for name in ("cells.tsv.gz", "removed_cells.tsv.gz"):
        header = (small_run / "tables" / name).read_bytes()[:10]
        assert header[4:8] == b"\0\0\0\0", "a time in the gzip header changes the bytes of equal tables"
        with gzip.open(small_run / "tables" / name, "rt") as file:
            assert file.readline().startswith("sample\tbarcode\t")
