"""The genes that a label rests on: they add up to what the expression view says."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from annotator_cells import made_cells
from conftest import ROOT
from spikgpt.annotator.attribution import GeneSums, against_the_mean, gene_attributions, gene_gradients
from spikgpt.annotator.cells import Cells, working_threads
from spikgpt.annotator.expression import ExpressionView
from spikgpt.scgpt.checkpoint import read_checkpoint
from spikgpt.scgpt.embed import Embedder

NO_EMBEDDING = np.zeros((0, 1), dtype=np.float32)


@pytest.fixture(scope="module")
def fitted() -> tuple[ExpressionView, list[str]]:
    data, _ = made_cells({"B cell": 60, "NK cell": 50, "T cell": 70}, seed=3, name="reference")
    labels, codes = np.unique(data.obs["cell_type"].to_numpy(), return_inverse=True)
    # a fourth class has no cell, as in a fold that holds a type out
    return ExpressionView.fit(data.layers["counts"].astype(np.float32), codes, 4), list(labels)


@pytest.fixture(scope="module")
def query() -> Cells:
    data, _ = made_cells({"B cell": 45, "NK cell": 30, "T cell": 40}, seed=4, name="query")
    counts = data.layers["counts"].astype(np.float32)
    columns = np.arange(counts.shape[1])
    columns[::17] = -1  # genes that the sample did not measure
    return Cells(counts, np.arange(counts.shape[0]), columns, NO_EMBEDDING)


def test_attributions_and_intercepts_add_up_to_the_log_odds(fitted, query):
    view, _ = fitted
    log_p = view.log_probabilities(query)
    called = log_p.argmax(1)
    # every cell a group of its own, so that nothing cancels over cells
    contrast = against_the_mean(view.class_cells > 0, called)
    found = gene_attributions(view, query, np.arange(len(query)), contrast)
    intercepts = sum(contrast @ scale.intercepts for scale in view.scales.values()) / (len(view.scales) + 1)
    log_odds = (contrast * np.where(view.class_cells > 0, log_p, 0.0)).sum(1)
    assert np.allclose(found.sum(1) + intercepts, log_odds, atol=1e-8)
    assert np.ptp(log_odds) > 1


def test_groups_are_sums_of_their_cells_whatever_the_threads(fitted, query):
    view, _ = fitted
    called = view.log_probabilities(query).argmax(1)
    groups = np.where(np.arange(len(query)) % 5 == 0, -1, called)
    of_types = against_the_mean(view.class_cells > 0, np.arange(3))
    by_cell = gene_attributions(view, query, np.arange(len(query)), against_the_mean(view.class_cells > 0, called))
    by_group = gene_attributions(view, query, groups, of_types)
    for group in range(3):
        assert np.allclose(by_group[group], by_cell[groups == group].sum(0))
    with working_threads(2):
        assert np.array_equal(gene_attributions(view, query, groups, of_types), by_group)
    in_blocks = GeneSums(view, query.measured, 3)
    for rows in (slice(0, 7), slice(7, 60), slice(60, None)):
        in_blocks.add(query.counts()[rows], groups[rows])
    assert np.allclose(in_blocks.attributions(of_types), by_group, rtol=1e-9, atol=1e-9)


def test_markers_of_a_type_come_first_and_genes_that_were_not_measured_add_nothing(fitted, query):
    view, labels = fitted
    called = view.log_probabilities(query).argmax(1)
    found = gene_attributions(view, query, called, against_the_mean(view.class_cells > 0, np.arange(3)))
    # made_cells gives the types in this order 20 markers each
    for place, name in enumerate(("B cell", "NK cell", "T cell")):
        top = np.argsort(-found[labels.index(name)])[:15]
        assert ((top >= 20 * place) & (top < 20 * place + 20)).all()
    offset_alone = np.abs(found[:, ~query.measured])
    assert offset_alone.max() < 0.05 * np.abs(found).max()


def test_against_the_mean_leaves_out_a_class_without_cells(fitted):
    view, _ = fitted
    contrast = against_the_mean(view.class_cells > 0, np.array([0, 2]))
    assert np.allclose(contrast.sum(1), 0)
    assert (contrast[:, 3] == 0).all()


def test_gradients_are_those_of_scgpt_and_network_together():
    checkpoint = read_checkpoint(ROOT / "assets" / "scgpt-mini")
    symbols = ["CD3D", "GENE_THAT_NO_ONE_KNOWS", "MS4A1", "LYZ", "GNLY"]
    embedder = Embedder(checkpoint, symbols, sample="made")
    counts = sp.csr_matrix(np.array([[3, 2, 0, 1, 7], [0, 0, 5, 1, 0], [0, 4, 0, 0, 0]], dtype=np.float32))
    torch.manual_seed(0)
    # a network without spikes, whose gradient is that of its output
    layer = torch.nn.Sequential(torch.nn.Linear(checkpoint.width, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).eval()
    draw = np.random.default_rng(0)
    mean, sd, offset = draw.normal(0, 0.02, (3, checkpoint.width)).astype(np.float32)
    view = SimpleNamespace(network=layer, mean=mean, sd=np.abs(sd) + 0.02)
    contrast = np.array([[1, -0.5, -0.5], [-0.5, 1, -0.5], [0, 1, -1]])
    found = gene_gradients(view, embedder, counts, embedder.embed(counts, [*"abc"]), offset, contrast)
    assert (found[:, 1] == 0).all()
    assert (found[2] == 0).all()  # no gene that scGPT knows
    assert (found[counts.toarray() == 0] == 0).all()
    for cell, gene in ((0, 0), (0, 4), (1, 2)):
        read = embedder.tokens_of(counts, cell, "")
        at = int(np.flatnonzero(read.tokens == embedder.gene_tokens[gene])[0])
        logits = []
        for step in (-0.05, 0.05):
            values = read.values.copy()
            values[at] += step
            with torch.inference_mode():
                cls = embedder.model(torch.from_numpy(read.tokens)[None], torch.from_numpy(values)[None]).numpy()[0]
                standard = (cls / np.linalg.norm(cls) - mean) / view.sd - offset
                logits.append(layer(torch.from_numpy(standard.astype(np.float32))[None]).numpy()[0] @ contrast[cell])
        slope = (logits[1] - logits[0]) / 0.1
        assert found[cell, gene] == pytest.approx(slope * read.values[at], rel=0.02)
