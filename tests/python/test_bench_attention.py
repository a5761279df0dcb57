"""The bench of attention: its inputs, networks and operations, its rule, and its section of the page."""

import sys

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from conftest import ROOT
from spikgpt.annotator.network import Architecture, Recipe, SpikingTransformer, counted_spikes, firing_rates

sys.path.append(str(ROOT / "bench"))

import attention
from library.attention_inputs import (
    GENES_OF_MODULE,
    Keys,
    embedded_with_modules,
    episodes,
    modules,
    outputs,
    prototypes,
    standardised,
    with_neighbours,
)
from library.attention_networks import (
    CODE,
    Retrieval,
    TokenNetwork,
    default_without_spikes,
    retrieved,
    train_episodes,
)
from library.attention_variants import VARIANTS, Fitted, Operations, deletion, of_default, of_tokens
from library.pairs import related
from library.splits import Side
from sections import attention as section
from spikgpt.scgpt.checkpoint import read_checkpoint
from spikgpt.scgpt.embed import Embedder

RECIPE = Recipe(min_steps=60, max_steps=60, batch_size=64)


@pytest.fixture(scope="module")
def checkpoint():
    return read_checkpoint(ROOT / "assets" / "scgpt-mini")


@pytest.fixture
def cells():
    """Three types in two batches that differ in one feature, ``(120, 8)``."""
    rng = np.random.default_rng(0)
    codes, batches = np.arange(120) % 3, (np.arange(120) // 3) % 2
    values = rng.normal(0, 0.5, (120, 8)) + 3 * np.eye(8)[codes]
    values[:, 7] += 4 * batches
    return values.astype(np.float32), codes.astype(np.int64), batches.astype(np.int64)


def side(genes, cells=6):
    counts = sp.csr_matrix(np.random.default_rng(1).integers(0, 4, (cells, len(genes))).astype(np.float32))
    text = np.array([f"c{number}" for number in range(cells)], dtype=object)
    return Side(counts, genes, text, text, text)


def test_the_first_output_is_the_embedding_of_the_product(checkpoint, tmp_path):
    genes = [name for name in checkpoint.vocabulary if not name.startswith("<")][:60]
    one = side(genes)
    cls, (tokens,) = embedded_with_modules(checkpoint, one, [[genes[:5], genes[5:7]]], tmp_path)
    embedder = Embedder(checkpoint, genes, sample="test")
    np.testing.assert_allclose(cls, embedder.embed(one.counts, list(one.barcodes)), atol=2e-6)
    # a module's token: outputs at its genes, nothing for genes without a count, over the number of its genes
    cell = embedder.tokens_of(one.counts, 0, "c0")
    out = outputs(checkpoint, torch.from_numpy(cell.tokens), torch.from_numpy(cell.values)).numpy()
    inside = np.isin(cell.tokens, embedder.gene_tokens[:5])
    assert 0 < inside.sum() < 5
    np.testing.assert_allclose(tokens[0, 0], out[inside].sum(0) / 5, atol=1e-5)
    again, _ = embedded_with_modules(checkpoint, one, [[genes[:5], genes[5:7]]], tmp_path)
    assert np.array_equal(cls, again)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_module_holds_the_markers_that_scgpt_knows():
    counts = np.ones((30, 60), dtype=np.float32)
    counts[:15, :25] = 5
    known = {f"KNOWN{gene}" for gene in range(60) if gene != 3}
    found = modules(sp.csr_matrix(counts), [f"KNOWN{g}" for g in range(60)], np.arange(30) // 15, 2, known)
    assert len(found[0]) == GENES_OF_MODULE
    assert set(found[0]) <= {f"KNOWN{gene}" for gene in range(25) if gene != 3}
    assert not set(found[1]) & set(found[0])


def test_keys_are_never_of_the_batch_that_asks(cells):
    values, codes, batches = cells
    for one in episodes(values, codes, batches, 3):
        (asking,) = np.unique(batches[one.asked])
        # the batches differ by 4 in the last feature
        assert np.all((one.cells[:, 7] > 2) == (asking == 0))
    alone = episodes(values, codes, np.zeros_like(batches), 3)
    assert len(alone) == 6
    assert all(len(set(alone[n].asked) & set(alone[n + 1].asked)) == 0 for n in (0, 2, 4))


def test_cells_whose_type_has_no_key_are_not_asked(cells):
    values, codes, batches = cells
    codes = np.where((batches == 0) & (codes == 2), 1, codes)  # the third type is in the second batch alone
    for one in episodes(values, codes, batches, 3):
        assert set(codes[one.asked]) <= set(one.codes)


def test_prototypes_are_means_of_cells_of_one_type_and_batch(cells):
    values, codes, batches = cells
    means, types = prototypes(values, codes, batches, 1)
    assert list(types) == [0, 1, 2, 0, 1, 2]
    np.testing.assert_allclose(means[1], values[(codes == 1) & (batches == 0)].mean(0), atol=1e-5)
    assert len(prototypes(values[:6], codes[:6], np.zeros(6, dtype=np.int64), 3)[1]) == 3  # two cells make one


def test_neighbours_are_of_the_same_batch_and_the_cell_comes_first(cells):
    values, _, batches = cells
    out = with_neighbours(values, batches, 4).reshape(len(values), 5, -1)
    np.testing.assert_array_equal(out[:, 0], values)
    assert np.all((out[:, 1:, 7] > 2) == (batches == 1)[:, None])
    assert with_neighbours(values[:3], batches[:3], 4).shape == (3, 40)  # of too few the nearest are repeated


def test_a_shared_shift_is_taken_off(cells):
    values, codes, _ = cells
    out = standardised({"train": values, "query": values + 5}, codes, {"query": codes}, 3)
    np.testing.assert_allclose(out["query"], out["train"], atol=1e-3)


def test_popcounts_are_spikes_in_common_and_linear_in_the_keys(cells):
    values, codes, batches = cells
    torch.manual_seed(0)
    network = Retrieval(8, 3, "popcount", skip=False).eval()
    keys = Keys(*prototypes(values, codes, batches, 3), np.arange(len(values)))
    asked, prototype = torch.from_numpy(values), torch.from_numpy(keys.cells)
    with torch.inference_mode():
        query, key = network.codes(asked), network.codes(prototype)
        assert set(query.unique().tolist()) == {0.0, 1.0}
        scale = network.log_scale.exp()
        scores = network.looked_at(asked, prototype)
        torch.testing.assert_close(scores, scale * (query.bool()[:, None] & key.bool()[None]).sum(2))
        logits = network(asked, prototype, keys.values(3))
        torch.testing.assert_close(logits, scale * query @ (key.T @ keys.values(3)))


@pytest.mark.parametrize("kind", ["popcount", "popcount, softmax", "cosine, softmax", "mean"])
def test_retrieval_learns_and_looks_past_the_batch(cells, kind):
    values, codes, batches = cells
    network = train_episodes(values, codes, episodes(values, codes, batches, 3), kind, False, 3, RECIPE, 0)
    keys = Keys(*prototypes(values[batches == 0], codes[batches == 0], batches[batches == 0], 3), np.arange(1))
    asked = values[batches == 1]
    log_p = retrieved(network, asked, keys, 3)
    assert (log_p.argmax(1) == codes[batches == 1]).mean() > 0.9
    without = keys.codes != 1
    fewer = Keys(keys.cells[without], keys.codes[without], keys.asked)
    assert retrieved(network, asked, fewer, 3)[:, 1].max() < -100  # a type without a key is never called


def test_deletion_of_what_was_looked_at_costs_more_than_chance(cells):
    values, codes, batches = cells
    network = train_episodes(
        values, codes, episodes(values, codes, batches, 3), "popcount, softmax", True, 3, RECIPE, 0
    )
    keys = Keys(*prototypes(values, codes, batches, 3), np.arange(len(values)))
    log_p = retrieved(network, values, keys, 3)
    found = deletion(Fitted(log_p, log_p, 0, 0, Operations(0), network, keys), values, 3, 0)
    assert found["fall_most"] > max(found["fall_random"], found["fall_random_of_type"])


def shape_of(tokens, scale=1.0):
    return Architecture(8, 3, tokens=tokens, width=16, heads=4, attention_scale=scale)


def opened(network):
    """A network in which branches do not start at zero and inputs are large enough for spikes."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            torch.nn.init.constant_(module.weight, 8)
    return network.eval()


def test_only_attention_lets_a_cell_hear_its_neighbours():
    torch.manual_seed(0)
    cell, other = torch.randn(5, 6 * 8) * 3, torch.randn(5, 6 * 8) * 3
    other[:, :8] = cell[:, :8]  # the same cell among other neighbours
    for network, hears in (
        (TokenNetwork(shape_of(6), ordered=False), True),
        (TokenNetwork(shape_of(6), ordered=False, mean=True), True),
        (TokenNetwork(shape_of(6), ordered=False, spikes=False), True),
        (TokenNetwork(shape_of(6, 0.0), ordered=False), False),
    ):
        with torch.inference_mode():
            heard = not torch.allclose(opened(network)(cell), network(other))
        assert heard is hears


def test_the_order_of_neighbours_does_not_matter():
    torch.manual_seed(0)
    cell = torch.randn(5, 6, 8) * 3
    network = opened(TokenNetwork(shape_of(6), ordered=False))
    with torch.inference_mode():
        torch.testing.assert_close(network(cell.flatten(1)), network(cell[:, [0, 5, 4, 3, 2, 1]].flatten(1)))


def test_without_spikes_there_is_no_neuron():
    network = default_without_spikes(shape_of(4))
    with counted_spikes(network) as counts:
        network(torch.randn(6, 8))
    assert counts == {}


def test_operations_of_ordered_tokens_are_the_default_s():
    shape = shape_of(4)
    network = SpikingTransformer(shape)
    with counted_spikes(network) as counts:
        network(torch.randn(6, 8) * 3)
    rates = firing_rates(counts)
    assert of_tokens(shape, rates, ordered=True) == of_default(shape, rates)
    assert of_tokens(shape, rates, ordered=True, mixing="none").acs < of_default(shape, rates).acs
    assert of_tokens(shape, rates, ordered=False).macs == of_default(shape, rates).macs - 3 * 16 * 3


def test_every_network_without_attention_is_measured():
    for variant in VARIANTS.values():
        assert set(variant.without) <= set(VARIANTS)


def test_settings_are_not_chosen_on_pairs_that_share_cells():
    name = "neighbours: attention"

    def row(family, setting, f1):
        return {"family": family, "pair": family, "missing": None, "variant": name, "setting": setting, "seed": 0} | {
            "alone_macro_f1": f1
        }

    rows = [row("pbmc", "5", 0.1), row("pbmc", "15", 0.9), row("baron", "5", 0.6), row("baron", "15", 0.5)]
    assert "pbmc" in related("pbmc-kang")
    assert attention.chosen(rows, "pbmc-kang")[name] == (5,)
    assert attention.chosen(rows, "baron")[name] == (15,)


def test_a_third_of_every_type_is_held_out():
    codes = np.repeat([0, 1], [30, 12])
    held = attention.held_out_third(codes)
    assert (held[:30].sum(), held[30:].sum()) == (10, 4)


def figures_of(gain, below=0):
    """Figures of one attention and the network without it: ``gain`` on all pairs but ``below``, where it loses."""
    rows = []
    for number in range(6):
        for seed in range(3):
            for variant in (section.EXPRESSION, "default", "a: attention", "a: none"):
                value = dict.fromkeys(attention.COLUMNS) | {
                    "family": "f", "pair": f"p{number}", "variant": variant, "setting": "", "seed": seed,
                    "train_seconds": 1.0, "annotate_seconds": 0.1, "microjoules": 0.2,
                }  # fmt: skip
                more = (gain if number >= below else -0.01) if variant == "a: attention" else 0.0
                told = {
                    f"{view}_{name}": 0.8 + more + 0.001 * seed
                    for view in ("alone", "mixed")
                    for name in ("macro_f1", "ece")
                }
                rows.append([(value | told)[column] for column in attention.COLUMNS])
    return {
        "minutes": 1.0, "code": CODE, "genes_of_module": 20, "reference_cells": 1000, "query_cells": 700, "seeds": 3,
        "recipe": RECIPE.as_dict(), "embedding_seconds": {"cls": 5.0, "genes": 9.0},
        "chosen": {f"p{number}": {} for number in range(6)},
        "without": {"default": ["a: none"], "a: attention": ["a: none"]},
        "columns": list(attention.COLUMNS), "rows": rows,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("gain", "below", "won"), [(0.02, 0, True), (0.02, 2, True), (0.05, 3, False), (0.005, 0, False)]
)
def test_the_rule(gain, below, won):
    frame = section.frame_of(figures_of(gain, below))
    of_frame = {"cls": 5.0, "genes": 9.0}
    assert section.earns(frame, "a: attention", ["a: none"], "alone", of_frame) == (["macro-F1"] if won else [])
    assert ("As the embedding view alone: none does" in section.render(figures_of(gain, below))) is not won


def test_attention_that_is_slower_does_not_win():
    frame = section.frame_of(figures_of(0.02))
    frame.loc[frame["variant"] == "a: attention", "annotate_seconds"] = 0.2
    assert section.earns(frame, "a: attention", ["a: none"], "alone", {"cls": 5.0, "genes": 9.0}) == []


def test_the_section_tells_the_difference_and_the_pairs_below():
    page = section.render(figures_of(0.03, 1))
    assert "| a: attention less a: none | +2.3 ± 0.0, below on 1 of 6 | +2.3 ± 0.0, below on 1 of 6 | – | – |" in page
