"""CLS embeddings of many cells, the same bytes for a cell whatever its neighbours."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from spikgpt.base.csr_rows import ORTHOLOG, CsrRows
from spikgpt.base.errors import UserError
from spikgpt.base.genes import Spelling
from spikgpt.base.threads import one_thread, pin_thread
from spikgpt.scgpt.checkpoint import Checkpoint
from spikgpt.scgpt.package import package_model
from spikgpt.scgpt.tokens import CellTokens, check_counts, tokenise

BLOCK = 1024
"""Cells read and held at a time; results do not depend on it."""
GPU_TOKENS = 65_536
"""Tokens of a batch on a GPU, padding included."""


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


def select_precision(name: str, device: torch.device, backend: str) -> str:
    """`fp32` or `bf16` for `auto`, `fp32` or `bf16`.

    `auto` is float32 on a CPU, where the same cell then has the same bytes on any machine, and bfloat16 on
    a GPU that computes in it. The scgpt package's own forward pass runs in float32 alone.

    Raises
    ------
    UserError
        bfloat16 was asked for where the hardware lacks it (torch would emulate it, slower than
        float32), or with the scgpt package.
    """
    on_gpu = device.type == "cuda"
    if on_gpu:
        able = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if name == "auto":
        return "bf16" if on_gpu and able and backend == "spikgpt" else "fp32"
    if name == "bf16" and (backend == "package" or not able):
        raise UserError(
            "bfloat16 cannot be had here.",
            where="--scgpt_precision bf16",
            found="--scgpt_backend package, which computes in float32"
            if backend == "package"
            else f"a {'GPU' if on_gpu else 'CPU'} without bfloat16 arithmetic",
            expected="the backend spikgpt, and a CPU with AVX512_BF16 or AMX, or a GPU of compute capability 8.0 on",
            fix="Leave --scgpt_precision out, or give fp32.",
        )
    return name


class Embedder:
    """A checkpoint set up on a device, for the cells of one sample.

    On a CPU each cell goes through the model by itself, without padding, in torch with one thread;
    cores are used by several cells at a time. So no sum depends on chunk, order or core count. On a
    GPU cells of like length share a padded batch: embeddings agree within rounding, not to the byte.

    Parameters
    ----------
    symbols
        Gene symbols in the order of the count matrix's columns.
    max_tokens
        Longest sequence, ``<cls>`` included (``max_length`` of scGPT's ``embed_data``).
    device
        ``cpu`` or ``cuda``.
    precision
        ``fp32``, ``bf16`` or ``auto``, see `select_precision`.
    backend
        ``spikgpt`` for this project's forward pass, ``package`` for that of the scgpt package.
    threads
        Cells worked on at a time, on a CPU.

    Raises
    ------
    UserError
        Device, precision or backend cannot be had here.
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
        precision: str = "auto",
        backend: str = "spikgpt",
        threads: int = 1,
    ) -> None:
        self.checkpoint = checkpoint
        self.device = select_device(device)
        self.precision = select_precision(precision, self.device, backend)
        model = package_model(checkpoint) if backend == "package" else checkpoint.model
        self.model = model.to(self.device)
        if self.precision == "bf16":
            checkpoint.model.to_bfloat16()
        spelling = Spelling(checkpoint.vocabulary)
        names = [spelling.of(symbol) for symbol in symbols]
        self.gene_tokens = np.array([checkpoint.vocabulary.get(name or "", -1) for name in names], dtype=np.int64)
        special = [checkpoint.cls_token, checkpoint.pad_token]
        self.gene_tokens[np.isin(self.gene_tokens, special)] = -1
        self.sample, self.max_tokens, self.seed = sample, max_tokens, seed
        self.workers = ThreadPoolExecutor(threads, initializer=pin_thread)
        self.tokens_total = self.embedded_cells = self.truncated_cells = self.cells_without_genes = 0

    @property
    def genes_known(self) -> int:
        """Rows of genes that are in the vocabulary."""
        return int((self.gene_tokens >= 0).sum())

    @property
    def tokens_mean(self) -> float:
        """Tokens per cell that was embedded so far, ``<cls>`` among them."""
        return self.tokens_total / self.embedded_cells if self.embedded_cells else 0.0

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
            seed=self.seed,
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
        float32 (cells, width), each row of length 1; all NaN where a cell has no known gene.

        Raises
        ------
        UserError
            A count is negative or not finite.
        """
        return self.embed_tokens([self.tokens_of(counts, row, barcode) for row, barcode in enumerate(barcodes)])

    @one_thread()
    def embed_tokens(
        self, cells: Sequence[CellTokens | None], done: Callable[[int], None] = lambda cells: None
    ) -> NDArray[np.float32]:
        """Embed cells that `tokens_of` has read; `done` is told how many cells are, now and then."""
        result = np.full((len(cells), self.checkpoint.width), np.nan, dtype=np.float32)
        known = [(row, cell) for row, cell in enumerate(cells) if cell is not None]
        self.embedded_cells += len(known)
        self.cells_without_genes += len(cells) - len(known)
        self.tokens_total += sum(len(cell.tokens) for _row, cell in known)
        self.truncated_cells += sum(cell.truncated for _row, cell in known)
        if self.device.type == "cpu":
            self._one_by_one(known, result, done)
        else:
            self._in_batches(known, result, done, GPU_TOKENS)
        return result

    @torch.inference_mode()
    def _forward(self, tokens: Tensor, values: Tensor, padding: Tensor | None = None) -> NDArray[np.float32]:
        return F.normalize(self.model(tokens, values, padding).float(), dim=1).cpu().numpy()

    def _one_by_one(
        self, cells: list[tuple[int, CellTokens]], result: NDArray[np.float32], done: Callable[[int], None]
    ) -> None:
        def one(numbered: tuple[int, CellTokens]) -> None:
            row, cell = numbered
            result[row] = self._forward(torch.from_numpy(cell.tokens)[None], torch.from_numpy(cell.values)[None])[0]

        for number, _none in enumerate(self.workers.map(one, cells), start=1):
            done(number)

    def _in_batches(
        self,
        cells: list[tuple[int, CellTokens]],
        result: NDArray[np.float32],
        done: Callable[[int], None],
        token_budget: int,
    ) -> None:
        finished = 0
        for batch in batches(cells, token_budget):
            size = len(batch), max(len(cell.tokens) for _row, cell in batch)
            tokens = torch.full(size, self.checkpoint.pad_token, dtype=torch.int64)
            values = torch.full(size, self.checkpoint.pad_value)
            for i, (_row, cell) in enumerate(batch):
                tokens[i, : len(cell.tokens)] = torch.from_numpy(cell.tokens)
                values[i, : len(cell.values)] = torch.from_numpy(cell.values)
            tokens = tokens.to(self.device)
            padding = tokens == self.checkpoint.pad_token
            result[[row for row, _cell in batch]] = self._forward(tokens, values.to(self.device), padding)
            finished += len(batch)
            done(finished)


def batches(cells: list[tuple[int, CellTokens]], token_budget: int) -> Iterator[list[tuple[int, CellTokens]]]:
    """Numbered cells in batches of like length whose padded size stays within the budget; longest first."""
    batch: list[tuple[int, CellTokens]] = []
    for numbered in sorted(cells, key=lambda numbered: (-len(numbered[1].tokens), numbered[0])):
        if batch and (len(batch) + 1) * len(batch[0][1].tokens) > token_budget:
            yield batch
            batch = []
        batch.append(numbered)
    if batch:
        yield batch


class CountsFile:
    """The raw counts of an h5ad (``layers["counts"]``, CSR), read by rows.

    ``symbols`` are those of human genes: of another species, the orthologs' ("" for a gene without one).
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self.file = h5py.File(path)
        self.counts = CsrRows(self.file["layers/counts"])
        self.cells, self.genes = self.counts.shape
        var, self.obs = self.file["var"], self.file["obs"]
        names = var[ORTHOLOG if ORTHOLOG in var else var.attrs["_index"]]
        self.symbols: list[str] = list(names.asstr()[:])

    def rows(self, first: int, last: int) -> tuple[sparse.csr_matrix, list[str]]:
        """Counts and barcodes of rows ``[first, last)``."""
        barcodes = self.obs[self.obs.attrs["_index"]].asstr()[first:last]
        return self.counts.rows(first, last), list(barcodes)


