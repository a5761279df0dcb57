"""The import of a sample: read, check the genes against the model, tell what was found."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from spikgpt.base.errors import UserError
from spikgpt.base.genes import check_match, vocabulary
from spikgpt.base.h5ad import OTHER_COUNTS, cell_frame, gene_frame, new_h5ad, write_csr, write_frame
from spikgpt.base.species import SPECIES
from spikgpt.read_input.matrix import Matrix, open_matrix
from spikgpt.read_input.proteins import write_proteins
from spikgpt.read_input.sanity import check_genes


def match_stats(
    matrix: Matrix, gene_totals: np.ndarray, vocab: frozenset[str], min_gene_match: float, where: str
) -> dict[str, Any]:
    """Check that a matrix's genes are those of the model.

    Parameters
    ----------
    gene_totals
        Counts per gene over all cells; shape (genes,).

    Returns
    -------
    The keys of the import's JSON that both samples and references share.
    """
    match = check_match(matrix.symbols, matrix.gene_ids, gene_totals, vocab, min_gene_match, where, matrix.orthologs)
    panel, warnings = check_genes(matrix.symbols, gene_totals, where, matrix.species)
    matrix.warnings += warnings
    mapped = _mapped(matrix, gene_totals)
    if mapped:
        matrix.messages.append(
            f"The embedding reads the genes that are the one ortholog of a human gene: {mapped['ortholog_genes']:.1%} "
            f"of the genes with a count, {mapped['ortholog_counts']:.1%} of the counts. All else is looked at in the "
            f"{SPECIES[matrix.species].spoken} genes."
        )
    return {
        "species": matrix.species,
        **mapped,
        "format": matrix.format,
        "barcodes": len(matrix.barcodes),
        "genes": len(matrix.symbols),
        "counts_from": matrix.counts_from,
        "symbols_from": matrix.symbols_from,
        "feature_types_left_out": matrix.feature_types_left_out,
        "counts_left_out": matrix.counts_left_out,
        "gene_match_genes": round(match.genes, 6),
        "gene_match_counts": round(match.counts, 6),
        "gene_match_vocabulary": round(match.vocabulary, 6),
        "usual_genes": panel,
    }


def _mapped(matrix: Matrix, gene_totals: np.ndarray) -> dict[str, float]:
    """Of another species than human: the share of the genes with a count, and of the counts, that are on the one
    ortholog of a human gene."""
    if matrix.orthologs is None:
        return {}
    mapped = np.array([name != "" for name in matrix.orthologs], dtype=bool)
    seen = gene_totals > 0
    return {
        "ortholog_genes": round(float(mapped[seen].mean()), 6) if seen.any() else 0.0,
        "ortholog_counts": round(float(gene_totals[mapped].sum()) / max(float(gene_totals.sum()), 1.0), 6),
    }


def import_counts(
    sample: str,
    path: str | Path,
    out: str | Path,
    scgpt_model: str | Path,
    min_gene_match: float,
    filtered: bool,
    symbol_col: str | None = None,
    geneid_col: str | None = None,
    counts_layer: str | None = None,
    proteins: str | Path | None = None,
    species: str | None = None,
) -> dict[str, Any]:
    """Write one sample's raw counts, a block of cells at a time, and give the statistics of its import.

    Barcodes without a single count are dropped from an unfiltered matrix (Cell Ranger lists millions of
    them); `barcodes` counts them, `barcodes_without_counts` says how many they were.

    Parameters
    ----------
    out
        The h5ad to write: X int32 CSR (cells x genes); obs index barcode, for a matrix of several genomes with
        `spikgpt.base.h5ad.OTHER_COUNTS`; var as `spikgpt.base.h5ad.gene_frame`.
    proteins
        The h5ad to write where the file has counts of antibodies or hashtags, see `write_proteins`.
    species
        The value of --species; None to go by the genes.

    Returns
    -------
    Content of `{sample}.import.json`; `counts_sha256` is of genes and counts alone, whatever the cells are called.
    """
    if not 0 <= min_gene_match <= 1:
        raise UserError(
            "min_gene_match is out of range.",
            where="--min_gene_match",
            found=str(min_gene_match),
            expected="0 to 1",
            fix="Leave it out, or give a share of genes.",
        )
    vocab = vocabulary(scgpt_model)
    with open_matrix(path, vocab, symbol_col, geneid_col, counts_layer, filtered, species) as matrix:
        gene_totals = np.zeros(len(matrix.symbols), dtype=np.int64)
        counted: list[np.ndarray] = []
        digests = [hashlib.sha256("\n".join(matrix.symbols).encode()) for _ in range(3)]

        def blocks() -> Iterator[sparse.csr_matrix]:
            for block in matrix.blocks():
                gene_totals[:] += np.asarray(block.sum(axis=0, dtype=np.int64)).ravel()
                has_counts = np.diff(block.indptr) > 0
                counted.append(has_counts)
                block.sort_indices()
                for digest, part in zip(digests, (block.data, block.indices, np.diff(block.indptr)), strict=True):
                    digest.update(part.astype("<i4").tobytes())
                yield block if filtered or has_counts.all() else block[has_counts]

        with new_h5ad(out) as file:
            write_csr(file, "X", blocks(), len(matrix.symbols), np.int32, matrix.values)
            stats = match_stats(matrix, gene_totals, vocab, min_gene_match, str(path))
            has_counts = np.concatenate(counted)
            kept = np.ones_like(has_counts) if filtered else has_counts
            obs = cell_frame(matrix.barcodes[kept])
            if matrix.other_counts:
                obs[OTHER_COUNTS] = np.concatenate(matrix.other_counts)[kept]
            write_frame(file, "obs", obs)
            write_frame(file, "var", gene_frame(matrix.symbols, matrix.gene_ids, matrix.orthologs))
        if proteins is not None:
            matrix.messages += write_proteins(matrix.read, matrix.barcodes, kept, proteins)
        return {
            "sample": sample,
            "filtered": filtered,
            **stats,
            "barcodes_without_counts": int((~has_counts).sum()),
            "counts_sha256": hashlib.sha256("".join(digest.hexdigest() for digest in digests).encode()).hexdigest(),
            "messages": matrix.messages,
            "warnings": matrix.warnings,
        }
