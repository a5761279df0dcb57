"""What an annotator says about the cells of a sample: a label, or `Unknown`."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from spikgpt import UNKNOWN
from spikgpt.annotator import network
from spikgpt.annotator.cells import Cells, side_by_side
from spikgpt.annotator.judges import LinearJudge, agreement, linear_calls
from spikgpt.annotator.levels import NOWHERE, Answers, Levels, Tails
from spikgpt.annotator.missing_types import rejected_types
from spikgpt.annotator.mixture import Mixture
from spikgpt.annotator.realised import level_names, measured
from spikgpt.annotator.rejection import Judgement, Rejection, Signs, rejected
from spikgpt.annotator.taught import Claims, Lesson, Taught, claims
from spikgpt.annotator.training_set import readable_cells
from spikgpt.annotator.views import Views
from spikgpt.base.arrays import Codes, Flags, Floats, Floats32
from spikgpt.base.columns import (
    AGREEMENT,
    ANCESTOR,
    JUDGE_COLUMNS,
    LABEL_SET,
    LEAF,
    LEVEL,
    LEVEL_NAME,
    LEVEL_TERM,
    LOW_CONFIDENCE,
    LOW_GENE_MATCH,
    LOW_QUALITY,
    OUTSIDE_REFERENCE,
    SEPARATOR,
)
from spikgpt.base.errors import UserError
from spikgpt.base.label_counts import MANY_UNKNOWN, label_counts
from spikgpt.base.ontology import TERM, labels_to_terms
from spikgpt.base.threads import one_thread


@dataclass(frozen=True)
class Own:
    """What an annotator says of a sample's cells without its lessons: ``log_p`` (cells, own classes), that of each view
    alone, ``neighbours`` (cells, k) or None, and how often the network's layers fired."""

    log_p: Floats
    of_views: dict[str, Floats]
    neighbours: Codes | None
    firing: dict[str, Any]
    signs: Signs
    judgement: Judgement


