"""Expression view, distances, mixture and conformal p-values, each alone."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import rankdata, spearmanr
from spikgpt.annotator import batch, conformal, expression, neighbours, ranks
from spikgpt.annotator.cautions import reference_warnings
from spikgpt.annotator.cells import Cells
from spikgpt.annotator.distances import MarkerDetection, TypeProfiles
from spikgpt.annotator.folds import folds
from spikgpt.annotator.held_out import HeldOut, mix_by_the_other_folds
from spikgpt.annotator.mixture import Mixture
from spikgpt.annotator.probabilities import best_scale, expected_calibration_error, log_softmax
from spikgpt.annotator.training_set import Reference, check
from spikgpt.base.errors import UserError

VIEWS = ("embedding", "expression")


def test_rank_scale_is_the_mean_rank_of_the_non_zero_counts() -> None:
    draw = np.random.default_rng(0)
    counts = draw.poisson(1.0, (20, 30))
    counts[3] = 0
    counts[5, :9] = [70, 64, 70, 63, 5000, 5000, 5000, 64, 2]
    counts[6, 4] = 10**6
    expected = np.zeros(counts.shape)
    for row, values in enumerate(counts):
        seen = values > 0
        if seen.any():
            expected[row, seen] = rankdata(values[seen]) / seen.sum()
    np.testing.assert_allclose(ranks.scaled(sp.csr_matrix(counts), "rank").toarray(), expected, rtol=1e-6)


def test_length_scale_has_unit_rows_and_an_empty_cell_stays_zero() -> None:
    counts = np.random.default_rng(0).poisson(2.0, (10, 30))
    counts[4] = 0
    counts[6, 3:6] = [100, 3000, 64]
    logs = np.log1p(counts * 1e4 / np.maximum(counts.sum(1, keepdims=True), 1))
    expected = logs / np.maximum(np.linalg.norm(logs, axis=1, keepdims=True), 1e-12)
    np.testing.assert_allclose(ranks.scaled(sp.csr_matrix(counts), "length").toarray(), expected, rtol=1e-6)
    norms = np.linalg.norm(ranks.scaled(sp.csr_matrix(counts), "length").toarray(), axis=1)
    np.testing.assert_allclose(np.delete(norms, 4), 1, rtol=1e-5)
    assert norms[4] == 0


def test_shared_offset_keeps_what_types_agree_on() -> None:
    weights = np.ones(6)
    agreed = np.full((6, 1), 0.8)
    disputed = np.array([[2.0], [0], [0], [0], [0], [0]])
    assert batch.shared_offset(agreed, weights)[0] == pytest.approx(0.8)
    assert abs(batch.shared_offset(disputed, weights)[0]) < 0.05


def test_markers_are_balanced_over_types() -> None:
    scores = np.array([[9.0, 8, 0, 0, 1], [0, 0, 0.1, -0.3, 0]])
    assert expression.top_markers(scores, 2).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("cells", [60, 200])
def test_nearest_cells_are_others_even_among_identical_ones(cells: int) -> None:
    values = np.random.default_rng(0).normal(size=(cells, 5)).astype(np.float32)
    values[:30] = values[0]
    near = neighbours.nearest(values)
    assert near.shape == (cells, neighbours.NEIGHBOURS)
    assert not (near == np.arange(cells)[:, None]).any()


def as_cells(counts: np.ndarray | sp.csr_matrix) -> Cells:
    return Cells.of(sp.csr_matrix(counts), np.zeros((counts.shape[0], 1), np.float32))


def test_pooling_adds_the_neighbours_counts() -> None:
    counts = np.arange(12).reshape(4, 3)
    near = np.array([[1, 2], [0, 2], [0, 1], [0, 0]])
    logs = neighbours.PooledLogs.of(as_cells(counts), np.array([0, 2]), near)
    (part,) = logs.blocks()
    for cell, pooled in ((0, [0, 1, 2]), (3, [3, 0, 0])):
        together = counts[pooled].sum(0)
        np.testing.assert_allclose(logs.values(part)[cell], np.log1p(together[[0, 2]] * 1e4 / together.sum()))


def test_p_values_are_super_uniform_on_exchangeable_cells() -> None:
    draw = np.random.default_rng(0)
    levels = np.array([0.01, 0.05, 0.1, 0.3, 0.7])
    share = np.zeros(len(levels))
    for _ in range(400):
        scores = draw.gamma(2.0, size=150).round(1)  # rounded: ties must not break it
        p = conformal.p_values(scores[100:], np.sort(scores[:100]))
        share += (p[:, None] <= levels).mean(0) / 400
    assert (share <= levels + 0.006).all(), share
    assert share[2] > 0.05
    assert conformal.p_values(np.array([np.inf]), np.sort(np.arange(99.0)))[0] == pytest.approx(0.01)


def test_detection_misses_markers_and_sees_those_of_others() -> None:
    draw = np.random.default_rng(3)
    rates = np.full((2, 60), 0.5)
    rates[0, :20], rates[1, 20:40] = 4, 4
    codes = np.repeat([0, 1], 100)
    detection = MarkerDetection.fit(sp.csr_matrix(draw.poisson(rates[codes])), codes, 2)
    fresh = as_cells(draw.poisson(rates[codes]))
    right = detection.distances(fresh, codes, None, 1.0)
    wrong = detection.distances(fresh, 1 - codes, None, 1.0)
    assert np.median(right) < 1 < np.median(wrong)
    assert (wrong > right).mean() > 0.95


def test_embedding_offset_is_what_all_types_share() -> None:
    draw = np.random.default_rng(4)
    means = draw.normal(0, 3, (4, 8))
    codes = draw.integers(0, 4, 800)
    values = means[codes] + draw.normal(0, 0.5, (800, 8)) + 2.0
    cells = np.full(4, 200.0)
    np.testing.assert_allclose(batch.batch_offset(values, codes, means, cells), 2.0, atol=0.2)
    assert (batch.batch_offset(values[codes == 0], codes[codes == 0], means, cells) == 0).all()


def test_likeness_tells_another_batch_from_another_tissue() -> None:
    draw = np.random.default_rng(6)
    rates, foreign = draw.gamma(0.5, 4, (3, 200)), draw.gamma(0.5, 4, (3, 200))
    codes = np.repeat([0, 1, 2], 40)
    profiles = TypeProfiles.fit(as_cells(draw.poisson(rates[codes])), np.arange(200), codes, 3, None)
    other_batch = as_cells(draw.poisson(rates[codes] * draw.lognormal(0, 0.2, 200)))
    assert profiles.likeness(other_batch, codes).min() > batch.LIKE
    assert profiles.likeness(as_cells(draw.poisson(foreign[codes])), codes).max() < batch.UNLIKE
    assert profiles.likeness(other_batch.take(np.flatnonzero(codes < 2)), codes[codes < 2])[2] == 0  # no cell
    assert [batch.share_of_correction(like) for like in (0.2, batch.UNLIKE, batch.LIKE, 0.9)] == [0, 0, 1, 1]
    assert batch.share_of_correction((batch.LIKE + batch.UNLIKE) / 2) == pytest.approx(0.5)


@pytest.mark.parametrize("types", [1, 2, 3])
def test_an_offset_of_genes_is_taken_off_from_one_type_on(types: int) -> None:
    draw = np.random.default_rng(7)
    rates = draw.gamma(1, 4, (3, 150))
    codes, new = np.repeat([0, 1, 2], 60), np.repeat(np.arange(types), 60)
    profiles = TypeProfiles.fit(as_cells(draw.poisson(rates[codes])), np.arange(150), codes, 3, None)
    other = as_cells(draw.poisson(rates[new] * draw.lognormal(0, 0.7, 150)))
    whole, half, none = (np.median(profiles.distances(other, new, None, share)) for share in (1.0, 0.5, 0.0))
    assert whole < half < none


def test_correlation_is_blind_to_what_keeps_the_order_of_genes() -> None:
    draw = np.random.default_rng(5)
    rates = draw.gamma(1, 2, (3, 40))
    codes = np.repeat([0, 1, 2], 50)
    counts = sp.csr_matrix(draw.poisson(rates[codes]).astype(np.float32))
    correlation = expression.Correlation.fit(counts, np.arange(40), codes, 3)
    seen = np.arange(40) % 5 > 0
    correlations = correlation.correlations(counts[:, seen], seen)
    np.testing.assert_allclose(correlation.correlations(counts[:, seen].power(3), seen), correlations, atol=1e-12)
    expected = [
        [spearmanr(cell, profile)[0] for profile in correlation.profiles[:, seen]]
        for cell in counts[:9, seen].toarray()
    ]
    np.testing.assert_allclose(correlations[:9], expected, atol=1e-12)
    assert (correlations.argmax(1) == codes).mean() > 0.9
    assert np.abs(correlations).max() <= 1 + 1e-9


def test_tail_strength_rises_beyond_the_calibration() -> None:
    calibration = np.sort(np.random.default_rng(0).exponential(size=500))
    strength = conformal.tail_strength(np.array([0.1, 1.0, 3.0, 10.0, 20.0]), calibration)
    assert (np.diff(strength) > 0).all()
    assert strength[1] == pytest.approx(-np.log10(np.exp(-1.0)), abs=0.1)


def test_mixture_leans_on_the_view_that_knows() -> None:
    draw = np.random.default_rng(0)
    codes = draw.integers(0, 3, 600)

    def view(strength: float) -> np.ndarray:
        return log_softmax(strength * np.eye(3)[codes] + draw.normal(0, 1, (600, 3)))

    assert Mixture.fit({"embedding": view(0.2), "expression": view(4.0)}, codes).weight <= 0.2
    assert 0.3 <= Mixture.fit({"embedding": view(2.0), "expression": view(2.0)}, codes).weight <= 0.7
    knows = Mixture.fit({"embedding": view(4.0), "expression": view(0.2)}, codes)
    assert knows.weight >= 0.8
    mixed = knows({"embedding": view(4.0), "expression": view(0.2)})
    np.testing.assert_allclose(np.exp(mixed).sum(1), 1)
    assert Mixture.fit({"expression": view(2.0)}, codes).weight == 0


def test_a_fold_is_mixed_without_its_own_labels() -> None:
    draw = np.random.default_rng(0)
    codes = draw.integers(0, 3, 300)
    held = []
    for fold, rows in enumerate(np.split(np.arange(300), 3)):
        views = {name: log_softmax(draw.normal(0, 1, (100, 3)) + 2 * np.eye(3)[codes[rows]]) for name in VIEWS}
        held.append(HeldOut(None, fold, rows, [len(rows)], views, 0.0))  # type: ignore[arg-type]

    def mix(labels: np.ndarray) -> np.ndarray:
        return mix_by_the_other_folds(held, SimpleNamespace(codes=labels, telling=lambda rows: rows >= 0))  # type: ignore[arg-type]

    mixed = mix(codes)
    assert mixed.shape == (300, 3)
    np.testing.assert_array_equal(mixed[100:200], held[1].mixed)
    other = np.where(np.arange(300) < 100, (codes + 1) % 3, codes)
    again = mix(other)
    np.testing.assert_array_equal(again[:100], mixed[:100])
    assert not np.array_equal(again[100:], mixed[100:])


def test_temperature_calibrates() -> None:
    draw = np.random.default_rng(0)
    honest = log_softmax(draw.normal(0, 2, (4000, 3)))
    codes = np.array([draw.choice(3, p=np.exp(row)) for row in honest])
    scale = best_scale(4 * honest, codes)
    assert scale == pytest.approx(0.25, abs=0.03)
    right = honest.argmax(1) == codes
    assert expected_calibration_error(np.exp(honest.max(1)), right) < 0.03
    assert expected_calibration_error(np.ones(4000), right) > 0.1


def made_reference(labels: list[str], batches: list[str]) -> Reference:
    classes, names = sorted(set(labels)), sorted(set(batches))
    counts = sp.csr_matrix(np.ones((len(labels), 4), dtype=np.float32))
    return Reference(
        counts,
        list("abcd"),
        np.zeros((len(labels), 2), dtype=np.float32),
        np.array([classes.index(label) for label in labels]),
        classes,
        np.array([names.index(batch) for batch in batches]),
        names,
        np.full(len(labels), 4.0),
        0,
    )


def test_folds_are_whole_batches_where_types_recur() -> None:
    made = made_reference(["B", "T"] * 60, ["x", "x", "y", "y", "z", "z"] * 20)
    fold_of, kind = folds(made, 0)
    assert kind == "batch"
    assert len(set(zip(fold_of, made.batch_codes, strict=True))) == 3
    confounded = made_reference(["B"] * 60 + ["T"] * 60, ["x"] * 60 + ["y"] * 60)
    fold_of, kind = folds(confounded, 0)
    assert kind == "stratified"
    for k in (0, 1):
        assert np.bincount(fold_of[confounded.codes == k]).tolist() == [20, 20, 20]
    assert "hardly recur" in " ".join(reference_warnings(confounded, kind, 0.05, None))


def test_a_batch_that_leaves_one_type_to_learn_is_not_held_out() -> None:
    made = made_reference(["T"] * 60 + ["T"] * 54 + ["B"] * 6, ["x"] * 60 + ["y"] * 60)
    assert folds(made, 0)[1] == "stratified"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["T"] * 50, "single cell type"),
        (["T"] * 50 + ["Unknown"] * 50, "called Unknown"),
        (["T"] * 5 + ["B"] * 5, "too few cells"),
        (["T"] * 50 + ["B"], "enough cells to learn from"),
    ],
)
def test_a_reference_that_teaches_nothing_is_refused(labels: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(np.array(labels, dtype=object), "reference.h5ad")
