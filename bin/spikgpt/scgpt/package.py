"""The forward pass of the scgpt package itself, for `--scgpt_backend package` and for the test that ours equals it.

scgpt 0.2.4 on PyPI imports torchtext, whose last release loads with torch 2.3 and earlier alone, and these
run code that a checkpoint brings (CVE-2025-32434). It takes its vocabulary class from there and no more, so
this module puts a small one in its place. Genes are tokenised by `spikgpt.scgpt.tokens` with either backend.
"""

import importlib
import importlib.util
import sys
import types
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from spikgpt.base.errors import UserError
from spikgpt.scgpt.checkpoint import UNUSED_HEADS, Checkpoint


class Vocab(nn.Module):
    """What scgpt's ``GeneVocab`` needs of torchtext 0.18's class of this name: tokens with consecutive ids."""

    def __init__(self, tokens: Iterable[str]) -> None:
        super().__init__()
        # torchtext keeps its C++ object here, and GeneVocab hands it from one Vocab to the next
        self.vocab = list(tokens)
        self.ids = {token: i for i, token in enumerate(self.vocab)}
        self.default: int | None = None

    def __len__(self) -> int:
        return len(self.vocab)

    def __contains__(self, token: str) -> bool:
        return token in self.ids

    def __getitem__(self, token: str) -> int:
        index = self.ids.get(token, self.default)
        if index is None:
            raise RuntimeError(f"Token {token} not found and default index is not set")
        return index

    def forward(self, tokens: list[str]) -> list[int]:
        return [self[token] for token in tokens]

    def insert_token(self, token: str, index: int) -> None:
        if token in self.ids or index != len(self.vocab):
            raise RuntimeError(f"Token {token} cannot be given the id {index}")
        self.ids[token] = index
        self.vocab.append(token)

    def append_token(self, token: str) -> None:
        self.insert_token(token, len(self.vocab))

    def set_default_index(self, index: int | None) -> None:
        self.default = index


def _vocab(ordered: Mapping[str, int], min_freq: int = 1) -> Vocab:
    """torchtext's factory of the same name: the tokens that occur often enough, in their order."""
    return Vocab(token for token, times in ordered.items() if times >= min_freq)


def import_scgpt() -> types.ModuleType:
    """The scgpt package.

    Raises
    ------
    UserError
        It is not installed here.
    """
    if importlib.util.find_spec("scgpt") is None:
        raise UserError(
            "The scgpt package is not installed.",
            where="--scgpt_backend package",
            found=f"no scgpt in {sys.prefix}",
            expected="scgpt 0.2.4 in the environment or container that embeds",
            fix="With -profile local, run 'make setup-scgpt' once; else use the container spikgpt/scgpt. "
            "Or leave --scgpt_backend out: the default gives the same embeddings.",
        )
    torchtext, vocab = types.ModuleType("torchtext"), types.ModuleType("torchtext.vocab")
    vocab.Vocab, vocab.vocab = Vocab, _vocab  # type: ignore[attr-defined]
    torchtext.vocab = vocab  # type: ignore[attr-defined]
    sys.modules.update({"torchtext": torchtext, "torchtext.vocab": vocab})
    with warnings.catch_warnings():
        # it asks for flash attention, and for modules of its own training code
        warnings.simplefilter("ignore")
        return importlib.import_module("scgpt")


class PackageModel(nn.Module):
    """scgpt's ``TransformerModel`` with the arguments and the result of `spikgpt.scgpt.model.ScGPT`."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, tokens: Tensor, values: Tensor, padding: Tensor | None = None) -> Tensor:
        if padding is None:
            padding = torch.zeros_like(tokens, dtype=torch.bool)
        return self.model._encode(tokens, values, src_key_padding_mask=padding)[:, 0]


def package_model(checkpoint: Checkpoint) -> PackageModel:
    """scgpt's own model with the checkpoint's weights, in evaluation mode, float32, on the CPU.

    Weights are those that `read_checkpoint` has checked; the package alone would skip what does not fit.

    Raises
    ------
    UserError
        The package is not installed here.
    """
    scgpt = import_scgpt()
    ours = checkpoint.model
    first: Any = ours.transformer_encoder.layers[0]
    model = scgpt.model.TransformerModel(
        ntoken=len(checkpoint.vocabulary),
        d_model=checkpoint.width,
        nhead=first.self_attn.heads,
        d_hid=first.linear1.out_features,
        nlayers=len(ours.transformer_encoder.layers),
        vocab=checkpoint.vocabulary,
        dropout=0.0,
        pad_token=next(token for token, i in checkpoint.vocabulary.items() if i == checkpoint.pad_token),
        pad_value=checkpoint.pad_value,
        use_fast_transformer=False,
    )
    missing, extra = model.load_state_dict(ours.state_dict(), strict=False)
    wrong = [key for key in missing if not key.startswith(UNUSED_HEADS)] + extra
    if wrong:
        raise RuntimeError(f"scgpt {scgpt.__version__} has other parameters than version 0.2.4: {', '.join(wrong)}")
    return PackageModel(model.requires_grad_(False).eval())
