"""The bundled annotator of human blood on cells that are not blood: every one of them is Unknown."""

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from conftest import ROOT
from spikgpt import UNKNOWN
from spikgpt.annotator.batch import UNLIKE
from spikgpt.annotator.folder import load_annotator
from spikgpt.scgpt.checkpoint import read_checkpoint
from spikgpt.scgpt.embed import Embedder


@pytest.fixture(scope="module")
def pancreas(demo_data):
    """Two libraries of the demo: their cells, and the bundled checkpoint's embedding of them."""
    cells = ad.read_h5ad(demo_data / "reference.h5ad")
    counts = sp.csr_matrix(cells.X)
    checkpoint = read_checkpoint(ROOT / "assets" / "scgpt-mini")
    embedder = Embedder(checkpoint, list(cells.var_names), sample="pancreas", max_tokens=1200, seed=0, device="cpu",
                        threads=1)  # fmt: skip
    return cells, counts, embedder.embed(counts, list(cells.obs_names)), checkpoint.sha256


@pytest.mark.parametrize("which", ["all", "first library", "beta", "60 cells"])
def test_a_pancreas_is_not_taken_for_blood(which, pancreas):
    """Most pancreas cells are nearest to one type of blood; a sample of one type more must not pass for a batch."""
    cells, counts, embedding, sha256 = pancreas
    labels, libraries = cells.obs["cell_type"].astype(str), cells.obs["library"].astype(str)
    rows = {
        "all": np.arange(cells.n_obs),
        "first library": np.flatnonzero(libraries == sorted(set(libraries))[0]),
        "beta": np.flatnonzero(labels == "beta"),
        "60 cells": np.sort(np.random.default_rng(0).permutation(cells.n_obs)[:60]),
    }[which]
    annotator = load_annotator(ROOT / "assets" / "annotators" / "pbmc", sha256)
    table, told = annotator.annotate(
        counts[rows], list(cells.var_names), embedding[rows], [cells.obs_names[row] for row in rows], 0.05
    )
    assert (table["spikgpt_cell_type"] == UNKNOWN).mean() > 0.99
    assert told["likeness"] < UNLIKE
    assert told["not_calibrated"]
    assert told["tissue_warning"]
