"""Harmony on the embedding of all samples: when it is used, and what it makes of the embedding.

Labels do not depend on it: they come from the embedding and the counts of each sample alone. Clusters, map and markers
rest on what is decided here.
"""

from dataclasses import astuple, dataclass, fields

import numpy as np
import pandas as pd

from spikgpt import UNKNOWN
from spikgpt.base.tsv import read_tsv

ASKED = ("auto", "harmony", "none")
"""Values of `--integrate`."""

COMPONENTS = 50
"""Principal components that Harmony corrects: scanpy's default, and that of Harmony's authors is 20 to 50."""

FITTED_ON = 100_000
"""Cells that the components are fitted on at most, drawn from all; all cells are projected on them."""

FEWEST_CELLS = 100
"""Fewer cells are not integrated, and a type with fewer is not scored."""

MIXED = 0.5
"""Batches mix poorly where the effective number of batches near a cell is nearer to one batch (0) than to what its
type's batches would give if nothing told them apart (1): the middle of that scale, not a fitted number."""

NEAR_OTHERS = 0.05
"""cLISI is kept where at most one neighbour in twenty more is of another label. With a share ``q`` of another label the
effective number of labels is ``1 / (q² + (1 - q)²)``, for small ``q`` ``1 + 2 q``; cLISI is that number, scaled."""

ALL = "all"
_ROWS = 50_000


@dataclass(frozen=True)
class Integration:
    """What was asked for and what was done, with the scores it rests on: the row of `integration.tsv`.

    The scores are None where nothing could be compared. ``mixing``: see `mixing_within_types`.
    """

    asked: str
    used: str
    reason: str
    batches: int
    mixing_before: float | None = None
    mixing_after: float | None = None
    clisi_before: float | None = None
    clisi_after: float | None = None

    @property
    def parted(self) -> bool:
        """Whether batches still part in the embedding that clusters and map rest on."""
        mixing = self.mixing_after if self.used == "harmony" else self.mixing_before
        return mixing is not None and mixing < MIXED

    def table(self) -> pd.DataFrame:
        """The one row of `INTEGRATION_COLUMNS`."""
        return pd.DataFrame([astuple(self)], columns=list(INTEGRATION_COLUMNS))


INTEGRATION_COLUMNS = tuple(part.name for part in fields(Integration))


def read_integration(table: pd.DataFrame) -> Integration:
    """`Integration` from its table as text (`spikgpt.base.tsv.read_tsv`)."""
    row = table.iloc[0]
    scores = {name: float(row[name]) if row[name] else None for name in INTEGRATION_COLUMNS[4:]}
    return Integration(row["asked"], row["used"], row["reason"], int(row["batches"]), **scores)


def uses_harmony(path: str | None) -> bool:
    """Whether the `integration.tsv` of that path says that Harmony is used; no file: it is not."""
    return path is not None and read_integration(read_tsv(path)).used == "harmony"


def components(z: np.ndarray, seed: int) -> np.ndarray:
    """The first `COMPONENTS` principal components of a standardised embedding.

    Parameters
    ----------
    z
        float32 (cells, dimensions), standardised and finite.
    seed
        Of the draw of cells that they are fitted on, where there are more than `FITTED_ON`.

    Returns
    -------
    float64 (cells, components).
    """
    from sklearn.decomposition import PCA

    rows: slice | np.ndarray = slice(None)
    if len(z) > FITTED_ON:
        rows = np.sort(np.random.default_rng(seed).choice(len(z), FITTED_ON, replace=False))
    wide = z[rows].astype(np.float64)
    # exact, and of the size of the dimensions rather than of the cells
    fitted = PCA(min(COMPONENTS, *wide.shape), svd_solver="covariance_eigh").fit(wide)
    made = [fitted.transform(z[at : at + _ROWS].astype(np.float64)) for at in range(0, len(z), _ROWS)]
    return np.concatenate(made)


