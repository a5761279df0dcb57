"""Coarse labels of one file beside finer ones of another: each cell learns as the finer type that it is.

"T cell" in one file and "CD4 T" in another do not contradict each other. Learned as two types they do: what sets them
apart is the file, cells of a sample are called by the file that they look like, and their probability is split. So
before training, an annotator of the other files' cells alone judges the cells with a coarse label, sample by sample as
it would a user's:

1. A cell that it calls by a type below the label, and does not reject, learns as that type.
2. Any other keeps the coarse label: no finer type fits it, and the label is all that is known of it.
3. Where the cells of 2 are no more than the rate of Unknown explains (`TAIL`), they are the finer types' own tail, and
   learn as the likeliest of them; as a type of their own they would compete with the types that they are of.

What is named so is a guess. It teaches the views, but neither their weight and temperature nor the sets are learned
from it, and in figures such a cell is right at every type below its label. `bench/levels.py` measures what it comes to.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from spikgpt.annotator.calibrated import Calibrated, progress
from spikgpt.annotator.probabilities import ABSENT
from spikgpt.annotator.rejection import Signs, rejected
from spikgpt.annotator.training_set import CoarseLabel, Reference, check
from spikgpt.base.arrays import Codes, Floats
from spikgpt.base.errors import UserError

TAIL = 2.0
"""Times the rate of Unknown up to which rejected cells count as its tail: where the report warns of too many, too."""


def with_finer_labels(reference: Reference, learn: Callable[[Reference], Calibrated], unknown_rate: float) -> Reference:
    """The reference, cells with a coarse label (`Reference.coarse_labels_of_files`) as the finer types that they are.

    ``learn`` trains on other cells. A reference without such labels is given back as it is. ``messages`` say what was
    done; a type that no cell is left of is none any more.
    """
    labels = reference.coarse_labels_of_files()
    if not labels:
        return reference
    codes, place, messages = reference.codes.copy(), np.full(len(reference.codes), -1), []
    for at, label in enumerate(labels):
        place[reference.of_file(label.file) & (codes == reference.classes.index(label.name))] = at
    for file in sorted({label.file for label in labels}):
        inside = reference.of_file(file)
        # other files' coarse labels of the same types would compete in the annotator too
        names = {name for label in labels if label.file == file for name in (label.name, *label.below)}
        alike = [at for at, label in enumerate(labels) if names & {label.name, *label.below}]
        rest = np.flatnonzero(~inside & ~np.isin(place, alike))
        try:
            check(np.array(reference.classes, dtype=object)[reference.codes[rest]], "the other files")
        except UserError:
            told = ", ".join(repr(label.name) for label in labels if label.file == file)
            messages.append(
                f"The other files teach too little to tell which finer types {told} ({file}) stands for: it competes "
                "with them as a type of its own."
            )
            continue
        progress(f"an annotator of the other files names the cells with coarse labels in {file}")
        others = reference.take(rest)
        rows = np.flatnonzero(inside)
        log_p, p_value = judged(reference, others, learn(others), rows)
        for at, label in enumerate(labels):
            if label.file == file:
                mine = place[rows] == at
                codes[rows[mine]], told = finer(reference, label, log_p[mine], p_value[mine], unknown_rate)
                messages += [told] if told else []
    return renamed(reference, labels, place, codes, messages)


def judged(reference: Reference, others: Reference, annotator: Calibrated, rows: Codes) -> tuple[Floats, Floats]:
    """Log-probabilities ``(rows, classes)`` and p-values ``(rows,)`` of cells by an annotator of others.

    `ABSENT` for a type that the others lack; batch by batch.
    """
    log_p, p_value = np.full((len(rows), len(reference.classes)), ABSENT), np.zeros(len(rows))
    columns = np.array([reference.classes.index(name) for name in others.classes])
    batches = reference.batch_codes[rows]
    for batch in np.unique(batches):
        at = np.flatnonzero(batches == batch)
        cells = replace(annotator.training, reference=reference).cells(rows[at])
        mixed = annotator.mixture(annotator.views.log_probabilities(cells))
        near = annotator.rejection.neighbours(annotator.views, cells)
        p_value[at] = annotator.rejection.judge(Signs.of(annotator.views, cells, mixed, near)).p_value
        log_p[np.ix_(at, columns)] = mixed
    return log_p, p_value


def finer(
    reference: Reference, label: CoarseLabel, log_p: Floats, p_value: Floats, unknown_rate: float
) -> tuple[Codes, str]:
    """Types ``(cells,)`` of the cells with a coarse label, and in words what became of them, if anything."""
    own, *_ = options = [reference.classes.index(name) for name in (label.name, *label.below)]
    best = log_p.argmax(1)
    named = np.isin(best, options) & ~rejected(p_value, unknown_rate)
    codes = np.where(named, best, own)
    if (~named).mean() <= TAIL * unknown_rate:
        codes = np.array(options)[log_p[:, options].argmax(1)]
    number = {reference.classes[k]: int((codes == k).sum()) for k in options}
    stay = number.pop(label.name)
    coarser = f"The label {label.name!r} of {label.file} is coarser than labels of other files"
    if stay == len(codes):
        # a label that the other files have too, and call these cells by, is as fine as theirs
        told = (
            f"{coarser} ({', '.join(repr(name) for name in label.below)}). Its {stay} cells keep it: an annotator of "
            "the other files finds that none of those fits."
        )
        return codes, "" if (best == own).any() else told
    learned = ", ".join(f"{name} ({cells})" for name, cells in number.items() if cells)
    kept = f"{stay} keep it, as they are called so too or fit no finer type" if stay else "none keeps it"
    return codes, (
        f"{coarser}. Its {len(codes)} cells are learned as the finer types that an annotator of the other files calls "
        f"them: {learned}; {kept}. In held-out figures they are right at every type below the label."
    )


def renamed(
    reference: Reference, labels: list[CoarseLabel], place: Codes, codes: Codes, messages: list[str]
) -> Reference:
    """The reference with other types ``codes`` (cells,); those without a cell are dropped."""
    left, recoded = np.unique(codes, return_inverse=True)
    classes = [reference.classes[k] for k in left]
    return replace(
        reference,
        codes=recoded.astype(np.int64),
        classes=classes,
        ontology={name: term for name, term in reference.ontology.items() if name in classes},
        levels={name: above for name, above in reference.levels.items() if name in classes},
        messages=[*reference.messages, *messages],
        coarse_labels=labels,
        coarse=place,
    )
