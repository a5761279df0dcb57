"""Tokens, forward pass and embeddings: right, and the same bytes whatever the circumstances."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from spikgpt.base.errors import UserError
from spikgpt.scgpt.checkpoint import read_checkpoint
from spikgpt.scgpt.embed import BLOCK, CountsFile, Embedder, Progress, batches, embed_rows, select_precision
from spikgpt.scgpt.model import ScGPT
from spikgpt.scgpt.tokens import CellTokens, bin_bounds, expected_bins, tokenise

ROOT = Path(__file__).resolve().parents[2]
MINI = ROOT / "assets" / "scgpt-mini"
TOKENISE = {"cls_token": 1, "pad_value": -2.0, "n_bins": 51, "seed": 0}


@pytest.fixture(scope="module")
def checkpoint():
    return read_checkpoint(MINI)


@pytest.fixture(scope="module")
def symbols(checkpoint) -> list[str]:
    genes = [token for token in checkpoint.vocabulary if not token.startswith("<")][:1500]
    return [*genes, "NOT_A_GENE", "<cls>"]


@pytest.fixture(scope="module")
def cells(symbols: list[str]) -> ad.AnnData:
    random = np.random.default_rng(3)
    density = random.uniform(0.02, 0.9, size=(60, 1))
    counts = random.poisson(2, size=(60, len(symbols))) * (random.random((60, len(symbols))) < density)
    counts[7] = 0
    counts[11] = 0
    counts[11, -2:] = 5
    return ad.AnnData(
        sparse.csr_matrix(counts.shape, dtype=np.float32),
        obs=pd.DataFrame(index=[f"cell{i}" for i in range(60)]),
        var=pd.DataFrame(index=symbols),
        layers={"counts": sparse.csr_matrix(counts.astype(np.int32))},
    )


def embed(checkpoint, cells: ad.AnnData, **settings) -> np.ndarray:
    embedder = Embedder(checkpoint, list(cells.var_names), sample="s", **{"max_tokens": 300, **settings})
    return embedder.embed(sparse.csr_matrix(cells.layers["counts"]), list(cells.obs_names))


def scgpt_bins(counts: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """The rule of scGPT's preprocess module, written from its description."""
    edges = np.quantile(counts, np.linspace(0, 1, 50))
    left, right = np.digitize(counts, edges), np.digitize(counts, edges, right=True)
    return np.ceil(uniform * (right - left) + left).astype(np.int64)


@pytest.mark.parametrize(("genes", "rate"), [(1, 1.0), (2, 5.0), (40, 0.4), (800, 0.7), (3000, 30.0)])
def test_bins_follow_scgpt(genes: int, rate: float) -> None:
    random = np.random.default_rng(genes)
    counts = (random.poisson(rate, genes) + 1).astype(np.float32)
    draws = random.random((2000 if genes < 1000 else 20, genes))
    bins = np.array([scgpt_bins(counts, uniform) for uniform in draws])
    lowest, highest = bin_bounds(counts, 51)
    assert lowest.min() >= 1
    assert highest.max() <= 50
    assert (lowest <= bins).all()
    assert (bins <= highest).all()
    expected = expected_bins(counts, 51)
    if len(draws) == 2000:
        # every bin between the bounds is drawn, and all as often
        assert np.array_equal(bins.min(axis=0), lowest)
        assert np.array_equal(bins.max(axis=0), highest)
        assert np.abs(bins.mean(axis=0) - expected).max() < 1.5
    for count in np.unique(counts):
        assert np.unique(expected[counts == count]).size == 1
    assert (np.diff(expected[np.argsort(counts)]) >= 0).all()


def test_tokens_ignore_order_unknown_genes_and_sum_duplicates() -> None:
    counts = np.float32([3, 1, 4, 9, 0, 2])
    tokens = np.array([8, 5, 8, -1, 6, 9])
    cell = tokenise(tokens, counts, max_tokens=10, **TOKENISE)
    assert cell is not None
    assert cell.tokens.tolist() == [1, 5, 8, 9]
    assert cell.values[0] == -2
    assert np.array_equal(cell.values[1:], expected_bins(np.float32([1, 7, 2]), 51))
    order = np.random.default_rng(0).permutation(6)
    again = tokenise(tokens[order], counts[order], max_tokens=10, **TOKENISE)
    assert again is not None
    assert np.array_equal(cell.values, again.values)
    unknown = tokenise(np.array([-1]), np.float32([3]), max_tokens=10, **TOKENISE)
    assert unknown is None


