"""Batch mixing: scores tell mixed from separate batches, and Harmony mixes what a shift has separated."""

import numpy as np
import pytest
from spikgpt.cohort.batch_mixing import MIXING_COLUMNS, batch_mixing, kbet_acceptance, scaled_lisi


def cells(shift: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two types in two batches, the second batch moved by `shift`."""
    rng = np.random.default_rng(0)
    labels = np.array(["B", "T"])[rng.integers(0, 2, 600)]
    batches = np.array(["b1", "b2"])[rng.integers(0, 2, 600)]
    z = rng.normal(size=(600, 10))
    z[labels == "T", :4] += 8
    z[batches == "b2", 4:8] += shift
    return z.astype(np.float32), batches, labels


def test_kbet_of_known_neighbourhoods():
    batches = np.repeat([0, 1], 50)
    mixed = np.tile(np.r_[np.arange(25), np.arange(50, 75)], (100, 1))
    assert kbet_acceptance(mixed, batches) == 1
    own = np.where(batches[:, None] == 0, np.arange(50), np.arange(50, 100))
    assert kbet_acceptance(own, batches) == 0


def test_lisi_is_scaled():
    z, _, labels = cells(0)
    halves = np.arange(len(z)) % 2
    assert scaled_lisi(z.astype(float), halves) > 0.8
    assert scaled_lisi(z.astype(float), labels) < 0.05


@pytest.mark.parametrize("shift", [0, 2])
def test_scores_before_and_after_harmony(shift):
    z, batches, labels = cells(shift)
    given = z.copy()
    table = batch_mixing(z, batches, labels, 0)
    assert list(table.columns) == list(MIXING_COLUMNS)
    assert (z == given).all()
    assert list(table["embedding"]) == ["scGPT"] * 3 + ["Harmony"] * 3
    assert list(table["cell_type"]) == ["all", "B", "T"] * 2
    before, after = table.iloc[:3], table.iloc[3:]
    if shift:
        assert (before["ilisi"] < 0.1).all()
        assert (before["kbet_acceptance"] < 0.1).all()
        assert (after["ilisi"] > 0.5).all()
    else:
        assert (before["ilisi"] > 0.7).all()
        assert (before["kbet_acceptance"] > 0.85).all()
    # labels are as far apart as before
    assert before["clisi"].iloc[0] > 0.95
    assert after["clisi"].iloc[0] > 0.9
    assert (before["clisi"].iloc[1:] > 0.95).all()
    # two batches of like size: at random, neighbours would be of both alike
    assert (before["ilisi_if_mixed"] > 0.98).all()
    assert set(before["labels"]) == {2}
    assert batch_mixing(z, batches, labels, 0).equals(table)


def test_nothing_to_compare():
    z, batches, labels = cells(0)
    assert len(batch_mixing(z, np.full(600, "b1"), labels, 0)) == 0
    assert len(batch_mixing(z[:50], batches[:50], labels[:50], 0)) == 0
    z[:] = np.nan
    assert len(batch_mixing(z, batches, labels, 0)) == 0


def test_a_type_of_one_batch_is_scored_by_its_label_alone():
    z, batches, labels = cells(0)
    batches[labels == "T"] = "b1"
    table = batch_mixing(z, batches, labels, 0)
    assert list(table["cell_type"]) == ["all", "B", "T"] * 2
    one = table[table["cell_type"] == "T"]
    assert one[["ilisi", "ilisi_if_mixed", "kbet_acceptance"]].isna().all().all()
    assert list(one["batches"]) == [1, 1]
    assert (one["clisi"] > 0.9).all()
    assert table.loc[table["cell_type"] != "T", "ilisi"].notna().all()
