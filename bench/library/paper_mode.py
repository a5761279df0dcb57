"""SpikGPT as its abstract describes it (arXiv 2512.03286), as far as that goes.

The abstract repeats the scGPT embedding along a channel (here m = 300) and along time (T = 4), and puts
multi-head Spiking Self-Attention and a softmax behind it. What it leaves open is filled in from Spikformer
[Zhou et al., ICLR 2023]: a linear map, batch normalisation and LIF neurons in front; attention scale 0.125;
residuals that add spikes; the mean of spikes over copies and time, then a linear layer. This is one reading,
not the authors' code.

Read like that, the m copies enter equal and every layer treats all copies alike, so they stay equal to the
last bit. The network is therefore computed on one copy, exactly: ``Q (K^T V)`` of m equal rows is m times
``Q (K^T V)`` of one, and the mean over copies is the copy.
"""

import torch
from spikgpt.annotator.network import Architecture, lif
from spikingjelly.activation_based import functional
from torch import nn

PAPER: dict[str, int | float] = {"tokens": 300, "heads": 4, "depth": 1, "time_steps": 4, "attention_scale": 0.125}
"""``tokens`` are the copies; copies, time steps and scale are known, heads and depth are not."""


class NormOfCopies(nn.BatchNorm1d):
    """Batch normalisation of ``copies`` equal rows for each row given.

    Mean and variance of a batch do not change when every row is repeated; the running variance does, by its
    correction n / (n - 1), whose n is that of the repeated rows.
    """

    def __init__(self, width: int, copies: int) -> None:
        super().__init__(width)
        self.copies = copies

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        with torch.no_grad():
            rows = len(x) * self.copies
            variance, mean = torch.var_mean(x, 0, correction=0)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (rows / (rows - 1)), self.momentum)
        return nn.functional.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)


class SpikingLinear(nn.Module):
    """Linear map, batch normalisation, LIF neurons: the unit that Spikformer is built from."""

    def __init__(self, inputs: int, outputs: int, copies: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=False)
        self.norm = NormOfCopies(outputs, copies)
        self.lif = lif()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.linear(x)
        return self.lif(self.norm(out.reshape(-1, out.shape[-1])).reshape(out.shape))


class PaperBlock(nn.Module):
    """Spiking Self-Attention and MLP, each added to the stream as spikes."""

    def __init__(self, shape: Architecture, width: int) -> None:
        super().__init__()
        hidden = width * shape.mlp_ratio
        self.copies, self.heads, self.scale = shape.tokens, shape.heads, shape.attention_scale
        self.query, self.key, self.value = (SpikingLinear(width, width, shape.tokens) for _ in range(3))
        self.attention_lif = lif(0.5)
        self.project = SpikingLinear(width, width, shape.tokens)
        self.mlp = nn.Sequential(SpikingLinear(width, hidden, shape.tokens), SpikingLinear(hidden, width, shape.tokens))

    def attention(self, stream: torch.Tensor) -> torch.Tensor:
        """``(T, cells, width)`` of one copy."""
        steps, cells, width = stream.shape
        query, key, value = (
            part(stream).reshape(steps, cells, self.heads, 1, width // self.heads)
            for part in (self.query, self.key, self.value)
        )
        mixed = query @ (key.transpose(-2, -1) @ value * self.copies) * self.scale
        return self.project(self.attention_lif(mixed.reshape(steps, cells, width)))

    def forward(self, stream: torch.Tensor) -> torch.Tensor:
        stream = stream + self.attention(stream)
        return stream + self.mlp(stream)


class PaperMode(nn.Module):
    """Logits ``(cells, classes)`` from standardised embeddings ``(cells, embedding_size)``.

    As wide as the embedding, since its copies are the tokens; ``shape.tokens`` is m, ``shape.width`` is not used.
    """

    def __init__(self, shape: Architecture) -> None:
        super().__init__()
        width = shape.embedding_size
        if width % shape.heads:
            raise ValueError(f"embedding size {width} is not a multiple of heads {shape.heads}")
        self.shape = shape
        self.encode = SpikingLinear(width, width, shape.tokens)
        self.blocks = nn.Sequential(*(PaperBlock(shape, width) for _ in range(shape.depth)))
        self.read_out = nn.Linear(width, shape.classes)

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        functional.reset_net(self)
        stream = self.encode(embedding.expand(self.shape.time_steps, *embedding.shape))
        return self.read_out(self.blocks(stream).mean(0))
