"""Constants of the rule of answers on levels, chosen without the data set that they are judged on.

`bench/levels.py` keeps what an annotator saw of every query (`seen`): the rule is applied again to that, with other
constants, at no cost. For each data set of `DATA_SETS` the constants are those that are best on the rows of all others.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
from library.pairs import Cells
from library.task import RATE
from library.terms import TERMS
from spikgpt.annotator import levels as rule
from spikgpt.annotator.annotation import Annotator
from spikgpt.annotator.levels import AT_TYPE, NOWHERE, Levels, Tails, cut_of_sample
from spikgpt.annotator.realised import measured
from spikgpt.annotator.rejection import rejected
from spikgpt.base.cell_ontology import ancestors

DATA_SETS = {
    "pbmc3k": "pbmc", "pbmc4k": "pbmc", "Kang control": "kang", "Kang stimulated": "kang", "donor 101": "kang",
    "donors 101, 1015, 1256": "kang", "baron libs 1 and 2": "baron", "baron lib1": "baron", "10x v2": "savercat",
}  # fmt: skip
"""Reference to its data set; donors and Kang are one experiment."""
ARRAYS = ("log_p", "p_value", "far", "tails", "shallow", "truth")


@dataclass(frozen=True)
class Choice:
    """Constants of the rule: `spikgpt.annotator.levels.NEAR`, `FALSE_CUTS`, `MOST_SHAPE` and `MARGIN`."""

    near: float = rule.NEAR
    false_cuts: float = rule.FALSE_CUTS
    most_shape: float = rule.MOST_SHAPE
    margin: float = rule.MARGIN


SHIPPED, UNIFORM = Choice(), Choice(most_shape=1.0, margin=1.0)
"""As the product has them; with the uniform null of held-out cells, and without a margin."""
CHOICES = tuple(
    Choice(*values) for values in product((0.3, 0.5, 0.7), (0.1, 0.15, 0.3), (1.0, 1.5, 2.0), (1.0, 1.5, 2.0))
)


@dataclass
class Seen:
    """A query as an annotator saw it, cells by barcode: arrays as in `spikgpt.annotator.levels.Levels.answer`."""

    about: dict
    classes: list[str]
    levels: Levels
    may_climb: bool
    log_p: np.ndarray
    p_value: np.ndarray
    far: np.ndarray
    tails: np.ndarray
    shallow: np.ndarray
    truth: np.ndarray

    @classmethod
    def of(cls, annotator: Annotator, cells: Cells, about: dict) -> "Seen":
        """What `Annotator.annotate` works with."""
        side, config = cells.side, annotator.config
        order = np.argsort(side.barcodes, kind="stable")
        aligned = annotator.aligned([side.counts], side.genes, cells.embedding, order)
        own = annotator.own_signs(aligned)
        log_p, signs, judgement = own.log_p, own.signs, own.judgement
        far, tails, _ = measured(annotator.rejection, Tails.of(annotator.rejection, signs.kind), signs)
        shallow = (aligned.depth < config["depth"]["low"]) & (aligned.depth < 0.5 * np.median(aligned.depth))
        return cls(
            about, list(annotator.classes), annotator.levels, not judgement.not_calibrated, log_p, judgement.p_value,
            far, tails, shallow, side.labels[order].astype(str),
        )  # fmt: skip

    def save(self, path: Path) -> None:
        told = {
            "about": self.about, "classes": self.classes, "levels": self.levels.as_dict(self.classes),
            "may_climb": self.may_climb,
        }  # fmt: skip
        np.savez(path, told=json.dumps(told), **{name: getattr(self, name) for name in ARRAYS})

    @classmethod
    def load(cls, path: Path) -> "Seen":
        with np.load(path) as kept:
            told = json.loads(str(kept["told"]))
            arrays = {name: kept[name] for name in ARRAYS}
        levels = Levels.from_dict(told["levels"], told["classes"])
        return cls(told["about"], told["classes"], levels, told["may_climb"], **arrays)

    def judged(self, choice: Choice) -> dict:
        """Figures of the rule with other constants, as `bench/levels.py` has them."""
        called = self.log_p.argmax(1)
        unknown = rejected(self.p_value, RATE)
        cut = cut_of_sample(self.tails, called, len(self.classes), choice.false_cuts, choice.most_shape)[called]
        answers = self.levels.answer(
            self.log_p, self.p_value, self.tails, self.far, cut, RATE,
            may_climb=self.may_climb, near=choice.near, margin=choice.margin,
        )  # fmt: skip
        emitted = (answers.node != NOWHERE) & ~(unknown & self.shallow)
        at_type = answers.node == AT_TYPE
        terms = np.array([*(node.term for node in self.levels.tree.nodes), ""], dtype=object)[answers.node]
        above = np.array([term in ancestors(TERMS[name]) for term, name in zip(terms, self.truth, strict=True)])
        right = np.where(at_type, np.array(self.classes)[called] == self.truth, above) & emitted
        known, missing = np.isin(self.truth, self.classes), self.truth == self.about["left_out"]
        code = np.array([self.classes.index(name) if name in self.classes else 0 for name in self.truth])
        told = known & emitted
        covered = answers.sets[np.arange(len(code)), code]
        return {
            "right": float(right[told].mean()),
            "emitted": float(emitted[known].mean()),
            "at_type": float((at_type & emitted)[known].mean()),
            "worth": float((right * np.where(at_type, 1.0, 0.5))[known].mean()),
            "set_error": float(1 - covered[told].mean()),
            "missing_true": float((right | ~emitted)[missing].mean()) if missing.any() else None,
        }


def worth(rows: Iterable[dict]) -> float:
    """What constants are chosen by: of missing types, the mean share that ends Unknown or at a true level; of known
    cells, the mean share of right answers, one at a level above counting half."""
    rows = list(rows)
    missing = [row["missing_true"] for row in rows if row["missing_true"] is not None]
    return float(np.mean([row["worth"] for row in rows]) + (np.mean(missing) if missing else 0.0))


def chosen(seen: Sequence[Seen], choices: Sequence[Choice] = CHOICES) -> dict[str, Choice]:
    """Data set to the constants that are best on the rows of all others, each data set counted once."""
    of = [DATA_SETS[one.about["reference"]] for one in seen]
    found = {choice: [one.judged(choice) for one in seen] for choice in choices}
    names = list(dict.fromkeys(of))

    def value(choice: Choice, without: str) -> float:
        return float(
            np.mean(
                [
                    worth(row for row, name in zip(found[choice], of, strict=True) if name == other)
                    for other in names
                    if other != without
                ]
            )
        )

    return {name: max(choices, key=lambda choice: value(choice, name)) for name in names}


WHOLE = ("right", "at_type", "set_error")
COLUMNS = (
    "data_set", "constants", "near", "false_cuts", "most_shape", "margin", "missing_true", "right", "at_type",
    "set_error",
)  # fmt: skip


def chosen_again(seen: Sequence[Seen], choices: Sequence[Choice] = CHOICES) -> list[dict]:
    """Figures of every data set with `SHIPPED`, with `UNIFORM`, and with the constants chosen without it.

    ``missing_true`` is the mean over its types left out; the others are means over its whole references.
    """
    best, rows = chosen(seen, choices), []
    for name, choice in best.items():
        own = [one for one in seen if DATA_SETS[one.about["reference"]] == name]
        for constants, values in (("shipped", SHIPPED), ("uniform", UNIFORM), ("chosen without it", choice)):
            found = [(one.about["left_out"], one.judged(values)) for one in own]
            missing = [row["missing_true"] for left_out, row in found if left_out is not None]
            whole = [row for left_out, row in found if left_out is None]
            means = {key: float(np.mean([row[key] for row in whole])) if whole else None for key in WHOLE}
            rows.append(
                {"data_set": name, "constants": constants, **asdict(values)}
                | {"missing_true": float(np.mean(missing)) if missing else None, **means}
            )
    return rows


def load_all(folder: Path) -> list[Seen]:
    """What a run of `bench/levels.py` kept."""
    return [Seen.load(path) for path in sorted(folder.glob("levels_seen_*.npz"))]
