"""Networks that give spiking self-attention something to choose between, and the same networks without it.

[1] Zhou et al., Spikformer, ICLR 2023: binary Q, K and V, no softmax. [2] Vinyals et al., Matching Networks for One
Shot Learning, NeurIPS 2016: softmax over labelled examples, trained in episodes. [3] Snell et al., Prototypical
Networks, NeurIPS 2017: the mean of a type's examples. [4] Ramsauer et al., Hopfield Networks is All You Need, ICLR
2021: softmax attention is the retrieval of stored patterns.
"""

from collections.abc import Iterator

import numpy as np
import torch
from library.attention_inputs import Codes, Floats32, Keys
from numpy.typing import NDArray
from spikgpt.annotator.network import (
    Architecture,
    Block,
    LinearNorm,
    Recipe,
    SpikingTransformer,
    descend,
    deterministic,
    lif,
)  # fmt: skip
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

ABSENT = -1e4
"""Logit of a type without a key."""
CODE = 128
"""Neurons that a cell's code has in retrieval."""
SCALES = {"popcount": 0.3, "popcount, softmax": 0.3, "cosine, softmax": 10.0, "mean": 0.05}
"""The scale of the scores that each kind of retrieval starts with, so that types differ by a few nats."""


def without_spikes(network: nn.Module) -> nn.Module:
    """The same network with ReLU in place of every neuron."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, neuron.BaseNode):
                setattr(module, name, nn.ReLU())
    return network


def default_without_spikes(shape: Architecture) -> nn.Module:
    """The annotator's network with ReLU in place of its neurons; its attention stays linear in the keys."""
    return without_spikes(SpikingTransformer(shape))


# --- tokens: modules of genes, or neighbouring cells --------------------------------------------------


