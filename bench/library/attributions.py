"""Attributions of labels over genes, and what the product answers when a cell's genes are exchanged."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import scipy.sparse as sp
from library.splits import Side
from library.task import Floats32, Task
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from spikgpt.annotator import network
from spikgpt.annotator.annotation import Annotator, two_best
from spikgpt.annotator.attribution import against_the_mean, gene_attributions, gene_gradients
from spikgpt.annotator.batch import batch_offset
from spikgpt.annotator.cells import Cells
from spikgpt.annotator.distances import dispersed_genes
from spikgpt.annotator.expression import marker_scores, mean_log_probability
from spikgpt.annotator.probabilities import ABSENT, log_softmax
from spikgpt.base.groups import class_means, class_members, evenly
from spikgpt.base.normalisation import log1p_cp10k
from spikgpt.cohort.explanations import ASKED, TOP
from spikgpt.scgpt.embed import Embedder

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
MIN_CELLS = 3
"""A type is looked at where the product calls at least this many cells it."""
EXCHANGED = 50
"""Cells of a type at most whose genes are exchanged."""
SD_FLOOR = 0.05
"""Least standard deviation of log1p CP10k in the t statistic, so that a gene of one cell does not come first."""


@dataclass
class Sample:
    """A query as the product labels it, and everything needed to label single cells of it again.

    ``order`` (cells,) of the side's cells by barcode, as all that follows; ``rejected`` (cells,) those called Unknown.
    """

    task: Task
    annotator: Annotator
    embedder: Embedder
    order: Codes
    cells: Cells
    log_p: Floats
    rejected: NDArray[np.bool_]

    @classmethod
    def of(cls, task: Task, annotator: Annotator, embedder: Embedder, rate: float) -> "Sample":
        side = task.split.query
        order = np.argsort(side.barcodes, kind="stable")
        cells = annotator.aligned([side.counts], side.genes, task.query_embedding, order)
        own = annotator.own_signs(cells)
        return cls(task, annotator, embedder, order, cells, own.log_p, own.judgement.p_value <= rate)

    @property
    def side(self) -> Side:
        return self.task.split.query

    @cached_property
    def counts(self) -> sp.csr_matrix:
        """Counts ``(cells, genes of the side)``, cells by barcode."""
        return self.side.counts[self.order].tocsr()

    @cached_property
    def called(self) -> Codes:
        return self.log_p.argmax(1)

    @cached_property
    def groups(self) -> Codes:
        """Type of each cell ``(cells,)`` that has a label, -1 for an Unknown one or a type of too few."""
        groups = np.where(self.rejected, -1, self.called)
        few = np.bincount(groups[groups >= 0], minlength=len(self.annotator.classes)) < MIN_CELLS
        return np.where((groups >= 0) & few[groups], -1, groups)

    def some(self, most: int) -> Codes:
        """At most so many cells of each type, evenly spaced by barcode, sorted."""
        mine = [np.flatnonzero(self.groups == k) for k in self.types]
        return np.sort(np.concatenate([rows[evenly(len(rows), most)] for rows in mine]))

    @cached_property
    def asked(self) -> Codes:
        """The cells whose genes are exchanged."""
        return self.some(EXCHANGED)

    @cached_property
    def types(self) -> list[int]:
        return sorted(set(self.groups[self.groups >= 0].tolist()))

    @cached_property
    def offsets(self) -> tuple[dict[str, Floats], Floats]:
        """The sample's batch offsets of regressions and of the network's input."""
        view = self.annotator.views.expression
        _, predicted, sums = view._block(self.cells.counts(), self.cells.measured)
        of_cells = view.log_probabilities(self.cells).argmax(1)
        embedding = self.annotator.views.embedding
        values = embedding.standardised(self.cells.embedding).astype(np.float64)
        return (
            view.offsets(sums, predicted),
            batch_offset(values, of_cells, embedding.type_means, embedding.class_cells),
        )

    def answer(self, counts: sp.csr_matrix, embedding: Floats32) -> Floats:
        """Log-probabilities ``(cells, classes)`` of cells with other counts ``(cells, genes of the side)``, each in the
        sample as it was: batch offsets are kept."""
        views = self.annotator.views
        of_regressions, of_network = self.offsets
        cells = Cells(counts, np.arange(counts.shape[0]), self.cells.columns, embedding)
        z, on_few = views.expression.read(cells.counts(), cells.measured)
        judges = views.expression.judges(z, on_few, cells.measured)
        for judge, (name, scale) in enumerate(views.expression.scales.items()):
            judges[judge] -= scale.coefficients @ of_regressions[name]
        values = (views.embedding.standardised(embedding) - of_network).astype(np.float32)
        logits = network.log_probabilities(views.embedding.network, values)
        logits[:, ~views.present] = ABSENT
        return self.annotator.mixture({"expression": mean_log_probability(judges), "embedding": log_softmax(logits)})

    @cached_property
    def partners(self) -> Codes:
        """For each cell one of the sample that is called another type, drawn once for all methods."""
        draw = np.random.default_rng(0)
        return np.array([draw.choice(np.flatnonzero(self.called != own)) for own in self.called])

    def exchanged(self, genes: dict[int, Codes]) -> sp.csr_matrix:
        """Counts in which the genes of each cell's type are those of its partner, brought to the cell's depth."""
        counts = self.counts.tolil(copy=True)
        depth = np.asarray(self.counts.sum(1)).ravel()
        for cell in self.asked:
            columns, partner = genes[int(self.groups[cell])], self.partners[cell]
            taken = self.counts[partner, columns].toarray().ravel() * depth[cell] / depth[partner]
            counts[cell, columns] = np.rint(taken)
        made = counts.tocsr().astype(np.float32)
        made.eliminate_zeros()
        return made

    def lost(self, genes: dict[int, Codes]) -> tuple[dict[int, float], dict[int, float]]:
        """Probability of its label that a cell loses when the genes of its type are exchanged, and the share of cells
        whose label changes: means of each type."""
        counts = self.exchanged(genes)[self.asked]
        after = self.answer(counts, self.embedder.embed(counts, [str(cell) for cell in self.asked]))
        called = self.called[self.asked]
        at = np.arange(len(called)), called
        lost, changed = np.exp(self.log_p[self.asked])[at] - np.exp(after)[at], after.argmax(1) != called
        return tuple({k: float(of[called == k].mean()) for k in self.types} for of in (lost, changed))

    def top(self, scores: Floats) -> dict[int, Codes]:
        """The `TOP` genes of largest score ``(classes, genes of the side)`` of each type."""
        return {k: np.argsort(-scores[k], kind="stable")[:TOP] for k in self.types}

    def matched(self, genes: dict[int, Codes], seed: int, among: int = 40) -> dict[int, Codes]:
        """For each gene one drawn from those nearest in mean CP10k in its type; none of a type's own."""
        draw, out = np.random.default_rng(seed), {}
        for k, own in genes.items():
            mean = np.asarray(log1p_cp10k(self.counts[self.groups == k]).expm1().mean(0)).ravel()
            free, least = np.setdiff1d(np.flatnonzero(mean > 0), own), mean[mean > 0].min()
            picked: list[int] = []
            for gene in own:
                near = free[np.argsort(np.abs(np.log(mean[free] / max(mean[gene], least))), kind="stable")[:among]]
                picked.append(int(draw.choice(near)))
                free = free[free != picked[-1]]
            out[k] = np.array(picked)
        return out


