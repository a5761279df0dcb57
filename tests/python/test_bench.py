"""The bench: its metrics, its reading of the paper, and the page that is made of its figures."""

import json
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from annotator_cells import made_cells
from conftest import ROOT
from spikgpt.annotator.network import Architecture, Recipe, counted_spikes, firing_rates, log_probabilities
from spikgpt.annotator.network import train as train_network
from spikingjelly.activation_based import functional

sys.path.append(str(ROOT / "bench"))

import write_docs
from compare import ABLATION_SPLITS, plan
from library.methods import METHODS, PAPER_MODE
from library.metrics import caught_at_rate, figures, oscr
from library.networks import PlainTransformer
from library.own import reference_of, train
from library.paper_mode import PAPER, NormOfCopies, PaperMode
from library.splits import Side, split
from library.task import Task
from resample import thinned
from sections import annotator as section
from sections import speed as speed_section
from speed import drawn


def test_caught_counts_ties_in_proportion():
    # 20 known cells: one may be rejected, and the two lowest share the lowest score
    belongs = np.r_[[0.1, 0.1], np.linspace(0.5, 1, 18), [0.05, 0.1, 0.9, 0.95]]
    unseen = np.r_[np.zeros(20, bool), np.ones(4, bool)]
    assert caught_at_rate(belongs, unseen) == pytest.approx((1 + 0.5) / 4)


def test_caught_of_a_perfect_score_is_all_and_of_a_blind_one_the_rate():
    unseen = np.r_[np.zeros(100, bool), np.ones(50, bool)]
    assert caught_at_rate(np.where(unseen, 0.0, 1.0), unseen) == 1
    assert caught_at_rate(np.ones(150), unseen) == pytest.approx(0.05)


def test_oscr_is_the_accuracy_when_unseen_cells_rank_last():
    unseen = np.r_[np.zeros(10, bool), np.ones(5, bool)]
    right = np.r_[np.ones(8, bool), np.zeros(7, bool)]
    assert oscr(np.where(unseen, 0.1, 0.9), right, unseen) == pytest.approx(0.8)
    assert oscr(np.where(unseen, 0.9, 0.1), right, unseen) == pytest.approx(0.0)


def test_figures_keep_known_and_unseen_cells_apart():
    truth = np.array(["a"] * 40 + ["b"] * 40 + ["c"] * 40, dtype=object)
    best = np.array(["a"] * 40 + ["b"] * 30 + ["a"] * 50, dtype=object)
    sure = np.r_[np.full(80, 0.9), np.full(40, 0.2)]
    unknown = np.r_[np.zeros(36, bool), np.ones(4, bool), np.zeros(40, bool), np.ones(30, bool), np.zeros(10, bool)]
    found = figures(truth, {"a", "b"}, best, sure, sure, unknown)
    assert (found["known_cells"], found["unseen_cells"]) == (80, 40)
    assert found["accuracy"] == pytest.approx(70 / 80)
    assert found["macro_f1"] == pytest.approx((80 / 90 + 60 / 70) / 2)
    assert found["ece"] == pytest.approx(0.9 - 70 / 80)
    assert (found["false_unknown"], found["worst_class_false_unknown"]) == (0.05, 0.1)
    assert (found["worst_class"], found["unseen_unknown"]) == ("a", 0.75)
    assert (found["auroc"], found["caught_at_5"]) == (1.0, 1.0)


def test_figures_without_probability_or_own_rule():
    truth = np.array(["a"] * 40 + ["c"] * 40, dtype=object)
    found = figures(truth, {"a"}, truth, np.r_[np.ones(40), np.zeros(40)], None, None)
    assert (found["ece"], found["false_unknown"], found["unseen_unknown"]) == (None, None, None)
    assert found["auroc"] == 1.0


class Repeated(PaperMode):
    """Paper mode as it reads: every copy is a token and goes through every layer."""

    def forward(self, embedding):
        functional.reset_net(self)
        shape = self.shape
        cells = len(embedding)
        copies = embedding[:, None].expand(cells, shape.tokens, -1)
        stream = self.encode(copies.expand(shape.time_steps, *copies.shape))
        for block in self.blocks:
            query, key, value = (
                part(stream).unflatten(-1, (shape.heads, -1)).transpose(2, 3)
                for part in (block.query, block.key, block.value)
            )
            mixed = (query @ key.transpose(-2, -1)) @ value * shape.attention_scale
            mixed = block.attention_lif(mixed.transpose(2, 3).flatten(3))
            stream = stream + block.project(mixed)
            stream = stream + block.mlp(stream)
        self.copies = stream
        return self.read_out(stream.mean((0, 2)))


