"""Mouse cells for tests: human cells whose genes are renamed to their one mouse ortholog. No mouse was sequenced."""

import anndata as ad
import numpy as np
from spikgpt.base.species import MOUSE, orthologs


def mouse_copy(cells: ad.AnnData) -> ad.AnnData:
    """The cells on the genes that have one mouse ortholog, under its symbol (Gcg); genes in the order of the file."""
    mouse_of = {human: mouse for mouse, human in orthologs()[MOUSE].items()}
    made = cells[:, np.array([name in mouse_of for name in cells.var_names])].copy()
    made.var_names = [mouse_of[name] for name in made.var_names]
    return made
