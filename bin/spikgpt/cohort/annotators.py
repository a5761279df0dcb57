"""Which annotator labelled each sample, how well each one that was given fits it, and the rate of Unknown."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spikgpt.annotator.choice import TISSUE, fits

ANNOTATOR_COLUMNS = (
    "sample",
    "annotator",
    "gives_labels",
    "fits_best",
    "fit",
    "labelled_percent",
    "median_confidence",
    "calibrated",
)

Figures = Mapping[str, Mapping[str, Any]]
"""Sample to its `annotation.json`."""


def labelled_by_profiles(figures: Figures) -> frozenset[str]:
    """Samples whose labels are classes of the tissue profiles."""
    return frozenset(sample for sample, own in figures.items() if own.get("labels_from") == "profiles")


def from_profiles(cells: pd.DataFrame, figures: Figures) -> NDArray[np.bool_]:
    """Cells of samples that the profiles labelled, bool (cells,)."""
    return cells["sample"].astype(str).isin(labelled_by_profiles(figures)).to_numpy()


def unknown_rates(cells: pd.DataFrame, figures: Figures, rate: float) -> NDArray[np.float64]:
    """Share of the cells of known types that is expected to be Unknown, of each cell's sample: ``rate``, or where the
    profiles gave the labels the share of cells of known classes to which they give no opinion."""
    own = {sample: float(figures[sample]["unknown_rate"]) for sample in labelled_by_profiles(figures)}
    return cells["sample"].astype(str).map(lambda sample: own.get(sample, rate)).to_numpy(dtype=np.float64)


def annotators_table(samples: Iterable[str], figures: Figures, opinions: Figures, name: str) -> pd.DataFrame:
    """The rows of `ANNOTATOR_COLUMNS`: samples by name, annotators in the order given, the tissue profiles last.

    Parameters
    ----------
    opinions
        Sample to its `second_opinion.json`.
    name
        Of the annotator, where there was one alone.

    Notes
    -----
    fit is the likeness of a sample and an annotator's reference, see `spikgpt.annotator.choice.fits`; the profiles have
    none. fits_best is empty where fewer than two annotators have one.
    """
    rows = []
    for sample in sorted(set(samples) & set(figures)):
        own = figures[sample]
        by_profiles = own.get("labels_from") == "profiles"
        every = own["annotators"] if "annotators" in own else fits([name], [dict(own)], 0)
        known = [entry["fit"] for entry in every if entry["fit"] is not None]
        best = max(known) if len(known) > 1 else None
        first = [entry["fit"] for entry in every].index(best) if best is not None else None
        rows += [
            (
                sample,
                entry["name"],
                "yes" if entry["gives_labels"] else "no",
                "" if first is None else "yes" if at == first else "no",
                np.nan if entry["fit"] is None else entry["fit"],
                100 * (1 - entry["unknown"] / entry["cells"]),
                entry["median_confidence"],
                "no" if entry["not_calibrated"] else "yes",
            )
            for at, entry in enumerate(every)
        ]
        if sample in opinions:
            said = opinions[sample]
            given = 100 * said["with_opinion"] / said["cells"]
            score = own["median_confidence"] if by_profiles else np.nan
            rows.append((sample, TISSUE, "yes" if by_profiles else "no", "", np.nan, given, score, "no"))
    return pd.DataFrame(rows, columns=list(ANNOTATOR_COLUMNS))
