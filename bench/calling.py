#!/usr/bin/env python3
"""Cells called by SpikGPT and by Bioconductor's DropletUtils, where the statistical test decides.

    bench/calling.py --raw raw_feature_bc_matrix --filtered filtered_feature_bc_matrix --json calling.json

Needs Rscript with DropletUtils (Debian: r-bioc-dropletutils). Two matrices: the raw one as it is, where nearly all
cells are so large that no test is needed; and the raw one with 500 of its cells once more, thinned to 120 to 500
UMIs, and 500 barcodes of as many UMIs drawn from the empty droplets: these only the test can tell apart.
DropletUtils is run with its own knee, and with the bound above which SpikGPT takes a barcode for a cell untested.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bin"))

import numpy as np
from scipy import io, sparse
from spikgpt.base.threads import pin_process
from spikgpt.quality_control.calling import AMBIENT_UMIS, call_cells
from spikgpt.read_input.matrix import read_matrix

ADDED = 500
R = """
suppressMessages(library(DropletUtils))
given <- commandArgs(TRUE)
counts <- as(Matrix::readMM(given[1]), "CsparseMatrix")
set.seed(0)
retain <- if (given[2] == "knee") NULL else as.numeric(given[2])
found <- emptyDrops(counts, lower = as.numeric(given[3]), retain = retain)
found$FDR[is.na(found$FDR)] <- 1
writeLines(as.character(as.integer(found$FDR <= 0.01)), given[4])
"""


def dropletutils(counts: sparse.csr_matrix, retain: str) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        matrix, out, script = (str(Path(folder) / name) for name in ("counts.mtx", "called.txt", "call.R"))
        io.mmwrite(matrix, counts.T.tocoo(), field="integer")
        Path(script).write_text(R)
        subprocess.run(["Rscript", script, matrix, retain, str(AMBIENT_UMIS), out], check=True)
        return np.array(Path(out).read_text().split()) == "1"


def compared(counts: sparse.csr_matrix, kinds: np.ndarray) -> dict:
    """Agreement over all barcodes, and over those that are tested."""
    called, _, stats = call_cells(counts, None, 0, "benchmark")
    totals = np.asarray(counts.sum(axis=1)).ravel()
    tested = (totals > AMBIENT_UMIS) & (totals < stats["retain_umis"])
    found = {
        "barcodes": int(totals.size), "cells": int(called.sum()), "retain_umis": stats["retain_umis"],
        "tested": int(tested.sum()), "called_by_test": int((called & tested).sum()),
    }  # fmt: skip
    for name, retain in (("own_knee", "knee"), ("same_bound", str(stats["retain_umis"]))):
        theirs = dropletutils(counts, retain)
        found[f"dropletutils_{name}"] = {
            "cells": int(theirs.sum()),
            "agree_percent": round(100 * float((called == theirs).mean()), 2),
            "agree_percent_of_tested": round(100 * float((called == theirs)[tested].mean()), 2)
            if tested.any()
            else None,
            **{f"called_{kind}": int(theirs[kinds == kind].sum()) for kind in sorted(set(kinds) - {"as it was"})},
        }
    found |= {f"called_{kind}": int(called[kinds == kind].sum()) for kind in sorted(set(kinds) - {"as it was"})}
    return found


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--raw", required=True)
    made.add_argument("--filtered", help="cells of the raw matrix; without it no small ones are added")
    made.add_argument("--json", required=True)
    given = made.parse_args()
    pin_process()
    raw = read_matrix(given.raw, frozenset())
    counts = raw.counts[np.diff(raw.counts.indptr) > 0]
    result = {"as_it_is": compared(counts, np.full(counts.shape[0], "as it was"))}
    if given.filtered:
        rng = np.random.default_rng(0)
        cells = read_matrix(given.filtered, frozenset()).counts
        totals = np.asarray(counts.sum(axis=1)).ravel()
        profile = np.asarray(counts[totals <= AMBIENT_UMIS].sum(axis=0), dtype=np.float64).ravel()
        thin = cells[rng.choice(cells.shape[0], ADDED, replace=False)]
        share = rng.integers(120, 500, ADDED) / np.asarray(thin.sum(axis=1)).ravel()
        thin.data = rng.binomial(thin.data, np.minimum(np.repeat(share, np.diff(thin.indptr)), 1)).astype(np.int32)
        drops = [rng.multinomial(n, profile / profile.sum()) for n in rng.integers(120, 500, ADDED)]
        joined = sparse.csr_matrix(sparse.vstack([counts, thin, sparse.csr_matrix(np.array(drops, dtype=np.int32))]))
        kinds = np.array(["as it was"] * counts.shape[0] + ["small_cells"] * ADDED + ["ambient_barcodes"] * ADDED)
        result["with_small_cells"] = compared(joined, kinds)
    Path(given.json).write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
