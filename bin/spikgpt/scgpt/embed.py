"""CLS embeddings of many cells, the same bytes for a cell whatever its neighbours."""

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
import torch.nn.functional as F
from anndata.io import sparse_dataset
from numpy.typing import NDArray
from scipy import sparse

from spikgpt.errors import UserError
from spikgpt.scgpt.checkpoint import Checkpoint
from spikgpt.scgpt.tokens import CellTokens, cell_generator, check_counts, tokenise

BLOCK = 1024
"""Cells read and held at a time; results do not depend on it."""
GPU_TOKENS = 65_536
"""Tokens of a batch on a GPU, padding included."""


@dataclass
class Embedding:
    """Embeddings of a range of cells, and what was read to make them."""

    cells: NDArray[np.float32]
    """float32 (cells, width), each of length 1; all NaN where a cell has no known gene."""
    genes: int
    """Rows of genes in the file."""
    genes_known: int
    """Of these, the ones in the vocabulary."""
    tokens_mean: float
    """Tokens per cell that was embedded, ``<cls>`` among them."""
    truncated_cells: int
    """Cells with more genes than fit, cut to a random subset."""
    cells_without_genes: int


def select_device(name: str) -> torch.device:
    """The device asked for, never another one.

    Raises
    ------
    UserError
        A GPU was asked for and torch sees none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "A GPU was asked for, and there is none that torch can use.",
            where="--device cuda",
            found=f"torch {torch.__version__}, no CUDA device",
            expected="an NVIDIA GPU and its driver, visible inside the task's container",
            fix="Run without the profile gpu, or on a node with a GPU.",
        )
    return torch.device(name)


class Embedder:
    """A checkpoint set up on a device, for the cells of one sample.

    On a CPU each cell goes through the model by itself, without padding, in torch with one thread;
    cores are used by several cells at a time. So no sum depends on chunk, order or core count. On a
    GPU cells of like length share a padded batch: embeddings agree to about 1e-6, not to the byte.

    Parameters
    ----------
    symbols
        Gene symbols in the order of the count matrix's columns.
    max_tokens
        Longest sequence, ``<cls>`` included (``max_length`` of scGPT's ``embed_data``).
    threads
        Cells worked on at a time, on a CPU.
    draw_bins
        Bins as scGPT draws them in place of their expectation.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        symbols: list[str],
        *,
        sample: str,
        max_tokens: int = 1200,
        seed: int = 0,
        device: str = "cpu",
        threads: int = 1,
        draw_bins: bool = False,
    ) -> None:
        self.checkpoint = checkpoint
        self.device = select_device(device)
        self.model = checkpoint.model.to(self.device)
        self.gene_tokens = np.array([checkpoint.vocabulary.get(symbol, -1) for symbol in symbols], dtype=np.int64)
        special = [checkpoint.cls_token, checkpoint.pad_token]
        self.gene_tokens[np.isin(self.gene_tokens, special)] = -1
        self.sample, self.max_tokens, self.seed, self.draw_bins = sample, max_tokens, seed, draw_bins
        torch.set_num_threads(1)
        self.pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
        self.tokens_total = self.truncated_cells = self.cells_without_genes = 0

    def tokens_of(self, counts: sparse.csr_matrix, row: int, barcode: str) -> CellTokens | None:
        """One row of a count matrix as the model reads it; None when it has no known gene."""
        span = slice(counts.indptr[row], counts.indptr[row + 1])
        values = counts.data[span].astype(np.float32)
        check_counts(values, f"sample {self.sample}, cell {barcode}")
        return tokenise(
            self.gene_tokens[counts.indices[span]],
            values,
            cls_token=self.checkpoint.cls_token,
            pad_value=self.checkpoint.pad_value,
            n_bins=self.checkpoint.n_bins,
            max_tokens=self.max_tokens,
            random=cell_generator(self.sample, barcode, self.seed),
            draw_bins=self.draw_bins,
        )

    def embed(self, counts: sparse.csr_matrix, barcodes: list[str]) -> NDArray[np.float32]:
        """Embed the rows of a matrix of raw counts.

        Parameters
        ----------
        counts
            (cells, genes) of any real type, genes as the symbols given before.
        barcodes
            One per row.

        Returns
        -------
        float32 (cells, width), as `Embedding.cells`.

        Raises
        ------
        UserError
            A count is negative or not finite.
        """
        result = np.full((counts.shape[0], self.checkpoint.width), np.nan, dtype=np.float32)
        work = self._one_by_one if self.device.type == "cpu" else self._in_batches
        work(counts, barcodes, result)
        return result

    def _count(self, cell: CellTokens | None) -> None:
        self.cells_without_genes += cell is None
        self.tokens_total += 0 if cell is None else len(cell.tokens)
        self.truncated_cells += cell is not None and cell.truncated

    def _one_by_one(self, counts: sparse.csr_matrix, barcodes: list[str], result: NDArray[np.float32]) -> None:
        def one(row: int) -> CellTokens | None:
            cell = self.tokens_of(counts, row, barcodes[row])
            if cell is not None:
                with torch.inference_mode():
                    cls = self.model(torch.from_numpy(cell.tokens)[None], torch.from_numpy(cell.values)[None])
                    result[row] = F.normalize(cls, dim=1)[0].numpy()
            return cell

        for cell in self.pool.map(one, range(counts.shape[0])):
            self._count(cell)

    def _in_batches(self, counts: sparse.csr_matrix, barcodes: list[str], result: NDArray[np.float32]) -> None:
        cells = list(self.pool.map(lambda row: self.tokens_of(counts, row, barcodes[row]), range(counts.shape[0])))
        for cell in cells:
            self._count(cell)
        known = {row: cell for row, cell in enumerate(cells) if cell is not None}
        for rows in batches({row: len(cell.tokens) for row, cell in known.items()}, GPU_TOKENS):
            longest = max(len(known[row].tokens) for row in rows)
            tokens = torch.full((len(rows), longest), self.checkpoint.pad_token, dtype=torch.int64)
            values = torch.full((len(rows), longest), self.checkpoint.pad_value)
            for i, row in enumerate(rows):
                tokens[i, : len(known[row].tokens)] = torch.from_numpy(known[row].tokens)
                values[i, : len(known[row].values)] = torch.from_numpy(known[row].values)
            with torch.inference_mode():
                tokens = tokens.to(self.device)
                cls = self.model(tokens, values.to(self.device), tokens == self.checkpoint.pad_token)
                result[rows] = F.normalize(cls, dim=1).cpu().numpy()


