#!/usr/bin/env python3
"""Pretrain scgpt-mini: a small checkpoint in scGPT's format, from real cells and without any label.

Gene embeddings start as the loadings of an SVD of log CP10k. Training then shows the model a random
part of each cell's genes, and asks the CLS embedding for the cell's scores on the principal
components of its own data set: a low-rank form of "the CLS embedding reconstructs expression".
One thread, one seed: the same command on the same machine writes the same bytes.
"""

import argparse
import json
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import anndata
import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bin"))

from spikgpt.base.genes import symbol_of_id
from spikgpt.base.threads import pin_process
from spikgpt.scgpt.checkpoint import BUNDLED, N_BINS, PAD_VALUE, read_checkpoint
from spikgpt.scgpt.embed import Embedder
from spikgpt.scgpt.model import ScGPT
from spikgpt.scgpt.tissue import make_profile, save_profile
from spikgpt.scgpt.tokens import expected_bins

SPECIAL = ("<pad>", "<cls>", "<eoc>")
TECHNICAL = re.compile(r"^(?:MT-|MTRNR|RP[SL]\d|RP[SL]A|RPLP|MALAT1$|NEAT1$)")
"""Mitochondrial and ribosomal genes follow the state of the sample more than the type of the cell."""
SPARE_DIMENSIONS = 4
"""Of the gene embedding, held by a constant: weak genes stay weak through the layer norm."""
COMPONENTS = 50
WARM_UP = 150
PROFILE_CELLS_READ, PROFILE_CELLS = 500, 1500
"""Cells embedded of each data set for the profile of known tissues, and cells kept in it."""


@dataclass
class DataSet:
    """One file's cells on the vocabulary's genes."""

    name: str
    counts: sparse.csr_matrix
    """float32 (cells, genes of the vocabulary)."""
    targets: torch.Tensor
    """float32 (cells, components): principal component scores, overall variance 1."""


def read_counts(path: Path) -> tuple[sparse.csr_matrix, list[str]]:
    """Raw counts (cells x genes) and symbols; genes that share a symbol are summed.

    R turns the hyphens of symbols into dots (`HLA.DRA`): turned back where that gives a known symbol.
    """
    adata = anndata.read_h5ad(path)
    counts = sparse.csr_matrix(adata.X, dtype=np.float32)
    current = set(symbol_of_id().values())
    symbols: dict[str, int] = {}
    column = np.empty(adata.n_vars, dtype=np.int64)
    for row, name in enumerate(map(str, adata.var_names)):
        hyphens = name.replace(".", "-")
        column[row] = symbols.setdefault(hyphens if name not in current and hyphens in current else name, len(symbols))
    gather = sparse.csr_matrix(
        (np.ones(len(column), np.float32), (np.arange(len(column)), column)), shape=(len(column), len(symbols))
    )
    return sparse.csr_matrix(counts @ gather), list(symbols)


def log_cp10k(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """log1p of counts per 10,000; totals are those of the given genes."""
    totals = np.asarray(counts.sum(axis=1)).ravel()
    scaled = sparse.csr_matrix(sparse.diags(1e4 / np.maximum(totals, 1)) @ counts)
    scaled.data = np.log1p(scaled.data).astype(np.float32)
    return scaled


def choose_genes(data: list[tuple[sparse.csr_matrix, list[str]]], wanted: int) -> list[str]:
    """The genes that vary most, each ranked by the data set where it stands best.

    Two rankings of log CP10k count alike: by variance, and by dispersion z-scored within 20 bins of mean
    expression (Satija et al. 2015). The second alone misses a gene like INS, which leaks into every
    cell of a pancreas. Genes seen in fewer than 0.5 % of a data set's cells (3 at least) are not ranked
    there. A name that is in one data set alone and no symbol of GENCODE v44 is left out.
    """
    current = set(symbol_of_id().values())
    times = Counter(symbol for _, symbols in data for symbol in symbols)
    best: dict[str, int] = {}
    for counts, symbols in data:
        logged = log_cp10k(counts)
        mean = np.asarray(logged.mean(axis=0)).ravel()
        variance = np.asarray(logged.multiply(logged).mean(axis=0)).ravel() - mean**2
        seen = np.diff(sparse.csc_matrix(counts).indptr)
        named = [not TECHNICAL.match(s) and (s in current or times[s] > 1) for s in symbols]
        usable = np.flatnonzero((seen >= max(3, 0.005 * logged.shape[0])) & np.array(named))
        dispersion = np.log(variance[usable] / mean[usable])
        z = np.empty(len(usable))
        for part in np.array_split(np.argsort(mean[usable], kind="stable"), 20):
            z[part] = (dispersion[part] - dispersion[part].mean()) / dispersion[part].std()
        for score in (z, variance[usable]):
            for rank, gene in enumerate(usable[np.argsort(-score, kind="stable")]):
                best[symbols[gene]] = min(best.get(symbols[gene], rank), rank)
    return sorted(best, key=lambda symbol: (best[symbol], symbol))[:wanted]


def on_genes(counts: sparse.csr_matrix, symbols: list[str], genes: list[str]) -> sparse.csr_matrix:
    """The columns of `genes`, in their order; a gene that was not measured is an empty column."""
    place = {gene: column for column, gene in enumerate(genes)}
    pairs = [(row, place[symbol]) for row, symbol in enumerate(symbols) if symbol in place]
    rows, columns = np.array(pairs).T
    gather = sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(len(symbols), len(genes)))
    result = sparse.csr_matrix(counts @ gather)
    result.sort_indices()
    return result