def test_truncation_is_the_cells_own() -> None:
    counts, tokens = np.arange(1, 101, dtype=np.float32), np.arange(100)

    def cut(counts: np.ndarray, seed: int):
        return tokenise(tokens, counts, max_tokens=31, **TOKENISE | {"seed": seed})

    cell = cut(counts, 0)
    assert cell.truncated
    assert len(np.unique(cell.tokens[1:])) == 30
    # bins are those of the whole cell
    assert np.array_equal(cell.values[1:], expected_bins(counts, 51)[cell.tokens[1:]])
    assert np.array_equal(cell.tokens, cut(counts, 0).tokens)
    more = np.where(tokens == 7, counts + 1, counts)
    for other in (cut(more, 0), cut(counts, 1)):
        assert not np.array_equal(cell.tokens, other.tokens)
    fits = tokenise(tokens[:30], counts[:30], max_tokens=31, **TOKENISE)
    assert not fits.truncated


def test_the_names_of_sample_and_cell_do_not_matter(checkpoint, cells) -> None:
    counts, names = cells.layers["counts"], list(cells.obs_names)
    one = Embedder(checkpoint, list(cells.var_names), sample="s", max_tokens=300)
    two = Embedder(checkpoint, list(cells.var_names), sample="another", max_tokens=300)
    embedded = one.embed(counts, names)
    assert one.truncated_cells > 0
    np.testing.assert_array_equal(embedded, two.embed(counts, [f"{name}-2" for name in names]))


def test_forward_equals_torchs_transformer() -> None:
    torch.manual_seed(5)
    ours = ScGPT(50, 32, 4, 40, 3).eval()
    theirs = torch.nn.TransformerEncoder(
        torch.nn.TransformerEncoderLayer(32, 4, 40, dropout=0.0, batch_first=True), 3, enable_nested_tensor=False
    ).eval()
    theirs.load_state_dict(ours.transformer_encoder.state_dict())
    tokens, values = torch.randint(0, 50, (6, 33)), torch.randint(1, 51, (6, 33)).float()
    padding = torch.arange(33) >= torch.tensor([33, 20, 5, 1, 33, 30])[:, None]
    with torch.inference_mode():
        inputs = ours.encoder(tokens) + ours.value_encoder(values)
        wanted = theirs(inputs, src_key_padding_mask=padding)[:, 0]
        assert (ours(tokens, values, padding) - wanted).abs().max() <= 1e-5
        for row, length in enumerate((~padding).sum(dim=1).tolist()):
            alone = ours(tokens[row : row + 1, :length], values[row : row + 1, :length])
            assert (alone - wanted[row]).abs().max() <= 1e-5


def test_embeddings_are_unit_vectors_and_cells_without_genes_nan(checkpoint, cells: ad.AnnData) -> None:
    embedder = Embedder(checkpoint, list(cells.var_names), sample="s", max_tokens=300)
    result = embedder.embed(sparse.csr_matrix(cells.layers["counts"]), list(cells.obs_names))
    empty = [7, 11]
    assert result.dtype == np.float32
    assert np.isnan(result[empty]).all()
    assert np.allclose(np.linalg.norm(np.delete(result, empty, axis=0), axis=1), 1, atol=1e-6)
    assert embedder.cells_without_genes == 2
    assert 0 < embedder.truncated_cells < 58


def test_bytes_do_not_depend_on_threads_chunks_order_or_genes_order(checkpoint, cells: ad.AnnData) -> None:
    wanted = embed(checkpoint, cells).tobytes()
    assert embed(checkpoint, cells, threads=2).tobytes() == wanted
    assert embed(checkpoint, cells, threads=5).tobytes() == wanted
    for edges in ([0, 1, 60], [0, 17, 40, 60]):
        parts = [embed(checkpoint, cells[a:b], threads=2) for a, b in itertools.pairwise(edges)]
        assert np.concatenate(parts).tobytes() == wanted
    order = np.random.default_rng(0).permutation(60)
    assert embed(checkpoint, cells[order])[np.argsort(order)].tobytes() == wanted
    genes = np.random.default_rng(1).permutation(cells.n_vars)
    assert embed(checkpoint, cells[:, genes]).tobytes() == wanted
    assert embed(checkpoint, cells, seed=1).tobytes() != wanted


def test_padded_batches_agree_with_cells_alone(checkpoint, cells: ad.AnnData) -> None:
    """The way of the GPU, run on the CPU."""
    embedder = Embedder(checkpoint, list(cells.var_names), sample="s", max_tokens=300)
    counts, barcodes = sparse.csr_matrix(cells.layers["counts"]), list(cells.obs_names)
    read = [embedder.tokens_of(counts, row, barcode) for row, barcode in enumerate(barcodes)]
    alone = embedder.embed_tokens(read)
    batched = np.full_like(alone, np.nan)
    told: list[int] = []
    embedder._in_batches([(row, cell) for row, cell in enumerate(read) if cell], batched, told.append, 1000)
    assert told[-1] == 58
    assert np.array_equal(np.isnan(alone), np.isnan(batched))
    assert np.nanmax(np.abs(alone - batched)) <= 1e-5