@pytest.fixture
def both():
    """The same weights twice: paper mode on one copy, and with all its copies."""
    form = Architecture(embedding_size=16, classes=3, **{**PAPER, "tokens": 5, "heads": 2, "depth": 2})
    torch.manual_seed(0)
    one, many = PaperMode(form), Repeated(form)
    many.load_state_dict(one.state_dict())
    for module in many.modules():
        if isinstance(module, NormOfCopies):
            module.copies = 1  # its rows are the copies themselves
    for network in (one, many):
        for block in network.blocks:
            # so that a small sum of spikes reaches the attention neurons' threshold
            block.scale = 1.0
        network.shape = replace(form, attention_scale=1.0)
    return one, many, torch.randn(12, 16) * 2


def test_paper_mode_equals_its_repetition(both):
    one, many, cells = both
    for network in (one, many):
        network.train()
    with counted_spikes(one) as spikes_of_one, counted_spikes(many) as spikes_of_all:
        a, b = one(cells), many(cells)
    torch.testing.assert_close(a, b)
    assert torch.equal(many.copies[:, :, 0], many.copies[:, :, 4])
    rates = firing_rates(spikes_of_one)
    assert rates == firing_rates(spikes_of_all)
    assert min(rates.values()) > 0  # attention too has something to say
    target = torch.arange(12) % 3
    for logits in (a, b):
        torch.nn.functional.cross_entropy(logits, target).backward()
    for (name, p), q in zip(one.named_parameters(), many.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=name, rtol=1e-3, atol=1e-5)
    for (name, p), q in zip(one.named_buffers(), many.buffers(), strict=True):
        torch.testing.assert_close(p, q, msg=name)
    for network in (one, many):
        network.eval()
    torch.testing.assert_close(one(cells), many(cells))


def test_paper_mode_learns():
    rng = np.random.default_rng(0)
    codes = np.arange(90) % 3
    cells = (rng.normal(size=(90, 16)) + 3 * np.eye(16)[codes]).astype(np.float32)
    form = Architecture(16, 3, **PAPER)
    recipe = Recipe(min_steps=120, max_steps=120)
    model = train_network(cells, codes, form, recipe, 0, PaperMode)
    assert (log_probabilities(model, cells).argmax(1) == codes).mean() > 0.8


@pytest.fixture(scope="module")
def small_task():
    """Three types to learn from; the query has a fourth."""

    def side(types, seed):
        data, embedding = made_cells(types, seed=seed, name=f"c{seed}")
        texts = [data.obs[column].to_numpy(dtype=object) for column in ("cell_type", "batch")]
        names = data.obs_names.to_numpy(dtype=object)
        return Side(data.layers["counts"].astype(np.float32), data.var_names.tolist(), *texts, names), embedding

    reference, of_reference = side({"B cell": 60, "NK cell": 60, "T cell": 60}, 3)
    query, of_query = side({"B cell": 40, "NK cell": 40, "T cell": 40, "new cell": 40}, 4)
    return Task(split("made", reference, query), of_reference, of_query, 0, whole=False)


@pytest.mark.parametrize("method", ["SpikGPT", PAPER_MODE, "linear SVM with rejection", "MLP on the embedding"])
def test_method_answers_for_every_query_cell(small_task, method):
    answer = METHODS[method].run(small_task)
    truth = small_task.split.query.labels
    found = figures(
        truth, {"B cell", "NK cell", "T cell"}, answer.best, answer.belongs, answer.probability, answer.unknown
    )
    assert (found["known_cells"], found["unseen_cells"]) == (120, 40)
    assert found["accuracy"] > 0.8
    assert 0 <= found["caught_at_5"] <= 1
    if method == "SpikGPT":
        assert set(answer.notes) == {"embedding_weight", "firing_rates", "architecture"}
        assert found["auroc"] > 0.8


def test_no_spikes_changes_the_annotators_network_and_nothing_else(small_task):
    cells = reference_of(small_task.split.reference, small_task.reference_embedding)
    annotator = train(cells, 0, spikes=False, table=False)
    assert isinstance(annotator.views.embedding.network, PlainTransformer)
    assert annotator.config["leave_one_out"] == []


