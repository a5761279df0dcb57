#!/usr/bin/env python3
"""Embed one file in one way and print what it took as JSON: a step of embed.py, in the environment of that way.

Timed from counts in memory to embeddings; reading file and checkpoint is not, on either side.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bin"))

import anndata  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from scipy import sparse  # noqa: E402
from spikgpt.scgpt.checkpoint import read_checkpoint  # noqa: E402
from spikgpt.scgpt.embed import Embedder  # noqa: E402
from spikgpt.scgpt.package import import_scgpt  # noqa: E402


@contextmanager
def stopwatch(took: dict[str, float]) -> Iterator[None]:
    """Put wall and CPU seconds of the block, with those of processes that ended in it, into `took`."""

    def now() -> tuple[float, float]:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return time.perf_counter(), sum(usage.ru_utime + usage.ru_stime for usage in used)

    before = now()
    yield
    wall, cpu = (round(b - a, 3) for a, b in zip(before, now(), strict=True))
    took |= {"wall_s": wall, "cpu_s": cpu}


def package(cells: anndata.AnnData, checkpoint: Path, took: dict[str, float]) -> np.ndarray:
    """scgpt's `embed_data` with its default settings."""
    import_scgpt()
    from scgpt.tasks import cell_emb

    whole = cell_emb.get_batch_cell_embeddings

    def timed(*args, **settings):
        with stopwatch(took):
            return whole(*args, **settings)

    cell_emb.get_batch_cell_embeddings = timed
    return cell_emb.embed_data(cells, checkpoint, gene_col="index").obsm["X_scGPT"]


def ours(cells: anndata.AnnData, args: argparse.Namespace, took: dict[str, float]) -> np.ndarray:
    """Ours, or the same with cells of like length in padded batches of at most `args.budget` tokens."""
    embedder = Embedder(
        read_checkpoint(args.checkpoint),
        list(cells.var_names),
        sample="bench",
        precision=args.way,
        threads=args.threads,
    )
    counts, barcodes = sparse.csr_matrix(cells.X), list(cells.obs_names)
    if args.budget is None:
        with stopwatch(took):
            return embedder.embed(counts, barcodes)
    torch.set_num_threads(args.threads)
    result = np.empty((len(barcodes), embedder.checkpoint.width), dtype=np.float32)
    with stopwatch(took):
        read = [embedder.tokens_of(counts, row, barcode) for row, barcode in enumerate(barcodes)]
        known = [(row, cell) for row, cell in enumerate(read) if cell is not None]
        embedder._in_batches(known, result, lambda done: None, args.budget)
    return result


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--h5ad", type=Path, required=True)
    made.add_argument("--checkpoint", type=Path, required=True)
    made.add_argument("--way", choices=("package", "fp32", "bf16"), required=True)
    made.add_argument("--budget", type=int, help="tokens of a padded batch; without it one cell at a time")
    made.add_argument("--threads", type=int, required=True)
    made.add_argument("--out", type=Path, required=True, help="npy of the embeddings")
    args = made.parse_args()
    cells = anndata.read_h5ad(args.h5ad)
    took: dict[str, float] = {}
    embedding = package(cells, args.checkpoint, took) if args.way == "package" else ours(cells, args, took)
    np.save(args.out, embedding)
    print(json.dumps(took))


if __name__ == "__main__":
    main()
