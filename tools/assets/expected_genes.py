#!/usr/bin/env python3
"""Choose the genes that cells of each broad class are expected to show, from the profiles alone, and try the choice.

    tools/assets/expected_genes.py --profiles <folder> --library assets/cell_profiles

writes expected_genes.tsv into the library. A gene is seen in a cell with probability 1 - exp(-depth x share of its
RNA). Chosen are, as a reference's markers are (`spikgpt.annotator.reference_markers`), the genes with the largest
s - (mean + most) / 2, where s is the lower quartile over the class's profiles, so that a gene of one organ's cells is
none of the class, and mean and most are over the other classes. The source fills a gene that a study does not list with
the mean of the class elsewhere; such values would make any gene common to a class. They are recognised, since two
profiles of one class and study then differ in all filled genes by the same factor, and left out.

Then each paper is withheld in turn, genes are chosen from the others and looked for in its profiles: how many does a
profile show of its own class, and how many of each other class? SUPPORTS and CONTRADICTS of `spikgpt.profiles.expected`
come from there.
"""

import argparse
import csv
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bin"))
from make_cell_profiles import current_genes
from spikgpt.profiles.expected import DEPTHS, EXPECTED, class_shares, member_codes, shown
from spikgpt.profiles.library import Library

PER_CLASS = 10
MIN_SEEN, MIN_DIFFERENCE = 0.25, 0.2
"""As for a reference's markers."""
WITHIN = 0.25
"""Quantile over a class's profiles."""
LISTED = 0.5
"""Share of a class's profiles in whose studies a gene must be listed."""
SAME_FACTOR = 0.004
"""Log ratios of filled genes agree within this: the source has 11 bits."""
LEAST = 0.3
"""log1p CP10k from which a ratio tells anything."""


def filled(values: np.ndarray, codes: np.ndarray, studies: np.ndarray) -> np.ndarray:
    """Whether each gene was filled in each profile's study, bool (genes, profiles)."""
    out = np.zeros(values.shape, dtype=bool)
    for study in sorted(set(studies)):
        columns = np.flatnonzero(studies == study)
        told, same = np.zeros(len(values), dtype=bool), np.ones(len(values), dtype=bool)
        for code in sorted(set(codes[columns].tolist())):
            for one, other in pairwise(columns[codes[columns] == code]):
                both = np.flatnonzero((values[:, one] > LEAST) & (values[:, other] > LEAST))
                if not len(both):
                    continue
                ratio = np.log(np.expm1(values[both, one]) / np.expm1(values[both, other]))
                number, edges = np.histogram(ratio, bins=np.arange(-1, 1, SAME_FACTOR))
                at = number.argmax()
                near = ratio[(ratio >= edges[at] - SAME_FACTOR / 2) & (ratio <= edges[at + 1] + SAME_FACTOR / 2)]
                told[both] = True
                if len(near):
                    same[both] &= np.abs(ratio - np.median(near)) < SAME_FACTOR
        out[np.ix_(told & same, columns)] = True
    return out


def lower_quantile(values: np.ndarray, left_out: np.ndarray) -> np.ndarray:
    """The quantile `WITHIN` (genes,) of ``values`` (genes, profiles) without those left out; nearest value below."""
    ordered = np.sort(np.where(left_out, np.nan, values), axis=1)
    number = (~left_out).sum(axis=1)
    at = np.floor(WITHIN * np.maximum(number - 1, 0)).astype(int)
    return np.where(number > 0, ordered[np.arange(len(values)), at], 0.0)


def chosen(library: Library, columns: np.ndarray, left_out: np.ndarray) -> dict[str, list[str]]:
    """Genes of each class, and of two that go together, best first, from the profiles ``columns`` alone."""
    codes = library.codes[columns]
    each, empty = shown(library.values[:, columns], DEPTHS[0]), left_out[:, columns]
    present = sorted(set(codes.tolist()))
    mean_of = {code: each[:, codes == code].mean(axis=1) for code in present}
    made = {}
    for name, members in member_codes(library).items():
        own = np.isin(codes, members)
        if not set(members) <= set(present):
            continue
        others = np.stack([mean_of[code] for code in present if code not in members])
        share, mean = lower_quantile(each[:, own], empty[:, own]), others.mean(axis=0)
        score = share - (mean + others.max(axis=0)) / 2
        known = (~empty[:, own]).mean(axis=1) >= LISTED
        score[~known | (share < MIN_SEEN) | (share - mean < MIN_DIFFERENCE) | (score <= 0)] = -np.inf
        order = np.argsort(-score, kind="stable")[:PER_CLASS]
        made[name] = [library.genes[at] for at in order if np.isfinite(score[at])]
    return made


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "--profiles", type=Path, required=True, help="folder with profiles.npz, the source of the library"
    )
    made.add_argument("--library", type=Path, required=True)
    args = made.parse_args()
    library = Library.read(args.library)
    with np.load(args.profiles / "profiles.npz") as stored:
        names, _, linear = current_genes(
            [str(gene) for gene in stored["genes"]], np.expm1(stored["log1p_cp10k"].astype(np.float64))
        )
    place = {name: at for at, name in enumerate(names)}
    values = np.log1p(linear[[place[gene] for gene in library.genes]])
    left_out = filled(values, library.codes, library.profiles["study"].to_numpy())
    genes = chosen(library, np.arange(len(library.codes)), left_out)
    rows = [(name, gene) for name in library.terms for gene in genes.get(name, [])]
    pd.DataFrame(rows, columns=["class", "gene"]).to_csv(
        args.library / EXPECTED, sep="\t", index=False, lineterminator="\n", quoting=csv.QUOTE_NONE
    )
    for name in library.terms:
        print(f"{name}: {', '.join(genes.get(name, [])) or 'none'}")

    at_gene = {gene: at for at, gene in enumerate(library.genes)}
    sources = library.profiles["source"].to_numpy()
    seen = shown(library.values, DEPTHS[0])
    own: list[float] = []
    others: list[float] = []
    for source in sorted(set(sources)):
        rest = np.flatnonzero(sources != source)
        without = chosen(library, rest, left_out)
        for name, members in member_codes(library).items():
            picked = [at_gene[gene] for gene in without.get(name, [])]
            if len(picked) < 3 or len(members) > 1:
                continue
            inside, outside = class_shares(library, members, rest, DEPTHS[0])
            middle = (inside[picked] + outside[picked]) / 2
            for column in np.flatnonzero(sources == source):
                listed = ~left_out[picked, column]
                if listed.sum() < 3:
                    continue
                found = float((seen[picked, column] >= middle)[listed].mean())
                (own if library.codes[column] in members else others).append(found)
    for text, shares in (("own class", np.array(own)), ("another class", np.array(others))):
        print(f"{text}: {len(shares)} pairs of a withheld profile and a class")
        for cut in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8):
            print(f"  at least {cut} of its genes shown: {(shares >= cut).mean():.3f}")


if __name__ == "__main__":
    main()
