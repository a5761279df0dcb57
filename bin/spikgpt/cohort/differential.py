"""Genes that differ between two conditions within each type: PyDESeq2 on the counts of donors or samples."""

import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from pydeseq2.dds import DeseqDataSet
from pydeseq2.default_inference import DefaultInference
from pydeseq2.ds import DeseqStats

from spikgpt import UNKNOWN
from spikgpt.base.h5ad import MEASURED
from spikgpt.cohort.contrast import DIFFERENTIAL_COLUMNS, FDR, FEWEST, MIN_CELLS, MIN_COUNTS


@dataclass
class Differential:
    """`table` with `DIFFERENTIAL_COLUMNS`, and `types`: for each one that could be tested the replicates of each group,
    whether donors are paired, genes that were tested, and how many are higher and lower; `messages` for the reader."""

    table: pd.DataFrame
    types: list[dict[str, Any]]
    messages: list[str] = field(default_factory=list)


def _replicates(sheet: pd.DataFrame, of: str) -> pd.DataFrame:
    """Group and donor of each replicate, and the rows of the pseudobulk that it sums."""
    rows = sheet.groupby(["group", of], sort=True).indices
    return pd.DataFrame(
        [(group, name, at) for (group, name), at in rows.items()], columns=["group", "replicate", "rows"]
    )


def _design(found: pd.DataFrame, paired: bool) -> tuple[str, pd.DataFrame]:
    """Formula and metadata in names of our own: those of users may be anything."""
    numbers = {name: f"r{at}" for at, name in enumerate(sorted(set(found["replicate"])))}
    metadata = pd.DataFrame(
        {"group": found["group"].to_numpy(), "replicate": found["replicate"].map(numbers).to_numpy()},
        index=[f"s{at}" for at in range(len(found))],
    )
    return ("~replicate + group" if paired else "~group"), metadata


def _tested(counts: pd.DataFrame, formula: str, metadata: pd.DataFrame) -> pd.DataFrame:
    """DESeq2's Wald test of treated against control, on one core."""
    inference = DefaultInference(n_cpus=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = DeseqDataSet(counts=counts, metadata=metadata, design=formula, inference=inference, quiet=True)
        data.deseq2()
        results = DeseqStats(data, contrast=["group", "treated", "control"], inference=inference, quiet=True)
        results.summary()
    for warning in {str(entry.message) for entry in caught}:
        print(f"PyDESeq2: {warning}", file=sys.stderr)
    return results.results_df


def differential_expression(pseudobulk: str | Path, column: str, treated: str, control: str) -> Differential:
    """Test every type's genes for a difference between two groups of samples.

    Counts of a donor's samples of one group are added up where every sample names a donor, otherwise samples are the
    replicates. Donors with both groups enter the design, so that each is compared with itself. Genes that not all of
    the samples measured are not tested. `Unknown` cells are of no one type, and are not compared.

    Parameters
    ----------
    pseudobulk
        `pseudobulk.h5ad` of `spikgpt.cohort.pseudobulk.write_pseudobulk`.
    column
        Column of its `obs` that tells the groups.
    treated, control
        The two values; a fold change above 0 is higher in `treated`.

    Returns
    -------
    See `Differential`. Types by name, genes by p-value; fdr is Benjamini and Hochberg's within the type, empty where
    DESeq2's independent filtering or Cook's distance took the gene out.
    """
    data = ad.read_h5ad(pseudobulk)
    sheet = data.obs.astype({name: str for name in ("cell_type", "sample", "donor", column)})
    sheet["group"] = sheet[column].map({treated: "treated", control: "control"})
    compared = sheet["group"].notna()
    of = "donor" if column != "donor" and (sheet.loc[compared, "donor"] != "").all() else "sample"
    messages, types, tables = [], [], []
    if of == "sample":
        messages.append(
            "Expression was compared with samples as replicates: if some are of one donor, p-values are too small."
        )
    for name in sorted(set(sheet.loc[compared, "cell_type"]) - {UNKNOWN}):
        chosen = np.flatnonzero(compared & (sheet["cell_type"] == name) & (sheet["cells"] >= MIN_CELLS))
        own = sheet.iloc[chosen]
        found = _replicates(own, of)
        sizes = {group: int((found["group"] == group).sum()) for group in ("treated", "control")}
        paired = bool(found.duplicated("replicate").any())
        parameters = found["replicate"].nunique() + 1 if paired else 2
        if min(sizes.values()) < FEWEST or len(found) <= parameters:
            messages.append(
                f"Expression of {name} was not compared: {sizes['treated']} {of}s of {treated} and {sizes['control']} "
                f"of {control} with at least {MIN_CELLS} cells are too few."
            )
            continue
        measured = data.varm[MEASURED][sorted(set(own["sample"]))].to_numpy(dtype=bool).all(axis=1)
        sums = np.stack([np.asarray(data.X[chosen[rows]].sum(axis=0)).ravel() for rows in found["rows"]])
        genes = measured & ((sums >= MIN_COUNTS).sum(axis=0) >= min(sizes.values()))
        if not (sums[:, genes] > 0).all(axis=0).any():
            messages.append(f"Expression of {name} was not compared: no gene has counts in every {of}.")
            continue
        formula, metadata = _design(found, paired)
        counts = pd.DataFrame(sums[:, genes], index=metadata.index, columns=data.var_names[genes])
        results = _tested(counts, formula, metadata)
        table = pd.DataFrame(
            {
                "cell_type": name,
                "gene": counts.columns,
                "gene_id": data.var["gene_id"].astype(str).to_numpy()[genes],
                **{
                    ours: results[theirs].to_numpy()
                    for ours, theirs in zip(
                        DIFFERENTIAL_COLUMNS[3:],
                        ("baseMean", "log2FoldChange", "lfcSE", "stat", "pvalue", "padj"),
                        strict=True,
                    )
                },
            }
        ).sort_values(["p_value", "gene"], kind="stable")
        tables.append(table)
        significant = table["fdr"] <= FDR
        types.append(
            {
                "cell_type": name,
                **sizes,
                "replicates": of,
                "paired": paired,
                "genes": len(table),
                "higher": int((significant & (table["log2_fold_change"] > 0)).sum()),
                "lower": int((significant & (table["log2_fold_change"] < 0)).sum()),
            }
        )
    empty = pd.DataFrame(columns=list(DIFFERENTIAL_COLUMNS))
    return Differential(pd.concat(tables, ignore_index=True) if tables else empty, types, messages)
