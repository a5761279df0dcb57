"""The second opinion on clusters and populations, and where it contradicts the labels.

Cells have their opinions from `spikgpt.profiles.opinion`; here these meet labels and clusters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata.io import read_elem
from numpy.typing import NDArray

from spikgpt import UNKNOWN
from spikgpt.base.columns import OPINION
from spikgpt.base.h5ad import csr_blocks
from spikgpt.base.names import by_sample
from spikgpt.profiles.correlation import Correlation
from spikgpt.profiles.kinship import contradicts, terms_of_labels
from spikgpt.profiles.library import Library
from spikgpt.profiles.opinion import CLUSTER_CUT, MIN_GENES, decide
from spikgpt.profiles.ranks import spearman

OPINION_COLUMNS = ("cell_type", "second_opinion", "cells", "percent", "contradicts")
MIN_CLUSTER = 10
"""A smaller group of cells has no opinion as a whole."""
_BLOCK_ELEMENTS = 4_000_000

NO, YES, NOT_COMPARED = "no", "yes", ""
"""Whether an opinion contradicts a label; the empty text where there is no opinion or the two cannot be compared."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Likeness:
    """What a group of cells looks like: the opinion ("" for none) and its mean probability; of the opinion's profiles
    the one nearest to the group's summed counts, as the authors call it, its source, and Spearman's correlation."""

    opinion: str = ""
    score: float = np.nan
    profile: str = ""
    source: str = ""
    correlation: float = np.nan


NOTHING = Likeness()


def read_probabilities(paths: Sequence[str | Path], cells: pd.DataFrame, classes: Sequence[str]) -> NDArray[np.float32]:
    """Probabilities ``(cells, classes)`` of the classes, in the order of the cohort's cells.

    Parameters
    ----------
    paths
        `<sample>.second_opinion.parquet` of every sample.
    cells
        See `spikgpt.cohort.tables.read_cohort`: samples by name.

    Raises
    ------
    ValueError
        The files are not of the cohort's cells.
    """
    tables = [pd.read_parquet(path) for path in by_sample(paths, ".second_opinion.parquet").values()]
    every = pd.concat(tables, ignore_index=True)
    if every["barcode"].tolist() != cells["barcode"].tolist():
        raise ValueError("second opinions and cohort are not of the same cells")
    return every[list(classes)].to_numpy(dtype=np.float32)


def group_opinions(
    probabilities: NDArray[np.float32], groups: Mapping[str, NDArray[np.bool_]], library: Library
) -> dict[str, Likeness]:
    """The opinion on each group by the mean of its cells' probabilities, which withheld studies bound
    (`spikgpt.profiles.opinion.CLUSTER_CUT`); the share of cells of the likeliest class does not tell unseen classes."""
    found = {}
    for name, inside in groups.items():
        if inside.sum() >= MIN_CLUSTER:
            mean = probabilities[inside].mean(axis=0, dtype=np.float64)
            (said,), (score,) = decide(mean[None], library, CLUSTER_CUT)
            found[name] = Likeness(said, float(score))
        else:
            found[name] = NOTHING
    return found


def with_profiles(
    likeness: Mapping[str, Likeness], h5ad: str | Path, groups: Mapping[str, NDArray[np.bool_]], library: Library
) -> dict[str, Likeness]:
    """The same, with the nearest profile of the opinion's class wherever there is an opinion.

    Parameters
    ----------
    h5ad
        The cohort, with ``layers/counts``.
    groups
        Name to the group's cells, bool (cells,).
    """
    asked = [name for name, found in likeness.items() if found.opinion]
    if not asked:
        return dict(likeness)
    with h5py.File(h5ad) as file:
        var = read_elem(file["var"])
        columns = library.columns_in(var.index.astype(str).tolist(), var["gene_id"].astype(str).tolist())
        genes = np.flatnonzero(columns >= 0)
        if len(genes) < MIN_GENES:
            return dict(likeness)
        sums = np.zeros((len(asked), len(genes)), dtype=np.int64)
        member = sp.csr_matrix(np.stack([groups[name] for name in asked]).astype(np.int64))
        for start, block in csr_blocks(file["layers/counts"], _BLOCK_ELEMENTS):
            own = block[:, columns[genes]].astype(np.int64)
            sums += (member[:, start : start + block.shape[0]] @ own).toarray()
    judge = Correlation.of(library.values[genes], library.codes)
    correlations = spearman(sp.csr_matrix(sums[:, judge.genes].astype(np.float64)), judge.ranks)
    out = dict(likeness)
    for name, row in zip(asked, correlations, strict=True):
        found = likeness[name]
        classes = [library.classes.index(of) for of in library.merged.get(found.opinion, (found.opinion,))]
        nearest = int(np.where(np.isin(library.codes, classes), row, -np.inf).argmax())
        profile = library.profiles.iloc[nearest]
        out[name] = Likeness(
            found.opinion, found.score, str(profile["type"]), str(profile["source"]), float(row[nearest])
        )
    return out


class Conflicts:
    """Whether opinions contradict labels, by the Cell Ontology; labels mean the terms that the reference gives them, or
    those of their names."""

    def __init__(self, library: Library, labels: Sequence[str], given: Mapping[str, str]) -> None:
        self.library = library
        self.terms = terms_of_labels([label for label in labels if label != UNKNOWN], given)

    def between(self, opinion: str, label: str) -> str:
        """`YES`, `NO` or `NOT_COMPARED`."""
        if not opinion or label not in self.terms:
            return NOT_COMPARED
        said = contradicts(self.library, opinion, self.terms[label])
        return NOT_COMPARED if said is None else YES if said else NO


def opinion_table(cells: pd.DataFrame, conflicts: Conflicts) -> pd.DataFrame:
    """How labels and opinions meet, cell by cell: `OPINION_COLUMNS`, labels by name, the commonest opinion first.

    percent is of the label's cells; the empty opinion is none.
    """
    labels, opinions = cells["spikgpt_cell_type"].astype(str), cells[OPINION].astype(str)
    counts = pd.crosstab(labels, opinions)
    rows = []
    for label in counts.index:
        mine = counts.loc[label]
        mine = mine[mine > 0].sort_index().sort_values(ascending=False, kind="stable")
        rows += [
            (label, name, int(number), 100 * number / mine.sum(), conflicts.between(str(name), str(label)))
            for name, number in mine.items()
        ]
    return pd.DataFrame(rows, columns=list(OPINION_COLUMNS))


def contradicted(cells: pd.DataFrame, conflicts: Conflicts) -> NDArray[np.bool_]:
    """Cells whose own opinion contradicts their own label, bool (cells,)."""
    labels, opinions = cells["spikgpt_cell_type"].astype(str), cells[OPINION].astype(str)
    pairs = pd.MultiIndex.from_arrays([opinions, labels])
    against = {pair: conflicts.between(*pair) == YES for pair in pairs.unique()}
    return np.array([against[pair] for pair in pairs], dtype=bool)