def principal_components(logged: sparse.csr_matrix, seed: int) -> np.ndarray:
    """Scores U*sqrt(S) on the first 50 components, centred, divided by their overall standard deviation."""
    dense = logged.toarray()
    dense -= dense.mean(axis=0)
    u, s, _ = randomized_svd(dense, n_components=COMPONENTS, n_iter=4, random_state=seed)
    scores = u * np.sqrt(s)
    return (scores / scores.std()).astype(np.float32)


def gene_embeddings(data: list[sparse.csr_matrix], width: int, seed: int) -> np.ndarray:
    """Loadings V*sqrt(S) of all cells' z-scored log CP10k, and a constant in the spare dimensions.

    Each data set is z-scored by itself, so that what sets data sets apart does not enter, and weighs
    as the square root of its cells, so that the largest does not decide alone.

    Returns
    -------
    float32 (genes, width), root mean square about 1.
    """
    blocks = []
    for logged in data:
        dense = logged.toarray()
        dense -= dense.mean(axis=0)
        spread = dense.std(axis=0)
        dense /= np.where(spread > 0, np.maximum(spread, 0.05), 1)
        np.clip(dense, -10, 10, out=dense)
        dense *= len(dense) ** -0.25
        blocks.append(dense)
    rank = width - SPARE_DIMENSIONS
    _, s, vt = randomized_svd(np.concatenate(blocks), n_components=rank, n_iter=4, random_state=seed)
    loadings = vt.T * np.sqrt(s)
    loadings /= np.sqrt((loadings**2).mean())
    return np.hstack([loadings, np.ones((len(loadings), SPARE_DIMENSIONS))]).astype(np.float32)


