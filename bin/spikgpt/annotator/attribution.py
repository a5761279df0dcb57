"""The genes that a label rests on: what each adds to the logits by which the expression view calls a type.

The view's log-probabilities are the mean of its judges' (`spikgpt.annotator.expression`), so the log-odds of one type
against others are the mean of the judges' logits, without their normalisers. Each judge is a sum over genes:

- a regression's logit of a type is intercept + sum over genes of ``coefficient * (z - offset)``, offset being the
  sample's batch offset: a gene that is as in the reference's mean adds nothing;
- Spearman's correlation is the sum over genes of ``rank * rank of the type's profile / markers``, both standardised. The
  profile's ranks have mean 0, so the cell's may be counted from those of its genes without a count: a gene that is not
  seen adds nothing.

So genes and intercepts add up to the log-odds without any approximation, and as z, offset and rank enter linearly, the
mean over cells needs the cells' mean alone. The embedding view, a network behind scGPT, is no such sum: it is left out.
"""

import numpy as np
import scipy.sparse as sp

from spikgpt.annotator.cells import Cells, in_turn, row_blocks
from spikgpt.annotator.expression import ExpressionView, cell_ranks, mean_log_probability
from spikgpt.annotator.ranks import SCALES, standard_ranks
from spikgpt.base.arrays import Codes, Floats
from spikgpt.base.groups import class_members


def against_the_mean(view: ExpressionView, codes: Codes) -> Floats:
    """Weights ``(groups, classes)`` of the classes' logits: a type against the mean of all types that have cells."""
    present = (view.class_cells > 0).astype(float)
    contrast = np.tile(-present / present.sum(), (len(codes), 1))
    contrast[np.arange(len(codes)), codes] += 1.0
    return contrast


def gene_attributions(view: ExpressionView, cells: Cells, groups: Codes, contrast: Floats) -> Floats:
    """What each gene adds to a contrast of the view's logits, summed over groups of cells of one sample.

    Parameters
    ----------
    cells
        All cells of the sample that the annotator can read: they tell the batch offset.
    groups
        Group of each cell ``(cells,)``, or -1 for none.
    contrast
        Weight ``(groups, classes)`` of each class's logit, 0 in sum and 0 for a class without a cell.

    Returns
    -------
    ``(groups, annotator's genes)``, in units of log-odds times cells; 0 for a gene that no judge reads.
    """
    measured, number, classes = cells.measured, len(contrast), len(view.class_cells)
    known = measured[view.correlation.genes]

    def block(rows: slice) -> tuple[Codes, dict[str, Floats], dict[str, Floats], Floats]:
        z, on_few = view.read(cells.counts(rows), measured)
        predicted = mean_log_probability(view.judges(z, on_few, measured)).argmax(1)
        above_zero, _, _, sd = cell_ranks(on_few)
        types, members = class_members(predicted, classes), class_members(groups[rows], number)
        return (
            predicted,
            {name: np.asarray(types @ z[name]) for name in SCALES},
            {name: np.asarray(members @ z[name]) for name in SCALES},
            (members @ sp.diags(1 / np.maximum(sd, 1e-9)) @ above_zero).toarray(),
        )

    wide = {name: len(view.scales[many].genes) for name, many in view.larger.items()}
    of_types = {name: np.zeros((classes, wide[name])) for name in SCALES}
    of_groups = {name: np.zeros((number, wide[name])) for name in SCALES}
    ranks = np.zeros((number, int(known.sum())))
    predicted = []
    for called, by_type, by_group, of_ranks in in_turn(block, row_blocks(len(cells))):
        predicted.append(called)
        ranks += of_ranks
        for name in SCALES:
            of_types[name] += by_type[name]
            of_groups[name] += by_group[name]
    offsets = view.offsets(of_types, np.concatenate(predicted))
    number_of = np.bincount(groups[groups >= 0], minlength=number)

    out = np.zeros((number, len(measured)))
    judges = len(view.scales) + 1
    for name, scale in view.scales.items():
        corrected = of_groups[name.split(".")[0]][:, view.among_larger(name)] - np.outer(number_of, offsets[name])
        out[:, scale.genes] += contrast @ scale.coefficients * corrected / judges
    correlation = view.correlation
    profiles = np.where((view.class_cells > 0)[:, None], standard_ranks(correlation.profiles[:, known]), 0.0)
    out[:, correlation.genes[known]] += (
        contrast @ profiles * ranks * correlation.scale / max(int(known.sum()), 1) / judges
    )
    return out
