"""The h5ad files between the steps: how they are written, and the columns their cells carry."""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

QC_COLUMNS = (
    "n_genes_by_counts", "total_counts", "pct_counts_mt", "pct_counts_ribo", "pct_counts_hb",
    "pct_counts_in_top_20_genes",
)  # fmt: skip
SHEET_COLUMNS = ("sample", "batch", "donor", "condition")
MESSAGES = "messages"
"""Key of `uns` in the reference's h5ad: what its import told, for the annotator's model card."""


def count_data(counts: sparse.csr_matrix, barcodes: np.ndarray, symbols: list[str], gene_ids: list[str]) -> ad.AnnData:
    """AnnData of raw counts: X int32 CSR (cells x genes), obs index barcode, var index symbol and gene_id."""
    return ad.AnnData(
        X=counts,
        obs=pd.DataFrame(index=pd.Index(np.asarray(barcodes, dtype=object), name="barcode")),
        var=pd.DataFrame(
            {"gene_id": np.asarray(gene_ids, dtype=object)},
            index=pd.Index(symbols, dtype=object, name="gene"),
        ),
    )


def write_h5ad(adata: ad.AnnData, path: Path) -> None:
    """Write compressed, strings as they are: the same content gives the same bytes."""
    adata.write_h5ad(path, compression="gzip", compression_opts=1, convert_strings_to_categoricals=False)


def constant(value: str, rows: int) -> pd.Categorical:
    """A categorical column with the same value in every row."""
    return pd.Categorical.from_codes(np.zeros(rows, dtype=np.int8), categories=pd.Index([value], dtype=object))