def on_side(sample: Sample, of_annotator: Floats) -> Floats:
    """Scores ``(classes, annotator's genes)`` by the side's genes; genes that are not the annotator's last."""
    out = np.full((len(of_annotator), sample.counts.shape[1]), -np.inf)
    known = sample.cells.measured
    out[:, sample.cells.columns[known]] = of_annotator[:, known]
    return out


def exact(sample: Sample) -> Floats:
    """The expression view's own sum, the called type against the mean of all types."""
    view = sample.annotator.views.expression
    classes = np.arange(len(sample.annotator.classes))
    found = gene_attributions(view, sample.cells, sample.groups, against_the_mean(view.class_cells > 0, classes))
    number = np.bincount(sample.groups[sample.groups >= 0], minlength=len(classes))
    share = sample.annotator.mixture.scale * (1 - sample.annotator.mixture.weight)
    return on_side(sample, share * found / np.maximum(number, 1)[:, None])


def exact_runner_up(sample: Sample) -> Floats:
    """The same, the called type against each cell's second."""
    view = sample.annotator.views.expression
    classes = len(sample.annotator.classes)
    pairs = np.where(sample.groups >= 0, sample.groups * classes + two_best(sample.log_p)[1], -1)
    known = np.unique(pairs[pairs >= 0])
    contrast = np.zeros((len(known), classes))
    contrast[np.arange(len(known)), known // classes] += 1.0
    contrast[np.arange(len(known)), known % classes] -= 1.0
    groups = np.where(pairs >= 0, np.searchsorted(known, pairs), -1)
    found = gene_attributions(view, sample.cells, groups, contrast)
    number = np.bincount(sample.groups[sample.groups >= 0], minlength=classes)
    return on_side(sample, class_members(known // classes, classes) @ found / np.maximum(number, 1)[:, None])


def gradient(sample: Sample, most: int = ASKED) -> Floats:
    """Gradient times input of the embedding view's logit, the called type against the mean, in as many cells of a type
    as the product asks of a cluster."""
    annotator, classes = sample.annotator, len(sample.annotator.classes)
    cells = sample.some(most)
    groups = sample.groups[cells]
    found = gene_gradients(
        annotator.views.embedding, sample.embedder, sample.counts[cells], sample.cells.embedding[cells],
        sample.offsets[1], against_the_mean(annotator.views.present, groups),
    )  # fmt: skip
    share = annotator.mixture.scale * annotator.mixture.weight
    return share * class_means(found, groups, classes)


def whole_mixture(sample: Sample, most: int = ASKED) -> Floats:
    """The expression view's sum and the embedding view's gradient times input, by their weights in the mixture."""
    of_expression = exact(sample)
    return np.where(np.isfinite(of_expression), of_expression, 0.0) + gradient(sample, most)


def regression(sample: Sample) -> Floats:
    """Plain logistic regression on 2000 variable genes, as the bench of the annotator has it: coefficient, less the
    mean of all types, times scaled value."""
    reference = sample.task.split.reference
    genes = dispersed_genes(reference.counts, 2000)
    values = log1p_cp10k(reference.counts)[:, genes].toarray()
    mean, sd = values.mean(0), np.maximum(values.std(0), 1e-3)
    labels = np.searchsorted(sample.annotator.classes, reference.labels.astype(str))
    model = LogisticRegression(C=0.01, max_iter=500).fit(np.clip((values - mean) / sd, -10, 10), labels)
    classes = len(sample.annotator.classes)
    coefficients = np.zeros((classes, len(genes)))
    coefficients[model.classes_] = model.coef_ - model.coef_.mean(0)
    asked = np.clip((log1p_cp10k(sample.counts)[:, genes].toarray() - mean) / sd, -10, 10)
    told = sample.groups >= 0
    out = np.full((classes, sample.counts.shape[1]), -np.inf)
    out[:, genes] = coefficients * class_means(asked[told], sample.groups[told], classes)
    return out


def welch(sample: Sample) -> Floats:
    """Welch's t of log1p CP10k in the query, the cells called a type against all others with a label."""
    told = sample.groups >= 0
    return marker_scores(log1p_cp10k(sample.counts)[told], sample.groups[told], len(sample.annotator.classes), SD_FLOOR)


WHOLE = "SpikGPT: whole mixture"
BAR = "logistic regression, coefficient times value"
METHODS: dict[str, Callable[[Sample], Floats]] = {
    WHOLE: whole_mixture,
    "the same, gradients in 20 cells": partial(whole_mixture, most=20),
    "the same, gradients in every cell": partial(whole_mixture, most=sys.maxsize),
    "expression view, exact sum against the mean": exact,
    "expression view, exact sum against the runner-up": exact_runner_up,
    "embedding view, gradient times input": gradient,
    BAR: regression,
    "differential expression, Welch's t": welch,
}
RANDOM = "random genes of like expression"
RANDOM_DRAWS = 3


def constants() -> dict[str, int | str]:
    """What the section of the page tells of how it was measured."""
    return {
        "top": TOP,
        "asked": ASKED,
        "exchanged": EXCHANGED,
        "min_cells": MIN_CELLS,
        "random_draws": RANDOM_DRAWS,
        "own": WHOLE,
        "bar": BAR,
        "random": RANDOM,
    }


def markers_of(sample: Sample, type_: str, markers: dict[str, tuple[str, ...]]) -> set[str]:
    """The canonical markers of a type that both sides measured."""
    return set(markers.get(type_, ())) & set(sample.side.genes)


def recall(sample: Sample, genes: dict[int, Codes], markers: dict[str, tuple[str, ...]]) -> dict[str, float]:
    """Share of a type's canonical markers, of those that both sides measured, among its genes."""
    out = {}
    for k, own in genes.items():
        name = sample.annotator.classes[k]
        if wanted := markers_of(sample, name, markers):
            out[name] = len(wanted & {sample.side.genes[at] for at in own}) / len(wanted)
    return out


def timed_scores(method: Callable[[Sample], Floats], sample: Sample) -> tuple[Floats, float]:
    """Scores, and CPU milliseconds per cell."""
    started = time.process_time()
    scores = method(sample)
    return scores, 1000 * (time.process_time() - started) / len(sample.called)
