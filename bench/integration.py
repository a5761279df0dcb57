#!/usr/bin/env python3
"""Clusters of several samples with and without Harmony, as the pipeline makes them, beside their authors' labels.

    bench/integration.py --data FOLDER --work DIR --json docs/benchmarks/integration.json

Every step runs by its script in bin/. Samples are whole files, or the parts of a file that a column of `obs` tells
apart, each a batch of its own. Labels are the bundled annotator's where the cells are of blood, otherwise the authors'.
What is in DIR from an earlier call is not made again, so that only the cohort's steps run anew.
"""

import argparse
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "bin"), str(ROOT / "bench")]

import anndata as ad  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from library.measure import machine, measured  # noqa: E402
from sklearn.metrics import adjusted_rand_score  # noqa: E402
from spikgpt.base.ontology import TERM  # noqa: E402
from spikgpt.base.tsv import read_tsv  # noqa: E402

SETS: dict[str, tuple[tuple[str, str], ...]] = {
    "PBMC, seven samples": (
        ("pbmc3k", ""), ("pbmc4k_soupx", ""), ("pbmc_3tech_savercat", "batch"), ("kang_ifnb2k", "batch"),
    ),
    "PBMC, two conditions (Kang)": (("kang_ifnb2k", "batch"),),
    "PBMC, three donors and kits (SAVERCAT)": (("pbmc_3tech_savercat", "batch"),),
    "Cell lines, two protocols (sc_mixology)": (("sc_mixology_cell_lines", "batch"),),
}  # fmt: skip
"""Name to its files and the column that tells samples apart; without one the file is one sample."""
BLOOD = "PBMC"
SHARED = {"CD4 T": "T/NK", "CD8 T": "T/NK", "NK": "T/NK", "Mono CD14": "Mono", "Mono CD16": "Mono"}
"""Words for labels where a sample of the set has the wider ones alone: T cells of two sets would be two labels."""
NO_LABEL = ("unassigned", "?", "nan")
ONE_SAMPLE = 0.9
"""A cluster with at least this share of one sample counts as that sample's."""
MODEL, ANNOTATOR = ROOT / "assets" / "scgpt-mini", ROOT / "assets" / "annotators" / "pbmc"


def script(work: Path, name: str, *args: object) -> dict[str, Any]:
    """Run a script of bin/ in a folder; what it cost."""
    print(name, *args[:2], file=sys.stderr)
    return measured([sys.executable, ROOT / "bin" / name, *args], cwd=work)


def parts(data: Path, file: str, column: str) -> dict[str, ad.AnnData]:
    """Samples of a file: raw counts with the authors' labels."""
    cells = ad.read_h5ad(data / f"{file}.h5ad")
    if "demuxlet_cls" in cells.obs:
        cells = cells[cells.obs["demuxlet_cls"] == "SNG"].copy()
    if not column:
        return {file: cells}
    names = cells.obs[column].astype(str)
    return {
        f"{file}.{name}".replace(" ", "_").replace("'", "p"): cells[names == name].copy() for name in sorted(set(names))
    }


def prepare(work: Path, sample: str, cells: ad.AnnData, blood: bool) -> None:
    """From counts to embedding and labels, as the pipeline does it, unless they are there."""
    if (work / f"{sample}.annotation.parquet").exists():
        return
    work.mkdir(parents=True, exist_ok=True)
    label = "coarse" if "coarse" in cells.obs else "cell_type"
    cells.obs[[label]].set_axis(["authors"], axis=1).astype(str).to_parquet(work / f"{sample}.authors.parquet")
    ad.AnnData(cells.X, obs=cells.obs[[]], var=cells.var[[]]).write_h5ad(work / "in.h5ad")
    named = ("--sample", sample)
    script(work, "import_counts.py", *named, "--matrix", "in.h5ad", "--scgpt-model", MODEL)
    counts = (*named, "--h5ad", f"{sample}.counts.h5ad")
    script(work, "qc_metrics.py", *counts)
    script(work, "detect_doublets.py", *counts)
    (work / "thresholds.json").write_text("{}")
    script(work, "filter_cells.py", *counts, "--qc", f"{sample}.qc.parquet", "--doublets", f"{sample}.doublets.parquet",
           "--thresholds", "thresholds.json")  # fmt: skip
    script(work, "normalise.py", *named, "--h5ad", f"{sample}.filtered.h5ad")
    h5ad = (*named, "--h5ad", f"{sample}.norm.h5ad")
    names = ad.read_h5ad(work / f"{sample}.norm.h5ad", backed="r").obs_names
    script(work, "embed_scgpt.py", *h5ad, "--scgpt-model", MODEL, "--start", 0, "--end", len(names))
    if blood:
        (vectors,) = work.glob(f"{sample}.0*.embedding.npy")
        script(
            work, "annotate.py", *h5ad, "--embedding", vectors.name, "--annotator", ANNOTATOR, "--scgpt-model", MODEL
        )
    else:
        authors = pd.read_parquet(work / f"{sample}.authors.parquet")["authors"].loc[names].to_numpy()
        pd.DataFrame(
            {"barcode": names, "spikgpt_cell_type": authors, "spikgpt_best_match": authors, TERM: "unknown"}
        ).to_parquet(work / f"{sample}.annotation.parquet", index=False)


