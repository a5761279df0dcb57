#!/usr/bin/env python3
"""Composition test and differential expression beside limma, DESeq2 and edgeR in R, on the same real cells.

    make bench-conditions DATA=folder
    bench/conditions.py --cells kang_ctrl12k_1287genes.h5ad --json docs/benchmarks/conditions.json

Needs R with limma, DESeq2 and edgeR (Debian: r-bioc-limma, r-bioc-deseq2, r-bioc-edger). The cells are of eight donors
in one condition, so what is compared between donors is chance; between two types of the same donors it is not. speckle
is not in Debian: what its propeller does with limma is written out in R here.
"""

import json
import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bin"))

from spikgpt.base.files import write_json
from spikgpt.cli import launch, parser

PACKAGES = ("limma", "DESeq2", "edgeR")
DEBIAN = "r-base-core r-bioc-limma r-bioc-deseq2 r-bioc-edger"
PAIR = ("FCGR3A+ Monocytes", "CD14+ Monocytes")
"""Two types of the same donors that differ in known genes."""
BETWEEN = "CD14+ Monocytes"
"""The type that is compared between donors."""

PROPELLER = """
suppressMessages(library(limma))
counts <- as.matrix(read.table("counts.tsv", sep = "\\t", header = TRUE, row.names = 1, check.names = FALSE))
y <- asin(sqrt(t(t(counts) / colSums(counts))))
splits <- read.table("splits.tsv", sep = "\\t")
p <- apply(splits, 1, function(g) eBayes(lmFit(y, model.matrix(~ g)))$p.value[, 2])
write.table(p, "p.tsv", sep = "\\t", row.names = FALSE, col.names = FALSE)
cat(as.character(packageVersion("limma")))
"""
DE = """
suppressMessages({library(DESeq2); library(edgeR)})
counts <- as.matrix(read.table("counts.tsv", sep = "\\t", header = TRUE, row.names = 1, check.names = FALSE))
sheet <- read.table("sheet.tsv", sep = "\\t", header = TRUE, colClasses = "character")
sheet$group <- factor(sheet$group, c("control", "treated"))
design <- if (any(duplicated(sheet$donor))) ~ donor + group else ~ group
dds <- DESeq(DESeqDataSetFromMatrix(counts, sheet, design), quiet = TRUE)
r <- results(dds, contrast = c("group", "treated", "control"))
x <- model.matrix(design, sheet)
y <- estimateDisp(calcNormFactors(DGEList(counts)), x)
q <- topTags(glmQLFTest(glmQLFit(y, x), coef = ncol(x)), n = Inf, sort.by = "none")$table
out <- data.frame(gene = rownames(r), lfc = r$log2FoldChange, p = r$pvalue, fdr = r$padj, edger_fdr = q$FDR)
write.table(out, "r.tsv", sep = "\\t", row.names = FALSE, na = "")
cat(as.character(packageVersion("DESeq2")), as.character(packageVersion("edgeR")))
"""


def without_r() -> str | None:
    """What of R is missing, and how to get it; None where all is there."""
    if shutil.which("Rscript") is None:
        missing = "Rscript"
    else:
        asks = 'for (p in commandArgs(TRUE)) if (!requireNamespace(p, quietly = TRUE)) cat(p, "")'
        words = ["Rscript", "-e", asks, *PACKAGES]
        missing = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    return f"bench/conditions.py needs R; missing: {missing} (Debian: apt install {DEBIAN})" if missing else None


