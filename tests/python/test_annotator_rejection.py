"""The one rule of Unknown: training, the leave-one-type-out table and annotation give a cell the same p-value."""

import numpy as np
import pytest
from annotator_cells import TYPES, made_cells
from spikgpt.annotator import leave_out
from spikgpt.annotator.annotation import Annotator
from spikgpt.annotator.conformal import Calibration
from spikgpt.annotator.held_out import Training
from spikgpt.annotator.neighbours import MIN_CELLS_TO_POOL
from spikgpt.annotator.network import Recipe, SpikingTransformer
from spikgpt.annotator.rejection import Rejection, Signs, rejected
from spikgpt.annotator.training_set import Reference
from spikgpt.annotator.views import distance_names

RATE = 0.05


@pytest.fixture(scope="module")
def training() -> Training:
    data, embedding = made_cells(dict.fromkeys(TYPES, 90), seed=3, name="ref")
    texts = [data.obs[column].tolist() for column in ("cell_type", "batch")]
    reference = Reference.of(
        data.layers["counts"], list(data.var_names), embedding, *texts, list(data.obs_names), "both"
    )
    return Training(reference, "both", Recipe(min_steps=40, max_steps=40), {}, SpikingTransformer, 0)


def rule(kinds: tuple[str, ...], allowance: float) -> Rejection:
    """That of an annotator with these calibrations; what they hold is not asked for."""
    empty = Calibration(*[np.zeros(0)] * 8)
    return Rejection(dict.fromkeys(kinds, empty), allowance)


@pytest.mark.parametrize("allowance", [1.0, 2.0])
@pytest.mark.parametrize("kinds", [("pooled", "single"), ("single",)])
def test_table_and_annotation_give_one_p_value(training, kinds, allowance):
    """The cells of a row of the table, annotated by the product with what the row's model learned."""
    reference = training.reference
    train, test = (np.flatnonzero(reference.batch_codes == batch) for batch in (0, 1))
    assert len(test) >= MIN_CELLS_TO_POOL
    arguments = (training, train, test, 1, RATE, 0.4, rule(kinds, allowance))
    judged = leave_out.without_type(*arguments)
    assert judged.rejection.allowance == allowance
    assert set(judged.rejection.calibrations) == {kinds[0]}
    config = {
        "classes": reference.classes,
        "genes": reference.genes,
        "features": "both",
        "scgpt": {"embedding_size": reference.embedding.shape[1]},
        "calibration": {"distances": distance_names("both")},
        "depth": {"low": 0.0},
        "ontology": {},
    }
    annotator = Annotator(judged.views, judged.mixture, judged.rejection, config)
    rows = judged.rows
    table, figures = annotator.annotate(
        reference.counts[rows],
        reference.genes,
        reference.embedding[rows],
        [f"cell-{number:04d}" for number in range(len(rows))],
        RATE,
    )
    assert figures["pooled"] == (kinds[0] == "pooled")
    np.testing.assert_array_equal(table["spikgpt_p_value"], judged.p_values.astype(np.float32))
    unseen = reference.codes[rows] == 1
    unknown = (table["spikgpt_cell_type"] == "Unknown").to_numpy()
    row = leave_out.table_row(*arguments)
    assert row["caught"] == round(unknown[unseen].mean(), 6)
    assert row["cells"] == unseen.sum()
    assert row["mistaken_for"] == table["spikgpt_best_match"][unseen].value_counts().index[0]


def signs(distances: np.ndarray, kind: str = "single") -> Signs:
    cells = len(distances)
    return Signs(distances[:, None], np.full(cells, 0.1), np.arange(cells) % 2, np.ones(2, bool), kind)


def test_the_allowance_multiplies_p_values_up_to_one():
    draw = np.random.default_rng(0)
    held_out = [(signs(draw.normal(size=100)), np.ones(100, bool), fold) for fold in (0, 1)]
    plain, doubled = (Rejection.learn(held_out, allowance, 2) for allowance in (1.0, 2.0))
    new = signs(draw.normal(size=500))
    p, twice = plain.judge(new).p_value, doubled.judge(new).p_value
    np.testing.assert_allclose(twice, np.minimum(2 * p, 1), atol=2e-6)
    assert twice.max() == 1
    # a cell is rejected at exactly the rate
    assert rejected(np.array([0.05, 0.050001]), 0.05).tolist() == [True, False]


def test_a_kind_that_a_fold_lacks_is_not_calibrated():
    draw = np.random.default_rng(0)
    folds = [(signs(draw.normal(size=60), kind), np.ones(60, bool), 0) for kind in ("pooled", "single")]
    folds.append((signs(draw.normal(size=60)), np.ones(60, bool), 1))
    rejection = Rejection.learn(folds, 1.0, 2)
    assert list(rejection.calibrations) == ["single"]
    assert rejection.neighbours(None, None) is None  # so no sample is pooled either
    assert list(Rejection.learn(folds[:2], 1.0, 2).calibrations) == ["pooled", "single"]


def test_cells_that_do_not_calibrate_leave_no_trace():
    draw = np.random.default_rng(0)
    distances = draw.normal(size=100)
    counted = np.arange(100) % 4 > 0
    whole = Rejection.learn([(signs(distances), counted, 0)], 1.0, 2)
    distances[~counted] += 50
    moved = Rejection.learn([(signs(distances), counted, 0)], 1.0, 2)
    assert len(whole.calibrations["single"].score) == counted.sum()
    np.testing.assert_array_equal(whole.calibrations["single"].score, moved.calibrations["single"].score)
