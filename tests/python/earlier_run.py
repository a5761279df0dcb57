"""Results of an earlier run as `--teach` finds them: a table of unknown populations, and annotated files beside it."""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

ROW = {
    "cluster": "7", "name": "", "unknown_cells": "0", "unknown_percent": "100", "cells_per_sample": "", "probably": "",
    "qc_flags": "nearly all cells from one sample",
}  # fmt: skip


def write_run(folder: Path, annotator, samples: dict[str, tuple], populations: dict[str, np.ndarray], **row) -> Path:
    """Annotate samples and write them as a run does; gives the table's path.

    Parameters
    ----------
    samples
        Name to counts (cells, genes), genes, embedding and barcodes.
    populations
        Cluster to barcodes of its cells; all others are in cluster 0.
    row
        Fields of every row of the table, in place of what the run would say.
    """
    (folder / "annotated").mkdir(parents=True)
    (folder / "tables").mkdir()
    unknown: dict[str, dict[str, int]] = {name: {} for name in populations}
    for sample, (counts, genes, embedding, barcodes) in samples.items():
        table, _ = annotator.annotate(counts, genes, embedding, list(barcodes), annotator.config["unknown_rate"])
        cluster = np.full(len(table), "0", dtype=object)
        for name, cells in populations.items():
            inside = np.isin(barcodes, cells)
            cluster[inside] = name
            if inside.any():
                unknown[name][sample] = int((table["spikgpt_cell_type"][inside] == "Unknown").sum())
        table["spikgpt_cluster"] = cluster
        ad.AnnData(
            sp.csr_matrix(counts, dtype=np.float32),
            obs=table.drop(columns="barcode").set_index(pd.Index(list(barcodes))),
            var=pd.DataFrame(index=genes),
            layers={"counts": sp.csr_matrix(counts).astype(np.int32)},
            obsm={"X_scGPT": embedding},
            uns={"spikgpt": {"annotator_sha256": annotator.config["digest"]}},
        ).write_h5ad(folder / "annotated" / f"{sample}.h5ad")
    rows = [
        ROW
        | {
            "cluster": name,
            "unknown_cells": str(sum(found.values())),
            "cells_per_sample": ", ".join(f"{sample}={number}" for sample, number in found.items()),
        }
        | row
        for name, found in unknown.items()
    ]
    path = folder / "tables" / "unknown_populations.tsv"
    pd.DataFrame(rows).to_csv(path, sep="\t", index=False)
    return path


def named(table: Path, **names: str) -> Path:
    """Write names into the table, by cluster (``c7="alpha"``)."""
    rows = pd.read_csv(table, sep="\t", dtype=str, keep_default_na=False)
    for cluster, name in names.items():
        rows.loc[rows["cluster"] == cluster.removeprefix("c"), "name"] = name
    rows.to_csv(table, sep="\t", index=False)
    return table
