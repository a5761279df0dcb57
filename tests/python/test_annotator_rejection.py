"""The one rule of Unknown: training, the leave-one-type-out table and annotation give a cell the same p-value."""

import numpy as np
import pandas as pd
import pytest
from annotator_cells import TYPES, made_cells
from scipy.stats import norm
from spikgpt.annotator import leave_out
from spikgpt.annotator.annotation import Annotator
from spikgpt.annotator.batch import LIKE, UNLIKE, weighted_quantile
from spikgpt.annotator.correction import GROUP, LIMITS, Constants, lower_group, lower_groups, shared_shift
from spikgpt.annotator.held_out import Training
from spikgpt.annotator.missing_types import all_rejected, interval, rejected_types
from spikgpt.annotator.neighbours import MIN_CELLS_TO_POOL
from spikgpt.annotator.network import Recipe, SpikingTransformer
from spikgpt.annotator.rejection import (
    Calibration,
    Rejection,
    Signs,
    at_least_the_rate,
    rejected,
    tail_excess,
    transferred,
)
from spikgpt.annotator.training_set import Reference
from spikgpt.annotator.views import distance_names

RATE = 0.05
DISTANCES = distance_names("both")
SIGNS = [*DISTANCES, "doubt"]
TYPE_LEVELS = np.array([-1.0, -0.3, 0.0, 0.4, 1.0])
"""Where the cells of five made types lie in every sign, in widths."""


@pytest.fixture(scope="module")
def training() -> Training:
    data, embedding = made_cells(dict.fromkeys(TYPES, 90), seed=3, name="ref")
    texts = [data.obs[column].tolist() for column in ("cell_type", "batch")]
    reference = Reference.of(
        data.layers["counts"], list(data.var_names), embedding, *texts, list(data.obs_names), "both"
    )
    return Training(reference, "both", Recipe(min_steps=40, max_steps=40), {}, SpikingTransformer, 0, True)


def rule(kinds: tuple[str, ...], by_batch: bool) -> Rejection:
    """That of an annotator with these calibrations; what they hold is not asked for."""
    empty = Calibration(*[np.zeros(0)] * 5)
    return Rejection(dict.fromkeys(kinds, empty), SIGNS, len(TYPES), by_batch)


