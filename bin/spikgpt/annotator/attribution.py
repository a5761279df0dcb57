"""The genes that a label rests on: what each adds to the log-odds by which the annotator calls a type.

The log-odds of one type against others in the mixture (`spikgpt.annotator.mixture`) are ``scale * (weight * those of
the embedding view + (1 - weight) * those of the expression view)``: log-probabilities differ from logits by a
normaliser that cancels. Both views are taken apart by genes.

*Expression view, exactly.* Its log-odds are the mean of its judges' (`spikgpt.annotator.expression`), and each judge is
a sum over genes:

- a regression's logit of a type is intercept + sum over genes of ``coefficient * (z - offset)``, offset being the
  sample's batch offset: a gene that is as in the reference's mean adds nothing;
- Spearman's correlation is the sum over genes of ``rank * rank of the type's profile / markers``, both standardised.
  The ranks of the profile have mean 0, so those of the cell may be counted from the rank of a zero: a gene without a
  count adds nothing.

All of it is linear in z, offset and rank, so the mean over cells needs the cells' mean alone (`GeneSums`).

*Embedding view, to first order.* `gene_gradients`: gradient times input [1], from the logits through the spiking
network (spikes by their surrogate gradient [2]), the standardisation and scGPT to the expression bins of the cell's
genes: what the view's log-odds would lose if the bins went to 0 and all were linear.

`bench/explanations.py` measures both by known markers and by deletion.

[1] Shrikumar et al., Learning Important Features Through Propagating Activation Differences, ICML 2017.
[2] Neftci et al., Surrogate Gradient Learning in Spiking Neural Networks, IEEE Signal Processing Magazine 36, 2019.
"""

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F

from spikgpt.annotator import network
from spikgpt.annotator.cells import Cells, in_turn, row_blocks
from spikgpt.annotator.expression import ExpressionView, cell_ranks, mean_log_probability
from spikgpt.annotator.ranks import SCALES
from spikgpt.annotator.views import EmbeddingView
from spikgpt.base.arrays import Codes, Flags, Floats, Floats32
from spikgpt.base.groups import class_members
from spikgpt.profiles.ranks import standard_ranks
from spikgpt.scgpt.embed import Embedder


def against_the_mean(present: Flags, codes: Codes) -> Floats:
    """Weights ``(groups, classes)`` of the classes' logits: a type against the mean of all ``present`` (classes,)."""
    contrast = np.tile(-present.astype(float) / present.sum(), (len(codes), 1))
    contrast[np.arange(len(codes)), codes] += 1.0
    return contrast


class GeneSums:
    """What the judges read of groups of cells of one sample, summed, from blocks of its cells.

    Parameters
    ----------
    measured
        Which of the annotator's genes the sample has ``(genes,)``.
    groups
        Number of groups.
    """

    def __init__(self, view: ExpressionView, measured: Flags, groups: int) -> None:
        self.view, self.measured, self.groups = view, measured, groups
        self.known = measured[view.correlation.genes]
        classes = len(view.class_cells)
        wide = {name: len(view.scales[larger].genes) for name, larger in view.larger.items()}
        self.of_types = {name: np.zeros((classes, number)) for name, number in wide.items()}
        self.of_groups = {name: np.zeros((groups, number)) for name, number in wide.items()}
        self.ranks = np.zeros((groups, int(self.known.sum())))
        self.cells = np.zeros(groups)
        self.predicted: list[Codes] = []

    def add(self, counts: sp.csr_matrix, groups: Codes) -> None:
        """Counts ``(cells, annotator's genes)`` and the group of each cell ``(cells,)``, -1 for none.

        All cells that the annotator can read tell the sample's batch offset, those without a group too.
        """
        blocks = row_blocks(len(groups))
        for part, (predicted, types, mine, ranks) in zip(
            row_blocks(len(groups)), in_turn(lambda rows: self._block(counts[rows], groups[rows]), blocks), strict=True
        ):
            self.predicted.append(predicted)
            self.cells += np.bincount(groups[part][groups[part] >= 0], minlength=self.groups)
            self.ranks += ranks
            for name in SCALES:
                self.of_types[name] += types[name]
                self.of_groups[name] += mine[name]

    def _block(
        self, counts: sp.csr_matrix, groups: Codes
    ) -> tuple[Codes, dict[str, Floats], dict[str, Floats], Floats]:
        z, on_few = self.view.read(counts, self.measured)
        predicted = mean_log_probability(self.view.judges(z, on_few, self.measured)).argmax(1)
        types, mine = class_members(predicted, len(self.view.class_cells)), class_members(groups, self.groups)
        above_zero, _, _, sd = cell_ranks(on_few)
        return (
            predicted,
            {name: np.asarray(types @ z[name]) for name in SCALES},
            {name: np.asarray(mine @ z[name]) for name in SCALES},
            (mine @ sp.diags(1 / np.maximum(sd, 1e-9)) @ above_zero).toarray(),
        )

    def attributions(self, contrast: Floats) -> Floats:
        """What each gene adds to a contrast of the view's logits, summed over the cells of each group.

        Parameters
        ----------
        contrast
            Weight ``(groups, classes)`` of each class's logit, 0 in sum and 0 for a class without a cell.

        Returns
        -------
        ``(groups, annotator's genes)``, in units of log-odds times cells; 0 for a gene that no judge reads.
        """
        view = self.view
        judges = len(view.scales) + 1
        out = np.zeros((self.groups, len(self.measured)))
        offsets = view.offsets(self.of_types, np.concatenate(self.predicted)) if self.predicted else {}
        for name, offset in offsets.items():
            scale = view.scales[name]
            z = self.of_groups[name.split(".")[0]][:, view.among_larger(name)] - np.outer(self.cells, offset)
            out[:, scale.genes] += contrast @ scale.coefficients * z / judges
        correlation = view.correlation
        profiles = np.where((view.class_cells > 0)[:, None], standard_ranks(correlation.profiles[:, self.known]), 0.0)
        share = float(correlation.scale[0]) / max(int(self.known.sum()), 1) / judges
        out[:, correlation.genes[self.known]] += contrast @ profiles * self.ranks * share
        return out


