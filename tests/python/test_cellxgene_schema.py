"""assets/cellxgene.py: CELLxGENE's own validator accepts what it makes of an annotated h5ad."""

import subprocess
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from spikgpt.base.genes import human_genes
from test_cohort import annotated, small, small_table  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
BIN = ROOT / ".venv-cellxgene" / "bin"
needs_validator = pytest.mark.skipif(
    not BIN.is_dir(), reason=".venv-cellxgene is not there: make setup-cellxgene makes it; NOT tested"
)
SHEET = {
    "organism_ontology_term_id": "NCBITaxon:9606", "tissue_ontology_term_id": "UBERON:0000178", "tissue_type": "tissue",
    "assay_ontology_term_id": "EFO:0009922", "disease_ontology_term_id": "PATO:0000461",
    "sex_ontology_term_id": "PATO:0000384", "development_stage_ontology_term_id": "HsapDv:0000087",
    "self_reported_ethnicity_ontology_term_id": "unknown", "suspension_type": "cell", "donor_id": "d1",
    "is_primary_data": "True", "sex": "male",
}  # fmt: skip
"""Columns of a samplesheet; `sex` is one that CELLxGENE makes itself."""


def convert(folder: Path, cells: ad.AnnData) -> subprocess.CompletedProcess:
    cells.write_h5ad(folder / "cohort.h5ad")
    command = [
        str(BIN / "python"),
        str(ROOT / "assets" / "cellxgene.py"),
        "cohort.h5ad",
        "out.h5ad",
        "--title",
        "Blood",
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def cells(small, small_table, tmp_path) -> ad.AnnData:  # noqa: F811
    """One annotated sample with these columns, its made genes named after real ones; one has no id, one a false one."""
    path = small.annotate(small_table, tmp_path / "annotated", SHEET)[-1]
    made = ad.read_h5ad(path)
    real = [gene.gene_id for gene in human_genes().values() if gene.gene_id][: made.n_vars - 2]
    made.var["gene_id"] = [*real, "", "ENSG99999999999"]
    return made


@needs_validator
def test_the_validator_accepts_it(cells, tmp_path):
    run = convert(tmp_path, cells)
    assert run.returncode == 0, run.stderr
    assert run.stderr.startswith("2 genes without an Ensembl id")
    told = subprocess.run(
        [str(BIN / "cellxgene-schema"), "validate", "out.h5ad"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    made = ad.read_h5ad(tmp_path / "out.h5ad")
    kept = cells[:, : cells.n_vars - 2]
    np.testing.assert_array_equal(made.X.toarray(), kept.X.toarray())
    np.testing.assert_array_equal(made.raw.X.toarray(), kept.layers["counts"].toarray())
    assert list(made.obs["spikgpt_cell_type"]) == list(cells.obs["spikgpt_cell_type"])
    assert made.obs["is_primary_data"].all()


@needs_validator
def test_what_the_samplesheet_lacks_is_named(cells, tmp_path):
    cells.obs["tissue_type"] = pd.Categorical([""] * cells.n_obs)
    run = convert(tmp_path, cells[:, :].copy())
    assert run.returncode == 1
    assert "missing or have gaps: tissue_type" in run.stderr
    assert not (tmp_path / "out.h5ad").exists()
