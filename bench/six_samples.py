#!/usr/bin/env python3
"""Six samples of blood by two checkouts of the pipeline, side by side: clusters, batches, labels, report, CPU.

    git worktree add OTHER 70e9431
    bench/six_samples.py --data FOLDER --checkouts 70e9431=OTHER now=. --work DIR --json six_samples.json

Four samples of four chemistries, and Kang's control and stimulated cells of a fifth; at most 500 cells of each, every
n-th. Each checkout runs with its own defaults and bundled annotator, in the active environment. Where DIR has a
checkout's results already they are read again.
"""

import argparse
import html
import json
import re
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from library.measure import machine
from resources import cpu_seconds, processes

CELLS = 500
FILES = ("frozen_pbmc_donorA", "pbmc1k_v2", "pbmc1k_v3", "pbmc8k5p_1k")
KANG = "kang_ifnb2k"
ONE_SAMPLE = 0.9
"""A cluster is of one sample where this share of its cells is."""
OF_A_SAMPLE = (
    "IMPORT_COUNTS", "QC_METRICS", "DETECT_DOUBLETS", "FILTER_CELLS", "NORMALISE", "EMBED_SCGPT", "SECOND_OPINION",
    "ANNOTATE", "CHOOSE_LABELS", "WRITE_SAMPLE",
)  # fmt: skip
"""Processes with a task for every sample; the others run once."""


def thin(cells: ad.AnnData) -> ad.AnnData:
    """At most `CELLS` of the cells, evenly spaced."""
    return cells[np.unique(np.linspace(0, cells.n_obs - 1, CELLS).astype(int))]


def write_samples(data: Path, work: Path) -> tuple[Path, pd.Series]:
    """The samples and their sheet; Kang's labels by sample and barcode."""
    parts = {name: thin(ad.read_h5ad(data / "pbmc_unlabelled_10x" / f"{name}.h5ad")) for name in FILES}
    kang = ad.read_h5ad(data / f"{KANG}.h5ad")
    for condition in ("CTRL", "STIM"):
        parts[f"kang_{condition}"] = thin(kang[kang.obs["batch"] == condition])
    lines, labels = ["sample,filtered,batch,condition"], []
    for name, cells in parts.items():
        path = (work / f"{name}.h5ad").resolve()
        ad.AnnData(cells.X, obs=cells.obs[[]], var=cells.var[[]]).write_h5ad(path)
        lines.append(f"{name},{path},{name},{name.split('_')[1].lower() if name.startswith('kang') else ''}")
        if name.startswith("kang"):
            labels.append(
                pd.Series(cells.obs["coarse"].astype(str).to_numpy(), [f"{name}:{b}" for b in cells.obs_names])
            )
    sheet = work / "samplesheet.csv"
    sheet.write_text("\n".join(lines) + "\n")
    return sheet.resolve(), pd.concat(labels)


def purity(clusters: pd.Series, labels: pd.Series) -> float:
    """Share of the cells that have the commonest label of their cluster."""
    counts = pd.crosstab(clusters, labels)
    return float(counts.max(axis=1).sum() / counts.to_numpy().sum())


def first_screen(report: str) -> list[str]:
    """The sentences of the report's summary and warnings, as text."""
    found: list[str] = []
    for section in ("spikgpt_overview", "spikgpt_warnings"):
        body = re.search(
            rf'id="mqc-section-wrapper-{section}".*?(?=<div[^>]*id="mqc-section-wrapper-|\Z)', report, re.S
        )
        for item in re.findall(r"<(li|p)\b[^>]*>(.*?)</\1>", body[0], re.S) if body else []:
            words = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", item[1])).split())
            found += [words] if words else []
    return found


def figures(results: Path, authors: pd.Series) -> dict:
    """What a run's results say."""
    cells = pd.read_csv(results / "tables/cells.tsv.gz", sep="\t", dtype=str, keep_default_na=False)
    cells.index = pd.Index(cells["sample"] + ":" + cells["barcode"])
    by_sample = pd.crosstab(cells["spikgpt_cluster"], cells["sample"])
    mixing = pd.read_csv(results / "tables/batch_mixing.tsv", sep="\t")
    embedding = "scGPT"
    decision = results / "tables/integration.tsv"
    if decision.is_file() and pd.read_csv(decision, sep="\t")["used"].iloc[0] == "harmony":
        embedding = "Harmony"
    ilisi = mixing.set_index(["embedding", "cell_type"]).at[(embedding, "all"), "ilisi"]
    kang = authors.index.intersection(cells.index)
    known = kang[~authors[kang].isin(["unassigned", "?", "nan"])]
    (report,) = results.glob("multiqc/multiqc_report.html")
    rows = processes(results / "pipeline_info/trace.tsv")
    own = [row for row in rows if row["process"] in OF_A_SAMPLE]
    samples = cells["sample"].nunique()
    return {
        "cells": len(cells), "samples": samples, "clusters_on": embedding, "clusters": len(by_sample),
        "of_one_sample": int((by_sample.max(axis=1) >= ONE_SAMPLE * by_sample.sum(axis=1)).sum()),
        "ilisi": float(ilisi),
        "purity": purity(cells["spikgpt_cluster"], cells["spikgpt_best_match"]),
        "purity_authors": purity(cells.loc[known, "spikgpt_cluster"], authors[known]),
        "unknown": float((cells["spikgpt_cell_type"] == "Unknown").mean()),
        "report_bytes": report.stat().st_size,
        "first_screen": first_screen(report.read_text(encoding="utf-8")),
        "cpu_s_of_a_sample": round(cpu_seconds(own) / samples, 1),
        "cpu_s_of_the_run": round(cpu_seconds([row for row in rows if row not in own]), 1),
        "processes": rows,
    }  # fmt: skip


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", required=True, type=Path, help="folder of the h5ad files")
    made.add_argument("--checkouts", nargs="+", required=True, help="NAME=FOLDER of each checkout, in turn")
    made.add_argument("--work", required=True, type=Path)
    made.add_argument("--json", required=True, type=Path)
    given = made.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    sheet, authors = write_samples(given.data, given.work)
    runs = []
    for name, checkout in (word.split("=", 1) for word in given.checkouts):
        folder = given.work / name
        if not (folder / "results/multiqc/multiqc_report.html").is_file():
            folder.mkdir(exist_ok=True)
            subprocess.run(
                ["nextflow", "run", Path(checkout).resolve(), "-ansi-log", "false", "-profile", "local,test", "-resume",
                 "--input", sheet, "--outdir", "results"],
                cwd=folder, check=True, stdout=sys.stderr,
            )  # fmt: skip
        runs.append({"checkout": name, **figures(folder / "results", authors)})
    given.json.write_text(json.dumps({"machine": machine(), "cells": CELLS, "runs": runs}, indent=2) + "\n")


if __name__ == "__main__":
    main()
