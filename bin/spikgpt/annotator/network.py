"""The embedding view: a spiking Transformer on one scGPT embedding per cell.

A learned tokenizer turns the standardised embedding into a few tokens; blocks of multi-head
Spiking Self-Attention [1] joined by membrane shortcuts [2] read them for ``time_steps`` steps;
the mean membrane potential of all tokens, side by side with a linear skip of the embedding,
gives the logits. Neurons are spikingjelly's `LIFNode`.

With one time step (``time_steps`` 1, the default) a neuron's membrane starts at 0 and gets one input, so that leak,
reset and memory never act: each LIF neuron is a step function at twice its threshold (x >= 2 for a threshold of 1), and
the network is one of binary activations. It has dynamics only with more steps.

Two choices differ from [1], for measured reasons: the attention scale is 1 (with the published
0.125, made for hundreds of image tokens, no attention neuron fires at 8 tokens), and the residual
stream is the membrane potential, so that every weight matrix behind the tokenizer sees binary spikes.

[1] Zhou et al., Spikformer, ICLR 2023.  [2] Yao et al., Spike-driven Transformer, NeurIPS 2023.
[3] Goyal et al., Accurate, Large Minibatch SGD, 2017.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import nn

from spikgpt.base.arrays import Codes, Floats, Floats32

Network = TypeVar("Network", bound=nn.Module)

DEAD_BELOW = 0.001
"""Mean firing rate under which a layer is called dead: fewer than one spike in 1000 neuron steps."""


@dataclass(frozen=True)
class Architecture:
    """Shape of the network; stored in the annotator's config."""

    embedding_size: int
    classes: int
    tokens: int = 8
    width: int = 64
    heads: int = 4
    depth: int = 1
    mlp_ratio: int = 2
    time_steps: int = 1
    attention_scale: float = 1.0

    def as_dict(self) -> dict[str, int | float]:
        return asdict(self)


def lif(threshold: float = 1.0) -> neuron.LIFNode:
    """A leaky integrate-and-fire neuron for ``(T, ...)`` inputs: tau 2, hard reset to 0, ATan surrogate."""
    return neuron.LIFNode(
        tau=2.0,
        v_threshold=threshold,
        surrogate_function=surrogate.ATan(),
        detach_reset=True,
        step_mode="m",
    )


