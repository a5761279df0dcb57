"""Embed cells by scgpt's own `embed_data`, and keep what its model was given: run in .venv-scgpt.

Arguments: checkpoint folder, h5ad (raw counts in X, symbols as var_names), npz to write with
`tokens` and `values` (cells x longest; pad token and pad value behind shorter cells) and `embedding`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bin"))

import anndata as ad
import numpy as np
import torch
from spikgpt.scgpt.package import import_scgpt

scgpt = import_scgpt()
from scgpt.tasks import cell_emb  # noqa: E402

checkpoint, h5ad, out = map(Path, sys.argv[1:])
given: list[tuple[np.ndarray, np.ndarray]] = []


class Recorder(cell_emb.TransformerModel):
    """scgpt's model, its inputs kept."""

    def _encode(self, src, values, src_key_padding_mask, batch_labels=None):
        given.append((src.numpy().copy(), values.numpy().copy()))
        return super()._encode(src, values, src_key_padding_mask, batch_labels)


cell_emb.TransformerModel = Recorder
torch.manual_seed(0)
torch.set_num_threads(1)
embedded = cell_emb.embed_data(
    ad.read_h5ad(h5ad), checkpoint, gene_col="index", batch_size=8, device="cpu", use_fast_transformer=False
)
longest = max(tokens.shape[1] for tokens, _values in given)


def padded(parts: list[np.ndarray], filler: float) -> np.ndarray:
    """Batches as one array, as long as the longest."""
    return np.concatenate([np.pad(p, ((0, 0), (0, longest - p.shape[1])), constant_values=filler) for p in parts])


np.savez(
    out,
    tokens=padded([tokens for tokens, _values in given], -1),
    values=padded([values for _tokens, values in given], 0),
    embedding=embedded.obsm["X_scGPT"],
)
