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
from spikgpt.cohort.annotators import ANNOTATOR_COLUMNS
from spikgpt.cohort.batch_mixing import MIXING_COLUMNS
from spikgpt.cohort.comparison import AGREEMENT_COLUMNS, COMPARISON_COLUMNS
from spikgpt.cohort.conditions import compare_conditions, replicates
from spikgpt.cohort.contrast import DIFFERENTIAL_COLUMNS
from spikgpt.cohort.evidence import evidence_table
from spikgpt.cohort.expected_genes import EXPECTED_COLUMNS, SHOWN_COLUMNS
from spikgpt.cohort.integration import INTEGRATION_COLUMNS
from spikgpt.cohort.judges import judges_table
from spikgpt.cohort.levels import levels_table
from spikgpt.cohort.marker_expression import EXPRESSION_COLUMNS
from spikgpt.cohort.pseudobulk import pseudobulk_sheet
from spikgpt.cohort.tables import BOUND_COLUMNS, removed_by_type
from test_cohort import ODD, RUN

CELL_TYPES = [ODD, 'T cell, "naive"', "<img src=x onerror=alert(1)>", "Zellen größer 5 µm 細胞", *(
    f"type {at:02d}" for at in range(36)
)]  # fmt: skip


def write_large(folder: Path, *, samples: int, cells: int) -> dict[str, object]:
    """Write the inputs of `read_inputs` for so many samples of so many cells; its arguments by name.

    A tenth of the cells is Unknown, and every sample lost 30 cells. Every table that has rows for samples, types or
    clusters is there, with as many as so many samples and types give.
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
            "spikgpt_level_cell_type": np.where(
                unknown, "Unknown", np.where(kind % 5 == 0, "<i>level</i> above", best)
            ),
            "spikgpt_level_term_id": "unknown",
            "spikgpt_level": np.where(unknown, "", np.where(kind % 5 == 0, "ancestor 1", "leaf")),
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
    places["umap_1_unintegrated"], places["umap_2_unintegrated"] = places["umap_2"], places["umap_1"]
    places.to_parquet(tables / "cohort_cells.parquet", index=False)
    for name, made in further_tables(table, names).items():
        write_tsv(tables / name, made)
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
    (tables / "conditions.json").write_text(json.dumps({"messages": []}))
    told = [{"cell_type": name, "treated": 3, "control": 3, "replicates": "sample", "paired": False, "genes": 200,
             "higher": 50, "lower": 50} for name in CELL_TYPES]  # fmt: skip
    (tables / "differential_expression.json").write_text(
        json.dumps({"contrast": ["condition", "stim, 6 h", "<b>ctrl</b>"], "messages": [], "types": told})
    )
    (folder / "samples.json").write_text(json.dumps([{"sample": s} for s in names]))
    (folder / "run.json").write_text(json.dumps(RUN))
    return {
        "samples": folder / "samples.json",
        "run": folder / "run.json",
        "stats": sorted(stats.iterdir()),
        "tables": tables,
        "qc": sorted(qc.iterdir()),
    }


def further_tables(table: pd.DataFrame, names: list[str]) -> dict[str, pd.DataFrame]:
    """Tables of samples, types and clusters, with values that nothing was measured for."""
    rng = np.random.default_rng(1)
    genes = [f"GENE{at}" for at in range(3 * len(CELL_TYPES) + 20)]
    types = list(enumerate(CELL_TYPES))
    own = table.assign(own_label=table["spikgpt_best_match"] + " of theirs")
    pairs = own.groupby(["sample", "own_label", "spikgpt_cell_type"]).size().rename("cells").reset_index()
    compared = replicates(pseudobulk_sheet(table.drop(columns="barcode")))
    rules = ("min_genes", "log1p_total_counts", "log1p_n_genes_by_counts", "pct_counts_mt", "no_programme")
    bounds = [
        (sample, group, "LYZ, CD3D, X", 100, 90, rule, 3, "default", 3.0, 0.3, 2.0 + group, 40.0 - group, 3)
        for sample in names for group in (1, 2, 3) for rule in rules
    ]  # fmt: skip
    expressed = [
        (of, group, cell_type, 100, gene, "", 1.0, float(rng.integers(0, 100)))
        for of in ("cluster", "type")
        for at, cell_type in types
        for group in [str(at) if of == "cluster" else cell_type]
        for gene in genes
    ]
    shown = [
        (str(at), cell_type, "T cell", f"EXPECTED{gene}", float(rng.integers(0, 100)), 1500.0)
        for at, cell_type in types for gene in range(140)
    ]  # fmt: skip
    expected = [(str(at), 100, name, "T cell", "label", 7, 9, "supports", "CD3D", "", "", "") for at, name in types]
    mixing = [
        (embedding, name, 200, 9, 3, 0.4, 1.0, 0.3, np.nan)
        for embedding in ("scGPT", "Harmony") for name in ("all", *CELL_TYPES)
    ]  # fmt: skip
    changed = pd.DataFrame(
        [
            (name, f"GENE{at}", "", 10.0, float(rng.normal()), 0.3, 1.0, 0.01, 0.04)
            for name in CELL_TYPES for at in range(200)
        ],
        columns=list(DIFFERENTIAL_COLUMNS),
    )  # fmt: skip
    return {
        "levels.tsv": levels_table(table, None, []),
        "judges.tsv": judges_table(table),
        "annotators.tsv": pd.DataFrame(
            [(s, a, "yes", "yes", 0.9, 90, 0.9, "yes") for s in names for a in ("one", "two")],
            columns=ANNOTATOR_COLUMNS,
        ),
        "comparison.tsv": pairs.assign(relation="same").set_axis(list(COMPARISON_COLUMNS), axis=1),
        "agreement.tsv": pd.DataFrame([(s, 90, 9, 0, 81, 0.9, 0.8) for s in names], columns=AGREEMENT_COLUMNS),
        **({"conditions.tsv": compare_conditions(compared)[0]} if compared else {}),
        "qc_thresholds.tsv": pd.DataFrame(bounds, columns=BOUND_COLUMNS),
        "marker_expression.tsv": pd.DataFrame(expressed, columns=EXPRESSION_COLUMNS),
        "expected_genes.tsv": pd.DataFrame(expected, columns=EXPECTED_COLUMNS),
        "expected_genes_shown.tsv": pd.DataFrame(shown, columns=SHOWN_COLUMNS),
        "batch_mixing.tsv": pd.DataFrame(mixing, columns=MIXING_COLUMNS),
        "integration.tsv": pd.DataFrame(
            [("auto", "harmony", "batches part", 9, 0.1, 0.8, 0.9, 0.9)], columns=INTEGRATION_COLUMNS
        ),
        "differential_expression.tsv.gz": changed,
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