@dataclass
class Annotator:
    """A trained annotator: the views of a cell, how they are mixed, when a cell is Unknown, and the record.

    ``config`` is the content of config.json, see `spikgpt.annotator.folder_files.FIELDS`; ``lessons``: types that it
    was taught later, see `spikgpt.annotator.taught`. ``judges``: what else was trained on the reference, see
    `spikgpt.annotator.judges`; empty for an annotator of before there were any.
    """

    views: Views
    mixture: Mixture
    rejection: Rejection
    config: dict[str, Any]
    lessons: list[Lesson] = field(default_factory=list)
    judges: dict[str, LinearJudge] = field(default_factory=dict)

    @property
    def classes(self) -> list[str]:
        """Its own types, then the taught ones."""
        return list(self.config["classes"])

    @property
    def own_classes(self) -> list[str]:
        """The types that it was trained on."""
        return self.classes[: len(self.classes) - len(self.lessons)]

    @cached_property
    def taught(self) -> list[Taught]:
        """Every lesson beside what the annotator was trained on."""
        return [Taught.of(lesson, self.views, self.rejection) for lesson in self.lessons]

    @cached_property
    def levels(self) -> Levels:
        """The levels above the types."""
        return Levels.from_dict(self.config["levels"], self.own_classes)

    @property
    def genes(self) -> list[str]:
        return list(self.config["genes"])

    @one_thread()
    def annotate(
        self,
        counts: sp.csr_matrix | Iterable[sp.csr_matrix],
        genes: list[str],
        embedding: Floats32,
        barcodes: list[str],
        unknown_rate: float,
    ) -> tuple[pd.DataFrame, dict[str, Any]]:
        """Label the cells of one sample, or call them Unknown.

        Parameters
        ----------
        counts
            Raw counts ``(cells, genes)``, or blocks of their rows in order: then one copy of them is in memory.
        genes
            Symbols of the columns, unique.
        embedding
            scGPT embeddings ``(cells, embedding_size)``; a row of NaN is a cell with no gene that scGPT knows.
        barcodes
            Names of the cells, unique in the sample. The result does not depend on their order.
        unknown_rate
            A cell is Unknown where its p-value is at most this.

        Returns
        -------
        The table, one row a cell in the given order, and figures of the sample. Reasons of an Unknown cell:
        ``low_gene_match`` no gene that scGPT knows (p-value 0), which an annotator without the embedding never gives;
        ``low_quality`` shallower than 99 % of the reference and than half its sample's median; ``outside_reference``
        fits no type; ``low_confidence`` lies between types. Of the figures, ``not_calibrated`` says why the rate cannot
        be promised for this sample (nothing where it can), ``rejected_types`` which types were rejected wholesale.
        Levels: see `spikgpt.annotator.levels`; judges: `spikgpt.annotator.judges`, and each of two views alone.

        Raises
        ------
        UserError
            The sample shares no gene with the annotator, or its embeddings have another width.
        """
        order = np.argsort(np.array(barcodes, dtype=object), kind="stable")
        blocks = [counts] if sp.issparse(counts) else counts
        cells = self.aligned(blocks, genes, embedding, order)
        readable = readable_cells(cells.embedding, self.config["features"])
        # cells by barcode from here on
        number = len(barcodes)
        best, runner_up = np.zeros(number, dtype=np.int64), np.zeros(number, dtype=np.int64)
        confidence, p_value = np.zeros(number), np.zeros(number)
        by_fit = np.zeros(number, dtype=bool)
        batch: dict[str, Any] = {
            "likeness": None,
            "shift": {},
            "shift_share": None,
            "spread": {},
            "not_calibrated": ["no cell could be judged"],
        }
        firing: dict[str, Any] = {"firing_rates": {}, "dead_layers": []}
        pooled = False
        level = np.full(number, UNKNOWN, dtype=object)
        names = np.array(self.classes, dtype=object)
        said = {judge: np.full(number, "", dtype=object) for judge in JUDGE_COLUMNS}
        steps, sets = np.full(number, "", dtype=object), np.full(number, "", dtype=object)

        if readable.any():
            judged = cells if readable.all() else cells.take(np.flatnonzero(readable))
            own = self.own_signs(judged)
            log_p, firing, signs, judgement = own.log_p, own.firing, own.signs, own.judgement
            # one view alone is the answer itself
            for view, alone in own.of_views.items() if len(own.of_views) > 1 else ():
                said[view][readable] = names[alone.argmax(1)]
            best[readable], runner_up[readable] = two_best(log_p)
            confidence[readable] = np.exp(log_p.max(1))
            p_value[readable], by_fit[readable] = judgement.p_value, judgement.by_fit
            batch = {
                "likeness": round(signs.likeness, 6),
                "shift": rounded(self.rejection.signs, judgement.shift),
                "shift_share": round(judgement.gate, 6),
                "spread": rounded(self.rejection.signs, judgement.spread),
                "not_calibrated": judgement.not_calibrated + self._too_few(signs.kind, unknown_rate),
            }
            pooled = signs.kind == "pooled"
            tails_of = Tails.of(self.rejection, signs.kind)
            far, tails, cut = measured(self.rejection, tails_of, signs)
            answers = self.levels.answer(
                log_p,
                judgement.p_value,
                tails,
                far,
                cut,
                unknown_rate,
                may_climb=not judgement.not_calibrated,
            )
            level[readable], steps[readable], sets[readable] = self._told(answers, log_p.argmax(1), judgement.by_fit)
            won = claims(self.taught, judged, log_p, judgement.p_value, own.neighbours)
            at = np.flatnonzero(readable)[won.rows]
            runner_up[at], best[at] = best[at], len(self.own_classes) + won.lesson
            confidence[at], p_value[at], by_fit[at] = won.confidence, won.p_value, won.by_fit
            level[at], steps[at], sets[at] = self._told_of_taught(won, log_p[won.rows], unknown_rate)
        if not readable.all() and self.views.expression is not None:
            # Unknown in any case, but expression still names the nearest type
            unread = cells.take(np.flatnonzero(~readable))
            best[~readable], runner_up[~readable] = two_best(self.views.expression.log_probabilities(unread))

        for judge, calls in linear_calls(self.judges, cells).items():
            said[judge] = names[calls]

        unknown = rejected(p_value, unknown_rate) | ~readable
        shallow = (cells.depth < self.config["depth"]["low"]) & (cells.depth < 0.5 * np.median(cells.depth))
        reason = np.where(by_fit, OUTSIDE_REFERENCE.name, LOW_CONFIDENCE.name)
        reason = np.where(shallow, LOW_QUALITY.name, reason)
        reason = np.where(readable, reason, LOW_GENE_MATCH.name)
        level[unknown & shallow], steps[unknown & shallow] = UNKNOWN, ""
        labels = np.where(unknown, UNKNOWN, names[best])
        table = pd.DataFrame(
            {
                "barcode": np.array(barcodes, dtype=object)[order],
                "spikgpt_cell_type": labels,
                "spikgpt_best_match": names[best],
                # rounded, so that the last bit of a sum does not differ between machines
                "spikgpt_confidence": np.round(confidence, 6).astype(np.float32),
                "spikgpt_p_value": p_value.astype(np.float32),
                "spikgpt_unknown_reason": np.where(unknown, reason, ""),
                "spikgpt_runner_up": names[runner_up],
                TERM: labels_to_terms(pd.Series(labels), self.config["ontology"]),
                LEVEL_NAME: level,
                LEVEL_TERM: labels_to_terms(pd.Series(level), self.levels.terms(self.config["ontology"])),
                LEVEL: steps,
                LABEL_SET: sets,
                # the judges know the types of the reference, and not those that were taught later
                AGREEMENT: np.where(best < len(self.own_classes), agreement(names[best], said), np.float32(np.nan)),
                **{column: said[judge] for judge, column in JUDGE_COLUMNS.items()},
            }
        )
        as_given = table.iloc[np.argsort(order, kind="stable")].reset_index(drop=True)
        return as_given, {**self._summary(as_given), **batch, **firing, "pooled": pooled}

    def _too_few(self, kind: str, unknown_rate: float) -> list[str]:
        """Why a rate is out of reach of this reference, if it is."""
        least = self.rejection.least_p_value(kind)
        if least <= unknown_rate:
            return []
        return [
            f"the reference has too few held-out cells for an unknown rate of {unknown_rate:g}: the smallest p-value "
            f"that they can give is {least:.3f}"
        ]

    def _told(self, answers: Answers, best: Codes, by_fit: Flags) -> tuple[Any, Any, Any]:
        """Name of the level, how far it is above the best match, and the set, of cells ``(cells,)``, as text.

        A cell that fits no type and no level has an empty set: all types were excluded.
        """
        steps = np.array([LEAF, *(f"{ANCESTOR} {step}" for step in range(1, int(answers.steps.max()) + 1))], object)
        nowhere = answers.node == NOWHERE
        which, at = np.unique(answers.sets, axis=0, return_inverse=True)
        names = np.array(self.own_classes, dtype=object)
        sets = np.array([SEPARATOR.join(names[row]) for row in which], dtype=object)[at.ravel()]
        return (
            level_names(self.levels.tree, self.own_classes, answers, best),
            np.where(nowhere, "", steps[answers.steps]),
            np.where(nowhere & by_fit, "", sets),
        )

    def _told_of_taught(self, won: Claims, log_p: Floats, unknown_rate: float) -> tuple[Any, Any, Any]:
        """The same of the cells that lessons won; ``log_p`` (won cells, own classes).

        There is no level above a taught type: where the annotator's own best match is in the set too, none holds.
        """
        names, best = np.array(self.classes, dtype=object), log_p.argmax(1)
        taught = names[len(self.own_classes) + won.lesson]
        rest = log_p.max(1) + np.log(np.maximum(1.0 - won.confidence, 1e-12))
        alone = ~self.levels.may_be(rest, unknown_rate)
        unknown = rejected(won.p_value, unknown_rate)
        holds = alone & ~unknown
        both = names[best] + SEPARATOR + taught
        return (
            np.where(holds, taught, UNKNOWN),
            np.where(holds, LEAF, ""),
            np.where(unknown & won.by_fit, "", np.where(alone, taught, both)),
        )

    def own_signs(self, cells: Cells) -> Own:
        """What a sample is labelled and judged by, all of its cells readable; lessons aside."""
        (of_views, firing), neighbours = side_by_side(
            lambda: self._log_probabilities(cells), lambda: self.rejection.neighbours(self.views, cells)
        )
        log_p = self.mixture(of_views)
        signs = Signs.of(self.views, cells, log_p, neighbours)
        return Own(log_p, of_views, neighbours, firing, signs, self.rejection.judge(signs))

    def aligned(self, blocks: Iterable[sp.csr_matrix], genes: list[str], embedding: Floats32, order: Codes) -> Cells:
        """The cells in ``order``, on the annotator's genes; the rest as in `annotate`."""
        column_of = {gene: number for number, gene in enumerate(genes)}
        columns = np.array([column_of.get(gene, -1) for gene in self.genes])
        if columns.max() < 0:
            raise UserError(
                "The sample shares no gene with the annotator.",
                where="genes of the sample",
                found=", ".join(genes[:3]),
                expected=", ".join(self.genes[:3]),
                fix="use gene symbols of the annotator's species (--symbol_col names the column that has them)",
            )
        size = self.config["scgpt"]["embedding_size"]
        if self.config["features"] != "expression" and embedding.shape[1] != size:
            raise UserError(
                "The embeddings are not those of the annotator's scGPT checkpoint.",
                where="embedding of the sample",
                found=f"{embedding.shape[1]} numbers a cell",
                expected=f"{size}",
                fix="embed the sample with the checkpoint that the annotator was trained with",
            )
        return Cells(stacked(list(blocks)), order, columns, embedding[order].astype(np.float32, copy=False))

    def _log_probabilities(self, cells: Cells) -> tuple[dict[str, Floats], dict[str, Any]]:
        """Log-probabilities ``(cells, classes)`` of each view, and how often the network's layers fired."""
        if self.views.embedding is None:
            return self.views.log_probabilities(cells), {"firing_rates": {}, "dead_layers": []}
        with network.counted_spikes(self.views.embedding.network) as spikes:
            log_p = self.views.log_probabilities(cells)
        rates = network.firing_rates(spikes)
        return log_p, {"firing_rates": rates, "dead_layers": network.dead_layers(rates)}

    def _summary(self, table: pd.DataFrame) -> dict[str, Any]:
        counts = label_counts(table)
        cells, number = counts["cells"], counts["unknown"]
        warning = None
        if cells and number / cells > MANY_UNKNOWN:
            warning = (
                f"{number} of {cells} cells are Unknown: the sample may be of another tissue than the "
                f"annotator's reference, which has {', '.join(self.classes[:5])}"
                f"{' and others' if len(self.classes) > 5 else ''}."
            )
        return {
            **counts,
            "rejected_types": rejected_types(table["spikgpt_best_match"], table["spikgpt_cell_type"] == UNKNOWN),
            "tissue_warning": warning,
        }


