"""Every method of the bench, by the name that the tables give it."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial

from library.networks import PlainTransformer, network
from library.own import spikgpt
from library.paper_mode import PAPER, PaperMode
from library.peers import (
    celltypist,
    classifier,
    embedding_features,
    gene_features,
    has_scanvi,
    has_singler,
    mlp,
    scanvi,
    singler,
    svm,
)
from library.task import Answer, Task
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from spikgpt.annotator.network import Architecture, SpikingTransformer

PAPER_REJECTS_BELOW = 0.5
"""The paper's threshold is not known; this is scBERT's."""

SPIKGPT, PAPER_MODE = "SpikGPT", "SpikGPT, paper mode"
REGRESSIONS = ("logistic regression on genes", "logistic regression on the embedding")


@dataclass(frozen=True)
class Method:
    """How to run it; whether it draws random numbers (then it runs with several seeds); and what it is.

    ``kind``: ``own`` SpikGPT, ``part`` SpikGPT with one part changed, ``paper`` SpikGPT's abstract taken by its
    word, ``head`` a part of SpikGPT by itself, ``peer`` another method. ``left_out``: also runs on references
    that lack a type.
    """

    run: Callable[[Task], Answer]
    random: bool
    kind: str
    left_out: bool


def ablations() -> dict[str, Method]:
    """One part changed at a time; a value that is the default's is no ablation."""
    default = {f.name: f.default for f in fields(Architecture)}
    changes: dict[str, dict[str, bool | str | int | float]] = {
        "expression view alone": {"features": "expression"},
        "embedding view alone": {"features": "embedding"},
        "no attention": {"attention_scale": 0.0},
        "no spikes": {"spikes": False},
    }
    changes |= {f"T = {steps}": {"time_steps": steps} for steps in (1, 4)}
    changes |= {f"depth {depth}": {"depth": depth} for depth in (0, 1, 2)}
    return {
        f"{SPIKGPT}, {name}": Method(
            partial(spikgpt, table=False, **change), change.get("features") != "expression", "part", False
        )
        for name, change in changes.items()
        if not any(default.get(field) == value for field, value in change.items())
    }


def peer(run: Callable[[Task], Answer], random: bool = False, left_out: bool = True) -> Method:
    return Method(run, random, "peer", left_out)


def on_genes(task: Task) -> Answer:
    return classifier(task, LogisticRegression(C=0.01, max_iter=500), gene_features)


def on_embedding(task: Task) -> Answer:
    return classifier(task, LogisticRegression(C=0.1, max_iter=500), embedding_features)


METHODS: dict[str, Method] = {
    SPIKGPT: Method(spikgpt, True, "own", True),
    **ablations(),
    PAPER_MODE: Method(
        partial(network, kind=PaperMode, rejects_below=PAPER_REJECTS_BELOW, **PAPER), True, "paper", True
    ),
    "spiking Transformer on the embedding": Method(partial(network, kind=SpikingTransformer), True, "head", False),
    "non-spiking Transformer on the embedding": peer(partial(network, kind=PlainTransformer), random=True),
    "MLP on the embedding": peer(mlp, random=True),
    "kNN on the embedding": peer(partial(classifier, model=KNeighborsClassifier(15), features=embedding_features)),
    REGRESSIONS[1]: peer(on_embedding),
    REGRESSIONS[0]: peer(on_genes),
    "linear SVM with rejection": peer(svm),
    "CellTypist": peer(celltypist),
    "CellTypist, feature selection": peer(partial(celltypist, feature_selection=True), random=True),
    "CellTypist, majority voting": peer(partial(celltypist, majority_voting=True), left_out=False),
    "SingleR": peer(singler),
    "scANVI": peer(scanvi, left_out=False),
}
"""scANVI draws random numbers too, but one seed is all that the bench's time has for it."""

NEEDS: dict[str, tuple[Callable[[], bool], str]] = {
    "SingleR": (has_singler, "Rscript with Bioconductor's SingleR (Debian: r-bioc-singler)"),
    "scANVI": (has_scanvi, "scvi-tools (make bench-setup installs it)"),
}
"""Methods that run only where something is installed: how to find out, and what it is."""
