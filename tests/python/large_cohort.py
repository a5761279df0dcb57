"""Inputs of the report for many samples and cells, without the run: what the steps' files would hold.

    PYTHONPATH=bin:tests/python python tests/python/large_cohort.py --samples 200 --cells 5000 --out FOLDER

writes them for 200 samples of 5,000 cells, and prints the arguments for bin/make_report.py.
"""

import argparse
import json
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
from no_opinions import SILENT, UNCOMPARED
from spikgpt.base.columns import REASON_NAMES
from spikgpt.base.tsv import write_tsv
from spikgpt.cohort.evidence import evidence_table
from spikgpt.cohort.tables import removed_by_type
from test_cohort import ODD, RUN

CELL_TYPES = [ODD, 'T cell, "naive"', "<img src=x onerror=alert(1)>", "Zellen größer 5 µm 細胞", *(
    f"type {at:02d}" for at in range(36)
)]  # fmt: skip


def write_large(folder: Path, *, samples: int, cells: int) -> dict[str, object]:
    """Write the inputs of `read_inputs` for so many samples of so many cells; its arguments by name.

    A tenth of the cells is Unknown, and every sample lost 30 cells.
    """
    stats, qc, tables = (folder / name for name in ("stats", "qc", "tables"))
    for path in (stats, qc, tables):
        path.mkdir(parents=True)
    rng = np.random.default_rng(0)
    names, total = [f"sample_{at:03d}" for at in range(samples)], samples * cells
    kind = rng.integers(0, len(CELL_TYPES), total)
    best = np.array(CELL_TYPES, dtype=object)[kind]
    unknown = rng.random(total) < 0.1
    table = pd.DataFrame(
        {
            "sample": np.repeat(names, cells),
            "barcode": [f"BC{at:08d}-1" for at in range(total)],
            "batch": np.repeat([f"run {at % 9}" for at in range(samples)], cells),
            "donor": np.repeat([f'd"{at % 30}' for at in range(samples)], cells),
            "condition": np.repeat([("<b>ctrl</b>", "stim, 6 h")[at % 2] for at in range(samples)], cells),
            "n_genes_by_counts": rng.integers(500, 5000, total),
            "total_counts": rng.integers(1000, 20000, total),
            "pct_counts_mt": rng.random(total) * 10,
            "doublet_score": rng.random(total),
            "predicted_doublet": False,
            "spikgpt_cell_type": np.where(unknown, "Unknown", best),
            "spikgpt_best_match": best,
            "spikgpt_confidence": rng.beta(8, 1, total),
            "spikgpt_p_value": np.where(unknown, rng.random(total) * 0.05, 0.05 + 0.95 * rng.random(total)),
            "spikgpt_unknown_reason": np.where(unknown, np.array(REASON_NAMES)[kind % 4], ""),
            "cell_type_ontology_term_id": "unknown",
            "spikgpt_level_cell_type": np.where(unknown, "Unknown", best),
            "spikgpt_level_term_id": "unknown",
            "spikgpt_level": np.where(unknown, "", "leaf"),
            "spikgpt_label_set": best,
            "spikgpt_agreement": rng.integers(0, 3, total) / 2,
            "spikgpt_judge_embedding": best,
            "spikgpt_judge_expression": best,
            "spikgpt_judge_regression": "",
            "spikgpt_judge_celltypist": "",
            "spikgpt_second_opinion": np.where(kind % 3 == 0, "T cell", ""),
            "spikgpt_second_opinion_score": rng.random(total),
            "spikgpt_cluster": kind.astype(str),
            "spikgpt_cluster_cell_type": best,
        }
    )
    write_tsv(tables / "cells.tsv.gz", table)
    places = table[["sample", "barcode"]].assign(
        umap_1=(kind % 7 * 4 + rng.normal(size=total)).astype(np.float32),
        umap_2=(kind // 7 * 4 + rng.normal(size=total)).astype(np.float32),
    )
    places.to_parquet(tables / "cohort_cells.parquet", index=False)
    # no marker was looked for: that is the largest part of the table and the same for any number of cells
    write_tsv(tables / "evidence.tsv", evidence_table(table, {}, 0.05, SILENT, UNCOMPARED, {}))
    removed = pd.DataFrame([(s, f"gone_{at}", ("min_genes", "pct_counts_mt", "predicted_doublet")[at % 3])
                            for s in names for at in range(30)], columns=["sample", "barcode", "reason"])  # fmt: skip
    removed["nearest_type"] = [f"type {at % 40}" for at in range(len(removed))]
    write_tsv(tables / "removed_cells.tsv.gz", removed)
    write_tsv(tables / "removed_by_type.tsv", removed_by_type(table, removed))
    rank = np.unique(np.geomspace(1, 100_000, 200).astype(int))
    curve = [{"rank": int(r), "umis": int(20_000 / (1 + (r / 4000) ** 3)) + 1} for r in rank]
    for at, sample in enumerate(names):
        called = cells + 30
        facts = {
            "import": {"barcodes": 100_000 + called, "gene_match_counts": 0.8, "messages": []},
            "called": {"cells": called, "knee": curve, "messages": []},
            "doublets": {"run": True, "expected_rate": 0.04, "threshold": 0.3, "predicted": 10,
                         "predicted_rate": 10 / called, "messages": []},
            "000000000.embedding": {"start": 0, "end": cells, "scgpt_sha256": "ab" * 32, "scgpt_name": "scgpt-mini",
                                    "bundled": True, "truncated_cells": 3, "cells_without_genes": 0},
            "annotation": {"tissue_warning": None},
        }  # fmt: skip
        for step, content in facts.items():
            (stats / f"{sample}.{step}.json").write_text(json.dumps({"sample": sample, **content}))
        metrics = {"barcode": table["barcode"].iloc[at * cells : (at + 1) * cells].to_numpy()}
        for metric, most in (("n_genes_by_counts", 5000), ("total_counts", 20_000), ("pct_counts_mt", 10),
                             ("pct_counts_ribo", 30), ("pct_counts_hb", 1)):  # fmt: skip
            metrics[metric] = rng.random(cells) * most
        pd.DataFrame(metrics).to_parquet(qc / f"{sample}.qc.parquet", index=False)
    (folder / "samples.json").write_text(json.dumps([{"sample": s} for s in names]))
    (folder / "run.json").write_text(json.dumps(RUN))
    return {
        "samples": folder / "samples.json",
        "run": folder / "run.json",
        "stats": sorted(stats.iterdir()),
        "tables": tables,
        "qc": sorted(qc.iterdir()),
    }


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--samples", type=int, required=True)
    args.add_argument("--cells", type=int, required=True, help="of each sample")
    args.add_argument("--out", type=Path, required=True, help="new folder")
    options = args.parse_args()
    for name, value in write_large(options.out, samples=options.samples, cells=options.cells).items():
        print(f"--{name}", shlex.join(map(str, value if isinstance(value, list) else [value])))


if __name__ == "__main__":
    main()
