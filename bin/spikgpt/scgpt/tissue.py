"""Whether a sample looks like the tissues a checkpoint was pretrained on.

A small checkpoint knows only the tissues it has seen. `reference_profile.safetensors` in its folder
holds embeddings of pretraining cells. A new cell is outside when it lies much farther from its
nearest pretraining cells than these lie from theirs: the local outlier idea of Breunig et al. 2000,
https://doi.org/10.1145/335191.335388, with a plain ratio of mean distances.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy.spatial import KDTree

from spikgpt.base.errors import UserError

PROFILE = "reference_profile.safetensors"
NEIGHBOURS = 5
WITHIN = 0.95
"""Share of held-out pretraining cells that lie inside by definition."""
UNFAMILIAR_SHARE = 0.5
"""A sample is unfamiliar when more than this share of its cells is outside."""


@dataclass
class Profile:
    """Pretraining cells, and how far a cell of a known tissue lies from them."""

    cells: NDArray[np.float32]
    """float32 (cells, width): embeddings of a random part of the pretraining cells."""
    limit: float
    """Cells whose `isolation` is above this are outside."""

    def __post_init__(self) -> None:
        self.tree = KDTree(self.cells)
        # mean distance of each profile cell to those nearest to it, once asked for: a sample of blood asks for 200 of
        # the 1,500, and all take 0.08 s of CPU
        self.spacing = np.full(len(self.cells), np.nan)

    def isolation(self, embedding: NDArray[np.float32]) -> NDArray[np.float64]:
        """Mean distance to the five nearest profile cells over the mean of their own such distances.

        Parameters
        ----------
        embedding
            float32 (cells, width), finite.

        Returns
        -------
        float64 (cells,), without unit; about 1 within a known tissue.
        """
        distance, nearest = self.tree.query(embedding, k=NEIGHBOURS)
        asked = np.unique(nearest)
        asked = asked[np.isnan(self.spacing[asked])]
        between, _ = self.tree.query(self.cells[asked], k=NEIGHBOURS + 1)
        # the nearest to a cell is the cell itself
        self.spacing[asked] = between[:, 1:].mean(axis=1)
        return distance.mean(axis=1) / self.spacing[nearest].mean(axis=1)


def make_profile(embedding: NDArray[np.float32], weights: NDArray[np.float64], kept: int, seed: int) -> Profile:
    """A profile of pretraining cells.

    Parameters
    ----------
    embedding
        float32 (cells, width), finite.
    weights
        float64 (cells,): how much each cell counts, so that a large data set does not decide alone.
    kept
        Cells in the profile; as many others are held out to set the limit.
    """
    random = np.random.default_rng(seed)
    drawn = random.choice(len(embedding), size=2 * kept, replace=False, p=weights / weights.sum())
    profile = Profile(embedding[drawn[:kept]], np.inf)
    profile.limit = float(np.quantile(profile.isolation(embedding[drawn[kept:]]), WITHIN))
    return profile


def save_profile(profile: Profile, folder: str | Path) -> None:
    """Write the profile beside the checkpoint's files."""
    save_file({"cells": profile.cells, "limit": np.array([profile.limit])}, Path(folder) / PROFILE)


def read_profile(folder: str | Path) -> Profile | None:
    """The profile of a checkpoint folder; None when it has none, as a foreign checkpoint.

    Raises
    ------
    UserError
        The file is broken.
    """
    path = Path(folder) / PROFILE
    if not path.is_file():
        return None
    try:
        stored = load_file(path)
        return Profile(stored["cells"], float(stored["limit"][0]))
    except (SafetensorError, KeyError, OSError) as error:
        raise UserError(
            "The checkpoint's profile of pretraining cells cannot be read.",
            where=str(path),
            found=str(error),
            expected="the file that belongs to the checkpoint",
            fix="Copy the checkpoint folder again.",
        ) from error


def outside_cells(embedding: NDArray[np.float32], profile: Profile) -> NDArray[np.bool_]:
    """Which cells lie outside the pretraining tissues.

    Parameters
    ----------
    embedding
        float32 (cells, width); cells without an embedding (NaN) count as outside.

    Returns
    -------
    bool (cells,).
    """
    outside = np.ones(len(embedding), dtype=bool)
    known = np.isfinite(embedding).all(axis=1)
    if known.any():
        outside[known] = profile.isolation(embedding[known]) > profile.limit
    return outside