@pytest.mark.parametrize("by_batch", [True, False])
@pytest.mark.parametrize("kinds", [("pooled", "single"), ("single",)])
def test_table_and_annotation_give_one_p_value(training, kinds, by_batch):
    """The cells of a row of the table, annotated by the product with what the row's model learned."""
    reference = training.reference
    train, test = (np.flatnonzero(reference.batch_codes == batch) for batch in (0, 1))
    assert len(test) >= MIN_CELLS_TO_POOL
    arguments = (training, train, test, 1, RATE, 0.4, rule(kinds, by_batch))
    judged = leave_out.without_type(*arguments)
    assert judged.rejection.by_batch == by_batch
    assert set(judged.rejection.calibrations) == {kinds[0]}
    config = {
        "classes": reference.classes,
        "genes": reference.genes,
        "features": "both",
        "scgpt": {"embedding_size": reference.embedding.shape[1]},
        "depth": {"low": 0.0},
        "ontology": {},
        "levels": {"source": "flat", "told": "", "nodes": [], "least_log_p": [-3.0] * 11, "far": [], "held_out": {}},
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
    row, of_cells = leave_out.judged_type(*arguments)
    np.testing.assert_array_equal(of_cells.p_value, judged.p_values[unseen])
    assert row["caught"] == round(unknown[unseen].mean(), 6)
    assert row["interval"][0] <= row["caught"] <= row["interval"][1]
    assert row["cells"] == unseen.sum()
    assert row["mistaken_for"] == table["spikgpt_best_match"][unseen].value_counts().index[0]


def test_every_batch_of_a_fold_is_a_sample_of_its_own(training):
    reference = training.reference
    everything = np.arange(len(reference.codes))
    assert [set(reference.batch_codes[rows]) for rows in training.samples(everything)] == [{0}, {1}]
    # predicted alone too: the other batch of the fold changes nothing
    fold_of = np.where(everything % 2 == 0, 0, 1)
    held = training.held_out(fold_of, 1)
    alone = held.views.log_probabilities(training.cells(held.rows[: held.samples[0]]))
    for name, values in alone.items():
        np.testing.assert_array_equal(held.log_probabilities[name][: held.samples[0]], values)


# --- signs without cells: what the rule does with them -------------------------------------------------


def sample(
    draw: np.random.Generator, cells: dict[int, int], shift: float | np.ndarray = 0.0, likeness: float = 1.0
) -> Signs:
    """Signs of made cells: normal, a type at its own level, the 95th percentile one width above the median."""
    predicted = np.repeat(list(cells), list(cells.values()))
    shared = draw.normal(size=(len(predicted), 1))
    values = (0.6 * shared + 0.8 * draw.normal(size=(len(predicted), len(SIGNS)))) / norm.isf(0.05)
    return Signs(values + TYPE_LEVELS[predicted][:, None] + shift, predicted, likeness, "single")


EVEN = dict.fromkeys(range(5), 100)


def learned(draw: np.random.Generator, samples: int = 4, by_batch: bool = False) -> Rejection:
    """A rule of five types with 100 held-out cells in each sample."""
    held_out = [(sample(draw, EVEN), np.ones(500, bool)) for _ in range(samples)]
    return Rejection.learn(held_out, DISTANCES, 5, by_batch)


@pytest.mark.parametrize("by_batch", [True, False])
def test_exchangeable_cells_are_rejected_at_the_rate(by_batch):
    """But for what the transfer takes off and `at_least_the_rate` gives back.

    With p-values doubled it would be half of the rate, and the median p-value 1.
    """
    draw = np.random.default_rng(0)
    judge = learned(draw, by_batch=by_batch).judge
    samples = [judge(sample(draw, EVEN)).p_value for _ in range(20)]
    for rate in (0.01, 0.05, 0.1, 0.2):
        shares = [rejected(p_value, rate).mean() for p_value in samples]
        assert min(shares) >= Constants().known * rate - 1e-9
        assert np.mean(shares) == pytest.approx(0.9 * rate, rel=0.25)
    assert np.median(np.concatenate(samples)) == pytest.approx(0.5, abs=0.02)


def test_the_shared_shift_is_the_median_over_types():
    moved = np.array([[0.1], [0.2], [0.3], [4.0], [5.0]])
    number, reference = np.array([15.0, 15.0, 15.0, 300.0, 300.0]), np.full(5, 300.0)
    assert shared_shift(moved, reference, reference) == 0.3
    assert shared_shift(moved, number, reference) == 4.0  # large types tell more surely where they are
    assert shared_shift(np.empty((0, 2)), np.empty(0), np.empty(0)).tolist() == [0.0, 0.0]


def test_a_gap_parts_two_groups_and_no_single_one():
    draw = np.random.default_rng(0)
    one = [
        draw.normal(size=400), draw.uniform(size=400), draw.exponential(size=400), draw.standard_t(3, size=400),
        np.zeros(400), draw.normal(size=2 * GROUP - 1) + 9 * (np.arange(2 * GROUP - 1) < GROUP - 1),
    ]  # fmt: skip
    for values in one:
        assert lower_group(values).all()
    for upper in (GROUP, 100, 300):
        values = draw.normal(size=400) + 7 * (np.arange(400) < upper)
        np.testing.assert_array_equal(lower_group(values), np.arange(400) >= upper)
    assert lower_group(draw.normal(size=400) + 2 * (np.arange(400) < 200)).all()  # they run into each other


def test_each_type_is_parted_by_fit_and_by_doubt():
    draw = np.random.default_rng(0)
    u, predicted = draw.normal(size=(300, 5)), np.repeat([0, 1, 2], 100)
    u[:40, :-1] += 12  # of type 0, by fit
    u[100:130, -1] += 12  # of type 1, by doubt
    u[200:] += 12  # type 2 moved as a whole
    by_fit, by_doubt = lower_groups(u, predicted)
    np.testing.assert_array_equal(by_fit, np.arange(300) >= 40)
    np.testing.assert_array_equal(by_doubt, (np.arange(300) < 100) | (np.arange(300) >= 130))


@pytest.mark.parametrize("by_batch", [True, False])
@pytest.mark.parametrize("unseen", [0.3, 0.7])
def test_cells_apart_from_their_type_do_not_make_its_shift(by_batch, unseen):
    """Two predicted types, both mixed with the cells of a missing one: they were taken for the sample's batch."""
    draw = np.random.default_rng(0)
    rule, signs = learned(draw, by_batch=by_batch), sample(draw, {1: 300, 3: 300}, 0.5)
    missing = draw.permutation(600) < 600 * unseen
    signs.values[missing] += 5.0
    judged = rule.judge(signs)
    np.testing.assert_allclose(judged.shift, 0.5, atol=0.3)
    assert rejected(judged.p_value, RATE)[missing].mean() > 0.99
    assert 0.8 * RATE - 0.01 <= rejected(judged.p_value, RATE)[~missing].mean() <= 0.08


def test_a_sample_is_rejected_at_least_at_the_rate_times_its_known_share():
    """At every rate, by rank alone; p-values only become smaller, and keep their order."""
    draw = np.random.default_rng(0)
    score = draw.normal(size=1000)
    careful = np.round(norm.sf(score) ** 0.2, 2)  # few small p-values, and ties
    every = np.ones(1000, dtype=bool)
    given = at_least_the_rate(careful, score, every, Constants(known=0.8))
    for rate in (0.01, 0.05, 0.1, 0.2, 0.5):
        assert rejected(careful, rate).mean() < rate / 4
        assert rejected(given, rate).sum() == int(1000 * 0.8 * rate)
    assert (given <= careful).all()
    assert (np.diff(given[np.argsort(-score)]) >= 0).all()
    many = norm.sf(score) ** 5
    np.testing.assert_array_equal(at_least_the_rate(many, score, every, Constants(known=0.8)), many)
    np.testing.assert_array_equal(at_least_the_rate(careful, score, every, Constants(known=0.0)), careful)
    alike = at_least_the_rate(np.full(100, 0.9), np.repeat([1.0, 0.0], [30, 70]), every[:100], Constants(known=0.8))
    np.testing.assert_allclose(alike, np.repeat([0.3 / 0.8, 0.9], [30, 70]))
    assert len(at_least_the_rate(np.empty(0), np.empty(0), every[:0], Constants())) == 0

    apart = score > 1  # a sixth of the cells, which a gap sets apart: the rate is that of the others
    given = at_least_the_rate(careful, score, ~apart, Constants(known=0.8))
    assert rejected(given, 0.05)[apart].all()
    assert rejected(given, 0.05)[~apart].sum() == int((~apart).sum() * 0.8 * 0.05)


@pytest.mark.parametrize(
    ("cells", "large"), [({2: 300}, 1), ({1: 200, 3: 200}, 2), ({2: 450, 0: 50, 1: 50, 4: 50}, 4), (EVEN, 5)]
)
def test_a_batch_effect_is_taken_off_whatever_the_composition(cells, large):
    """No cliff: one type, two types, one dominant type and five even ones are corrected alike."""
    draw = np.random.default_rng(1)
    judge = learned(draw).judge
    shift = np.array([2.0, 1.5, 0.8, 2.0, 0.5])
    judgement = judge(sample(draw, cells, shift))
    assert judgement.gate == 1
    width = learned(draw)._held_out("single").scale.width
    np.testing.assert_allclose(judgement.shift, shift / width, atol=0.25)
    assert rejected(judgement.p_value, RATE).mean() < 0.08
    assert bool(judgement.not_calibrated) == (large < 3)
    if large < 3:
        assert "cannot be told from a batch effect" in judgement.not_calibrated[0]


def test_the_correction_fades_where_a_batch_ends():
    draw = np.random.default_rng(2)
    judge = learned(draw).judge
    shares, gates = [], []
    for times in (0.5, 1.0, 1.25, 1.6):
        width = learned(draw)._held_out("single").scale.width
        judgement = judge(sample(draw, EVEN, times * width * [LIMITS[name] for name in SIGNS]))
        gates.append(judgement.gate)
        shares.append(rejected(judgement.p_value, RATE).mean())
        assert any("widths" in reason for reason in judgement.not_calibrated) == (times > 1.1) or times == 1.0
    assert gates[0] == 1
    assert 0.2 < gates[2] < 0.8
    assert gates[3] == 0
    assert shares == sorted(shares)
    assert shares[0] < 0.06
    assert shares[3] > 0.95


def test_a_sample_that_looks_unlike_the_reference_is_not_corrected():
    draw = np.random.default_rng(3)
    judge = learned(draw).judge
    found = {like: judge(sample(draw, EVEN, 2.0, like)) for like in (LIKE, (LIKE + UNLIKE) / 2, UNLIKE)}
    assert [judgement.gate for judgement in found.values()] == pytest.approx([1, 0.5, 0])
    assert [bool(judgement.not_calibrated) for judgement in found.values()] == [False, True, True]
    assert "look too little like" in found[UNLIKE].not_calibrated[0]
    shares = [rejected(judgement.p_value, RATE).mean() for judgement in found.values()]
    assert shares == sorted(shares)
    assert shares[0] < 0.06
    assert shares[2] > 0.65


@pytest.mark.parametrize("by_batch", [True, False])
def test_an_unseen_type_among_others_stays_unknown(by_batch):
    draw = np.random.default_rng(4)
    judge = learned(draw, by_batch=by_batch).judge
    signs = sample(draw, EVEN, 0.5)
    unseen = signs.predicted == 3
    signs.values[unseen] += 3.0
    p_value = judge(signs).p_value
    assert rejected(p_value[unseen], RATE).mean() > 0.9
    assert rejected(p_value[~unseen], RATE).mean() < 0.08


def test_a_small_type_far_from_its_profile_is_not_rejected_wholesale():
    """Six held-out cells whose markers are seen less often than expected: so are the sample's, which are known."""
    draw = np.random.default_rng(5)
    held_out = []
    for _ in range(3):
        signs = sample(draw, {**dict.fromkeys(range(4), 120), 4: 2})
        signs.values[signs.predicted == 4, 2] += 8.0
        held_out.append((signs, signs.predicted != 4))
    rule = Rejection.learn(held_out, DISTANCES, 5, False)
    signs = sample(draw, {**dict.fromkeys(range(4), 120), 4: 25})
    small = signs.predicted == 4
    signs.values[small, 2] += 8.0
    p_value = rule.judge(signs).p_value
    assert rejected(p_value[small], RATE).mean() < 0.5
    assert rejected(p_value[~small], RATE).mean() < 0.08
    # nothing known of the type: then 8 widths are another type
    without = [(signs.take(signs.predicted != 4), counted[signs.predicted != 4]) for signs, counted in held_out]
    p_value = Rejection.learn(without, DISTANCES, 5, False).judge(signs).p_value
    assert rejected(p_value[small], RATE).mean() > 0.7


def test_a_level_is_put_back_as_far_as_the_held_out_scores_hold_it():
    draw = np.random.default_rng(5)
    held_out = []
    for _ in range(3):
        signs = sample(draw, EVEN)
        signs.values[signs.predicted == 4, 2] += 8.0
        half = np.arange(500) % 2 == 0
        held_out.append((signs, (signs.predicted < 3) | ((signs.predicted == 3) & half)))
    scale = Rejection.learn(held_out, DISTANCES, 5, False)._held_out("single").scale
    below = scale.level < 0
    np.testing.assert_array_equal(scale.put_back[below], scale.level[below])
    assert below[0].all()
    np.testing.assert_array_equal(scale.put_back[2], np.minimum(scale.level[2], Constants().level))
    np.testing.assert_allclose(scale.put_back[3], 0.5 * scale.level[3])
    assert (scale.level[4] > 0).all()
    assert scale.level[4, 2] > 3 * Constants().level
    assert (scale.put_back[4] == 0).all()


def test_types_that_moved_apart_are_named():
    draw = np.random.default_rng(9)
    rule = learned(draw)
    width = rule._held_out("single").scale.width
    moved = sample(draw, EVEN, width)
    assert rule.judge(moved).not_calibrated == []
    of_type = (moved.predicted == 3)[:, None]
    for widths, named in ((1.5, False), (3.5, True)):  # of a fifth of the cells: 0.7 and 1.6 over all
        apart = Signs(moved.values + widths * width * of_type, moved.predicted, 1.0, "single")
        assert any("by unlike amounts" in reason for reason in rule.judge(apart).not_calibrated) == named
    # most cells of a type, with a gap to the others: no part of the shift, but named all the same
    most = of_type * (np.arange(len(of_type)) % 10 < 8)[:, None]
    gap = rule.judge(Signs(moved.values + 6 * width * most, moved.predicted, 1.0, "single"))
    np.testing.assert_allclose(gap.shift, 1.0, atol=0.3)
    assert any("by unlike amounts" in reason for reason in gap.not_calibrated)


def test_own_spread_is_used_where_batches_were_held_out():
    """A type that is wider than the others in every batch is rejected less for it, and the others more."""
    draw = np.random.default_rng(6)
    wide = np.array([1, 1, 1, 1, 2.5])

    def spreading() -> Signs:
        signs = sample(draw, EVEN)
        middle = TYPE_LEVELS[signs.predicted][:, None]
        signs.values = middle + (signs.values - middle) * wide[signs.predicted][:, None]
        return signs

    held_out = [(spreading(), np.ones(500, bool)) for _ in range(4)]
    new = [spreading() for _ in range(10)]
    share = {}
    for by_batch in (False, True):
        judge = Rejection.learn(held_out, DISTANCES, 5, by_batch).judge
        of_types = [[rejected(judge(s).p_value, RATE)[s.predicted == k].mean() for k in range(5)] for s in new]
        share[by_batch] = np.mean(of_types, axis=0)
    assert share[True][4] < 0.8 * share[False][4]
    assert share[True][:4].mean() > share[False][:4].mean()


def test_a_heavier_tail_is_the_types_median_against_held_out_samples():
    z = np.sort(np.random.default_rng(7).normal(size=4000))
    predicted = np.arange(4000) % 4
    expected = norm.isf(0.2)
    assert tail_excess(z, predicted, expected) == pytest.approx(0, abs=0.05)
    assert tail_excess(z + 1, predicted, expected) == pytest.approx(1, abs=0.05)
    assert tail_excess(z + 9, predicted, expected) == 2  # no more than that
    # one unseen type of four does not make the others' tails heavier
    assert tail_excess(z + 3 * (predicted == 2), predicted, expected) == pytest.approx(0, abs=0.05)
    assert tail_excess(z[:8] + 1, predicted[:8], expected) == 0  # no type is large enough to tell
    np.testing.assert_allclose(
        transferred(np.array([-1.0, 0.0, 2.4]), Constants()), [-1.0, 0.0, 2.4 / Constants().transfer]
    )


def test_a_kind_that_most_samples_lack_is_not_calibrated():
    draw = np.random.default_rng(0)

    def pooled(signs: Signs) -> Signs:
        return Signs(signs.values, signs.predicted, signs.likeness, "pooled")

    held_out = [(sample(draw, EVEN), np.ones(500, bool)) for _ in range(5)]
    some = [(pooled(signs), counted) for signs, counted in held_out]
    assert list(Rejection.learn(held_out + some, DISTANCES, 5, True).calibrations) == ["pooled", "single"]
    assert list(Rejection.learn(held_out + some[:4], DISTANCES, 5, True).calibrations) == ["pooled", "single"]
    rejection = Rejection.learn(held_out + some[:3], DISTANCES, 5, True)
    assert list(rejection.calibrations) == ["single"]
    assert rejection.neighbours(None, None) is None  # so no sample is pooled either


def test_cells_of_types_that_do_not_count_have_no_score():
    draw = np.random.default_rng(0)
    signs = sample(draw, EVEN)
    counted = signs.predicted < 4
    whole = Rejection.learn([(signs, counted)], DISTANCES, 5, False)._held_out("single")
    moved = Signs(signs.values + 50 * ~counted[:, None], signs.predicted, 1.0, "single")
    other = Rejection.learn([(moved, counted)], DISTANCES, 5, False)._held_out("single")
    assert len(whole.score) == counted.sum()
    np.testing.assert_array_equal(whole.scale.centre, other.scale.centre)
    np.testing.assert_allclose(whole.score, other.score, atol=0.05)


def test_a_rate_that_the_held_out_cells_cannot_give_is_named():
    draw = np.random.default_rng(8)
    small = Rejection.learn([(sample(draw, dict.fromkeys(range(5), 12)), np.ones(60, bool))], DISTANCES, 5, False)
    assert small.least_p_value("single") == 1 / 61
    p_value = small.judge(sample(draw, EVEN, 9.0)).p_value
    assert rejected(p_value, 0.01).mean() == pytest.approx(0.01 * Constants().known)  # all of them are foreign
    assert rejected(p_value, 0.03).all()


def test_a_type_rejected_wholesale_is_named():
    match = pd.Series(["Mono"] * 78 + ["B"] * 40 + ["NK"] * 19 + ["T"] * 50)
    unknown = np.r_[np.ones(78, bool), np.ones(33, bool), np.zeros(7, bool), np.ones(19, bool), np.zeros(50, bool)]
    found = rejected_types(match, unknown)
    assert [all_rejected(row) for row in found] == [
        "33 of 40 cells nearest to B were rejected",
        "all 78 cells nearest to Mono were rejected",
    ]


def test_interval_and_quantile():
    low, high = interval(15, 20)
    assert (round(low, 3), round(high, 3)) == (0.531, 0.888)  # Wilson's
    assert interval(20, 20)[0] > 0.8
    assert weighted_quantile(np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 5.0])) == 2
    assert weighted_quantile(np.array([3.0, 1.0, 2.0]), np.array([5.0, 1.0, 1.0])) == 3
    # a cell is rejected at exactly the rate
    assert rejected(np.array([0.05, 0.050001]), 0.05).tolist() == [True, False]