class LinearNorm(nn.Module):
    """Linear map without bias, then batch normalisation over all but the last axis."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=False)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.linear(x)  # (..., inputs) -> (..., outputs)
        flat = self.norm(out.reshape(-1, out.shape[-1]))  # (all rows, outputs)
        return flat.reshape(out.shape)  # (..., outputs)


class SpikingSelfAttention(nn.Module):
    """Multi-head Spiking Self-Attention: ``spike(scale * Q K^T V)`` of binary Q, K, V, without softmax.

    The same computation as `spikingjelly.activation_based.layer.SpikingSelfAttention` up to its
    last neuron, which the membrane shortcut leaves out; there the scale is fixed at 0.125 and the
    layout is ``(T, N, C, L)``. Here input and output are ``(T, N, L, C)``; input spikes, output current.
    """

    def __init__(self, width: int, heads: int, scale: float) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}")
        self.heads, self.scale = heads, scale
        self.qkv = LinearNorm(width, 3 * width)
        self.qkv_lif = lif()
        self.attention_lif = lif(0.5)
        self.project = LinearNorm(width, width)

    def forward(self, spikes: torch.Tensor) -> torch.Tensor:
        steps, cells, tokens, width = spikes.shape  # T, N, L, C; H heads of D = C / H
        qkv = self.qkv_lif(self.qkv(spikes))  # (T, N, L, 3 * C)
        qkv = qkv.reshape(steps, cells, tokens, 3, self.heads, -1)  # (T, N, L, 3, H, D)
        query, key, value = qkv.permute(3, 0, 1, 4, 2, 5)  # each (T, N, H, L, D)
        # no softmax lies between, so K^T V may come first: (D, D) instead of (L, L)
        mixed = (query @ (key.transpose(-2, -1) @ value)) * self.scale  # (T, N, H, L, D)
        mixed = mixed.transpose(2, 3).reshape(steps, cells, tokens, width)  # (T, N, L, H, D) -> (T, N, L, C)
        return self.project(self.attention_lif(mixed))  # (T, N, L, C)


class Block(nn.Module):
    """Attention and MLP, each behind a neuron and added to the membrane potential."""

    def __init__(self, shape: Architecture) -> None:
        super().__init__()
        hidden = shape.width * shape.mlp_ratio
        self.attention_in = lif()
        self.attention = SpikingSelfAttention(shape.width, shape.heads, shape.attention_scale)
        self.mlp_in = lif()
        self.mlp_up = LinearNorm(shape.width, hidden)
        self.mlp_lif = lif()
        self.mlp_down = LinearNorm(hidden, shape.width)
        # Both branches start at zero [3], so that the block earns its say: started at one, it fits the
        # reference as well and reads much of the reference's batch.
        nn.init.zeros_(self.attention.project.norm.weight)
        nn.init.zeros_(self.mlp_down.norm.weight)

    def forward(self, membrane: torch.Tensor) -> torch.Tensor:
        # (T, N, L, C) throughout
        membrane = membrane + self.attention(self.attention_in(membrane))
        return membrane + self.mlp_down(self.mlp_lif(self.mlp_up(self.mlp_in(membrane))))


class SpikingTransformer(nn.Module):
    """Logits ``(cells, classes)`` from standardised embeddings ``(cells, embedding_size)``."""

    def __init__(self, shape: Architecture) -> None:
        super().__init__()
        self.shape = shape
        self.tokenizer = LinearNorm(shape.embedding_size, shape.tokens * shape.width)
        self.blocks = nn.ModuleList([Block(shape) for _ in range(shape.depth)])
        self.read_out = nn.Linear(shape.tokens * shape.width, shape.classes)
        self.skip = nn.Linear(shape.embedding_size, shape.classes, bias=False)

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        functional.reset_net(self)
        # the input current is the same at every step: the tokenizer is computed once
        tokens = self.tokenizer(embedding)  # (N, E) -> (N, L * C)
        tokens = tokens.reshape(-1, self.shape.tokens, self.shape.width)  # (N, L, C)
        membrane = tokens.expand(self.shape.time_steps, *tokens.shape)  # (T, N, L, C)
        for block in self.blocks:
            membrane = block(membrane)
        mean = membrane.mean(0).flatten(1)  # (N, L * C)
        return self.read_out(mean) + self.skip(embedding)  # (N, classes)


@contextmanager
def counted_spikes(network: nn.Module) -> Iterator[dict[str, list[float]]]:
    """While open, collect ``layer -> [spikes, neuron steps]`` of every forward pass."""
    counts: dict[str, list[float]] = {}

    def hook(name: str) -> Callable[[nn.Module, object, torch.Tensor], None]:
        def add(_module: nn.Module, _inputs: object, spikes: torch.Tensor) -> None:
            total = counts.setdefault(name, [0.0, 0.0])
            total[0] += float(torch.count_nonzero(spikes))
            total[1] += spikes.numel()

        return add

    handles = [
        module.register_forward_hook(hook(name))
        for name, module in network.named_modules()
        if isinstance(module, neuron.BaseNode)
    ]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """One thread, deterministic kernels, and a random state of its own, put back afterwards."""
    threads, strict = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    memory: Any = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        # the same switch as use_deterministic_algorithms, without its import of the compiler (6 s)
        torch.set_deterministic_debug_mode("error")
        # each new tensor would be filled before it is computed: no kernel here reads what it has not written
        memory.fill_uninitialized_memory = False
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_deterministic_debug_mode(strict)
            memory.fill_uninitialized_memory = filled


@dataclass(frozen=True)
class Recipe:
    """How the network is trained; stored in the annotator's config.

    The number of steps is ``epochs`` passes, within ``min_steps`` and ``max_steps``: small
    references get enough of them, large ones do not need an epoch for each.
    """

    epochs: int = 20
    min_steps: int = 120
    max_steps: int = 300
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    input_noise: float = 0.3

    def as_dict(self) -> dict[str, int | float]:
        return asdict(self)


def train(
    embedding: Floats32,
    codes: Codes,
    shape: Architecture,
    recipe: Recipe,
    seed: int,
    kind: type[Network] = SpikingTransformer,  # type: ignore[assignment]
) -> Network:
    """Train with AdamW on class-balanced cross-entropy under a one-cycle learning rate.

    Parameters
    ----------
    embedding
        Standardised embeddings, ``(cells, embedding_size)``.
    codes
        Class of each cell, ``0 .. classes - 1``; a class may have no cell.
    kind
        The network, made from ``shape``; the bench trains others the same way.

    Returns
    -------
    The network, in evaluation mode. The bytes depend on the arguments alone, not on torch's threads or random state.
    """
    size = min(recipe.batch_size, len(codes))
    per_epoch = max(1, len(codes) // size)

    def batches() -> Iterator[tuple[torch.Tensor]]:
        while True:
            order = torch.randperm(len(codes))
            for at in range(per_epoch):
                yield (order[at * size :][:size],)

    with deterministic(seed):
        return descend(kind(shape), embedding, codes, shape.classes, recipe, batches())


def descend(
    network: Network,
    cells: Floats32,
    codes: Codes,
    classes: int,
    recipe: Recipe,
    batches: Iterator[tuple[torch.Tensor, ...]],
) -> Network:
    """The steps of `train`, which sets the random state: loss, optimiser, schedule, noise.

    ``cells`` (cells, features) and ``codes`` (cells,); each of ``batches`` is the rows of a step and, after them, what
    else the network is called with.
    """
    inputs, targets = torch.from_numpy(cells), torch.from_numpy(codes)
    counts = torch.bincount(targets, minlength=classes).double()
    weights = torch.zeros(classes, dtype=torch.float64)
    weights[counts > 0] = len(codes) / (int((counts > 0).sum()) * counts[counts > 0])
    # square root: a class of two cells must not rule the gradient of a whole batch
    loss_of = nn.CrossEntropyLoss(weight=weights.sqrt().float())
    per_epoch = max(1, len(codes) // recipe.batch_size)
    steps = int(np.clip(recipe.epochs * per_epoch, recipe.min_steps, recipe.max_steps))
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=recipe.learning_rate, total_steps=steps)
    network.train()
    for _ in range(steps):
        chosen, *further = next(batches)
        batch = inputs[chosen]
        batch = batch + recipe.input_noise * torch.randn(batch.shape)
        loss = loss_of(network(batch, *further), targets[chosen])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
    functional.reset_net(network)
    return network.eval()


def log_probabilities(network: nn.Module, embedding: Floats32, chunk: int = 512) -> Floats:
    """Log-softmax of the logits, ``(cells, classes)`` of at least one cell.

    A row depends on the other cells of its chunk by rounding alone (5e-6 at most, measured): the same cells in the same
    order give the same bytes.
    """
    rows = []
    network.eval()
    with torch.inference_mode(), deterministic(0):
        for start in range(0, len(embedding), chunk):
            part = torch.from_numpy(embedding[start : start + chunk])
            rows.append(torch.log_softmax(network(part).double(), dim=1).numpy())
        functional.reset_net(network)
    return np.concatenate(rows)


def firing_rates(counts: dict[str, list[float]]) -> dict[str, float]:
    """Mean spikes per neuron and time step of each layer, rounded to 6 decimals."""
    return {name: round(spikes / steps, 6) if steps else 0.0 for name, (spikes, steps) in counts.items()}


def dead_layers(rates: dict[str, float]) -> list[str]:
    """Layers that fire less than `DEAD_BELOW`."""
    return [name for name, rate in rates.items() if rate < DEAD_BELOW]