def run_r(folder: Path, code: str) -> str:
    """Run R in a folder; what it prints."""
    (folder / "run.R").write_text(code, encoding="utf-8")
    run = subprocess.run(["Rscript", "run.R"], cwd=folder, check=True, capture_output=True, text=True)
    return run.stdout.strip()


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--cells", required=True, help="h5ad: counts in X, obs batch (donor) and cell_type")
    args.add_argument("--json", required=True)
    options = args.parse_args()
    if missing := without_r():
        sys.exit(missing)

    import anndata as ad
    import numpy as np
    import pandas as pd
    import scipy.sparse as sp
    from scipy.stats import spearmanr
    from spikgpt.cohort.conditions import compare_conditions, replicates
    from spikgpt.cohort.contrast import FDR, MIN_CELLS
    from spikgpt.cohort.differential import differential_expression

    cells = ad.read_h5ad(options.cells)
    donor, label = (cells.obs[name].astype(str) for name in ("batch", "cell_type"))
    by_donor = pd.crosstab(label, donor)
    donors = list(by_donor)
    found: dict = {"cells": int(cells.n_obs), "genes": int(cells.n_vars), "donors": len(donors)}

    # every way to part the donors into two halves
    halves = [half for half in combinations(donors, len(donors) // 2) if donors[0] in half]
    with TemporaryDirectory() as made:
        folder = Path(made)
        by_donor.to_csv(folder / "counts.tsv", sep="\t")
        pd.DataFrame([[int(d not in half) for d in donors] for half in halves]).to_csv(
            folder / "splits.tsv", sep="\t", header=False, index=False
        )
        limma = run_r(folder, PROPELLER)
        theirs = np.loadtxt(folder / "p.tsv")
    ours = []
    for half in halves:
        long = by_donor.stack().rename("cells").reset_index().rename(columns={"batch": "donor"})
        long["condition"] = np.where(long["donor"].isin(half), "a", "b")
        table, _ = compare_conditions(replicates(long.assign(sample=long["donor"])))
        ours.append(table.set_index("cell_type").loc[by_donor.index, "p_value"].to_numpy(dtype=float))
    p = np.array(ours).T
    found["composition"] = {
        "limma": limma,
        "splits": len(halves),
        "types": len(p),
        "largest_difference_of_p": float(np.abs(p - theirs).max()),
        "p_at_most_0.05": float((p <= 0.05).mean()),
    }

    found["expression"] = {}
    second = set(donors[len(donors) // 2 :])
    for name, types, group_of in (
        ("one type, four donors against four", (BETWEEN,), lambda d, _: "treated" if d in second else "control"),
        ("two types of the same donors", PAIR, lambda _, t: "treated" if t == PAIR[0] else "control"),
    ):
        rows = [(d, t) for t in types for d in donors if ((donor == d) & (label == t)).sum() >= MIN_CELLS]
        sums = np.array([cells.X[((donor == d) & (label == t)).to_numpy()].sum(axis=0).A1 for d, t in rows])
        sheet = pd.DataFrame(
            {
                "cell_type": "compared",
                "sample": [f"{d} {t}" for d, t in rows],
                "donor": [d for d, _ in rows],
                "group": [group_of(d, t) for d, t in rows],
                "cells": MIN_CELLS,
            },
            index=[f"s{at}" for at in range(len(rows))],
        )
        data = ad.AnnData(sp.csr_matrix(sums.astype(np.int64)), sheet, pd.DataFrame(index=cells.var_names))
        data.var["gene_id"] = ""
        data.varm["measured"] = pd.DataFrame(True, index=data.var_names, columns=list(sheet["sample"]))
        with TemporaryDirectory() as made:
            folder = Path(made)
            data.write_h5ad(folder / "p.h5ad")
            result = differential_expression(folder / "p.h5ad", "group", "treated", "control")
            own = result.table.set_index("gene")
            counts = pd.DataFrame(sums.T.astype(int), index=cells.var_names, columns=sheet.index).loc[own.index]
            counts.to_csv(folder / "counts.tsv", sep="\t")
            sheet.to_csv(folder / "sheet.tsv", sep="\t", index=False)
            versions = run_r(folder, DE).split()
            r = pd.read_csv(folder / "r.tsv", sep="\t", index_col="gene").loc[own.index]
        both = own["p_value"].notna() & r["p"].notna()
        hits, deseq, edger = own["fdr"] <= FDR, r["fdr"] <= FDR, r["edger_fdr"] <= FDR
        found["expression"][name] = {
            "deseq2": versions[0],
            "edger": versions[1],
            "paired": result.types[0]["paired"],
            "genes": len(own),
            "fold_change_correlation": float(np.corrcoef(own["log2_fold_change"][both], r["lfc"][both])[0, 1]),
            "largest_fold_change_difference": float(np.abs(own["log2_fold_change"] - r["lfc"])[both].max()),
            "p_rank_correlation": float(spearmanr(own["p_value"][both], r["p"][both]).statistic),
            "genes_ours": int(hits.sum()),
            "genes_deseq2": int(deseq.sum()),
            "genes_both": int((hits & deseq).sum()),
            "genes_edger": int(edger.sum()),
            "genes_ours_and_edger": int((hits & edger).sum()),
        }
    write_json(options.json, found)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    launch(main)
