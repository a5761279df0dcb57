"""Whether a matrix looks like gene expression of its species: the genes that every sample has, known names."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from spikgpt.base.errors import UserError
from spikgpt.base.gene_rows import UPPER_CASE_MOUSE, is_known
from spikgpt.base.genes import mitochondrial_genes, ribosomal_genes
from spikgpt.base.species import HUMAN, MOUSE, SPECIES, is_known_in

HLA = tuple(f"HLA-{name}" for name in ("A", "B", "C", "E", "DRA", "DRB1", "DPA1", "DPB1", "DQA1", "DQB1"))
HOUSEKEEPING = (
    "ACTB", "ACTG1", "B2M", "EEF1A1", "EEF2", "FAU", "FTH1", "FTL", "GAPDH", "HNRNPA1", "MALAT1", "NACA", "PABPC1",
    "PFN1", "PPIA", "PTMA", "RACK1", "TMSB10", "TMSB4X", "TPT1", "TUBA1B", "UBA52", "UBB", "UBC", "YBX1",
)  # fmt: skip
"""Genes with high counts in nearly every human cell."""
RIBOSOMAL = 80
"""Proteins of the ribosome, each of one gene or more."""

KNOWN_COUNTS = 0.8
"""A matrix with a smaller share of its counts on human genes is refused."""
MOST_KNOWN_COUNTS = 0.95
"""A smaller share is told. Nine human data sets have 99.3 % and more."""
TRANSCRIPTOME = 5000
"""A matrix of fewer genes is a panel, and need not have the usual ones."""
UPPER_CASE_GENES = 10
"""Names of mouse genes in upper case, from which they are no chance."""
MOST_OF_ONE = 0.5
"""Of all counts, on one gene or on the mitochondrial ones."""


def check_genes(
    symbols: Sequence[str],
    gene_totals: np.ndarray,
    where: str,
    species: str = HUMAN,
) -> tuple[dict[str, Any], list[str]]:
    """What the usual genes say of a matrix.

    Parameters
    ----------
    symbols, gene_totals
        Of each gene; counts over all cells, shape (genes,).
    species
        A key of `spikgpt.base.species.SPECIES`.

    Returns
    -------
    panel, warnings
        For each group of genes how many the matrix has, of how many where that is fixed, and their share of the counts;
        and `known_names`, the share of the counts on names that a table of the species' genes has. HLA is of humans.

    Raises
    ------
    UserError
        Less than `KNOWN_COUNTS` of the counts are on genes of the species.
    """
    total = max(float(gene_totals.sum()), 1.0)
    groups = {
        "mitochondrial": (mitochondrial_genes(symbols), 13),
        "ribosomal": (ribosomal_genes(symbols), RIBOSOMAL),
        "HLA": (np.isin(symbols, HLA), len(HLA)),
        "housekeeping": (np.isin(symbols, HOUSEKEEPING), len(HOUSEKEEPING)),
    }
    if species != HUMAN:
        # the same names in the other species, but for their case (Gapdh)
        upper = [symbol.upper() for symbol in symbols]
        groups["housekeeping"] = (np.isin(upper, HOUSEKEEPING), len(HOUSEKEEPING))
        del groups["HLA"]
    spoken = SPECIES[species].spoken
    panel: dict[str, Any] = {
        name: {"genes": int(chosen.sum()), "share": round(float(gene_totals[chosen].sum()) / total, 6)}
        for name, (chosen, _) in groups.items()
    }
    known = np.fromiter((is_known_in(name, species) for name in symbols), dtype=bool, count=len(symbols))
    panel["known_names"] = round(float(gene_totals[known].sum()) / total, 6)
    order = [row for row in np.argsort(-gene_totals, kind="stable") if not known[row] and gene_totals[row] > 0]
    shown = ", ".join(f"{symbols[row]} ({100 * gene_totals[row] / total:.2g} %)" for row in order[:5])
    if panel["known_names"] < KNOWN_COUNTS:
        raise UserError(
            f"Much of the counts is on rows that are not known as {spoken} genes.",
            where=where,
            found=f"{1 - panel['known_names']:.0%} of the counts on {len(order)} names that no table of "
            f"{spoken} genes has: {shown}",
            expected=f"at least {KNOWN_COUNTS:.0%} of the counts on {spoken} genes",
            fix="Leave out the rows that are not genes (antibodies, guides, spike-ins), or mark them in a column "
            f"feature_types; give genes by {spoken} symbols or Ensembl ids.",
        )
    warnings = []
    if panel["known_names"] < MOST_KNOWN_COUNTS:
        warnings.append(
            f"{1 - panel['known_names']:.1%} of the counts are on names that no table of {spoken} genes has, and "
            f"count as genes: {shown}"
        )
    if panel["mitochondrial"]["genes"] == 0:
        warnings.append(
            f"no mitochondrial gene ({'mt-' if species == MOUSE else 'MT-'}...) is in the matrix: the share of "
            "mitochondrial counts is 0 in every cell, and the filter on it does nothing"
        )
    elif panel["mitochondrial"]["share"] == 0:
        warnings.append("the mitochondrial genes have no counts: the filter on their share does nothing")
    elif panel["mitochondrial"]["share"] > MOST_OF_ONE:
        warnings.append(f"{panel['mitochondrial']['share']:.0%} of all counts are mitochondrial")
    if len(symbols) >= TRANSCRIPTOME:
        few = [
            f"{name} ({panel[name]['genes']} of {number})"
            for name, (_, number) in groups.items()
            if name != "mitochondrial" and 2 * panel[name]["genes"] < number
        ]
        if few:
            warnings.append(f"few of the genes that every {spoken} sample has are in the matrix: {', '.join(few)}")
    mouse = [symbol for symbol in symbols if UPPER_CASE_MOUSE.match(symbol) and not is_known(symbol)]
    if species == HUMAN and len(mouse) >= UPPER_CASE_GENES:
        warnings.append(
            f"{len(mouse)} names look like mouse genes in upper case ({', '.join(mouse[:3])}, ...): are these human "
            "cells?"
        )
    top = int(np.argmax(gene_totals))
    if gene_totals[top] > MOST_OF_ONE * total and len(symbols) >= TRANSCRIPTOME:
        warnings.append(f"{gene_totals[top] / total:.0%} of all counts are on one gene, {symbols[top]}")
    return panel, warnings
