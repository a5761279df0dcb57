"""The methods that SpikGPT is measured against."""

import contextlib
import functools
import io
import logging
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from library.splits import Side
from library.task import Answer, Floats32, Task, timed
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.neural_network import MLPClassifier
from sklearn.svm import LinearSVC
from spikgpt.annotator.distances import dispersed_genes
from spikgpt.base.normalisation import log1p_cp10k

SVM_REJECTS_BELOW = 0.7
CELLTYPIST_REJECTS_BELOW = 0.5
SCANVI_EPOCHS = (40, 20)
"""Epochs without and with labels; scvi-tools would take 400 on so few cells, which the bench's time does not allow."""

Features = tuple[Callable[[], Floats32], Callable[[], Floats32]]
"""Functions that make the features of reference and query, in this order."""


def gene_features(task: Task, number: int = 2000) -> Features:
    """log1p CP10k of the reference's variable genes, scaled on the reference."""
    store: dict[str, NDArray] = {}

    def train() -> Floats32:
        genes = dispersed_genes(task.split.reference.counts, number)
        values = log1p_cp10k(task.split.reference.counts)[:, genes].toarray()
        store.update(genes=genes, mean=values.mean(0), sd=np.maximum(values.std(0), 1e-3))
        return np.clip((values - store["mean"]) / store["sd"], -10, 10)

    def test() -> Floats32:
        values = log1p_cp10k(task.split.query.counts)[:, store["genes"]].toarray()
        return np.clip((values - store["mean"]) / store["sd"], -10, 10)

    return train, test


def embedding_features(task: Task) -> Features:
    """The scGPT embedding, scaled on the reference."""
    mean = task.reference_embedding.mean(0)
    sd = np.maximum(task.reference_embedding.std(0), 1e-6)
    return (
        lambda: ((task.reference_embedding - mean) / sd).astype(np.float32),
        lambda: ((task.query_embedding - mean) / sd).astype(np.float32),
    )


def classifier(task: Task, model: ClassifierMixin, features: Callable[[Task], Features]) -> Answer:
    """A classifier of scikit-learn that gives probabilities."""
    train, test = features(task)
    labels = task.split.reference.labels.astype(str)

    def predict(fitted: object) -> tuple[NDArray[np.object_], NDArray[np.float64]]:
        p = fitted.predict_proba(test())
        return fitted.classes_[p.argmax(1)].astype(object), p.max(1).astype(np.float64)

    return timed(lambda: clone(model).fit(train(), labels), predict)


def mlp(task: Task) -> Answer:
    model = MLPClassifier((256, 256), alpha=1e-3, max_iter=60, random_state=task.seed)
    return classifier(task, model, embedding_features)


def svm(task: Task) -> Answer:
    """Linear SVM on log1p CP10k, Platt-scaled, rejecting below 0.7 [Abdelaal et al., 2019]."""
    reference, query = task.split.reference, task.split.query
    labels = pd.Series(reference.labels.astype(str))
    # Platt scaling needs every type in each of its folds
    folds = int(max(2, min(3, labels.value_counts().min())))
    many = labels.map(labels.value_counts()).to_numpy() >= folds
    model = CalibratedClassifierCV(LinearSVC(random_state=0), cv=folds)

    def predict(fitted: object) -> tuple[NDArray[np.object_], NDArray[np.float64]]:
        p = fitted.predict_proba(log1p_cp10k(query.counts))
        return fitted.classes_[p.argmax(1)].astype(object), p.max(1)

    return timed(
        lambda: model.fit(log1p_cp10k(reference.counts)[many], labels[many]), predict, rejects_below=SVM_REJECTS_BELOW
    )


def celltypist_data(side: Side) -> ad.AnnData:
    return ad.AnnData(
        log1p_cp10k(side.counts), obs=pd.DataFrame(index=side.barcodes), var=pd.DataFrame(index=side.genes)
    )


