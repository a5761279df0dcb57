"""The part of scGPT's transformer that a cell embedding needs, in plain torch.

Per gene token: layer-normalised gene embedding plus an encoding of its expression bin. Then a
post-norm transformer encoder without positions. The cell's embedding is the last layer's output at
the ``<cls>`` token, so the last layer is computed for that token alone.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAX_VALUE = 512
"""Larger expression values are clipped to this, as scGPT's value encoder does."""


class Linear(nn.Linear):
    """A linear layer that computes, and answers, in the type of its weights."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias)


class GeneEncoder(nn.Module):
    """Token id to vector: embedding, then layer norm."""

    def __init__(self, n_tokens: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_tokens, width)
        self.enc_norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.enc_norm(self.embedding(tokens))


class ValueEncoder(nn.Module):
    """Expression bin (a number) to vector: a small network, then layer norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(1, width)
        self.linear2 = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, values: Tensor) -> Tensor:
        values = values.unsqueeze(-1).clamp(max=MAX_VALUE)
        return self.norm(self.linear2(F.relu(self.linear1(values), inplace=True)))


class SelfAttention(nn.Module):
    """Multi-head attention with the parameter names of torch.nn.MultiheadAttention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor, queries: Tensor, attend: Tensor | None) -> Tensor:
        width, dtype = x.shape[-1], self.in_proj_weight.dtype
        x, queries = x.to(dtype), queries.to(dtype)
        q = F.linear(queries, self.in_proj_weight[:width], self.in_proj_bias[:width])
        k, v = F.linear(x, self.in_proj_weight[width:], self.in_proj_bias[width:]).chunk(2, dim=-1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=attend)
        return self.out_proj(out.transpose(1, 2).flatten(2))


class EncoderLayer(nn.Module):
    """Attention and feed-forward, each added to its input and then layer-normalised (post-norm)."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = SelfAttention(width, heads)
        self.linear1 = Linear(width, hidden)
        self.linear2 = Linear(hidden, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, x: Tensor, attend: Tensor | None, cls_only: bool) -> Tensor:
        queries = x[:, :1] if cls_only else x
        y = self.norm1(queries + self.self_attn(x, queries, attend))
        return self.norm2(y + self.linear2(F.relu(self.linear1(y), inplace=True)))


class TransformerEncoder(nn.Module):
    """The stack; the last layer is computed for the first token alone."""

    def __init__(self, layers: int, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(width, heads, hidden) for _ in range(layers))

    def forward(self, x: Tensor, attend: Tensor | None) -> Tensor:
        for number, layer in enumerate(self.layers, start=1):
            x = layer(x, attend, cls_only=number == len(self.layers))
        return x[:, 0]


class ScGPT(nn.Module):
    """Tokens and expression bins of cells to their ``<cls>`` output.

    Parameter names are those of scGPT's own ``TransformerModel`` without flash attention, so a
    normalised state dict loads strictly. The decoder heads are left out: embedding never runs them.
    """

    def __init__(self, n_tokens: int, width: int, heads: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.encoder = GeneEncoder(n_tokens, width)
        self.value_encoder = ValueEncoder(width)
        self.transformer_encoder = TransformerEncoder(layers, width, heads, hidden)

    def to_bfloat16(self) -> "ScGPT":
        """Let the transformer's matrix products run in bfloat16, in place.

        Embeddings, layer norms and the sums between layers stay float32, as under torch's autocast, but
        weights are converted once and not in every call.
        """
        for layer in self.transformer_encoder.layers:
            for part in layer.children():
                if not isinstance(part, nn.LayerNorm):
                    part.to(torch.bfloat16)
        return self

    def forward(self, tokens: Tensor, values: Tensor, padding: Tensor | None = None) -> Tensor:
        """CLS output of the last layer, not normalised.

        Parameters
        ----------
        tokens
            int64 (cells, length): vocabulary ids, ``<cls>`` first.
        values
            float32 (cells, length): expression bins; the pad value at ``<cls>``.
        padding
            bool (cells, length): True where a cell has no token; None when all are as long.

        Returns
        -------
        float32 (cells, width).
        """
        attend = None if padding is None else ~padding[:, None, None, :]
        return self.transformer_encoder(self.encoder(tokens) + self.value_encoder(values), attend)