def harmonised(z: np.ndarray, batches: np.ndarray, seed: int) -> np.ndarray:
    """Principal components with the differences between batches taken out, by Harmony.

    Korsunsky et al. 2019, Nature Methods 16:1289 (https://doi.org/10.1038/s41592-019-0619-0), by harmonypy with its
    defaults, whose result does not depend on the number of threads.

    Parameters
    ----------
    z
        float64 (cells, components), see `components`; at least `FEWEST_CELLS`.
    batches
        str (cells,), at least two.

    Returns
    -------
    float64 (cells, components).
    """
    from harmonypy import run_harmony

    made = run_harmony(z, pd.DataFrame({"batch": batches}), "batch", random_state=seed, ncores=1, verbose=False)
    return np.asarray(made.Z_corr, dtype=np.float64)


def mixing_within_types(scores: pd.DataFrame) -> float | None:
    """How far batches mix among the cells of one label: 0, each keeps to itself, to 1, nothing tells them apart.

    Each label's iLISI over that of its batches mixed at random, averaged over cells.

    Parameters
    ----------
    scores
        Rows of one embedding, see `spikgpt.cohort.batch_mixing.mixing_scores`.

    Returns
    -------
    None where no label but `Unknown` has enough cells in two batches.
    """
    types = scores[~scores["cell_type"].isin([ALL, UNKNOWN]) & scores["ilisi"].notna()]
    if not len(types):
        return None
    return float(np.average(types["ilisi"] / types["ilisi_if_mixed"], weights=types["cells"]))


def label_that_loses(before: pd.DataFrame, after: pd.DataFrame) -> tuple[str, float]:
    """The label whose cells get most neighbours of other labels, all cells together among them.

    Parameters
    ----------
    before, after
        Rows of the two embeddings, see `spikgpt.cohort.batch_mixing.mixing_scores`.

    Returns
    -------
    The label and the share of neighbours by which they rise, see `NEAR_OTHERS`; `Unknown` is no label.
    """
    scores = before.set_index("cell_type")
    lost = (scores["clisi"] - after.set_index("cell_type")["clisi"]) * (scores["labels"] - 1) / 2
    lost = lost.drop(UNKNOWN, errors="ignore").dropna()
    return (str(lost.idxmax()), float(lost.max())) if len(lost) else (ALL, 0.0)


def decide(asked: str, scores: pd.DataFrame, batches: int) -> Integration:
    """Whether Harmony is used, and why.

    `auto` uses it where batches mix poorly within the types (`MIXED`), Harmony mixes them better, and every label stays
    as far from the others as it was (`NEAR_OTHERS`).

    Parameters
    ----------
    asked
        One of `ASKED`.
    scores
        See `spikgpt.cohort.batch_mixing.batch_mixing`; no rows where nothing could be compared.
    batches
        Batches of the cohort.
    """
    if batches < 2:
        return Integration(asked, "none", "there is one batch", batches)
    before, after = (scores[scores["embedding"] == name] for name in ("scGPT", "Harmony"))
    if not len(before):
        return Integration(asked, "none", f"there are fewer than {FEWEST_CELLS} cells to compare", batches)
    mixing = mixing_within_types(before), mixing_within_types(after)
    clisi = (float(part.loc[part["cell_type"] == ALL, "clisi"].iloc[0]) for part in (before, after))
    figures = (*mixing, *(value if np.isfinite(value) else None for value in clisi))
    if asked != "auto":
        return Integration(asked, asked, f"--integrate {asked} was given", batches, *figures)
    if mixing[0] is None or mixing[1] is None:
        return Integration(asked, "none", "no type has enough cells in two batches to tell", batches, *figures)
    if mixing[0] >= MIXED:
        return Integration(asked, "none", "batches mix within the types as it is", batches, *figures)
    if mixing[1] <= mixing[0]:
        return Integration(asked, "none", "Harmony does not mix the batches better", batches, *figures)
    label, lost = label_that_loses(before, after)
    if lost > NEAR_OTHERS:
        which = "all labels" if label == ALL else label
        why = f"after Harmony {100 * lost:.0f} % more of the neighbours of {which} would be of another label"
        return Integration(asked, "none", why, batches, *figures)
    return Integration(asked, "harmony", "batches part within the types, and labels keep apart", batches, *figures)