def test_batches_stay_within_the_budget() -> None:
    lengths = np.random.default_rng(0).integers(1, 400, 200)
    cells = [(row, CellTokens(np.zeros(n, np.int64), np.zeros(n, np.float32), False)) for row, n in enumerate(lengths)]
    made = [[row for row, _cell in batch] for batch in batches(cells, 1000)]
    assert sorted(row for batch in made for row in batch) == list(range(200))
    assert all(len(batch) * lengths[batch].max() <= 1000 for batch in made)


def test_no_gpu_is_an_error_and_never_the_cpu(checkpoint, symbols: list[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match="A GPU was asked for"):
        Embedder(checkpoint, symbols, sample="s", device="cuda")


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_impossible_counts(checkpoint, symbols: list[str], value: float) -> None:
    counts = sparse.csr_matrix(([1.0, value], ([0, 0], [0, 3])), shape=(1, len(symbols)))
    with pytest.raises(UserError, match=r"no count can have(.|\n)*cell b"):
        Embedder(checkpoint, symbols, sample="s").embed(counts, ["b"])


def test_command_line(tmp_path: Path, checkpoint, cells: ad.AnnData) -> None:
    cells.write_h5ad(tmp_path / "s.norm.h5ad")
    result = subprocess.run(
        [sys.executable, ROOT / "bin" / "embed_scgpt.py", "--sample", "s", "--h5ad", "s.norm.h5ad",
         "--scgpt-model", MINI, "--start", "5", "--end", "40", "--max-genes", "300", "--threads", "2"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "s: 35 of 35 cells embedded" in result.stderr
    assert "cells/s" in result.stderr
    made = np.load(tmp_path / "s.000000005.embedding.npy", allow_pickle=False)
    assert made.tobytes() == embed(checkpoint, cells)[5:40].tobytes()
    stats = json.loads((tmp_path / "s.000000005.embedding.json").read_text())
    assert stats["scgpt_name"] == "scgpt-mini"
    assert stats["bundled"] is True
    assert stats["scgpt_sha256"] == checkpoint.sha256
    assert (stats["cells"], stats["cells_without_genes"]) == (35, 2)
    assert (stats["genes"], stats["genes_known"]) == (1502, 1500)
    assert 0 <= stats["unfamiliar_fraction"] <= 1
    assert {path.name for path in tmp_path.iterdir()} == {
        "s.norm.h5ad", "s.000000005.embedding.npy", "s.000000005.embedding.json"
    }  # fmt: skip


def test_a_run_that_fails_leaves_nothing(script, tmp_path: Path, cells: ad.AnnData) -> None:
    counts = cells.layers["counts"].astype(np.float32)
    counts.data[counts.indptr[40]] = -1
    broken = ad.AnnData(obs=cells.obs, var=cells.var, layers={"counts": counts})
    broken.write_h5ad(tmp_path / "s.h5ad")
    done = script("embed_scgpt.py", "--sample", "s", "--h5ad", "s.h5ad", "--scgpt-model", MINI,
                  "--start", "0", "--end", "60", "--max-genes", "16")  # fmt: skip
    assert done.returncode == 65
    assert "SpikGPT stopped: The counts hold a value that no count can have." in done.stderr
    assert "cell cell40" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["s.h5ad"]


def test_ranges_and_blocks(tmp_path: Path, checkpoint, cells: ad.AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    cells.write_h5ad(tmp_path / "s.h5ad")
    counts = CountsFile(tmp_path / "s.h5ad")
    assert (counts.cells, counts.genes) == (60, 1502)
    embedder = Embedder(checkpoint, counts.symbols, sample="s", max_tokens=300)
    assert list(embed_rows(embedder, counts, 0, 0)) == []
    with pytest.raises(UserError, match="60 cells, and the range 0 to 61"):
        list(embed_rows(embedder, counts, 0, 61))
    monkeypatch.setattr("spikgpt.scgpt.embed.BLOCK", 7)
    blocks = list(embed_rows(embedder, counts, 3, 60))
    assert [len(block) for block in blocks] == [7] * 8 + [1]
    assert np.concatenate(blocks).tobytes() == embed(checkpoint, cells)[3:].tobytes()


def test_only_the_rows_of_the_range_are_read(tmp_path: Path, checkpoint, cells: ad.AnnData) -> None:
    """A value that cannot be, outside of the range, is never seen; inside, it is an error with the cell's name."""
    broken = cells.copy()
    counts = broken.layers["counts"].astype(np.float32)
    counts.data[counts.indptr[50]] = np.nan
    broken.layers["counts"] = counts
    broken.write_h5ad(tmp_path / "s.h5ad")
    file = CountsFile(tmp_path / "s.h5ad")
    embedder = Embedder(checkpoint, file.symbols, sample="s", max_tokens=300)
    rows = np.concatenate(list(embed_rows(embedder, file, 20, 50)))
    assert rows.tobytes() == embed(checkpoint, cells)[20:50].tobytes()
    with pytest.raises(UserError, match=r"nan(.|\n)*expected|cell50"):
        list(embed_rows(embedder, file, 20, 51))


def test_memory_does_not_grow_with_cells(tmp_path: Path, checkpoint, cells: ad.AnnData) -> None:
    """At most two blocks of cells are held: what is read ahead of the model is one block, never the file."""
    held: list[int] = []
    many = ad.concat([cells] * (4 * BLOCK // 60 + 1), index_unique="-")
    many.write_h5ad(tmp_path / "s.h5ad")
    file = CountsFile(tmp_path / "s.h5ad")
    rows, read = file.rows, []

    def counted(first: int, last: int):
        read.append(last)
        return rows(first, last)

    file.rows = counted  # type: ignore[method-assign]
    embedder = Embedder(checkpoint, file.symbols, sample="s", max_tokens=16)
    done = 0
    for block in embed_rows(embedder, file, 0, file.cells):
        done += len(block)
        held.append(read[-1] - done + len(block))
    assert done == file.cells
    assert max(held) <= 2 * BLOCK


def test_progress_tells_cells_rate_and_time_left(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = Progress("s", 40_000)
    for second, done in ((5, 400), (10, 1000), (19, 1900), (20, 2000), (400, 40_000), (401, 40_000)):
        now[0] = second
        progress.show(done)
    assert capsys.readouterr().err.splitlines() == [
        "s: 1,000 of 40,000 cells embedded, 100.0 cells/s, 0:06:30 left",
        "s: 2,000 of 40,000 cells embedded, 100.0 cells/s, 0:06:20 left",
        "s: 40,000 of 40,000 cells embedded, 100.0 cells/s, 0:00:00 left",
    ]


def bf16_here() -> bool:
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@pytest.mark.skipif(not bf16_here(), reason="this CPU has no bfloat16 arithmetic")
def test_bfloat16_agrees_with_float32(cells: ad.AnnData) -> None:
    wanted = embed(read_checkpoint(MINI), cells)
    made = embed(read_checkpoint(MINI), cells, precision="bf16")
    known = np.isfinite(wanted).all(axis=1)
    assert made.dtype == np.float32
    assert np.array_equal(np.isfinite(made).all(axis=1), known)
    assert 0 < np.abs(made[known] - wanted[known]).max() <= 5e-3
    assert (made[known] * wanted[known]).sum(axis=1).min() >= 0.9999
    assert embed(read_checkpoint(MINI), cells[::-1], precision="bf16", threads=2)[::-1].tobytes() == made.tobytes()


def test_precision_is_what_was_asked_for_or_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert select_precision("auto", cpu, "spikgpt") == "fp32"
    for able, wanted in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, able=able: able)
        assert select_precision("auto", gpu, "spikgpt") == wanted
        assert select_precision("auto", gpu, "package") == "fp32"
    with pytest.raises(UserError, match="GPU without bfloat16"):
        select_precision("bf16", gpu, "spikgpt")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert select_precision("fp32", cpu, "spikgpt") == "fp32"
    with pytest.raises(UserError, match="CPU without bfloat16"):
        select_precision("bf16", cpu, "spikgpt")
    with pytest.raises(UserError, match="backend package"):
        select_precision("bf16", cpu, "package")


def test_no_genes_and_no_cells(checkpoint, symbols: list[str]) -> None:
    none = Embedder(checkpoint, [], sample="s").embed(sparse.csr_matrix((2, 0)), ["a", "b"])
    assert none.shape == (2, checkpoint.width)
    assert np.isnan(none).all()
    nobody = Embedder(checkpoint, symbols, sample="s").embed(sparse.csr_matrix((0, len(symbols))), [])
    assert nobody.shape == (0, checkpoint.width)


def test_cells_of_one_barcode_are_embedded_each_by_its_counts(checkpoint, cells: ad.AnnData) -> None:
    embedder = Embedder(checkpoint, list(cells.var_names), sample="s", max_tokens=300)
    twins = embedder.embed(sparse.csr_matrix(cells.layers["counts"][[0, 1, 0]]), ["b", "b", "b"])
    assert twins[0].tobytes() == twins[2].tobytes() != twins[1].tobytes()


def test_one_gene_is_enough(checkpoint, symbols: list[str]) -> None:
    counts = sparse.csr_matrix(([3], ([0], [4])), shape=(1, len(symbols)))
    assert np.isfinite(Embedder(checkpoint, symbols, sample="s").embed(counts, ["b"])).all()
