"""The methods of the bench. Each fits on a reference and says, of every query cell, what it is and how sure that is."""

import contextlib
import io
import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.svm import LinearSVC
from spikgpt import UNKNOWN
from spikgpt.annotator import spiking
from spikgpt.annotator.fit import log_cp10k, variable_genes
from spikgpt.annotator.reference import MIN_CELLS_OF_GENE, Reference
from spikgpt.annotator.train import train_annotator
from splits import Side, Split

Floats32 = NDArray[np.float32]
RATE = 0.05
SVM_REJECTS_BELOW = 0.7


@dataclass
class Answer:
    """What a method said; see `metrics.figures`. Seconds are CPU seconds of one thread."""

    best: NDArray[np.object_]
    belongs: NDArray[np.float64]
    probability: NDArray[np.float64] | None
    unknown: NDArray[np.bool_] | None
    train_seconds: float
    predict_seconds: float
    notes: dict[str, object]


@dataclass
class Task:
    """A split with the scGPT embeddings of both sides."""

    split: Split
    reference_embedding: Floats32
    query_embedding: Floats32
    seed: int


def from_probabilities(
    fit: Callable[[], object],
    predict: Callable[[object], tuple[NDArray[np.object_], NDArray[np.float64]]],
    rejects_below: float | None = None,
) -> Answer:
    start = time.process_time()
    model = fit()
    trained = time.process_time()
    best, probability = predict(model)
    done = time.process_time()
    unknown = None if rejects_below is None else probability < rejects_below
    return Answer(best, probability, probability, unknown, trained - start, done - trained, {})


def sklearn_answer(
    model: object, train: Callable[[], Floats32], labels: object, test: Callable[[], Floats32], **how: float
) -> Answer:
    """Fit a scikit-learn classifier with predict_proba."""

    def predict(fitted: object) -> tuple[NDArray[np.object_], NDArray[np.float64]]:
        p = fitted.predict_proba(test())
        return fitted.classes_[p.argmax(1)].astype(object), p.max(1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return from_probabilities(lambda: model.fit(train(), labels), predict, **how)


def gene_features(task: Task, number: int = 2000) -> tuple[Callable[[], Floats32], Callable[[], Floats32]]:
    """log1p CP10k of the reference's variable genes, scaled on the reference."""
    store: dict[str, object] = {}
    everything = np.ones(len(task.split.reference.genes), dtype=bool)

    def train() -> Floats32:
        genes = variable_genes(task.split.reference.counts, number)
        values = log_cp10k(task.split.reference.counts, genes, everything)
        store.update(genes=genes, mean=values.mean(0), sd=np.maximum(values.std(0), 1e-3))
        return np.clip((values - store["mean"]) / store["sd"], -10, 10)

    def test() -> Floats32:
        values = log_cp10k(task.split.query.counts, store["genes"], everything)
        return np.clip((values - store["mean"]) / store["sd"], -10, 10)

    return train, test


def embedding_features(task: Task) -> tuple[Callable[[], Floats32], Callable[[], Floats32]]:
    mean = task.reference_embedding.mean(0)
    sd = np.maximum(task.reference_embedding.std(0), 1e-6)
    return (
        lambda: ((task.reference_embedding - mean) / sd).astype(np.float32),
        lambda: ((task.query_embedding - mean) / sd).astype(np.float32),
    )


def spikgpt(task: Task, features: str = "both", **shape: int | float) -> Answer:
    """The annotator as the pipeline trains and applies it."""
    side = task.split.reference
    start = time.process_time()
    order = np.lexsort((side.barcodes.astype(str), side.batches.astype(str)))
    keep = np.flatnonzero(np.asarray((side.counts > 0).sum(axis=0)).ravel() >= MIN_CELLS_OF_GENE)
    counts = side.counts[order][:, keep].tocsr()
    classes, codes = np.unique(side.labels[order].astype(str), return_inverse=True)
    batches, batch_codes = np.unique(side.batches[order].astype(str), return_inverse=True)
    reference = Reference(
        counts,
        [side.genes[number] for number in keep],
        task.reference_embedding[order],
        codes.astype(np.int64),
        classes.tolist(),
        batch_codes.astype(np.int64),
        batches.tolist(),
        np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel(),
        0,
    )
    annotator = train_annotator(
        reference,
        scgpt={"name": "bench", "sha256": ""},
        unknown_rate=RATE,
        features=features,
        seed=task.seed,
        threads=1,
        shape=shape,
    )[0]
    trained = time.process_time()
    query = task.split.query
    table, said = annotator.annotate(query.counts, query.genes, task.query_embedding, list(query.barcodes), RATE)
    done = time.process_time()
    return Answer(
        table["spikgpt_best_match"].to_numpy(dtype=object),
        table["spikgpt_p_value"].to_numpy(dtype=np.float64),
        table["spikgpt_confidence"].to_numpy(dtype=np.float64),
        (table["spikgpt_cell_type"] == UNKNOWN).to_numpy(),
        trained - start,
        done - trained,
        {
            "embedding_weight": annotator.mixture.weight,
            "held_out_macro_f1": annotator.config["held_out"]["macro_f1"],
            "unknown_by_reason": said["unknown_by_reason"],
            "firing_rates": said["firing_rates"],
        },
    )


def log_sparse(counts: sp.csr_matrix) -> sp.csr_matrix:
    """log1p CP10k of all genes."""
    total = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)
    values = sp.csr_matrix(sp.diags(1e4 / total) @ counts).astype(np.float32)
    values.data = np.log1p(values.data)
    return values


