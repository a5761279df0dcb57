"""The nearest type of cells that quality control removed: shown, never counted among the annotated ones."""

import numpy as np
import pandas as pd

from spikgpt.annotator.cells import Cells
from spikgpt.annotator.expression import ExpressionView
from spikgpt.base.columns import OPINION_SCORE
from spikgpt.base.h5ad import Stored
from spikgpt.base.threads import one_thread
from spikgpt.profiles.library import Library
from spikgpt.profiles.opinion import second_opinion

COLUMNS = ("sample", "barcode", "nearest_type")


@one_thread()
def nearest_types(
    expression: ExpressionView | None, classes: list[str], genes: list[str], cells: Stored, sample: str
) -> pd.DataFrame:
    """The type that the expression view finds most likely for each cell.

    Removed cells have no scGPT embedding, so an annotator without the expression view cannot judge them. The batch
    offset is what the sample's removed cells share.

    Parameters
    ----------
    expression, classes, genes
        Of the annotator.
    cells
        Raw counts of one sample's removed cells. The result does not depend on their order.

    Returns
    -------
    DataFrame
        sample, barcode, nearest_type, in the order of `cells`; the type is empty where it cannot be told: no expression
        view, or no count on the annotator's genes.
    """
    barcodes = cells.barcodes.astype(str)
    types = np.full(len(barcodes), "", dtype=object)
    column_of = {gene: number for number, gene in enumerate(cells.symbols)}
    columns = np.array([column_of.get(gene, -1) for gene in genes])
    if expression is not None and len(barcodes) and (columns >= 0).any():
        order = np.argsort(barcodes, kind="stable")
        known = Cells(cells.matrix(), order, columns, np.zeros((len(barcodes), 0), dtype=np.float32))
        seen = np.flatnonzero(known.depth > 0)
        if len(seen):
            best = expression.log_probabilities(known.take(seen)).argmax(axis=1)
            types[order[seen]] = np.array(classes, dtype=object)[best]
    return pd.DataFrame(dict(zip(COLUMNS, (sample, barcodes.astype(object), types), strict=True)))


def nearest_classes(library: Library, cells: Stored, sample: str) -> pd.DataFrame:
    """The likeliest class of the tissue profiles for each cell, for samples that these labelled.

    Returns
    -------
    DataFrame
        As `nearest_types`; the class is empty where it cannot be told: too few of the profiles' genes, or no count.
    """
    table, _ = second_opinion(
        library,
        lambda: (block for _, block in cells.blocks("X")),
        cells.symbols,
        [str(gene_id) for gene_id in cells.var["gene_id"]],
        [str(barcode) for barcode in cells.barcodes],
    )
    likeliest = table[library.classes].idxmax(axis=1) if len(table) else pd.Series(dtype=object)
    types = likeliest.where(table[OPINION_SCORE] > 0, "").to_numpy(dtype=object)
    return pd.DataFrame(dict(zip(COLUMNS, (sample, table["barcode"].to_numpy(dtype=object), types), strict=True)))
