#!/usr/bin/env python3
"""Find SHARPNESS, CUT and CLUSTER_CUT of spikgpt.profiles.opinion on studies withheld from the library.

Each source paper is withheld in turn with all its profiles, and cells are drawn from these: at three depths, with
ambient RNA of the study, with a random factor on every gene that the study's types share and one that each has to
itself. The library without the paper judges them as it judges a sample. A class that no other paper has is unseen:
any opinion on its cells is wrong. SHARPNESS minimises the negative log-likelihood of seen cells; CUT is the least
probability at which 95 % of all opinions, on seen and unseen cells together, are right, and CLUSTER_CUT the same for
the mean probability of the cells of one profile and depth.

    tools/assets/calibrate_profiles.py --library assets/cell_profiles
"""

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import argparse
import sys
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from scipy.optimize import minimize_scalar

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bin"))
from spikgpt.profiles.correlation import log_softmax, per_10k
from spikgpt.profiles.library import Library
from spikgpt.profiles.opinion import WEIGHT, Judges

DEPTHS = (1200, 2500, 5000)
CELLS = 15
"""Of each profile and depth."""
SHARED_SD, OWN_SD = 0.5, 0.5
"""Standard deviations of the logarithm of the two gene factors; .7 together."""
AMBIENT = 0.05
RIGHT = 0.95


def drawn(values: np.ndarray, depth: int, random: np.random.Generator) -> sp.csr_matrix:
    """Counts (CELLS * profiles, genes) of one study's profiles ``values`` (genes, profiles)."""
    shares = per_10k(values).T / 1e4
    shares = shares * np.exp(random.normal(0, SHARED_SD, shares.shape[1]))
    shares = shares * np.exp(random.normal(0, OWN_SD, shares.shape))
    shares /= shares.sum(axis=1, keepdims=True)
    shares = (1 - AMBIENT) * shares + AMBIENT * shares.mean(axis=0)
    depths = depth * np.exp(random.normal(0, 0.4, (CELLS * len(shares), 1)))
    return sp.csr_matrix(random.poisson(np.repeat(shares, CELLS, axis=0) * depths).astype(float))


def least(score: np.ndarray, right: np.ndarray) -> float:
    """The least score at which `RIGHT` of those at and above it are right."""
    order = np.argsort(-score, kind="stable")
    share_right = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    return float(score[order][np.flatnonzero(share_right >= RIGHT).max()])


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--library", type=Path, required=True)
    made.add_argument("--keep", type=Path, help="write the withheld cells' logits here (.npz)")
    args = made.parse_args()

    library, random = Library.read(args.library), np.random.default_rng(0)
    sources = library.profiles["source"].to_numpy()
    parts: dict[str, list] = {"first": [], "second": [], "truth": [], "seen": [], "source": []}
    for source in sorted(set(sources)):
        own, rest = np.flatnonzero(sources == source), np.flatnonzero(sources != source)
        truth = np.repeat(library.codes[own], CELLS)
        seen = np.isin(truth, library.codes[rest])
        for depth in DEPTHS:
            counts = drawn(library.values[:, own], depth, random)
            judges = Judges(library.values[:, rest], library.codes[rest], len(library.classes), lambda c=counts: [c])
            first, second = judges.log_probabilities(counts)
            for name, value in zip(parts, (first, second, truth, seen, [source] * len(truth)), strict=True):
                parts[name].append(value)
            at = (first + WEIGHT * second).argmax(axis=1)
            print(f"{source}: depth {depth}, {judges.offset_classes} classes tell the offset, {seen.mean():.2f} seen, "
                  f"{(at == truth)[seen].mean():.3f} of these right", flush=True)  # fmt: skip
    cells = {name: np.concatenate(value) for name, value in parts.items()}
    if args.keep:
        np.savez_compressed(args.keep, **cells)
    logits, truth, seen = cells["first"] + WEIGHT * cells["second"], cells["truth"], cells["seen"]

    def loss(sharpness: float) -> float:
        return -float(log_softmax(sharpness * logits[seen])[np.arange(seen.sum()), truth[seen]].mean())

    sharpness = float(minimize_scalar(loss, bounds=(0.05, 5.0), method="bounded").x)
    probabilities = np.exp(log_softmax(sharpness * logits))
    best, score = probabilities.argmax(axis=1), probabilities.max(axis=1)
    cut = least(score, (best == truth) & seen)
    given = score >= cut
    print(f"SHARPNESS {sharpness:.3f}; CUT {cut:.3f}: opinion on {given[seen].mean():.3f} of seen cells, "
          f"{(best == truth)[given & seen].mean():.3f} of these right, on {given[~seen].mean():.3f} of unseen cells; "
          f"{len(truth)} cells, {(~seen).mean():.3f} unseen")  # fmt: skip
    mean = probabilities.reshape(-1, CELLS, probabilities.shape[1]).mean(axis=1)
    of, known = truth[::CELLS], seen[::CELLS]
    score, right = mean.max(axis=1), (mean.argmax(axis=1) == of) & known
    of_clusters = least(score, right)
    told = score >= of_clusters
    print(f"CLUSTER_CUT {of_clusters:.3f}: opinion on {told[known].mean():.3f} of seen groups of {CELLS} cells, "
          f"{right[told & known].mean():.3f} right, on {told[~known].mean():.3f} of unseen groups")  # fmt: skip
    for name, members in library.merged.items():
        pair = [library.classes.index(member) for member in members]
        both = ~given & (probabilities[:, pair].sum(axis=1) >= cut)
        right = np.isin(truth, pair)[both].mean()
        print(f"{name}: opinion on {both[seen].mean():.3f} more of seen cells, {right:.3f} of these right, "
              f"on {both[~seen].mean():.3f} more of unseen cells")  # fmt: skip


if __name__ == "__main__":
    main()