def cohort(work: Path, samples: list[str], asked: str) -> dict[str, Any]:
    """The cohort's steps on these samples; their figures beside the authors' labels."""
    into = work / f"{'+'.join(samples)[:60]}.{asked}"
    into.mkdir(exist_ok=True)
    files: dict[str, list[Path]] = {}
    for ending in (".norm.h5ad", ".embedding.npy", ".annotation.parquet"):
        files[ending] = sorted(p for name in samples for p in work.glob(f"{name}.*") if p.name.endswith(ending))
    given = ("--h5ad", *files[".norm.h5ad"], "--embedding", *files[".embedding.npy"],
             "--annotation", *files[".annotation.parquet"])  # fmt: skip
    if not (into / "cost.json").exists():
        costs = {
            "batch_mixing": script(into, "batch_mixing.py", *given, "--integrate", asked)["cpu_s"],
            "cluster_cohort": script(into, "cluster_cohort.py", *given, "--integration", "integration.tsv")["cpu_s"],
        }
        (into / "cost.json").write_text(json.dumps(costs))
    cells = pd.read_parquet(into / "cohort_cells.parquet")
    cells["authors"] = np.concatenate(
        [
            pd.read_parquet(work / f"{name}.authors.parquet")["authors"].loc[part["barcode"]].to_numpy()
            for name, part in cells.groupby("sample", sort=False)
        ]
    )
    by_sample = pd.crosstab(cells["spikgpt_cluster"], cells["sample"])
    known = cells[~cells["authors"].isin(NO_LABEL)]
    if (known["authors"] == "T/NK").any():
        known = known.assign(authors=known["authors"].replace(SHARED))
    by_label = pd.crosstab(known["spikgpt_cluster"], known["authors"])
    scores = read_tsv(into / "batch_mixing.tsv").set_index(["embedding", "cell_type"])
    decided = read_tsv(into / "integration.tsv").iloc[0]
    shown = "Harmony" if decided["used"] == "harmony" else "scGPT"
    return {
        "used": decided["used"],
        "reason": decided["reason"],
        "mixing": float(decided["mixing_after" if decided["used"] == "harmony" else "mixing_before"]),
        **{name: float(scores.at[(shown, "all"), name]) for name in ("ilisi", "kbet_acceptance", "clisi")},
        "clusters": len(by_sample),
        "of_one_sample": int((by_sample.max(axis=1) >= ONE_SAMPLE * by_sample.sum(axis=1)).sum()),
        "labels": len(set(known["authors"])),
        "purity": float(by_label.max(axis=1).sum() / by_label.to_numpy().sum()),
        "adjusted_rand": float(adjusted_rand_score(known["authors"], known["spikgpt_cluster"])),
        "cells": len(cells),
        "cpu_s": json.loads((into / "cost.json").read_text()),
    }


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", required=True, type=Path, help="folder of the h5ad files")
    made.add_argument("--work", required=True, type=Path, help="folder for the files between")
    made.add_argument("--json", required=True, type=Path, help="file for the figures")
    given = made.parse_args()
    found = []
    for name, files in SETS.items():
        samples: list[str] = []
        for file, column in files:
            for sample, cells in parts(given.data, file, column).items():
                prepare(given.work, sample, cells, name.startswith(BLOOD))
                samples.append(sample)
        runs = {asked: cohort(given.work.resolve(), sorted(samples), asked) for asked in ("none", "auto")}
        found.append({"set": name, "samples": sorted(samples), "runs": runs})
    figures = {"machine": machine(), "harmonypy": version("harmonypy"), "one_sample": ONE_SAMPLE, "sets": found}
    given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
