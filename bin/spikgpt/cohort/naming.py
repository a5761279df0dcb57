"""The clusters' markers in the columns of Seurat's `FindAllMarkers`, which tools that name clusters read."""

import pandas as pd

SEURAT_COLUMNS = ("p_val", "avg_log2FC", "pct.1", "pct.2", "p_val_adj", "cluster", "gene")
"""In Seurat's order. CASSIA (runCASSIA_batch) and mLLMCelltype (annotate_cell_types) ask for them by name."""


def seurat_markers(statistics: pd.DataFrame) -> pd.DataFrame:
    """Markers as `FindAllMarkers` has them, in the rows of `markers.tsv`.

    Parameters
    ----------
    statistics
        Of `spikgpt.cohort.markers.marker_statistics`.

    Returns
    -------
    `SEURAT_COLUMNS`: pct.1 and pct.2 are shares from 0 to 1. avg_log2FC has 1 added to both means, as Seurat's: such
    tools sort by it, and without the 1 a gene of few cells that is nowhere else would come first.
    """
    return pd.DataFrame(
        {
            "p_val": statistics["p"],
            "avg_log2FC": statistics["log2fc_of_one_more"],
            "pct.1": statistics["pct_in"].astype(float) / 100,
            "pct.2": statistics["pct_out"].astype(float) / 100,
            "p_val_adj": statistics["p_adj"],
            "cluster": statistics["cluster"],
            "gene": statistics["gene"],
        },
        columns=list(SEURAT_COLUMNS),
    )