def gene_attributions(view: ExpressionView, cells: Cells, groups: Codes, contrast: Floats) -> Floats:
    """`GeneSums.attributions` of one sample in memory.

    ``cells``: all of the sample that the annotator can read; ``groups`` (cells,), -1 for none; ``contrast`` (groups,
    classes).
    """
    sums = GeneSums(view, cells.measured, len(contrast))
    sums.add(cells.counts(), groups)
    return sums.attributions(contrast)


def gene_gradients(
    view: EmbeddingView,
    embedder: Embedder,
    counts: sp.csr_matrix,
    embedding: Floats32,
    offset: Floats,
    contrast: Floats,
) -> Floats:
    """Gradient times input of each gene's expression bin, for a contrast of the embedding view's logits in each cell.

    Parameters
    ----------
    embedder
        The checkpoint that made the embeddings, on a CPU, for these genes.
    counts
        Raw counts ``(cells, genes)``.
    embedding
        What the checkpoint made of them, ``(cells, embedding_size)``.
    offset
        Batch offset ``(embedding_size,)`` of the cells' sample, see `spikgpt.annotator.batch.batch_offset`.
    contrast
        Weight ``(cells, classes)`` of each class's logit, 0 in sum.

    Returns
    -------
    ``(cells, genes)``; 0 for a gene that scGPT does not know or that the cell does not show. A gene of two columns is
    told in the first.
    """
    tokens, first = np.unique(embedder.gene_tokens, return_index=True)
    out = np.zeros(counts.shape)
    with network.deterministic(0):
        mean, sd, off, weights, at = (
            torch.from_numpy(np.asarray(values, dtype=np.float32))
            for values in (view.mean, view.sd, offset, contrast, embedding)
        )
        # through the spiking network all cells at once, through scGPT each by itself: its sequences differ in length
        at.requires_grad_()
        (of_embedding,) = torch.autograd.grad((weights * view.network((at - mean) / sd - off)).sum(), at)
        for cell in range(counts.shape[0]):
            read = embedder.tokens_of(counts, cell, str(cell))
            if read is None:
                continue
            values = torch.from_numpy(read.values)[None].requires_grad_()
            cls = F.normalize(embedder.model(torch.from_numpy(read.tokens)[None], values), dim=1)
            # of a number: with the gradient of a vector given, torch loads sympy (0.3 s of CPU) to compare shapes
            (slope,) = torch.autograd.grad((cls * of_embedding[cell]).sum(), values)
            columns = first[np.searchsorted(tokens, read.tokens[1:])]
            out[cell, columns] = (slope * values.detach())[0, 1:].double().numpy()
    return out