def test_ablations_leave_out_what_is_the_default():
    default = Architecture(16, 2)
    assert f"SpikGPT, T = {default.time_steps}" not in METHODS
    assert f"SpikGPT, depth {default.depth}" not in METHODS
    assert {"SpikGPT, no attention", "SpikGPT, depth 0"} - {f"SpikGPT, depth {default.depth}"} <= set(METHODS)


def test_plan_repeats_what_draws_random_numbers(small_task):
    cells = small_task.split
    jobs = plan([cells], 3, list(METHODS), whole=True, left_out=True)
    assert cells.types_to_leave_out() == ["B cell", "NK cell", "T cell"]
    own = [job for job in jobs if job[2] == "SpikGPT"]
    assert [job[3] for job in own if job[1] is None] == [0, 1, 2]
    assert sorted(job[1:] for job in own if job[1]) == [(t, "SpikGPT", 0) for t in ("B cell", "NK cell", "T cell")]
    assert [job for job in jobs if job[2] == "SingleR" and job[1] is None] == [("made", None, "SingleR", 0)]
    # networks of ablations are trained on the splits named for it alone
    assert "made" not in ABLATION_SPLITS
    assert not [job for job in jobs if job[2] == "SpikGPT, no attention"]


def test_drawn_cells_are_thinned_and_all_different(small_task):
    side = small_task.split.reference
    cells, embedding = drawn(side, small_task.reference_embedding, 400, 0)
    assert cells.counts.shape == (400, len(side.genes))
    assert len(np.unique(embedding, axis=0)) == 400
    assert set(cells.labels) == set(side.labels)
    assert cells.counts.sum(1).mean() == pytest.approx(0.8 * side.counts.sum(1).mean(), rel=0.05)
    assert (cells.counts.data == np.round(cells.counts.data)).all()


def test_thinning_leaves_the_callers_matrix_alone(small_task):
    counts = small_task.split.reference.counts.copy()
    before = counts.toarray()
    less = thinned(counts, np.inf, np.random.default_rng(0), 0.3)
    assert less.nnz < counts.nnz
    assert less.sum() == pytest.approx(0.3 * counts.sum(), rel=0.05)
    np.testing.assert_array_equal(counts.toarray(), before)


def run(split, method, kind, f1, seed=0, left_out=None, **more):
    """A row of annotator.json."""
    row = {
        "family": split.split(" ")[0],
        "split": split,
        "left_out": left_out,
        "method": method,
        "kind": kind,
        "seed": seed,
        "reference_cells": 100,
        "types": 4,
        "known_cells": 80,
        "unseen_cells": 0 if left_out is None else 40,
        "accuracy": f1,
        "macro_f1": f1,
        "ece": 0.02,
        "false_unknown": 0.05,
        "worst_class_false_unknown": 0.1,
        "worst_class": "B",
        "accuracy_kept": f1,
        "unseen_unknown": None if left_out is None else 0.7,
        "auroc": None if left_out is None else 0.9,
        "caught_at_5": None if left_out is None else 0.6,
        "oscr": None if left_out is None else 0.8,
        "train_seconds": 1.0,
        "cells_per_second": 1000.0,
        "embedding_weight": None,
    }
    return row | more


@pytest.fixture
def small_figures():
    rows = []
    for name, base in ((section.BARON, 0.90), ("savercat others to V2", 0.80), ("savercat others to V3", 0.90)):
        for seed, noise in enumerate((-0.004, 0.004)):
            rows.append(run(name, "SpikGPT", "own", base + noise, seed))
            rows.append(run(name, "SpikGPT, no attention", "part", base - 0.001 - noise, seed))
            rows.append(run(name, "SpikGPT, depth 2", "part", base + 0.05 + noise, seed))
        rows.append(run(name, "SpikGPT, expression view alone", "part", base - 0.03))
        rows.append(run(name, section.REGRESSION, "peer", base - 0.05))
        rows.append(run(name, "CellTypist", "peer", base - 0.02))
    rows.append(run(section.BARON, "SpikGPT", "own", 0.9, left_out="alpha", caught_at_5=0.99))
    rows.append(run(section.BARON, "CellTypist", "peer", 0.9, left_out="alpha", auroc=0.95))
    return {
        "scgpt": {"name": "small", "sha256": "0" * 64},
        "architecture": {"time_steps": 4, "depth": 1},
        "versions": {"torch": "2"},
        "cores": 2,
        "minutes": 1.0,
        "not_run": ["SingleR: needs Rscript"],
        "failed": [],
        "firing_rates": [{"split": section.BARON, "layers": {"mlp_lif": 0.125}, "energy": {"linear": 0.5}}],
        "columns": list(rows[0]),
        "rows": [list(row.values()) for row in rows],
    }


