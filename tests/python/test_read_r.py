"""assets/read_spikgpt.R: a Seurat object and a SingleCellExperiment with all that the h5ad holds."""

import os
import shutil
import subprocess
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from test_cohort import annotated, joined, small, small_table  # noqa: F401

SCRIPT = Path(__file__).resolve().parents[2] / "assets" / "read_spikgpt.R"


def has_r(*packages: str) -> bool:
    """Whether R is here with these packages (Debian: r-bioc-rhdf5, r-cran-seurat, r-bioc-singlecellexperiment)."""
    if shutil.which("Rscript") is None:
        return False
    code = "; ".join(f"library({name})" for name in packages)
    return subprocess.run(["Rscript", "-e", code], capture_output=True, check=False).returncode == 0


DUMP = """
  write.csv(meta, 'obs.csv', row.names = TRUE, fileEncoding = 'UTF-8')
  write.csv(var, 'var.csv', row.names = TRUE)
  Matrix::writeMM(counts, 'counts.mtx')
  Matrix::writeMM(data, 'data.mtx')
  write(umap, 'umap.txt', ncolumns = 1); write(scgpt, 'scgpt.txt', ncolumns = 1)
"""
SEURAT = f"""
  x <- read_seurat('cohort.h5ad')
  meta <- x@meta.data; var <- x[['RNA']][[]]
  counts <- Seurat::GetAssayData(x, 'counts'); data <- Seurat::GetAssayData(x, 'data')
  umap <- x[['umap']]@cell.embeddings; scgpt <- x[['scGPT']]@cell.embeddings
  again <- Seurat::GetAssayData(Seurat::NormalizeData(x, verbose = FALSE), 'data')
  stopifnot(max(abs(again - data)) < 1e-6, all(Seurat::Idents(x) == x$spikgpt_cell_type))
  {DUMP}
"""
SCE = f"""
  x <- read_sce('cohort.h5ad')
  meta <- as.data.frame(SingleCellExperiment::colData(x)); var <- as.data.frame(SingleCellExperiment::rowData(x))
  counts <- SingleCellExperiment::counts(x); data <- SingleCellExperiment::logcounts(x)
  umap <- SingleCellExperiment::reducedDim(x, 'UMAP'); scgpt <- SingleCellExperiment::reducedDim(x, 'scGPT')
  {DUMP}
"""


@pytest.mark.parametrize(
    ("code", "packages", "gene"),
    [(SEURAT, ("rhdf5", "Seurat"), "mark-0"), (SCE, ("rhdf5", "SingleCellExperiment"), "mark_0")],
    ids=["Seurat", "SingleCellExperiment"],
)
def test_r_reads_what_python_wrote(code, packages, gene, joined, tmp_path):  # noqa: F811
    if not has_r(*packages):
        pytest.skip(f"R with {' and '.join(packages)} is not here")
    shutil.copy(joined, tmp_path / "cohort.h5ad")
    (tmp_path / "run.R").write_text(f"source('{SCRIPT}')\n{code}", encoding="utf-8")
    # the reader is of no locale, but write.csv of the dump spells other letters as <U+2014> in the C locale
    utf8 = os.environ | {"LC_ALL": "C.UTF-8"}
    run = subprocess.run(["Rscript", "run.R"], cwd=tmp_path, env=utf8, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    cohort = ad.read_h5ad(joined)
    obs = pd.read_csv(tmp_path / "obs.csv", index_col=0, keep_default_na=False)
    assert list(obs.index) == list(cohort.obs_names)
    for column, values in cohort.obs.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(obs[column].astype(float), values, rtol=1e-6)
        else:
            assert list(obs[column].astype(str).str.lower()) == list(values.astype(str).str.lower()), column
    var = pd.read_csv(tmp_path / "var.csv", index_col=0, keep_default_na=False)
    assert gene in var.index
    assert list(var["gene_id"]) == list(cohort.var["gene_id"])
    for name, expected in (("counts", cohort.layers["counts"]), ("data", cohort.X)):
        # written with at least 6 digits
        entries = np.loadtxt(tmp_path / f"{name}.mtx", skiprows=2)
        found = np.zeros(cohort.shape[::-1])
        found[entries[:, 0].astype(int) - 1, entries[:, 1].astype(int) - 1] = entries[:, 2]
        np.testing.assert_allclose(found.T, expected.toarray(), rtol=1e-5)
    for name in ("umap", "scgpt"):
        expected = cohort.obsm["X_umap" if name == "umap" else "X_scGPT"]
        np.testing.assert_allclose(np.loadtxt(tmp_path / f"{name}.txt"), expected.T.ravel(), rtol=1e-5)
