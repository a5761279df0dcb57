"""An annotator that learned from several files: coarse labels count for the types below them, two names are told."""

import numpy as np
import pytest
import scipy.sparse as sp
from spikgpt.annotator.joined import joined_warnings, reciprocal_pairs
from spikgpt.annotator.training_set import Reference
from spikgpt.annotator.tree import FLAT, Tree, tree_of_ontology
from spikgpt.base.cell_ontology import terms_of_types

TERMS = {"CD4": "CL:0000624", "CD8": "CL:0000625", "T cell": "CL:0000084", "B cell": "CL:0000236"}
GENES = 40


def reference(files: dict[str, dict[str, str]], ontology: dict[str, str] = TERMS, cells: int = 12) -> Reference:
    """Files of labels, each with the pattern of expression that its cells have; every file has an effect of its own."""
    draw = np.random.default_rng(0)
    patterns = sorted({pattern for of_file in files.values() for pattern in of_file.values()})
    rates = {name: np.exp(np.random.default_rng(at).normal(0, 1, GENES)) for at, name in enumerate(patterns)}
    counts, labels, batches = [], [], []
    for name, of_file in files.items():
        effect = np.exp(draw.normal(0, 0.7, GENES))
        for label, pattern in of_file.items():
            counts.append(draw.poisson(20 * rates[pattern] * effect, (cells, GENES)))
            labels += [label] * cells
            batches += [name] * cells
    matrix = sp.csr_matrix(np.concatenate(counts))
    names = [f"c{at}" for at in range(len(labels))]
    embedding = np.zeros((len(labels), 2), dtype=np.float32)
    return Reference.of(
        matrix, [f"g{at}" for at in range(GENES)], embedding, labels, batches, names, "both", ontology,
        files={name: [name] for name in files},
    )  # fmt: skip


def test_a_coarse_label_counts_for_the_types_below_it_that_its_own_file_lacks():
    made = reference({"coarse": {"T cell": "t", "B cell": "b"}, "fine": {"CD4": "4", "CD8": "8", "B cell": "b"}})
    assert made.classes == ["B cell", "CD4", "CD8", "T cell"]
    assert made.finer == {(made.batches.index("coarse"), 3): [1, 2]}
    rows = np.flatnonzero(made.codes == 3)[:3]
    worth = np.log(np.array([[0.7, 0.1, 0.15, 0.05], [0.1, 0.6, 0.2, 0.1], [0.1, 0.1, 0.1, 0.7]]))
    assert made.settled(rows, worth).tolist() == [2, 1, 3]  # never a B cell
    fine = np.flatnonzero(made.codes == 1)[:1]
    assert made.settled(fine, worth[:1]).tolist() == [1]


def test_a_file_that_has_both_levels_means_what_it_says():
    made = reference({"both": {"T cell": "t", "CD4": "4"}, "fine": {"CD4": "4", "B cell": "b"}})
    assert made.finer == {}
    assert reference({"both": {"T cell": "t", "CD4": "4"}}).finer == {}


def test_coarse_labels_that_no_level_puts_above_finer_ones_are_told():
    made = reference({"coarse": {"T cell": "t", "B cell": "b"}, "fine": {"CD4": "4", "CD8": "8", "B cell": "b"}})
    tree = tree_of_ontology(made.classes, terms_of_types(made.classes, TERMS))
    assert joined_warnings(made, tree) == []
    (told,) = joined_warnings(made, Tree(FLAT, "", ()))
    assert told.startswith("The label 'T cell' (coarse) is coarser than 'CD4', 'CD8' of another file")


def test_types_that_no_term_connects_and_types_by_two_names_are_told():
    files = {"one": {"B cell": "b", "Mono": "m", "NK-like": "n"}, "two": {"B cell": "b", "MNP": "m", "new": "x"}}
    warnings = joined_warnings(reference(files), Tree(FLAT, "", ()))
    assert len(warnings) == 2
    assert "'Mono', 'NK-like' (one); 'MNP', 'new' (two)" in warnings[0]
    assert "split between two labels" in warnings[0]
    assert "'Mono' (one) and 'MNP' (two; " in warnings[1]
    assert "'new'" not in warnings[1]
    assert "give them one name in both files" in warnings[1]
    # where one file has no type of its own, there is nothing that could be split
    assert (
        joined_warnings(reference({"one": files["one"], "two": {"B cell": "b", "Mono": "m"}}), Tree(FLAT, "", ())) == []
    )
    assert joined_warnings(reference({"one": files["one"]}), Tree(FLAT, "", ())) == []


def test_a_pair_is_each_other_s_nearest_whatever_sets_the_files_apart():
    draw = np.random.default_rng(0)
    one = draw.normal(0, 1, (3, 200))
    other = np.stack([one[2] + draw.normal(0, 0.3, 200), draw.normal(0, 1, 200), one[0], np.full(200, np.nan)]) + 5
    pairs = reciprocal_pairs(one, other)
    assert [(pair.one, pair.other) for pair in pairs] == [(0, 2), (2, 0)]
    assert all(pair.correlation > 0.5 for pair in pairs)
    assert reciprocal_pairs(one, other[:1]) == []


@pytest.mark.parametrize("order", [("coarse", "fine"), ("fine", "coarse")])
def test_training_takes_a_coarse_label_for_all_below_it(order):
    """Half of the T cells have a coarse label in a file of their own; levels hold for them and sets are small."""
    from annotator_cells import made_cells
    from spikgpt.annotator.network import Recipe
    from spikgpt.annotator.train import train_annotator

    data, embedding = made_cells({"T cell": 120, "NK cell": 120, "B cell": 120}, seed=3, name="r")
    first = np.arange(data.n_obs) % 2 == 0
    fine = {"T cell": "CD4", "NK cell": "CD8", "B cell": "B cell"}
    labels = np.array([fine[label] for label in data.obs["cell_type"]], dtype=object)
    labels[first & (labels != "B cell")] = "T cell"
    batches = np.where(first, "coarse", "fine")
    made = Reference.of(
        data.layers["counts"], data.var_names.tolist(), embedding, labels, batches, data.obs_names.tolist(), "both",
        TERMS, files={name: [name] for name in order},
    )  # fmt: skip
    annotator, _, _ = train_annotator(
        made, scgpt={"name": "", "sha256": ""}, unknown_rate=0.05, features="both", seed=0, threads=1,
        recipe=Recipe(min_steps=20, max_steps=30),
    )  # fmt: skip
    held = annotator.config["held_out"]
    assert held["types"]["T cell"]["recall"] > 0.9
    assert held["accuracy"] > 0.9
    assert annotator.config["levels"]["held_out"]["set_error"] < 0.15
    assert "T cell" not in {row["cell_type"] for row in annotator.config["leave_one_out"]}