def celltypist(task: Task, feature_selection: bool = False, majority_voting: bool = False) -> Answer:
    """CellTypist 1.7.1 by its own functions; rejects by `prob match` at 0.5."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import celltypist as peer
        from celltypist import logger

        logger.set_level(logging.ERROR)

        def data(side: Side) -> ad.AnnData:
            values = log_sparse(side.counts)
            return ad.AnnData(values, obs=pd.DataFrame(index=side.barcodes), var=pd.DataFrame(index=side.genes))

        start = time.process_time()
        model = peer.train(
            data(task.split.reference),
            labels=task.split.reference.labels.astype(str),
            n_jobs=1,
            feature_selection=feature_selection,
        )
        trained = time.process_time()
        found = peer.annotate(data(task.split.query), model=model, majority_voting=majority_voting)
        done = time.process_time()
    probability = found.probability_matrix.to_numpy().max(1).astype(np.float64)
    column = "majority_voting" if majority_voting else "predicted_labels"
    best = found.predicted_labels[column].astype(str).to_numpy(dtype=object)
    return Answer(best, probability, probability, probability < 0.5, trained - start, done - trained, {})


class PlainTransformer(torch.nn.Module):
    """The spiking network's shape with softmax attention and ReLU in place of spikes."""

    def __init__(self, shape: spiking.Architecture) -> None:
        super().__init__()
        self.shape = shape
        self.tokenizer = spiking.LinearNorm(shape.embedding_size, shape.tokens * shape.width)
        self.blocks = torch.nn.ModuleList(
            torch.nn.TransformerEncoderLayer(
                shape.width, shape.heads, shape.width * shape.mlp_ratio, dropout=0.0, batch_first=True, norm_first=True
            )
            for _ in range(shape.depth)
        )
        self.read_out = torch.nn.Linear(shape.tokens * shape.width, shape.classes)
        self.skip = torch.nn.Linear(shape.embedding_size, shape.classes, bias=False)

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        tokens = self.tokenizer(embedding).reshape(-1, self.shape.tokens, self.shape.width)
        for block in self.blocks:
            tokens = block(tokens)
        return self.read_out(tokens.flatten(1)) + self.skip(embedding)


