"""Labels that the cells of a sample already have, to be compared with the pipeline's."""

from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from spikgpt.base.errors import UserError
from spikgpt.base.guards import check_names
from spikgpt.read_input.labels import says_nothing
from spikgpt.read_input.matrix import open_matrix

OWN_LABEL_COLUMNS = ("barcode", "label")


def read_own_labels(path: str | Path, column: str, filtered: bool, counts_layer: str | None = None) -> pd.DataFrame:
    """Barcode and label of the cells that a column of the matrix's `obs` gives one.

    Cells whose label means that they have none (`spikgpt.read_input.labels.says_nothing`) are left out. No count is
    read.

    Parameters
    ----------
    path, filtered, counts_layer
        As in `spikgpt.read_input.matrix.open_matrix`.

    Returns
    -------
    `OWN_LABEL_COLUMNS`, text, in the order of the file.

    Raises
    ------
    UserError
        The file has no such column, or a label is no name (`spikgpt.base.guards.check_names`).
    """
    where = Path(path).name
    with open_matrix(path, frozenset(), counts_layer=counts_layer, filtered=filtered) as matrix:
        obs, barcodes, format = matrix.obs, matrix.barcodes, matrix.format
    if column not in obs:
        columns = [str(name) for name in obs.columns]
        near = get_close_matches(column, columns, n=1, cutoff=0.5)
        raise UserError(
            f"The matrix has no column {column!r} with labels to compare.",
            where=f"{where}, --compare_key or column cell_type_col",
            found=f"obs columns {', '.join(columns)}" if columns else f"a {format} file, which has no obs columns",
            expected="a column of obs",
            fix=f"Did you mean {near[0]}?" if near else "Name a column that it has, or leave the comparison out.",
        )
    given = obs[column]
    labels = given.astype(object).where(given.notna(), "").astype(str).str.strip()
    table = pd.DataFrame({"barcode": pd.Series(barcodes, dtype=str).to_numpy(), "label": labels.to_numpy()})
    table = table[[not says_nothing(label) for label in table["label"]]].reset_index(drop=True)
    check_names(sorted(set(table["label"])), "labels", f"{where}, obs column {column}")
    return table
