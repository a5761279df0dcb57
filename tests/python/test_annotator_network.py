"""The embedding view: shapes, firing, spikingjelly's own attention, training."""

import numpy as np
import pytest
import torch
from spikgpt.annotator.network import (
    Architecture,
    Recipe,
    SpikingSelfAttention,
    SpikingTransformer,
    counted_spikes,
    dead_layers,
    firing_rates,
    lif,
    log_probabilities,
    train,
)
from spikingjelly.activation_based import functional, layer, neuron


def small_network(**shape: int) -> SpikingTransformer:
    torch.manual_seed(0)
    return SpikingTransformer(Architecture(embedding_size=16, classes=3, **shape)).eval()


def test_logits_have_one_row_a_cell_and_neurons_speak_in_spikes() -> None:
    net = small_network(depth=2)
    outputs = []
    for module in net.modules():
        if isinstance(module, neuron.BaseNode):
            assert module.step_mode == "m"
            assert module.detach_reset
            module.register_forward_hook(lambda _m, _i, out: outputs.append(out.detach()))
    logits = net(torch.randn(5, 16))
    assert logits.shape == (5, 3)
    assert len(outputs) == 2 * 5
    for spikes in outputs:
        assert spikes.shape[:2] == (1, 5)
        assert set(spikes.unique().tolist()) <= {0.0, 1.0}


def test_attention_equals_that_of_spikingjelly() -> None:
    torch.manual_seed(1)
    own = SpikingSelfAttention(width=32, heads=4, scale=1.0).eval()
    theirs = layer.SpikingSelfAttention(32, 4).eval()
    theirs.scale = 1.0
    for mine, conv_bn in ((own.qkv, theirs.qkv_conv_bn), (own.project, theirs.proj_conv_bn)):
        conv, norm = conv_bn[0], conv_bn[1]
        conv.weight.data = mine.linear.weight.data[:, :, None] * 10
        mine.linear.weight.data *= 10
        norm.load_state_dict(mine.norm.state_dict())
    spikes = (torch.rand(4, 6, 8, 32) < 0.3).float()
    functional.reset_net(own)
    functional.reset_net(theirs)
    # spikingjelly ends in a neuron, which the membrane shortcut leaves out
    mine = lif()(own(spikes))
    expected = theirs(spikes.transpose(2, 3)).transpose(2, 3)
    assert expected.sum() > 0
    assert torch.equal(mine, expected)


def test_width_must_be_a_multiple_of_heads() -> None:
    with pytest.raises(ValueError, match="multiple of heads"):
        SpikingSelfAttention(width=10, heads=4, scale=1.0)


def test_training_learns_is_repeatable_and_leaves_torch_as_it_was() -> None:
    draw = np.random.default_rng(0)
    codes = np.arange(90) % 3
    values = (np.eye(3, 16)[codes] * 4 + draw.normal(0, 1, (90, 16))).astype(np.float32)
    recipe = Recipe(min_steps=40, max_steps=40)
    shape = Architecture(16, 3)
    before = (torch.get_num_threads(), torch.get_deterministic_debug_mode(), torch.random.get_rng_state())
    first, second = (train(values, codes, shape, recipe, seed=3) for _ in range(2))
    other = train(values, codes, shape, recipe, seed=4)
    assert torch.get_num_threads() == before[0]
    assert torch.get_deterministic_debug_mode() == before[1]
    assert torch.equal(torch.random.get_rng_state(), before[2])
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
    assert not torch.equal(first.read_out.weight, other.read_out.weight)
    predicted = log_probabilities(first, values)
    assert (predicted.argmax(1) == codes).mean() > 0.95
    np.testing.assert_allclose(np.exp(predicted).sum(1), 1)
    # a cell's row does not depend on who else is in the chunk
    np.testing.assert_allclose(log_probabilities(first, values[7:8]), predicted[7:8], atol=1e-5)


def test_firing_rates_are_counted_and_dead_layers_found() -> None:
    net = small_network()
    with counted_spikes(net) as counts, torch.no_grad():
        net(torch.randn(50, 16))
        net(torch.randn(50, 16))
    rates = firing_rates(counts)
    assert set(rates) == {
        "blocks.0.attention_in",
        "blocks.0.attention.qkv_lif",
        "blocks.0.attention.attention_lif",
        "blocks.0.mlp_in",
        "blocks.0.mlp_lif",
    }
    assert all(0 <= rate <= 1 for rate in rates.values())
    assert counts["blocks.0.mlp_in"][1] == 2 * 1 * 50 * 8 * 64
    net.blocks[0].attention.qkv.norm.bias.data.fill_(-100.0)  # no query, key or value ever fires
    with counted_spikes(net) as counts, torch.no_grad():
        net(torch.randn(50, 16))
    assert {"blocks.0.attention.qkv_lif", "blocks.0.attention.attention_lif"} <= set(dead_layers(firing_rates(counts)))
