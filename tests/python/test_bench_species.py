"""The bench of mouse cells: its simulated barcodes, and its section of the page."""

import sys

import numpy as np
from conftest import ROOT

sys.path.append(str(ROOT / "bench"))

from sections.species import ACROSS, MICE, render
from species import LEFT_OUT, METHODS, two_genomes


def row(split: str, method: str, left_out: str | None, f1: float) -> dict:
    shown = {"accuracy": 0.9, "macro_f1": f1, "false_unknown": 0.05, "accuracy_kept": 0.95}
    unseen = {"auroc": 0.8, "caught_at_5": 0.5, "unseen_unknown": 0.4 if method != METHODS[3] else None}
    return {"split": split, "method": method, "left_out": left_out, **shown, **unseen}


def simulated() -> list[dict]:
    random = np.random.default_rng(1)
    return two_genomes(*(np.rint(random.lognormal(8.5, 0.5, 500)) for _ in range(2)))


def test_simulated_pairs_are_found_and_single_cells_left():
    for found in simulated():
        assert 0 <= found["false"] <= found["found"] <= 1
        if found["rule"] == "both":
            # never more than either rule alone, and no cell is taken for two for its ambient RNA
            assert found["false"] < 0.01
    rules = {name: [r["found"] for r in simulated() if r["rule"] == name] for name in ("both", "quantile", "share")}
    assert all(a <= min(b, c) for a, b, c in zip(rules["both"], rules["quantile"], rules["share"], strict=True))


def test_the_section_says_what_its_figures_say():
    rows = [row(split, method, None, 0.5 + 0.1 * at) for split in (MICE, ACROSS) for at, method in enumerate(METHODS)]
    rows += [row(MICE, method, "delta", 0.9) for method in LEFT_OUT]
    figures = {
        "scgpt": {"name": "mini"},
        "cells": {"mouse1": 822, "mouse2": 1064},
        "shared_genes": {MICE: 14872, ACROSS: 10000},
        "ortholog_genes": 0.843,
        "ortholog_counts": 0.717,
        "gene_match_counts": 0.475,
        "gene_match_vocabulary": 0.658,
        "barnyard": simulated(),
        "rows": rows,
    }
    text = render(figures)
    assert text.startswith("## Mouse cells\n")
    assert "84.3 % of the genes with a count, 71.7 % of the counts" in text
    # both views .5, expression .6, embedding .7
    assert "the embedding adds -0.100" in text
    assert "| delta | 50.0 % (40.0 %) | 50.0 % | 50.0 % (40.0 %) | 0.800 | 0.800 | 0.800 |" in text
    assert "(10,000 genes; insulin" in text
    assert "random numbers: one seed." in text
    assert "| 1,000 and 10 | 20 % |" in text
