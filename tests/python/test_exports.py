"""Labels and counts in the forms that other tools read: Loupe Browser, Cell Ranger, DESeq2, edgeR."""

import csv
import gzip
import subprocess
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from spikgpt.base.tsv import read_tsv
from spikgpt.cohort.files import join_cohort
from spikgpt.cohort.labels_for_tools import CELL_RANGER_COLUMNS, LOUPE_COLUMNS, coarse_types
from spikgpt.cohort.pseudobulk import PSEUDOBULK_COLUMNS, write_pseudobulk
from spikgpt.cohort.tables import read_cohort
from test_cohort import LIBRARY, ODD, TYPES, annotated, joined, small, small_table  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def exported(joined, tmp_path_factory) -> Path:  # noqa: F811
    folder = tmp_path_factory.mktemp("exported")
    command = [str(ROOT / "bin" / "export_cohort.py"), "--h5ad", str(joined)]
    subprocess.run([*command, "--profiles", str(ROOT / "assets" / "cell_profiles")], cwd=folder, check=True)
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_loupe_and_cell_ranger_get_every_cell_by_its_own_barcode(exported, joined, small):  # noqa: F811
    cells, _ = read_cohort(joined)
    assert LOUPE_COLUMNS[:2] == ("spikgpt_cell_type", "spikgpt_best_match")
    for folder in ("loupe", "cell_types"):
        assert sorted(path.stem for path in (exported / folder).iterdir()) == small.samples
    for sample in small.samples:
        own = cells[cells["sample"] == sample]
        loupe = rows(exported / "loupe" / f"{sample}.csv")
        assert list(loupe[0]) == ["Barcode", *LOUPE_COLUMNS]
        assert [row["Barcode"] for row in loupe] == list(own["barcode"])
        for column in LOUPE_COLUMNS:
            assert [row[column] for row in loupe] == list(own[column].astype(str))
        ranger = rows(exported / "cell_types" / f"{sample}.csv")
        assert tuple(ranger[0]) == CELL_RANGER_COLUMNS
        assert [row["fine_cell_type"] for row in ranger] == list(own["spikgpt_cell_type"].astype(str))


def test_coarse_types_are_the_classes_of_the_labels_terms():
    cells = pd.DataFrame(
        [("CD4 T cell", "CL:0000624"), ("odd name of a B cell", "CL:0000236"), ("Martian", "unknown"),
         ("Unknown", "unknown"), ("leukocyte", "CL:0000738")],
        columns=["spikgpt_cell_type", "cell_type_ontology_term_id"],
    )  # fmt: skip
    assert coarse_types(cells, LIBRARY) == {
        "CD4 T cell": "T cell", "odd name of a B cell": "B cell", "Martian": "Martian", "Unknown": "Unknown",
        "leukocyte": "leukocyte",
    }  # fmt: skip


def test_pseudobulk_adds_up_every_count_once(exported, joined):  # noqa: F811
    folder = exported / "pseudobulk"
    cohort, made = ad.read_h5ad(joined), ad.read_h5ad(folder / "pseudobulk.h5ad")
    sheet = read_tsv(folder / "samples.tsv")
    assert tuple(sheet) == PSEUDOBULK_COLUMNS
    assert list(sheet["id"]) == list(made.obs_names)
    assert set(sheet["cell_type"]) == {*TYPES, "Unknown"}
    assert ODD in set(sheet["cell_type"])
    assert sheet["cells"].astype(int).sum() == cohort.n_obs
    counts = cohort.layers["counts"]
    assert made.X.dtype == np.int64
    assert made.X.sum() == counts.sum() == sheet["total_counts"].astype(int).sum()
    for row, name in enumerate(made.obs_names):
        of = made.obs.loc[name]
        inside = (cohort.obs["sample"] == of["sample"]) & (cohort.obs["spikgpt_cell_type"] == of["cell_type"])
        np.testing.assert_array_equal(made.X[row].toarray().ravel(), counts[inside.to_numpy()].sum(axis=0).A1)
        assert of["condition"] == cohort.obs.loc[inside, "condition"].iloc[0]


def test_genes_that_a_sample_did_not_measure_are_no_zeros(exported):
    folder = exported / "pseudobulk"
    made = ad.read_h5ad(folder / "pseudobulk.h5ad")
    with gzip.open(folder / "counts.tsv.gz", "rt", encoding="utf-8", newline="") as file:
        table = list(csv.reader(file, delimiter="\t"))
    assert table[0] == ["gene", *made.obs_names]
    assert [row[0] for row in table[1:]] == list(made.var_names)
    dense = made.X.toarray().T
    for row, counts in zip(table[1:], dense, strict=True):
        for text, count, sample in zip(row[1:], counts, made.obs["sample"], strict=True):
            measured = made.varm["measured"].loc[row[0], sample]
            assert text == (str(count) if measured else "")
    lacking = {row[0] for row in table[1:] if "" in row}
    assert lacking == {"only_s2", "only_s10", "only_a.b-c"}
    assert made.var.loc[sorted(lacking), "n_samples_measured"].tolist() == [1, 1, 1]


def test_neither_blocks_nor_the_order_of_samples_change_a_byte(exported, joined, annotated, tmp_path, monkeypatch):  # noqa: F811
    again = tmp_path / "again.h5ad"
    join_cohort(again, annotated[::-1])
    monkeypatch.setattr("spikgpt.cohort.pseudobulk.BLOCK", 300)
    write_pseudobulk(again, tmp_path)
    for name in ("counts.tsv.gz", "pseudobulk.h5ad"):
        assert (tmp_path / name).read_bytes() == (exported / "pseudobulk" / name).read_bytes()


def test_columns_of_the_samplesheet_are_carried(small, small_table, tmp_path):  # noqa: F811
    # the sheet has a number of cells of its own
    files = small.annotate(small_table, tmp_path / "annotated", {"cells": "many", "sex": "female"})
    join_cohort(tmp_path / "cohort.h5ad", files)
    sheet = write_pseudobulk(tmp_path / "cohort.h5ad", tmp_path)
    assert list(sheet) == [*PSEUDOBULK_COLUMNS, "sex"]
    assert sheet["cells"].sum() == sum(ad.read_h5ad(path, backed="r").n_obs for path in files)
    assert set(sheet["sex"]) == {"female"}