def two_best(log_p: Floats) -> tuple[Codes, Codes]:
    """Classes ``(cells,)`` of largest and second largest probability; the first one twice where there is one class."""
    ranked = np.argsort(-log_p, axis=1, kind="stable")
    return ranked[:, 0], ranked[:, min(1, ranked.shape[1] - 1)]


def rounded(names: list[str], values: Floats) -> dict[str, float]:
    """Values by name, rounded to 6 decimals."""
    return {name: round(float(value), 6) for name, value in zip(names, values, strict=True)}


def stacked(blocks: list[sp.csr_matrix]) -> sp.csr_matrix:
    """The blocks, one below the other; the list is emptied, so that no second copy is kept."""
    if len(blocks) == 1:
        return blocks.pop()
    width = blocks[0].shape[1]
    ends = np.concatenate([[0], *(np.diff(block.indptr) for block in blocks)]).cumsum(dtype=np.int64)
    index = np.int32 if ends[-1] <= np.iinfo(np.int32).max else np.int64
    data, indices = np.empty(ends[-1], dtype=blocks[0].dtype), np.empty(ends[-1], dtype=index)
    first = 0
    while blocks:
        block = blocks.pop(0)
        data[first : first + block.nnz], indices[first : first + block.nnz] = block.data, block.indices
        first += block.nnz
    return sp.csr_matrix((data, indices, ends.astype(index)), shape=(len(ends) - 1, width))