def batches(lengths: dict[int, int], token_budget: int) -> Iterator[list[int]]:
    """Rows in batches of like length whose padded size stays within the budget; longest first."""
    batch: list[int] = []
    for row in sorted(lengths, key=lambda r: (-lengths[r], r)):
        if batch and (len(batch) + 1) * lengths[batch[0]] > token_budget:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def embed_file(
    checkpoint: Checkpoint,
    path: str | Path,
    *,
    sample: str,
    start: int,
    end: int,
    max_tokens: int,
    seed: int,
    device: str,
    threads: int,
) -> Embedding:
    """Embed rows ``[start, end)`` of an h5ad's ``layers["counts"]``, a block of rows in memory at a time.

    Progress goes to standard error. Parameters as `Embedder`.

    Raises
    ------
    UserError
        The file lacks these rows, a count is negative or not finite, or the GPU asked for is missing.
    """
    with h5py.File(path) as file:
        counts = sparse_dataset(file["layers/counts"])
        cells, genes = counts.shape
        if not 0 <= start <= end <= cells:
            raise UserError(
                "The range of cells is not in the file.",
                where=str(path),
                found=f"{cells} cells, and the range {start} to {end}",
                expected="0 <= start <= end <= number of cells",
            )
        var, obs = file["var"], file["obs"]
        symbols = list(var[var.attrs["_index"]].asstr()[:])
        embedder = Embedder(
            checkpoint, symbols, sample=sample, max_tokens=max_tokens, seed=seed, device=device, threads=threads
        )
        result = np.empty((end - start, checkpoint.width), dtype=np.float32)
        progress = Progress(sample, end - start)
        for first in range(start, end, BLOCK):
            last = min(first + BLOCK, end)
            barcodes = list(obs[obs.attrs["_index"]].asstr()[first:last])
            result[first - start : last - start] = embedder.embed(sparse.csr_matrix(counts[first:last]), barcodes)
            progress.show(last - start)
    embedded = end - start - embedder.cells_without_genes
    return Embedding(
        cells=result,
        genes=genes,
        genes_known=int((embedder.gene_tokens >= 0).sum()),
        tokens_mean=embedder.tokens_total / embedded if embedded else 0.0,
        truncated_cells=embedder.truncated_cells,
        cells_without_genes=embedder.cells_without_genes,
    )


class Progress:
    """Cells done, rate and time left on standard error, every 10 s and at the end."""

    INTERVAL = 10.0

    def __init__(self, sample: str, cells: int) -> None:
        self.sample, self.cells = sample, cells
        self.started = self.shown = time.monotonic()

    def show(self, done: int) -> None:
        """Say that `done` cells are done, when it is time to say so."""
        now = time.monotonic()
        if done < self.cells and now - self.shown < self.INTERVAL:
            return
        self.shown = now
        rate = done / max(now - self.started, 1e-9)
        print(
            f"{self.sample}: {done:,} of {self.cells:,} cells embedded, {rate:,.1f} cells/s, "
            f"{(self.cells - done) / rate:,.0f} s left",
            file=sys.stderr,
            flush=True,
        )
