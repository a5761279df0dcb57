"""The labels in the forms that other tools of a 10x customer read: Loupe Browser, and scripts for Cell Ranger."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from spikgpt import UNKNOWN
from spikgpt.base.columns import OBS, SAMPLE_COLUMNS
from spikgpt.base.ontology import NO_TERM, TERM
from spikgpt.profiles.kinship import covering, terms_of_labels
from spikgpt.profiles.library import Library

LOUPE_COLUMNS = tuple(column.name for column in OBS if column.kind == "text" and column.name not in SAMPLE_COLUMNS)
"""Columns of `obs` that Loupe Browser imports as categories: every text that speaks of the cell."""
CELL_RANGER_COLUMNS = ("barcode", "coarse_cell_type", "fine_cell_type")
"""As in the `cell_types.csv` of Cell Ranger 9 and later."""


def loupe_table(cells: pd.DataFrame) -> pd.DataFrame:
    """The categories of one sample's cells for "Import categories" of Loupe Browser.

    Parameters
    ----------
    cells
        Rows of one sample, see `spikgpt.cohort.tables.read_cohort`.

    Returns
    -------
    `Barcode`, as it came in, then `LOUPE_COLUMNS`; an empty text is "no category".
    """
    return cells[["barcode", *LOUPE_COLUMNS]].rename(columns={"barcode": "Barcode"})


def coarse_types(cells: pd.DataFrame, library: Library) -> dict[str, str]:
    """The broad class of each label: the class of the tissue profiles that holds the label's Cell Ontology term.

    A label whose term is in no class or in several stays as it is, and so does `Unknown`.

    Parameters
    ----------
    cells
        See `spikgpt.cohort.tables.read_cohort`.
    library
        The tissue profiles, for their classes.
    """
    pairs = cells[["spikgpt_cell_type", TERM]].astype(str).drop_duplicates()
    given = {label: term for label, term in pairs.itertuples(index=False) if term != NO_TERM}
    labels = sorted(set(pairs["spikgpt_cell_type"]) - {UNKNOWN})
    coarse = {UNKNOWN: UNKNOWN} | {label: label for label in labels}
    for label, term in terms_of_labels(labels, given).items():
        classes = covering(library, term)
        if len(classes) == 1:
            (coarse[label],) = classes
    return coarse


def cell_ranger_table(cells: pd.DataFrame, coarse: Mapping[str, str]) -> pd.DataFrame:
    """One sample's labels as Cell Ranger's `cell_types.csv` has them: `CELL_RANGER_COLUMNS`.

    Parameters
    ----------
    cells
        Rows of one sample, see `spikgpt.cohort.tables.read_cohort`.
    coarse
        See `coarse_types`.
    """
    fine = cells["spikgpt_cell_type"].astype(str)
    values = (cells["barcode"], fine.map(coarse), fine)
    return pd.DataFrame(dict(zip(CELL_RANGER_COLUMNS, values, strict=True)))


def write_labels(cells: pd.DataFrame, library: Library, loupe: Path, cell_ranger: Path) -> None:
    """Write `<sample>.csv` of every sample for Loupe Browser and in Cell Ranger's shape, into two new folders."""
    coarse = coarse_types(cells, library)
    for folder in (loupe, cell_ranger):
        folder.mkdir()
    for sample, own in cells.groupby(cells["sample"].astype(str), sort=True):
        for folder, table in ((loupe, loupe_table(own)), (cell_ranger, cell_ranger_table(own, coarse))):
            table.to_csv(folder / f"{sample}.csv", index=False, lineterminator="\n", encoding="utf-8")