class MeanOfTokens(nn.Module):
    """In place of attention: every token gets the mean of all tokens' values."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.value, self.value_lif = LinearNorm(width, width), lif()
        self.project = LinearNorm(width, width)
        nn.init.zeros_(self.project.norm.weight)  # as `Block` starts its branches

    def forward(self, spikes: Tensor) -> Tensor:
        value = self.value_lif(self.value(spikes))  # (T, N, L, C)
        return self.project(value.mean(2, keepdim=True).expand_as(value))  # (T, N, 1, C) -> (T, N, L, C)


class TokenNetwork(nn.Module):
    """The annotator's block [1] on tokens that are given: logits ``(cells, classes)`` from ``(cells, tokens * E)``.

    The first token is the cell's own embedding, which the linear skip reads too. With ``ordered`` tokens (modules) each
    has a place and all are read out; otherwise (neighbours) the cell's own token alone is read out, and the others are
    told from it by one place that they share.
    """

    def __init__(self, shape: Architecture, ordered: bool, mean: bool = False, spikes: bool = True) -> None:
        super().__init__()
        self.shape, self.ordered = shape, ordered
        self.tokenizer = LinearNorm(shape.embedding_size, shape.width)
        self.place = nn.Parameter(torch.zeros(shape.tokens if ordered else 2, shape.width))
        self.blocks = nn.ModuleList([Block(shape) for _ in range(shape.depth)])
        if mean:
            for block in self.blocks:
                block.attention = MeanOfTokens(shape.width)
        self.read_out = nn.Linear((shape.tokens if ordered else 1) * shape.width, shape.classes)
        self.skip = nn.Linear(shape.embedding_size, shape.classes, bias=False)
        if not spikes:
            without_spikes(self)

    def forward(self, cells: Tensor) -> Tensor:
        functional.reset_net(self)
        tokens = cells.reshape(len(cells), self.shape.tokens, -1)  # (N, L * E) -> (N, L, E)
        own = tokens[:, 0]  # (N, E)
        number = torch.arange(self.shape.tokens)
        place = self.place[number if self.ordered else number.clamp(max=1)]  # (L, C)
        membrane = self.tokenizer(tokens) + place  # (N, L, C)
        membrane = membrane.expand(self.shape.time_steps, *membrane.shape)  # (T, N, L, C)
        for block in self.blocks:
            membrane = block(membrane)
        mean = membrane.mean(0)  # (N, L, C)
        read = mean.flatten(1) if self.ordered else mean[:, 0]  # (N, L * C) or (N, C)
        return self.read_out(read) + self.skip(own)


# --- retrieval ----------------------------------------------------------------------------------------


class Retrieval(nn.Module):
    """Logits ``(cells, classes)`` from cells ``(cells, E)`` and the keys that they look at.

    One encoder makes the codes of cells (queries) and prototypes (keys). ``kind``:

    - ``popcount``: binary codes, ``Q K^T V`` [1]: a type's mean number of spikes in common, linear in the keys.
    - ``popcount, softmax``: the same scores through a softmax over the keys [2, 4].
    - ``cosine, softmax``: real-valued codes of length 1 through a softmax over the keys [2].
    - ``mean``: no attention; real-valued codes, distance to the mean code of a type's keys [3].

    The scale of the scores is learned. With ``skip``, a linear map of the embedding is added.
    """

    def __init__(self, size: int, classes: int, kind: str, skip: bool) -> None:
        super().__init__()
        self.kind = kind
        self.encoder = LinearNorm(size, CODE)
        # a code needs spikes to share: at half the threshold a neuron fires for one input in six
        self.code_lif = lif(0.5)
        self.log_scale = nn.Parameter(torch.tensor(float(np.log(SCALES[kind]))))
        self.skip = nn.Linear(size, classes, bias=False) if skip else None

    def codes(self, cells: Tensor) -> Tensor:
        code = self.encoder(cells)  # (N, E) -> (N, C)
        if self.kind.startswith("popcount"):
            return self.code_lif(code[None])[0]  # (1, N, C) -> (N, C), zeros and ones
        return nn.functional.normalize(code, dim=1) if self.kind.startswith("cosine") else code

    def looked_at(self, cells: Tensor, keys: Tensor) -> Tensor:
        """Scores ``(cells, keys)`` before the softmax, where there is one."""
        codes = self.codes(torch.cat([cells, keys]))  # together: one batch for the normalisation
        query, key = codes[: len(cells)], codes[len(cells) :]  # (N, C), (P, C)
        return self.log_scale.exp() * query @ key.T  # (N, P)

    def forward(self, cells: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """``keys`` (P, E); ``values`` (P, classes), the keys of a type share 1."""
        functional.reset_net(self)
        if self.kind == "mean":
            codes = self.codes(torch.cat([cells, keys]))  # (N + P, C)
            query, means = codes[: len(cells)], values.T @ codes[len(cells) :]  # (N, C), (classes, C)
            logits = self.log_scale.exp() * (2 * query @ means.T - (means**2).sum(1))  # (N, classes)
        else:
            scores = self.looked_at(cells, keys)  # (N, P)
            if self.kind == "popcount":
                logits = scores @ values  # (N, classes); the same as Q (K^T V), whatever the number of keys
            else:
                top = scores.max(1, keepdim=True).values.detach()  # (N, 1)
                logits = top + torch.log(torch.exp(scores - top) @ values + 1e-30)  # (N, classes)
        if self.skip is not None:
            logits = logits + self.skip(cells)
        return logits.masked_fill(values.sum(0) == 0, ABSENT)


class CodeAlone(nn.Module):
    """Retrieval's encoder with a learned read-out in place of keys: no attention, and a network of the same size."""

    def __init__(self, shape: Architecture, spikes: bool, skip: bool) -> None:
        super().__init__()
        self.encoder = LinearNorm(shape.embedding_size, CODE)
        self.code_lif = lif(0.5)
        self.read_out = nn.Linear(CODE, shape.classes)
        self.skip = nn.Linear(shape.embedding_size, shape.classes, bias=False) if skip else None
        if not spikes:
            without_spikes(self)

    def forward(self, cells: Tensor) -> Tensor:
        functional.reset_net(self)
        logits = self.read_out(self.code_lif(self.encoder(cells)[None])[0])  # (N, E) -> (N, C) -> (N, classes)
        return logits if self.skip is None else logits + self.skip(cells)


def train_episodes(
    cells: Floats32, codes: Codes, keys: list[Keys], kind: str, skip: bool, classes: int, recipe: Recipe, seed: int
) -> Retrieval:
    """Train in episodes [2]: cells of one batch, keys of others; all else as `network.train` does it.

    ``cells`` (cells, E), ``codes`` (cells,); ``keys`` one for each batch, see `attention_inputs.episodes`.
    """
    sets = [(torch.from_numpy(one.cells), one.values(classes), torch.from_numpy(one.asked)) for one in keys]
    share = torch.tensor([float(len(asked)) for _, _, asked in sets])

    def batches() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        while True:
            prototypes, values, asked = sets[int(torch.multinomial(share, 1))]
            yield asked[torch.randint(len(asked), (min(recipe.batch_size, len(asked)),))], prototypes, values

    with deterministic(seed):
        return descend(Retrieval(cells.shape[1], classes, kind, skip), cells, codes, classes, recipe, batches())


def retrieved(network: Retrieval, cells: Floats32, keys: Keys, classes: int) -> NDArray[np.float64]:
    """Log-probabilities ``(cells, classes)``."""
    with torch.inference_mode(), deterministic(0):
        logits = network(torch.from_numpy(cells), torch.from_numpy(keys.cells), keys.values(classes))
        return torch.log_softmax(logits.double(), dim=1).numpy()
