"""Known tissues pass without a warning; cells that look like none of them do not."""

from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from scipy import sparse
from spikgpt.base.errors import UserError
from spikgpt.scgpt.checkpoint import read_checkpoint
from spikgpt.scgpt.embed import Embedder
from spikgpt.scgpt.tissue import (
    PROFILE,
    UNFAMILIAR_SHARE,
    Profile,
    make_profile,
    outside_cells,
    read_profile,
    save_profile,
)

MINI = Path(__file__).resolve().parents[2] / "assets" / "scgpt-mini"


def clusters(random: np.random.Generator, centres: list[float], cells: int) -> np.ndarray:
    """Points in 8 dimensions around centres on the diagonal."""
    chosen = random.choice(centres, size=(cells, 1))
    return (chosen + random.normal(size=(cells, 8))).astype(np.float32)


@pytest.fixture
def profile() -> Profile:
    points = clusters(np.random.default_rng(0), [0.0, 20.0], 900)
    return make_profile(points, np.ones(900), kept=400, seed=0)


def test_new_cells_of_known_and_of_unknown_kinds(profile: Profile) -> None:
    random = np.random.default_rng(1)
    assert outside_cells(clusters(random, [0.0, 20.0], 300), profile).mean() < 0.12
    # between the known kinds is outside of both
    assert outside_cells(clusters(random, [10.0], 300), profile).all()
    mixed = outside_cells(np.concatenate([clusters(random, [0.0], 75), clusters(random, [10.0], 25)]), profile)
    assert mixed[75:].all()
    assert mixed[:75].mean() < 0.2


def test_cells_without_embedding_count_as_outside(profile: Profile) -> None:
    assert outside_cells(np.empty((0, 8), np.float32), profile).tolist() == []
    assert outside_cells(np.full((3, 8), np.nan, np.float32), profile).tolist() == [True, True, True]


def test_saved_and_read_again(tmp_path: Path, profile: Profile) -> None:
    assert read_profile(tmp_path) is None
    save_profile(profile, tmp_path)
    again = read_profile(tmp_path)
    assert again is not None
    assert again.limit == profile.limit
    points = clusters(np.random.default_rng(2), [5.0], 20)
    assert np.array_equal(again.isolation(points), profile.isolation(points))
    (tmp_path / PROFILE).write_bytes(b"broken")
    with pytest.raises(UserError, match="profile of pretraining cells"):
        read_profile(tmp_path)


def test_pancreas_is_known_and_scrambled_genes_are_not(demo_data: Path) -> None:
    """The query library of the demo, which is not among the mini's pretraining cells."""
    checkpoint, profile = read_checkpoint(MINI), read_profile(MINI)
    assert profile is not None
    cells = ad.read_h5ad(demo_data / "human1_lib3.h5ad")[::5]
    names = cells.var_names.to_numpy(dtype=object)
    known = np.flatnonzero([name in checkpoint.vocabulary for name in names])
    scrambled = names.copy()
    scrambled[known] = np.random.default_rng(0).permutation(names[known])

    def outside(symbols: np.ndarray) -> float:
        embedder = Embedder(checkpoint, list(symbols), sample="lib3", threads=2)
        embedding = embedder.embed(sparse.csr_matrix(cells.X), list(cells.obs_names))
        return float(outside_cells(embedding, profile).mean())

    assert outside(names) < 0.25 < UNFAMILIAR_SHARE
    assert outside(scrambled) > 0.7 > UNFAMILIAR_SHARE
