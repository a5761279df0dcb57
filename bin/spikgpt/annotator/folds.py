"""What of a labelled reference is held out, and which of it calibrates."""

import numpy as np

from spikgpt.annotator.training_set import STRATIFIED_FOLDS, Reference
from spikgpt.base.arrays import Codes, Flags

MAX_FOLDS = 5
COVERED = 0.8
"""Folds are whole batches when at least this share of cells has its type in another fold too."""


def folds(reference: Reference, seed: int) -> tuple[Codes, str]:
    """Fold of each cell ``(cells,)``, and ``batch`` or ``stratified``.

    Whole batches are held out where there are several and types recur across them: cells of one batch
    resemble each other more than a new sample's will. Else cells are dealt out at random, type by type.
    """
    codes, batches = reference.codes, reference.batch_codes
    number = len(reference.batches)
    if number > 1:
        # large batches first, each to the fold with the fewest cells yet
        sizes = np.bincount(batches)
        load = np.zeros(min(number, MAX_FOLDS))
        fold_of = np.zeros(number, dtype=np.int64)
        for batch in np.argsort(-sizes, kind="stable"):
            fold_of[batch] = int(load.argmin())
            load[fold_of[batch]] += sizes[batch]
        if recur(codes, fold_of[batches]):
            return fold_of[batches], "batch"
    generator = np.random.default_rng(seed)
    out = np.zeros(len(codes), dtype=np.int64)
    for k in np.unique(codes):
        rows = generator.permutation(np.flatnonzero(codes == k))
        # a random start, or fold 0 would hold every single cell of the tiny types
        out[rows] = (np.arange(len(rows)) + generator.integers(STRATIFIED_FOLDS)) % STRATIFIED_FOLDS
    return out, "stratified"


def recur(codes: Codes, fold_of: Codes) -> bool:
    """Whether every fold has cells of types that the others teach, two types at least, and most cells are such."""
    covered = 0
    for fold in np.unique(fold_of):
        inside = fold_of == fold
        taught = np.unique(codes[~inside])
        known = int(np.isin(codes[inside], taught).sum())
        if len(taught) < 2 or known == 0:
            return False
        covered += known
    return covered >= COVERED * len(codes)


def cells_needed(unknown_rate: float) -> int:
    """Calibration cells that a type needs before a p-value of its own could be as small as the rate."""
    return int(np.ceil(1 / unknown_rate - 1))


def large_enough(codes: Codes, classes: int, unknown_rate: float) -> Flags:
    """Which types ``(classes,)`` have the cells that calibration needs; all of them where none has.

    The p-value speaks for these types. A handful of cells of a rare type, held out, fits nothing that was
    learned from the other handful: among the calibration scores they would stand as proof that reference
    cells can look like anything, and so hide types that the reference never held.
    """
    enough = np.bincount(codes, minlength=classes) >= cells_needed(unknown_rate)
    return enough if enough.any() else np.ones(classes, dtype=bool)
