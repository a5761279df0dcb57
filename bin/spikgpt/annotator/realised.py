"""What answers on levels come to on cells that a model had not seen: held-out ones, and those of types left out."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from spikgpt import UNKNOWN
from spikgpt.annotator.held_out import HeldOut
from spikgpt.annotator.levels import AT_TYPE, NOWHERE, Answers, LeftOut, Levels, Tails, cut_of_sample, distance_of
from spikgpt.annotator.neighbours import MIN_CELLS_TO_POOL
from spikgpt.annotator.rejection import Rejection, Signs
from spikgpt.annotator.training_set import Reference
from spikgpt.annotator.tree import Tree
from spikgpt.base.arrays import Codes, Flags, Floats


def held_out_answers(
    tree: Tree,
    rejection: Rejection,
    held: Sequence[HeldOut],
    judged: Sequence[tuple[Signs, Flags]],
    reference: Reference,
    codes: Codes,
    left_out: Sequence[LeftOut],
    rate: float,
) -> tuple[Codes, Answers]:
    """Held-out cells of the reference ``(cells,)``, and their answers, by levels that were learned without their fold.

    Fills in ``on_levels`` of every fold: shares of its cells called by a type (``at_type``) and at any level
    (``emitted``), and of the latter that are right (``right``).

    Parameters
    ----------
    judged
        `spikgpt.annotator.held_out.held_out_signs` of ``held``; the rule calibrates on the same cells, so that ranks
        among them are as those of other cells, but for one in all.
    codes
        True types ``(cells of the reference,)``, see `Reference.settled`.
    """
    rows: list[Codes] = []
    found: list[Answers] = []
    tails_of = {kind: Tails.of(rejection, kind) for kind in rejection.calibrations}
    signs = iter(judged)
    for part in held:
        others = [other for other in held if other is not part]
        log_p = np.concatenate([other.mixed for other in others if other.mixed is not None])
        of_others = np.concatenate([other.rows for other in others])
        telling = reference.telling(of_others)
        levels = Levels.learn(tree, reference.codes[of_others[telling]], log_p[telling], left_out)
        assert part.mixed is not None
        first = len(found)
        for place in part.of_samples():
            # pooled and cell by cell, or cell by cell alone
            both = [next(signs)[0] for _ in range(2 if place.stop - place.start >= MIN_CELLS_TO_POOL else 1)]
            own = next(one for one in both if one.kind in rejection.calibrations)
            far, tails, cut = measured(rejection, tails_of[own.kind], own)
            p_value = rejection.judge(own).p_value
            found.append(levels.answer(part.mixed[place], p_value, tails, far, cut, rate))
            rows.append(part.rows[place])
        own_answers = joined(found[first:])
        emitted = own_answers.node != NOWHERE
        told = right(tree, own_answers, part.mixed.argmax(1), codes[part.rows])
        part.on_levels = {
            "at_type": float((own_answers.node == AT_TYPE).mean()),
            "emitted": float(emitted.mean()),
            "right": float(told[emitted].mean()) if emitted.any() else float("nan"),
        }
    return np.concatenate(rows), joined(found)


def joined(answers: Sequence[Answers]) -> Answers:
    """Answers of several samples, one after the other."""
    return Answers(*(np.concatenate([getattr(one, name) for one in answers]) for name in ("node", "steps", "sets")))


def measured(rejection: Rejection, tails_of: Tails, signs: Signs) -> tuple[Floats, Floats, Floats]:
    """Of the cells of a sample ``(cells,)``: distance to their type, its tail, and the cut of their type."""
    far = distance_of(rejection.corrected(signs), rejection.signs)
    tails = tails_of(far, signs.predicted)
    return far, tails, cut_of_sample(tails, signs.predicted, rejection.classes)[signs.predicted]


def right(tree: Tree, answers: Answers, best: Codes, codes: Codes) -> Flags:
    """Whether the answer of each cell ``(cells,)`` is its type or has it below; False at no level.

    A cell with a coarse label is right at every type below it: its label says no more.

    ``best`` (cells,) the best match, ``codes`` (cells,) the true types.
    """
    out = (answers.node == AT_TYPE) & (best == codes)
    for number, node in enumerate(tree.nodes):
        out |= (answers.node == number) & np.isin(codes, node.members)
        if node.own is not None:
            out |= (answers.node == AT_TYPE) & (codes == node.own) & np.isin(best, node.members)
    return out


def figures(
    tree: Tree, classes: Sequence[str], answers: Answers, best: Codes, codes: Codes, labels: Codes
) -> dict[str, Any]:
    """Shares of held-out cells by level, how many answers were right, and how often the set held the type.

    ``codes`` (cells,) see `spikgpt.annotator.training_set.Reference.settled`; ``labels`` (cells,), by which the types
    are told, see `labels` there.
    """
    told = right(tree, answers, best, codes)
    covered = answers.sets[np.arange(len(codes)), codes]
    at_type, above = answers.node == AT_TYPE, answers.node >= 0

    def share(which: Flags, among: Flags) -> float | None:
        return round(float(which[among].mean()), 6) if among.any() else None

    everything = np.ones(len(codes), dtype=bool)
    return {
        "cells": len(codes),
        "at_type": share(at_type, everything),
        "above": share(above, everything),
        "unknown": share(answers.node == NOWHERE, everything),
        "error_at_type": share(~told, at_type),
        "error_above": share(~told, above),
        "set_error": share(~covered, everything),
        "set_size": round(float(answers.sets.sum(1).mean()), 6),
        "types": {
            name: {
                "at_type": share(at_type, labels == k),
                "set_error": share(~covered, labels == k),
                "set_size": round(float(answers.sets[labels == k].sum(1).mean()), 6),
            }
            for k, name in enumerate(classes)
            if (labels == k).any()
        },
    }


def left_out_row(tree: Tree, levels: Levels, part: LeftOut, rate: float) -> dict[str, Any]:
    """What becomes of a type that is missing: shares ``unknown`` and at a level ``above`` that has it below, and the
    ``level`` that most of those get, None without.

    ``levels`` must have been learned without this type's cells.
    """
    answers = levels.answer(part.log_p, part.p_value, part.tail, part.far, part.cut, rate, without=part.type)
    true = [at for at, node in enumerate(tree.nodes) if part.type in node.members]
    number = {at: int((answers.node == at).sum()) for at in true}
    most = max(true, key=lambda at: (number[at], -at), default=None)
    return {
        "level_unknown": round(float((answers.node == NOWHERE).mean()), 6),
        "level_above": round(sum(number.values()) / len(answers.node), 6),
        "level": tree.nodes[most].name if most is not None and number[most] else None,
    }


def level_names(tree: Tree, classes: Sequence[str], answers: Answers, best: Codes) -> np.ndarray:
    """The name of each cell's answer ``(cells,)``."""
    names = np.array([*classes, *(node.name for node in tree.nodes), UNKNOWN], dtype=object)
    at = np.where(answers.node == AT_TYPE, best, len(classes) + answers.node)
    return names[np.where(answers.node == NOWHERE, len(names) - 1, at)]