def test_a_family_of_splits_counts_once(small_figures):
    frame = section.frame_of(small_figures)
    means = section.over_families(section.by_split(section.complete(frame), "macro_f1"))
    assert means["CellTypist"] == pytest.approx((0.88 + (0.78 + 0.88) / 2) / 2)
    # a method that did not run on a split has no mean
    lacking = frame[(frame["method"] != "CellTypist") | (frame["split"] == section.BARON)]
    assert np.isnan(section.over_families(section.by_split(section.complete(lacking), "macro_f1"))["CellTypist"])


def test_goals_reached_and_missed(small_figures):
    found = {goal.name: goal for goal in section.goals(section.frame_of(small_figures))}
    ahead = found["macro-F1, mean over splits, minus that of the best single method"]
    assert (ahead.reached, ahead.met) == ("+2.0 (CellTypist)", False)
    assert found["Baron's alpha cells caught at 5 %"].met is True
    assert found[f"AUROC of unseen against known cells, mean over types left out: {section.BARON}"].met is False
    assert found[f"AUROC of unseen against known cells, mean over types left out: {section.PBMC}"].met is None
    assert found["false Unknown at `unknown_rate` 0.05, every split"].met is True


def test_a_part_within_the_seeds_spread_adds_nothing(small_figures):
    text = section.parts(section.frame_of(small_figures), small_figures["architecture"])
    assert "- Attention adds nothing measurable (+0.10 points, seeds' spread 0.80)." in text
    assert "- The embedding view, spiking self-attention included, adds 3.00 points" in text
    assert "- 1 block(s) in place of 2 costs 5.00 points" in text


def test_page_has_every_section_that_has_figures(small_figures, tmp_path):
    (tmp_path / "annotator.json").write_text(json.dumps(small_figures), encoding="utf-8")
    page = write_docs.page(tmp_path)
    assert "Not run here: SingleR: needs Rscript." in page
    assert "12.5 %" in page
    assert "| Baron libraries 1 and 2 to 3 | 0.5 |" in page
    assert "## Speed" not in page
    seconds = {"train_seconds": 100.0, "annotate_seconds": 10.0, "cells_per_second": 2000.0}
    speed = {"cores": 2, "train_cells": 10, "annotate_cells": 20, "genes": 5, "types": 2, "kept": 0.8, "noise": 0.1}
    speed["methods"] = {"SpikGPT": seconds, "CellTypist": seconds | {"annotate_seconds": 30.0}}
    (tmp_path / "speed.json").write_text(json.dumps(speed), encoding="utf-8")
    page = write_docs.page(tmp_path)
    assert page.index("## Annotator") < page.index("## Speed")
    assert "| at least 4 | 3.0 | **no** |" in page
    assert speed_section.render(speed) in page + "\n"


def test_pictures_are_the_same_bytes_each_time(small_figures, tmp_path):
    (tmp_path / "annotator.json").write_text(json.dumps(small_figures), encoding="utf-8")
    drawn = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_docs.draw(tmp_path, tmp_path / name)
        drawn.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert set(drawn[0]) == {"macro_f1.svg", "unknown.svg"}
    assert drawn[0] == drawn[1]


def test_the_committed_page_is_what_its_figures_make():
    docs = ROOT / "docs"
    assert (docs / "benchmarks.md").read_text("utf-8") == write_docs.page(docs / "benchmarks")


def test_environments_agree():
    """The bench measures the product's packages: where both locks name one, they name the same version."""

    def pins(path):
        lines = path.read_text("utf-8").splitlines()
        return dict(line.split(" ")[0].split("==") for line in lines if "==" in line and not line.startswith(" "))

    product = pins(ROOT / "tools" / "env" / "requirements.lock")
    bench = pins(ROOT / "bench" / "env" / "requirements.lock")
    assert set(product) <= set(bench)
    assert pd.Series(product).equals(pd.Series(bench)[list(product)])