def network(task: Task, kind: type[torch.nn.Module], **shape: int | float) -> Answer:
    """A network on the embedding alone, trained as the annotator trains its own."""
    train, test = embedding_features(task)
    classes, codes = np.unique(task.split.reference.labels.astype(str), return_inverse=True)

    def fit() -> object:
        values = train()
        form = spiking.Architecture(values.shape[1], len(classes), **shape)
        return spiking.train(values, codes.astype(np.int64), form, spiking.Recipe(), task.seed, kind)

    def predict(model: object) -> tuple[NDArray[np.object_], NDArray[np.float64]]:
        p = np.exp(spiking.log_probabilities(model, test()))
        return classes[p.argmax(1)].astype(object), p.max(1)

    return from_probabilities(fit, predict)


def on_genes(model: object, **how: float) -> Callable[[Task], Answer]:
    def run(task: Task) -> Answer:
        train, test = gene_features(task)
        return sklearn_answer(model, train, task.split.reference.labels.astype(str), test, **how)

    return run


def on_embedding(model: object) -> Callable[[Task], Answer]:
    def run(task: Task) -> Answer:
        train, test = embedding_features(task)
        return sklearn_answer(model, train, task.split.reference.labels.astype(str), test)

    return run


def mlp(task: Task) -> Answer:
    train, test = embedding_features(task)
    model = MLPClassifier((256, 256), alpha=1e-3, max_iter=60, random_state=task.seed)
    return sklearn_answer(model, train, task.split.reference.labels.astype(str), test)


def svm(task: Task) -> Answer:
    """Linear SVM on log1p CP10k, Platt-scaled, rejecting below 0.7 [Abdelaal et al., 2019]."""
    labels = task.split.reference.labels.astype(str)
    # Platt scaling needs every type in each of its folds
    folds = int(max(2, min(3, pd.Series(labels).value_counts().min())))
    many = pd.Series(labels).map(pd.Series(labels).value_counts()).to_numpy() >= folds
    model = CalibratedClassifierCV(LinearSVC(random_state=0), cv=folds)
    reference, query = task.split.reference, task.split.query
    return sklearn_answer(
        model,
        lambda: log_sparse(reference.counts)[many],
        labels[many],
        lambda: log_sparse(query.counts),
        rejects_below=SVM_REJECTS_BELOW,
    )


METHODS: dict[str, tuple[Callable[[Task], Answer], bool]] = {
    "SpikGPT": (spikgpt, True),
    "SpikGPT, expression view alone": (lambda task: spikgpt(task, "expression"), False),
    "SpikGPT, embedding view alone": (lambda task: spikgpt(task, "embedding"), True),
    "SpikGPT, no attention": (lambda task: spikgpt(task, attention_scale=0.0), True),
    "SpikGPT, one time step": (lambda task: spikgpt(task, time_steps=1), True),
    "spiking Transformer on the embedding": (lambda task: network(task, spiking.SpikingTransformer), True),
    "non-spiking Transformer on the embedding": (lambda task: network(task, PlainTransformer), True),
    "MLP on the embedding": (mlp, True),
    "kNN on the embedding": (on_embedding(KNeighborsClassifier(15)), False),
    "logistic regression on the embedding": (on_embedding(LogisticRegression(C=0.1, max_iter=500)), False),
    "logistic regression on genes": (on_genes(LogisticRegression(C=0.01, max_iter=500)), False),
    "linear SVM with rejection": (svm, False),
    "CellTypist": (celltypist, False),
    "CellTypist, feature selection": (lambda task: celltypist(task, feature_selection=True), False),
    "CellTypist, majority voting": (lambda task: celltypist(task, majority_voting=True), False),
}
"""Method, and whether it draws random numbers (then it runs with several seeds)."""

ABLATIONS = {"SpikGPT, expression view alone", "SpikGPT, embedding view alone", "SpikGPT, no attention"}
ABLATIONS |= {"SpikGPT, one time step", "CellTypist, majority voting"}
"""Methods that run on the whole splits alone, not with each type left out."""
