"""Theoretical energy, beside spikingjelly's own count of the same network."""

import json
from dataclasses import replace

import pytest
import torch
from spikgpt.annotator import energy
from spikgpt.annotator.energy import Operations, ScGPTShape
from spikgpt.annotator.network import Architecture, SpikingTransformer, counted_spikes, firing_rates
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.op_counter import estimate_simple_energy

SHAPE = Architecture(embedding_size=64, classes=8)
CELLS = 128


@pytest.fixture(scope="module")
def network() -> SpikingTransformer:
    """A network all of whose layers fire; an untrained one is silent behind its first layer."""
    torch.manual_seed(0)
    untrained = SpikingTransformer(SHAPE)
    for name, module in untrained.named_modules():
        if isinstance(module, torch.nn.BatchNorm1d) and "project" not in name:
            torch.nn.init.constant_(module.weight, 4.0)
    return untrained.eval()


def test_accumulates_are_the_synaptic_operations_that_spikingjelly_counts(network):
    cells = torch.randn(CELLS, SHAPE.embedding_size, generator=torch.Generator().manual_seed(1)) * 3
    with torch.no_grad(), counted_spikes(network) as spikes:
        network(cells)
    rates = firing_rates(spikes)
    assert min(rates.values()) > 0.005, rates
    functional.reset_net(network)
    theirs = estimate_simple_energy(network, cells)
    ours = energy.spiking(SHAPE, rates)
    # they multiply binary matrices by the spikes of one of the two: the same but for the mean over Q, K and V
    assert ours.acs == pytest.approx(theirs.counts["synop"] / CELLS, rel=0.02)
    # batch normalisation: one MAC for each output, the tokenizer's once and the block's in every step
    normalised = SHAPE.tokens * SHAPE.width * (1 + SHAPE.time_steps * (3 + 1 + SHAPE.mlp_ratio + 1))
    assert theirs.counts["mac"] / CELLS == ours.macs + normalised
    # element-wise additions of neurons and residuals are theirs alone, and memory is nearly all of their total
    assert theirs.counts["ac"] > theirs.counts["synop"]
    assert theirs.energy_memory_pj > 10 * theirs.energy_compute_pj


def test_a_silent_network_costs_its_ends_and_more_steps_cost_more():
    silent = dict.fromkeys(
        ["blocks.0.attention_in", "blocks.0.attention.qkv_lif", "blocks.0.attention.attention_lif", "blocks.0.mlp_in",
         "blocks.0.mlp_lif"], 0.0,
    )  # fmt: skip
    ends = 64 * 8 * 64 + 64 * 8 + 8 * 64 * 8
    assert energy.spiking(SHAPE, silent) == Operations(ends, 0)
    busy = dict.fromkeys(silent, 0.1)
    four, eight = (energy.spiking(replace(SHAPE, time_steps=steps), busy) for steps in (4, 8))
    assert eight.acs == pytest.approx(2 * four.acs)
    assert eight.macs == four.macs == ends
    # 0.1 * 4 steps * (QKV + K'V and Q(K'V) + projection + MLP)
    connections = 8 * 64 * 192 + 2 * 8 * 64 * 16 + 8 * 64 * 64 + 2 * 8 * 64 * 128
    assert four.acs == pytest.approx(0.4 * connections)
    assert four.microjoules == pytest.approx((4.6 * four.macs + 0.9 * four.acs) * 1e-6)


def test_the_others_by_hand(tmp_path):
    assert energy.linear(SHAPE).macs == 512
    block = 4 * 8 * 64 * 64 + 2 * 8 * 8 * 64 + 2 * 8 * 64 * 128
    assert energy.transformer(SHAPE).macs == 64 * 8 * 64 + 64 * 8 + 8 * 64 * 8 + block
    # the published checkpoint on 1,200 tokens: about 40 GMAC, a fifth of a joule
    whole = energy.scgpt(ScGPTShape(layers=12, width=512, hidden=512), 1200)
    assert whole.macs == pytest.approx(4.0e10, rel=0.1)
    assert whole.microjoules == pytest.approx(0.19e6, rel=0.1)
    (tmp_path / "args.json").write_text(json.dumps({"nlayers": 2, "embsize": 64, "d_hid": 128, "nheads": 4}))
    assert energy.scgpt_shape(tmp_path / "args.json") == ScGPTShape(2, 64, 128)
