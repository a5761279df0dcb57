"""Independent judges of a cell: classifiers trained on the same reference, whose answers stand beside the label.

Two linear classifiers of log1p CP10k are kept with an annotator: logistic regression on the genes that vary most, and
CellTypist [1] as its `train` is by default. Their answers never change a label: they tell how far it rests on one
method.

[1] Domínguez Conde et al., Science 376, 2022.
"""

import contextlib
import io
import warnings
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from spikgpt.annotator.cells import Cells, in_turn, row_blocks
from spikgpt.annotator.distances import dispersed_genes
from spikgpt.annotator.training_set import Reference
from spikgpt.base.arrays import Codes, Flags, Floats, Floats32
from spikgpt.base.normalisation import log1p_cp10k
from spikgpt.base.threads import one_thread

GENES = 2000
"""Genes of logistic regression, those that vary most; scanpy's usual number."""
PENALTY = 0.01
"""C of logistic regression on scaled genes: a usual choice, not tuned."""
BOUND = 10.0
"""Largest value of a scaled gene, CellTypist's."""


LINEAR = ("regression", "celltypist")
"""Names of the linear judges, as `JUDGE_COLUMNS` has them."""


@dataclass
class LinearJudge:
    """A linear classifier of log1p CP10k.

    ``genes`` (k,) indices into the annotator's genes, ascending; ``mean``, ``low``, ``high`` (k,) float32: values are
    cut at the bounds, then centred; ``weights`` (classes, k) per unit of log1p CP10k, ``intercepts`` (classes,) -inf
    for a class without cells.
    """

    genes: Codes
    mean: Floats32
    low: Floats32
    high: Floats32
    weights: Floats32
    intercepts: Floats32

    @classmethod
    def of(
        cls,
        genes: Codes,
        mean: Floats,
        sd: Floats,
        lowest: float,
        coefficients: Floats,
        intercepts: Floats,
        seen: Codes,
        classes: int,
    ) -> "LinearJudge":
        """From coefficients (seen classes, k) on z-scores, which were cut at ``lowest`` and at `BOUND`.

        Scikit-learn gives two classes one row of coefficients: the log-odds of the second.
        """
        if len(seen) == 2 and len(coefficients) == 1:
            coefficients, intercepts = (np.concatenate([0 * part, part]) for part in (coefficients, intercepts))
        weights, offsets = np.zeros((classes, len(genes))), np.full(classes, -np.inf)
        weights[seen], offsets[seen] = coefficients / sd, intercepts
        low, high = np.maximum(mean + lowest * sd, 0), mean + BOUND * sd
        parts = (part.astype(np.float32) for part in (mean, low, high, weights, offsets))
        return cls(np.asarray(genes, dtype=np.int64), *parts)

    def calls(self, values: sp.csr_matrix, measured: Flags) -> Codes:
        """Class ``(cells,)`` of cells ``values`` (cells, annotator's genes) log1p CP10k.

        A gene that was not measured (``measured``, over the annotator's genes) is left out, as CellTypist does.
        """
        known = measured[self.genes]
        own = values[:, self.genes[known]].tocsr()
        mean, low, high = (part[known].astype(np.float64) for part in (self.mean, self.low, self.high))
        weights = self.weights[:, known].astype(np.float64)
        # what a cell without counts has of each gene; its counts add to that
        nothing = np.clip(0.0, low, high)
        more = np.clip(own.data, low[own.indices], high[own.indices]) - nothing[own.indices]
        above = sp.csr_matrix((more, own.indices, own.indptr), shape=own.shape)
        return np.asarray(
            (above @ weights.T + (weights @ (nothing - mean) + self.intercepts)).argmax(1), dtype=np.int64
        )


def logistic_regression(reference: Reference, rows: Codes) -> LinearJudge:
    """Multinomial logistic regression on the `GENES` most dispersed genes of some cells of the reference."""
    from sklearn.linear_model import LogisticRegression

    genes = dispersed_genes(reference.counts[rows], GENES)
    values = log1p_cp10k(reference.counts[rows])[:, genes].toarray()
    mean, sd = values.mean(0), np.maximum(values.std(0), 1e-6)
    model = LogisticRegression(C=PENALTY, max_iter=300)
    model.fit(np.clip((values - mean) / sd, -BOUND, BOUND), reference.codes[rows])
    return LinearJudge.of(
        genes, mean, sd, -BOUND, model.coef_, model.intercept_, model.classes_, len(reference.classes)
    )


def celltypist(reference: Reference, rows: Codes, seed: int) -> LinearJudge:
    """CellTypist, trained by its defaults on some cells of the reference.

    ``seed`` is for the solver that it takes for more than 50,000 cells.
    """
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import celltypist
        from celltypist import logger

        logger.set_level(40)
        values = log1p_cp10k(reference.counts[rows]).toarray()
        labels = np.array(reference.classes, dtype=object)[reference.codes[rows]]
        model = celltypist.train(values, labels=labels, genes=reference.genes, n_jobs=1, random_state=seed)
    column_of = {gene: number for number, gene in enumerate(reference.genes)}
    code_of = {name: code for code, name in enumerate(reference.classes)}
    regression, scaler = model.classifier, model.scaler
    return LinearJudge.of(
        np.array([column_of[gene] for gene in regression.features], dtype=np.int64),
        scaler.mean_,
        scaler.scale_,
        -np.inf,
        regression.coef_,
        regression.intercept_,
        np.array([code_of[str(name)] for name in regression.classes_], dtype=np.int64),
        len(reference.classes),
    )


@one_thread("celltypist")
def train_judges(reference: Reference, seed: int) -> dict[str, LinearJudge]:
    """Both linear judges, trained on the whole reference, by `LINEAR`'s names."""
    rows = np.arange(len(reference.codes))
    made = (logistic_regression(reference, rows), celltypist(reference, rows, seed))
    return dict(zip(LINEAR, made, strict=True))


def linear_calls(judges: dict[str, LinearJudge], cells: Cells) -> dict[str, Codes]:
    """What each judge calls each cell, ``(cells,)``; a block of cells at a time."""
    if not judges:
        return {}
    measured = cells.measured

    def of_block(rows: slice) -> list[Codes]:
        values = log1p_cp10k(cells.counts(rows), cells.depth[rows])
        return [judge.calls(values, measured) for judge in judges.values()]

    blocks = list(in_turn(of_block, row_blocks(len(cells))))
    return {name: np.concatenate([block[place] for block in blocks]) for place, name in enumerate(judges)}


def agreement(best: NDArray[np.object_], answers: dict[str, NDArray[np.object_]]) -> Floats32:
    """Share ``(cells,)`` of the judges with an answer that give the cell's best match; NaN without a judge.

    ``answers``: judge to its type of each cell, "" where it gave none.
    """
    given, same = np.zeros(len(best)), np.zeros(len(best))
    for said in answers.values():
        given += said != ""
        same += (said != "") & (said == best)
    return np.divide(same, given, out=np.full(len(best), np.nan), where=given > 0).astype(np.float32)