def embed_rows(embedder: Embedder, counts: CountsFile, start: int, end: int) -> Iterator[NDArray[np.float32]]:
    """Embed rows ``[start, end)`` of a file, and yield them a block at a time, as `Embedder.embed`.

    The next block is read and tokenised while the model works on this one, so two blocks are in memory.
    Progress goes to standard error.

    Raises
    ------
    UserError
        The file lacks these rows, or a count is negative or not finite.
    """
    if not 0 <= start <= end <= counts.cells:
        raise UserError(
            "The range of cells is not in the file.",
            where=str(counts.path),
            found=f"{counts.cells} cells, and the range {start} to {end}",
            expected="0 <= start <= end <= number of cells",
            fix="Give a range within the file.",
        )

    def read(first: int) -> list[CellTokens | None]:
        matrix, barcodes = counts.rows(first, min(first + BLOCK, end))
        return [embedder.tokens_of(matrix, row, barcode) for row, barcode in enumerate(barcodes)]

    progress = Progress(embedder.sample, end - start)
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(read, start)
        for first in range(start, end, BLOCK):
            cells = coming.result()
            if first + BLOCK < end:
                coming = reader.submit(read, first + BLOCK)
            yield embedder.embed_tokens(cells, done=partial(progress.add, first - start))
        progress.show(end - start)


class Progress:
    """Cells done, rate and time left on standard error, every 10 s and at the end."""

    INTERVAL = 10.0

    def __init__(self, sample: str, cells: int) -> None:
        self.sample, self.cells = sample, cells
        self.started = self.shown = time.monotonic()
        self.finished = False

    def add(self, before: int, done: int) -> None:
        """As `show`, with the cells of earlier blocks counted apart."""
        self.show(before + done)

    def show(self, done: int) -> None:
        """Say that `done` cells are done, when it is time to say so."""
        now = time.monotonic()
        if self.finished or (done < self.cells and now - self.shown < self.INTERVAL):
            return
        self.shown, self.finished = now, done == self.cells
        rate = done / max(now - self.started, 1e-9)
        left = round((self.cells - done) / rate) if rate else 0
        print(
            f"{self.sample}: {done:,} of {self.cells:,} cells embedded, {rate:,.1f} cells/s, "
            f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02} left",
            file=sys.stderr,
            flush=True,
        )
