"""Ours against the scgpt package (0.2.4, in its own environment): the same cells with the same draws."""

import json
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import torch
from scipy import sparse
from spikgpt.base.errors import UserError
from spikgpt.base.genes import Spelling
from spikgpt.scgpt.checkpoint import Checkpoint, read_checkpoint
from spikgpt.scgpt.embed import Embedder
from spikgpt.scgpt.model import ScGPT
from spikgpt.scgpt.package import PackageModel, Vocab
from spikgpt.scgpt.tokens import CellTokens, bin_bounds

ROOT = Path(__file__).resolve().parents[2]
MINI = ROOT / "assets" / "scgpt-mini"
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def package_python() -> Path:
    python = ROOT / ".venv-scgpt" / "bin" / "python"
    if not python.exists():
        pytest.fail("the scgpt package has no environment here: make setup-scgpt")
    return python


@pytest.fixture(scope="module")
def cells(demo_data: Path) -> ad.AnnData:
    """16 real cells with 400 to 3,000 genes."""
    reference = ad.read_h5ad(demo_data / "reference.h5ad")
    detected = np.diff(sparse.csr_matrix(reference.X).indptr)
    return reference[np.argsort(detected)[:: len(detected) // 15][:16]].copy()


@pytest.fixture(scope="module")
def full_size(tmp_path_factory: pytest.TempPathFactory, cells: ad.AnnData) -> Path:
    """A checkpoint of the published size, 12 layers x 512, random weights, flash attention's spelling."""
    folder = tmp_path_factory.mktemp("full") / "scgpt-random"
    folder.mkdir()
    tokens = [*cells.var_names[::3], "<pad>", "<cls>", "<eoc>"]
    settings = {"embsize": 512, "nheads": 8, "d_hid": 512, "nlayers": 12, "n_layers_cls": 3, "dropout": 0.2}
    (folder / "args.json").write_text(json.dumps(settings | {"pad_token": "<pad>", "pad_value": -2}))
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    torch.manual_seed(0)
    state = ScGPT(len(tokens), 512, 8, 512, 12).state_dict()
    state = {key: value + 0.02 * torch.randn_like(value) for key, value in state.items()}
    torch.save(
        {key.replace("self_attn.in_proj_", "self_attn.Wqkv."): value for key, value in state.items()},
        folder / "best_model.pt",
    )
    return folder


def check_against_package(python: Path, folder: Path, cells: ad.AnnData, tmp_path: Path) -> Checkpoint:
    # the package knows no older symbols: without the genes that we find by one, both are given the same
    spelling = Spelling(json.loads((folder / "vocab.json").read_text()))
    cells = cells[:, [spelling.of(gene) in (gene, None) for gene in cells.var_names]].copy()
    cells.write_h5ad(tmp_path / "cells.h5ad")
    script = [python, ROOT / "tests" / "python" / "scgpt_reference.py"]
    done = subprocess.run(
        [*script, folder, tmp_path / "cells.h5ad", tmp_path / "theirs.npz"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    theirs = np.load(tmp_path / "theirs.npz", allow_pickle=False)
    assert theirs["embedding"].shape == (cells.n_obs, json.loads((folder / "args.json").read_text())["embsize"])

    checkpoint = read_checkpoint(folder)
    given = []
    for tokens, values in zip(theirs["tokens"], theirs["values"], strict=True):
        real = (tokens >= 0) & (tokens != checkpoint.pad_token)
        given.append(CellTokens(tokens[real], values[real].astype(np.float32), False))
    embedder = Embedder(checkpoint, list(cells.var_names), sample="s", precision="fp32")
    ours = embedder.embed_tokens(given)
    difference = float(np.abs(ours - theirs["embedding"]).max())
    print(f"largest difference to scgpt's embed_data, {folder.name}: {difference:.1e}")
    assert difference <= TOLERANCE
    # cells differ by far more than that
    assert np.abs(ours[0] - ours[-1]).max() > 100 * TOLERANCE

    # what we give the model: the same genes, and values in the middle of the bins that the package draws from
    counts = sparse.csr_matrix(cells.X)
    whole = 0
    for row, theirs_given in enumerate(given):
        cell = embedder.tokens_of(counts, row, cells.obs_names[row])
        assert cell is not None
        assert len(cell.tokens) == len(theirs_given.tokens)
        assert cell.tokens[0] == theirs_given.tokens[0] == checkpoint.cls_token
        assert cell.values[0] == theirs_given.values[0] == checkpoint.pad_value
        if cell.truncated:
            continue
        whole += 1
        order = np.argsort(theirs_given.tokens[1:])
        assert np.array_equal(cell.tokens[1:], theirs_given.tokens[1:][order])
        known = embedder.gene_tokens[counts[row].indices] >= 0
        by_token = np.argsort(embedder.gene_tokens[counts[row].indices][known])
        lowest, highest = bin_bounds(counts[row].data[known][by_token].astype(np.float32), checkpoint.n_bins)
        drawn = theirs_given.values[1:][order]
        assert (lowest <= drawn).all()
        assert (drawn <= highest).all()
        assert np.array_equal(cell.values[1:], ((lowest + highest) / 2).astype(np.float32))
    assert whole >= 2
    return checkpoint


def test_mini_equals_the_package(package_python: Path, cells: ad.AnnData, tmp_path: Path) -> None:
    check_against_package(package_python, MINI, cells, tmp_path)


def test_full_size_equals_the_package(package_python: Path, full_size: Path, cells: ad.AnnData, tmp_path: Path) -> None:
    checkpoint = check_against_package(package_python, full_size, cells[::3].copy(), tmp_path)
    assert len(checkpoint.model.transformer_encoder.layers) == 12
    if not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return
    counts, barcodes = sparse.csr_matrix(cells[:2].X), list(cells.obs_names[:2])
    wanted = Embedder(checkpoint, list(cells.var_names), sample="s", precision="fp32").embed(counts, barcodes)
    made = Embedder(checkpoint, list(cells.var_names), sample="s", precision="bf16").embed(counts, barcodes)
    assert 0 < np.abs(made - wanted).max() <= 5e-3


def test_backend_package(package_python: Path, cells: ad.AnnData, tmp_path: Path) -> None:
    """The script with the package's forward pass, in the package's environment, beside the default in ours."""
    cells.layers["counts"] = sparse.csr_matrix(cells.X)
    cells.write_h5ad(tmp_path / "s.h5ad")
    made = {}
    for backend, python in (("package", package_python), ("spikgpt", Path(sys.executable))):
        (tmp_path / backend).mkdir()
        done = subprocess.run(
            [python, ROOT / "bin" / "embed_scgpt.py", "--sample", "s", "--h5ad", tmp_path / "s.h5ad", "--scgpt-model",
             MINI, "--start", "0", "--end", "16", "--backend", backend],
            cwd=tmp_path / backend, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads((tmp_path / backend / "s.000000000.embedding.json").read_text())["backend"] == backend
        made[backend] = np.load(tmp_path / backend / "s.000000000.embedding.npy", allow_pickle=False)
    assert made["package"].dtype == made["spikgpt"].dtype == np.float32
    assert 0 < np.abs(made["package"] - made["spikgpt"]).max() <= TOLERANCE


def test_backend_package_without_the_package_is_an_error() -> None:
    with pytest.raises(UserError, match=r"scgpt package is not installed(.|\n)*make setup-scgpt"):
        Embedder(read_checkpoint(MINI), ["CD3D"], sample="s", backend="package")


def test_stand_in_for_torchtext() -> None:
    first = Vocab(["a", "b"])
    first.insert_token("c", 2)
    first.append_token("d")
    second = Vocab(first.vocab)
    assert (len(second), second["c"], "d" in second, "e" in second) == (4, 2, True, False)
    with pytest.raises(RuntimeError, match="not found"):
        second(["a", "e"])
    second.set_default_index(1)
    assert second(["a", "e", "d"]) == [0, 1, 3]
    for token, index in (("a", 4), ("z", 5)):
        with pytest.raises(RuntimeError, match="cannot be given"):
            second.insert_token(token, index)


def test_package_model_without_padding_is_given_a_mask_without_padding() -> None:
    class Model(torch.nn.Module):
        def _encode(self, tokens, values, src_key_padding_mask):
            assert not src_key_padding_mask.any()
            return torch.stack([tokens.float(), values], dim=2)

    made = PackageModel(Model())(torch.tensor([[1, 2]]), torch.tensor([[-2.0, 3.0]]))
    assert made.tolist() == [[1.0, -2.0]]