def celltypist(task: Task, feature_selection: bool = False, majority_voting: bool = False) -> Answer:
    """CellTypist by its own functions; rejects by `prob match` at 0.5."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import celltypist as peer
        from celltypist import logger

        logger.set_level(logging.ERROR)
        np.random.seed(task.seed)  # its feature selection draws from numpy's global state
        start = time.process_time()
        model = peer.train(
            celltypist_data(task.split.reference),
            labels=task.split.reference.labels.astype(str),
            n_jobs=1,
            feature_selection=feature_selection,
        )
        trained = time.process_time()
        found = peer.annotate(celltypist_data(task.split.query), model=model, majority_voting=majority_voting)
        done = time.process_time()
    probability = found.probability_matrix.to_numpy().max(1).astype(np.float64)
    column = "majority_voting" if majority_voting else "predicted_labels"
    best = found.predicted_labels[column].astype(str).to_numpy(dtype=object)
    unknown = probability < CELLTYPIST_REJECTS_BELOW
    return Answer(best, probability, probability, unknown, trained - start, done - trained)


@functools.cache
def has_singler() -> bool:
    """Rscript and the Bioconductor package SingleR (Debian's r-bioc-singler)."""
    if shutil.which("Rscript") is None:
        return False
    asked = ["Rscript", "-e", 'q(status = !requireNamespace("SingleR", quietly = TRUE))']
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


def singler(task: Task) -> Answer:
    """SingleR by its own functions and defaults; rejects by `pruneScores`.

    Cells are ranked by how far the score of their label lies above the median score of all labels, which is
    what `pruneScores` looks at; SingleR gives no probability.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, side in (("reference", task.split.reference), ("query", task.split.query)):
            # the arrays of cells x genes by row are those of R's genes x cells by column
            values = log1p_cp10k(side.counts)
            values.sort_indices()
            values.data.astype("<f8").tofile(folder / f"{kind}.x")
            values.indices.astype("<i4").tofile(folder / f"{kind}.i")
            values.indptr.astype("<i4").tofile(folder / f"{kind}.p")
        (folder / "genes.txt").write_text("\n".join(task.split.reference.genes) + "\n", encoding="utf-8")
        (folder / "labels.txt").write_text("\n".join(task.split.reference.labels.astype(str)) + "\n", encoding="utf-8")
        script = Path(__file__).parent / "singler.R"
        done = subprocess.run(["Rscript", script, folder], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"singler.R ended with {done.returncode}: {done.stderr.strip()}")
        found = pd.read_csv(folder / "labels.tsv", sep="\t", keep_default_na=False)
        seconds = pd.read_csv(folder / "seconds.tsv", sep="\t").iloc[0]
    return Answer(
        found["label"].to_numpy(dtype=object),
        found["delta"].to_numpy(dtype=np.float64),
        None,
        found["pruned"].to_numpy() == 1,
        float(seconds["train"]),
        float(seconds["predict"]),
    )


@functools.cache
def has_scanvi() -> bool:
    """scvi-tools is in the bench's environment, not in the product's."""
    import importlib.util

    return importlib.util.find_spec("scvi") is not None


def scanvi(task: Task) -> Answer:
    """scANVI of scvi-tools on raw counts of 2,000 genes; the query takes part in training, without labels."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        import scvi

        logging.getLogger("lightning").setLevel(logging.ERROR)
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        scvi.settings.verbosity = logging.ERROR
        scvi.settings.seed = task.seed
        unlabelled = "to be predicted"
        reference, query = task.split.reference, task.split.query
        first, second = SCANVI_EPOCHS
        quiet = {"accelerator": "cpu", "enable_progress_bar": False, "logger": False, "enable_model_summary": False}

        def fit() -> object:
            genes = np.sort(dispersed_genes(reference.counts, 2000))
            cells = ad.AnnData(
                sp.vstack([reference.counts[:, genes], query.counts[:, genes]]).tocsr(),
                obs=pd.DataFrame(
                    {
                        "label": [*reference.labels.astype(str), *[unlabelled] * len(query.labels)],
                        "batch": [f"reference {b}" for b in reference.batches] + [f"query {b}" for b in query.batches],
                    },
                    index=[str(number) for number in range(len(reference.labels) + len(query.labels))],
                ),
            )
            scvi.model.SCVI.setup_anndata(cells, batch_key="batch", labels_key="label")
            # shape and likelihood of scvi-tools' own scANVI tutorial
            base = scvi.model.SCVI(cells, n_layers=2, n_latent=30, gene_likelihood="nb")
            base.train(max_epochs=first, **quiet)
            model = scvi.model.SCANVI.from_scvi_model(base, unlabeled_category=unlabelled)
            # a last batch of one cell would end batch normalisation with an error
            model.train(max_epochs=second, n_samples_per_label=100, datasplitter_kwargs={"drop_last": True}, **quiet)
            return model

        def predict(model: object) -> tuple[NDArray[np.object_], NDArray[np.float64]]:
            rows = np.arange(len(reference.labels), len(reference.labels) + len(query.labels))
            p = model.predict(indices=rows, soft=True)
            return p.columns.to_numpy(dtype=object)[p.to_numpy().argmax(1)], p.to_numpy().max(1).astype(np.float64)

        return timed(fit, predict)
