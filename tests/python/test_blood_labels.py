"""Labels of blood checked cell by cell: CD4 or CD8, rare types under other labels, labels for cells without any."""

import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / "assets"))

from blood_labels import DROPPED, Blood, checked, rare_cells, transferred, voted_maturity

GENES = ["CD8A", "CD8B", "CLEC4C", "LILRA4", "OTHER"]
KINDS = {
    # share of cells that show each of GENES
    "CD4 T": (0.03, 0.03, 0.0, 0.0, 1.0),
    "CD8 T": (0.4, 0.4, 0.0, 0.0, 1.0),
    "B": (0.03, 0.03, 0.0, 0.02, 1.0),
    "pDC": (0.0, 0.0, 0.6, 0.9, 1.0),
}


def blood(cells: dict[str, int], seed: int = 0) -> tuple[Blood, np.ndarray]:
    """Cells of `KINDS`, each kind around a place of its own in both embeddings, and their true kinds."""
    draw = np.random.default_rng(seed)
    truth = np.repeat(list(cells), list(cells.values())).astype(object)
    shown = np.array([KINDS[kind] for kind in truth])
    counts = sp.csr_matrix((draw.random(shown.shape) < shown).astype(np.float32))
    place = np.array([list(KINDS).index(kind) for kind in truth])
    embedding = 3.0 * np.eye(len(KINDS))[place] + draw.normal(0, 0.5, (len(truth), len(KINDS)))
    return Blood("made", counts, GENES, [f"c{n}" for n in range(len(truth))], embedding, embedding), truth


def test_cd8_cells_among_cd4_cells_are_found_by_their_neighbours():
    made, truth = blood({"CD4 T": 300, "CD8 T": 150, "B": 200})
    labels = np.where(truth == "B", "B", "CD4 T").astype(object)
    naive = np.full(len(truth), "naive", dtype=object)
    found = checked(made, labels, naive, np.ones(len(truth), dtype=bool))
    t_cells = truth != "B"
    kept = t_cells & (found != DROPPED)
    assert kept.sum() > 0.8 * t_cells.sum()
    assert (found[kept] == truth[kept] + " naive").mean() > 0.97
    # of CD8 T cells that show neither gene the neighbours decide
    silent = (truth == "CD8 T") & ~made.shows("CD8 T")
    assert (found[silent] == "CD8 T naive").sum() > (found[silent] == "CD4 T naive").sum()
    assert set(found[~t_cells]) == {"B"}


def test_a_cell_that_was_not_called_cd4_does_not_become_one():
    made, truth = blood({"CD4 T": 200, "CD8 T": 100, "B": 100})
    labels = np.where(truth == "B", "B", "CD8 T").astype(object)
    memory = np.full(len(truth), "memory", dtype=object)
    found = checked(made, labels, memory, np.zeros(len(truth), dtype=bool))
    assert set(found[truth == "CD4 T"]) <= {DROPPED, "CD8 T memory"}
    assert (found[truth == "CD4 T"] == DROPPED).mean() > 0.9
    # nor is a T cell kept of which nothing says naive or memory
    unsaid = checked(made, labels, np.full(len(truth), "", dtype=object), np.ones(len(truth), dtype=bool))
    assert set(unsaid[truth != "B"]) == {DROPPED}


def test_rare_cells_are_found_under_other_labels():
    made, truth = blood({"CD4 T": 100, "CD8 T": 60, "B": 200, "pDC": 12})
    found = rare_cells(made, "pDC")
    assert found[truth == "pDC"].sum() >= 10
    assert not found[truth != "pDC"].any()  # a B cell with a stray count has no neighbours that show one


def test_maturity_of_cells_whose_label_does_not_say_is_that_of_most_neighbours():
    made, truth = blood({"CD4 T": 100, "CD8 T": 100, "B": 50})
    stated = np.where(truth == "CD4 T", "naive", "memory").astype(object)
    stated[::4] = ""
    labels = truth.copy()
    said = voted_maturity(made, labels, stated)
    asked = (stated == "") & (truth != "B")
    assert (said[asked] == np.where(truth[asked] == "CD4 T", "naive", "memory")).mean() > 0.95
    assert (said[~asked] == stated[~asked]).all()


def test_labels_go_over_to_a_batch_without_any():
    made, truth = blood({"CD4 T": 100, "CD8 T": 100, "B": 100})
    labels = np.where(truth == "CD4 T", "CD4 T naive", np.where(truth == "CD8 T", "CD8 T memory", "B")).astype(object)
    labels[::5] = DROPPED
    asked, true = blood({"CD4 T": 60, "CD8 T": 60, "B": 60}, seed=1)
    coarse, maturity = transferred([(made, labels)], asked)
    sure = coarse != DROPPED
    assert sure.mean() > 0.8
    assert (coarse[sure] == np.where(true == "B", "B", "T")[sure]).mean() > 0.97
    of_t = (true != "B") & (maturity != DROPPED)
    assert (maturity[of_t] == np.where(true == "CD4 T", "naive", "memory")[of_t]).mean() > 0.97


@pytest.mark.parametrize("cells", [40, 400])
def test_pure_cd4_cells_stay_cd4_cells(cells):
    made, truth = blood({"CD4 T": cells, "CD8 T": cells // 2, "B": 100})
    labels = np.where(truth == "B", "B", truth).astype(object)
    found = checked(made, labels, np.full(len(truth), "naive", dtype=object), labels == "CD4 T")
    wrong = (truth == "CD4 T") & (found == "CD8 T naive")
    assert wrong.sum() <= 0.03 * cells
