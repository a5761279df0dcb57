"""Which rows of a matrix are human genes, and which columns of its tables name them."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from spikgpt.base import genes as gene_names
from spikgpt.base.errors import UserError

GENE_EXPRESSION = "Gene Expression"
HUMAN_GENOME = re.compile(r"(?i)^(grch|hg\d|human|homo|t2t|chm13)")
GENOME_PREFIX = re.compile(r"^(?P<genome>[A-Za-z][A-Za-z0-9.-]*?)_+(?=ENS[A-Z]*G\d{11})")
"""Cell Ranger's way to name the genes of several genomes: `hg19_ENSG...`, `mm10___ENSMUSG...`."""


# --- 10x: a matrix, barcodes, features; many species and kinds of feature ---------------------------


def gene_expression_only(
    ids: list[str],
    names: list[str],
    types: Sequence[str] | None,
    genomes: Sequence[str] | None,
    where: str,
) -> tuple[np.ndarray | None, list[str], list[str], dict[str, int], list[str]]:
    """Keep the features that are genes, and of several genomes the human one.

    Returns
    -------
    chosen, ids, names, left_out, messages
        `chosen` are the columns that are kept, None for all; `left_out` counts the features of every other kind,
        such as ``{"Antibody Capture": 17}``.
    """
    messages: list[str] = []
    kinds = list(types) if types is not None else [GENE_EXPRESSION] * len(ids)
    is_gene = np.array([kind == GENE_EXPRESSION for kind in kinds], dtype=bool)
    left_out = dict(sorted(Counter(kind for kind in kinds if kind != GENE_EXPRESSION).items()))
    if not is_gene.any():
        raise UserError(
            "The matrix holds no gene expression.",
            where=where,
            found=", ".join(f"{number} features of type {kind}" for kind, number in left_out.items()),
            expected=f"features of type {GENE_EXPRESSION}",
            fix="Give the gene expression matrix of this sample; antibody or CRISPR counts alone cannot be annotated.",
        )
    prefixes = [m["genome"] if (m := GENOME_PREFIX.match(i)) else "" for i in ids]
    genome_of = list(genomes) if genomes is not None else prefixes
    present = sorted({g for g, gene in zip(genome_of, is_gene, strict=True) if gene and g})
    keep = is_gene
    if len(present) > 1:
        human = [genome for genome in present if HUMAN_GENOME.match(genome)]
        if len(human) != 1:
            raise UserError(
                "The matrix holds several genomes, and which one is human cannot be told.",
                where=where,
                found=", ".join(present),
                expected="one genome whose name begins with GRCh, hg, human or T2T",
                fix="Give a matrix with the human genes only.",
            )
        keep = is_gene & np.array([genome == human[0] for genome in genome_of], dtype=bool)
        for genome in present:
            if genome != human[0]:
                number = int(sum(g == genome for g, gene in zip(genome_of, is_gene, strict=True) if gene))
                left_out[f"{GENE_EXPRESSION} ({genome})"] = number
        messages.append(f"The matrix holds the genomes {', '.join(present)}; only {human[0]} goes on.")
    chosen = np.flatnonzero(keep)

    def bare(name: str, genome: str) -> str:
        # Cell Ranger puts the genome before ids and symbols where a reference has several
        return re.sub(rf"^{re.escape(genome)}_+", "", name) if genome else name

    prefix = genome_of if any(prefixes) or len(present) > 1 else [""] * len(ids)
    ids = [bare(ids[i], prefix[i]) for i in chosen]
    names = [bare(names[i], prefix[i]) for i in chosen]
    if left_out:
        told = ", ".join(f"{number} {kind}" for kind, number in left_out.items())
        messages.append(f"Left out, as they are not human gene expression: {told}.")
    return chosen if len(chosen) < len(kinds) else None, ids, names, left_out, messages


def symbol_column(var: pd.DataFrame, symbol_col: str | None, where: str) -> tuple[list[str], str]:
    """The column of var that names the genes, and what to call it.

    The index, unless it holds Ensembl ids or nothing known while a column holds more known names.
    """
    index = [str(name) for name in var.index]
    if symbol_col and symbol_col != "index":
        return _given_column(var, symbol_col, "symbol_col", where), f"var column {symbol_col}"
    if symbol_col == "index":
        return index, "var index"
    if not gene_names.looks_like_ids(index) and gene_names.known_share(index) >= 0.5:
        return index, "var index"
    best, share, place = index, gene_names.known_share(index), "var index"
    if gene_names.looks_like_ids(index):
        share = 0.3  # symbols are worth more than ids that a table must translate
    for column in var.columns:
        if var[column].dtype.kind in "OSUT" or isinstance(var[column].dtype, pd.CategoricalDtype | pd.StringDtype):
            values = var[column].astype(str).tolist()
            known = gene_names.known_share(values)
            if known > share and not gene_names.looks_like_ids(values):
                best, share, place = values, known, f"var column {column}"
    return best, place


def id_column(var: pd.DataFrame, geneid_col: str | None, where: str) -> list[str] | None:
    """The column of var (or its index) that holds Ensembl ids; None when there is none."""
    if geneid_col and geneid_col != "index":
        return _given_column(var, geneid_col, "geneid_col", where)
    candidates = {"index": [str(name) for name in var.index]}
    for column in var.columns:
        if var[column].dtype.kind in "OSUT" or isinstance(var[column].dtype, pd.CategoricalDtype | pd.StringDtype):
            candidates[str(column)] = var[column].astype(str).tolist()
    return next(
        (v for v in candidates.values() if gene_names.looks_like_ids([GENOME_PREFIX.sub("", i) for i in v])), None
    )


def _given_column(var: pd.DataFrame, column: str, parameter: str, where: str) -> list[str]:
    if column not in var:
        raise UserError(
            f"var has no column {column!r}.",
            where=where,
            found=f"columns {', '.join(map(str, var.columns)) or 'none'}, and the index",
            expected=f"{parameter}: one of these, or index",
            fix=f"Correct {parameter} in the samplesheet.",
        )
    return [str(value) for value in var[column]]


# --- loom and text ----------------------------------------------------------------------------------