def view(
    counts: sparse.csr_matrix, cell: int, longest: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and bins of a random part of one cell's genes; half of the views lose counts as well."""
    span = slice(counts.indptr[cell], counts.indptr[cell + 1])
    genes, values = counts.indices[span], counts.data[span]
    if random.random() < 0.5:
        values = random.binomial(values.astype(np.int64), random.uniform(0.3, 1)).astype(np.float32)
        genes, values = genes[values > 0], values[values > 0]
    if not len(genes):
        return np.array([1]), np.float32([PAD_VALUE])
    bins = expected_bins(values, N_BINS)
    kept = max(1, min(longest - 1, int(random.uniform(0.35, 1) * len(genes))))
    chosen = random.permutation(len(genes))[:kept]
    # tokens 0 to 2 are the special ones; 1 is <cls>
    return np.concatenate([[1], genes[chosen] + len(SPECIAL)]), np.concatenate([np.float32([PAD_VALUE]), bins[chosen]])


def batch_of(
    data: DataSet, size: int, longest: int, random: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens, bins, padding and targets of random cells of one data set."""
    cells = random.choice(data.counts.shape[0], size=min(size, data.counts.shape[0]), replace=False)
    views = [view(data.counts, cell, longest, random) for cell in cells]
    length = max(len(tokens) for tokens, _ in views)
    tokens = np.zeros((len(views), length), np.int64)
    values = np.full((len(views), length), PAD_VALUE, np.float32)
    for row, (t, v) in enumerate(views):
        tokens[row, : len(t)], values[row, : len(v)] = t, v
    tensor = torch.from_numpy(tokens)
    return tensor, torch.from_numpy(values), tensor == 0, data.targets[cells]


def train(model: ScGPT, data: list[DataSet], args: argparse.Namespace) -> list[dict[str, float]]:
    """Train in place; the loss curve, one point every 100 steps."""
    random = np.random.default_rng(args.seed)
    heads = torch.nn.ModuleList(torch.nn.Linear(args.width, COMPONENTS) for _ in data)
    for head in heads:
        torch.nn.init.zeros_(head.weight)
    genes = model.encoder.embedding.weight
    rest = [p for p in model.parameters() if p is not genes]
    optimiser = torch.optim.AdamW(
        [
            {"params": [genes], "lr": 0.3 * args.learning_rate, "weight_decay": 0.0},
            {"params": rest, "lr": args.learning_rate, "weight_decay": 0.01},
            {"params": heads.parameters(), "lr": 5 * args.learning_rate, "weight_decay": 0.01},
        ]
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: min(1, (step + 1) / WARM_UP) * 0.5 * (1 + np.cos(np.pi * min(step / max(args.steps, 1), 1))),
    )
    share = np.array([d.counts.shape[0] for d in data], float) ** 0.4
    share /= share.sum()
    curve, losses, explained, started = [], [], [], time.monotonic()
    model.train()
    for step in range(1, args.steps + 1):
        number = int(random.choice(len(data), p=share))
        tokens, values, padding, target = batch_of(data[number], args.batch, args.longest, random)
        cls = F.normalize(model(tokens, values, padding), dim=1)
        # CLS vectors point nearly the same way: without this the heads see hardly any difference between cells
        standardised = (cls - cls.mean(dim=0)) / (cls.std(dim=0) + 1e-6)
        predicted = heads[number](standardised)
        loss = F.smooth_l1_loss(predicted, target)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
        centred = target - target.mean(dim=0)
        explained.append(1 - ((predicted - target) ** 2).sum().item() / (centred**2).sum().item())
        if step % 100 == 0 or step == args.steps:
            point = {"step": step, "loss": round(float(np.mean(losses)), 4), "r2": round(float(np.mean(explained)), 4)}
            curve.append(point)
            print(f"{point} {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
            losses, explained = [], []
    model.eval()
    return curve


def write_profile(folder: Path, data: list[DataSet], genes: list[str], seed: int) -> None:
    """Embed pretraining cells with the written checkpoint, and keep them as its profile of known tissues.

    At most 500 cells of a data set; each data set weighs as the square root of its cells.
    """
    random = np.random.default_rng(seed)
    checkpoint = read_checkpoint(folder)
    parts, weights = [], []
    for d in data:
        chosen = np.sort(random.permutation(d.counts.shape[0])[:PROFILE_CELLS_READ])
        embedder = Embedder(checkpoint, genes, sample=d.name, seed=seed)
        parts.append(embedder.embed(d.counts[chosen], [str(cell) for cell in chosen]))
        weights.append(np.full(len(chosen), d.counts.shape[0] ** 0.5 / len(chosen)))
        print(f"profile: {d.name}", file=sys.stderr, flush=True)
    embedding = np.concatenate(parts)
    known = np.isfinite(embedding).all(axis=1)
    save_profile(make_profile(embedding[known], np.concatenate(weights)[known], PROFILE_CELLS, seed), folder)


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument("--cells", nargs="+", type=Path, required=True, help="h5ad files of raw counts with gene symbols")
    made.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    made.add_argument("--genes", type=int, default=8000)
    made.add_argument("--width", type=int, default=64)
    made.add_argument("--heads", type=int, default=4)
    made.add_argument("--hidden", type=int, default=128)
    made.add_argument("--layers", type=int, default=2)
    made.add_argument("--steps", type=int, default=2000)
    made.add_argument("--batch", type=int, default=64)
    made.add_argument("--longest", type=int, default=192, help="tokens per cell in training")
    made.add_argument("--learning-rate", type=float, default=7e-4)
    made.add_argument("--seed", type=int, default=0)
    args = made.parse_args()
    pin_process()
    torch.manual_seed(args.seed)

    read = [read_counts(path) for path in args.cells]
    genes = choose_genes(read, args.genes)
    counts = [on_genes(c, symbols, genes) for c, symbols in read]
    logged = [log_cp10k(c) for c in counts]
    print(f"{sum(c.shape[0] for c in counts)} cells, {len(genes)} genes", file=sys.stderr, flush=True)
    data = [
        DataSet(path.stem, c, torch.from_numpy(principal_components(x, args.seed)))
        for path, c, x in zip(args.cells, counts, logged, strict=True)
    ]
    model = ScGPT(len(SPECIAL) + len(genes), args.width, args.heads, args.hidden, args.layers)
    loadings = torch.from_numpy(gene_embeddings(logged, args.width, args.seed))
    with torch.no_grad():
        model.encoder.embedding.weight[len(SPECIAL) :] = loadings
    curve = train(model, data, args)

    args.out.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), args.out / "best_model.pt")
    tokens = {token: number for number, token in enumerate([*SPECIAL, *genes])}
    (args.out / "vocab.json").write_text(json.dumps(tokens, indent=0) + "\n")
    settings = {
        "name": BUNDLED,
        "embsize": args.width, "nheads": args.heads, "d_hid": args.hidden, "nlayers": args.layers, "n_layers_cls": 3,
        "dropout": 0.0, "n_bins": N_BINS, "pad_token": "<pad>", "pad_value": PAD_VALUE, "input_emb_style": "continuous",
        "pretraining": {
            "cells": {d.name: d.counts.shape[0] for d in data},
            "steps": args.steps, "batch": args.batch, "longest": args.longest, "learning_rate": args.learning_rate,
            "seed": args.seed, "curve": curve,
        },
    }  # fmt: skip
    (args.out / "args.json").write_text(json.dumps(settings, indent=2) + "\n")
    write_profile(args.out, data, genes, args.seed)


if __name__ == "__main__":
    main()
