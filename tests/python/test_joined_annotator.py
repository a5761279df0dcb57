"""An annotator that learned from several files: coarse labels count for the types below them, two names are told."""

import numpy as np
import pytest
import scipy.sparse as sp
from spikgpt.annotator.coarse_labels import finer, renamed, with_finer_labels
from spikgpt.annotator.joined import joined_warnings, reciprocal_pairs
from spikgpt.annotator.probabilities import ABSENT
from spikgpt.annotator.training_set import CoarseLabel, Reference
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


FILES = {"coarse": {"T cell": "t", "B cell": "b"}, "fine": {"CD4": "4", "CD8": "8", "B cell": "b"}}
LABEL = CoarseLabel("coarse", "T cell", ("CD4", "CD8"))


def test_a_label_is_coarse_where_its_file_lacks_the_types_below_it():
    made = reference(FILES)
    assert made.classes == ["B cell", "CD4", "CD8", "T cell"]
    assert made.coarse_labels_of_files() == [LABEL]
    # a file that has both says what it means
    both = reference({"both": {"T cell": "t", "CD4": "4"}, "fine": {"CD4": "4", "B cell": "b"}})
    assert both.coarse_labels_of_files() == []
    assert reference({"both": {"T cell": "t", "CD4": "4"}}).coarse_labels_of_files() == []


def named(best: list[int], p_value: list[float], unknown_rate: float = 0.05) -> tuple[list[int], str]:
    """`finer` for cells that others call ``best`` with a probability of 0.6, and the next type with 0.3."""
    log_p = np.full((len(best), 4), ABSENT)
    log_p[np.arange(len(best)), best] = np.log(0.6)
    log_p[np.arange(len(best)), (np.array(best) + 1) % 3] = np.log(0.3)
    codes, told = finer(reference(FILES), LABEL, log_p, np.array(p_value), unknown_rate)
    return codes.tolist(), told


def test_a_cell_keeps_its_coarse_label_where_no_finer_type_fits():
    codes, told = named([1, 2, 1, 0], [0.5, 0.5, 0.01, 0.5])
    assert codes == [1, 2, 3, 3]  # rejected by its own type, and called a B cell
    assert "Its 4 cells are learned" in told
    assert "CD4 (1), CD8 (1); 2 keep it, as they are called so too or fit no finer type" in told


def test_a_label_that_all_cells_keep():
    codes, told = named([0, 1], [0.5, 0.01])
    assert codes == [3, 3]
    assert "coarser than labels of other files ('CD4', 'CD8'). Its 2 cells keep it" in told
    # the other files have the label too, and tell it from the types below
    assert named([3, 3, 1], [0.5, 0.5, 0.01]) == ([3, 3, 3], "")


def test_as_many_as_the_rate_rejects_are_the_tail_of_the_finer_types():
    codes, told = named([1, 2] * 9 + [2, 0], [0.5] * 18 + [0.01, 0.5])
    assert codes == [1, 2] * 9 + [2, 1]  # by the likeliest finer type, never a B cell
    assert "CD4 (10), CD8 (10); none keeps it" in told
    assert named([1, 2] * 9 + [2, 0], [0.5] * 18 + [0.01, 0.5], 0.01)[0] == [1, 2] * 9 + [3, 3]


def test_a_coarse_label_is_right_at_every_type_below_it_and_calibrates_nothing():
    made = reference(FILES)
    codes, place = made.codes.copy(), np.where(made.codes == 3, 0, -1)
    codes[np.flatnonzero(codes == 3)] = [1] * 6 + [2] * 5 + [3]
    rows = np.flatnonzero(place == 0)
    made = renamed(made, [LABEL], place, codes, ["said"])
    assert made.classes == ["B cell", "CD4", "CD8", "T cell"]
    assert made.messages == ["said"]
    worth = np.log(np.array([[0.7, 0.1, 0.15, 0.05], [0.1, 0.6, 0.2, 0.1], [0.1, 0.1, 0.1, 0.7]]))
    assert made.settled(rows[:3], worth).tolist() == [2, 1, 3]  # never a B cell
    assert made.labels(rows).tolist() == [-1] * 11 + [3]
    everything = np.arange(len(codes))
    assert made.telling(everything).tolist() == (place < 0).tolist()
    assert made.telling(rows).all()  # without others there is nothing else
    fine = np.flatnonzero(place < 0)[:3]
    assert made.settled(fine, worth).tolist() == made.codes[fine].tolist() == made.labels(fine).tolist()
    # a label without a cell is no type any more
    codes[codes == 3] = 1
    assert renamed(made, [LABEL], place, codes, []).classes == ["B cell", "CD4", "CD8"]


def test_without_coarse_labels_a_reference_is_as_it_was():
    def learn(_: Reference) -> None:
        raise AssertionError

    for files in ({"one": FILES["fine"]}, {"one": FILES["fine"], "two": {"CD4": "4", "B cell": "b"}}):
        made = reference(files)
        assert with_finer_labels(made, learn, 0.05) is made


def test_the_annotator_of_the_other_files_has_no_coarse_label_of_the_same_types():
    seen = []

    def learn(others: Reference) -> None:
        seen.append((others.classes, sorted(set(others.batches))))
        raise InterruptedError

    files = {
        "a": {"T cell": "t", "naive B": "n", "B memory": "m"},
        "b": {"CD4": "4", "CD8": "8", "B cell": "b"},
        "c": {"T cell": "t", "NK": "k"},
    }
    terms = TERMS | {"naive B": "CL:0000788", "B memory": "CL:0000787", "NK": "CL:0000623"}
    with pytest.raises(InterruptedError):
        with_finer_labels(reference(files, terms), learn, 0.05)
    # of a's T cells: not c's, but b's B cells, whose finer types have nothing to do with them
    assert seen == [(["B cell", "CD4", "CD8", "NK"], ["b", "c"])]


def test_others_that_teach_nothing_leave_the_label_as_it_is():
    made = reference({"coarse": FILES["coarse"], "fine": {"CD4": "4"}})
    found = with_finer_labels(made, lambda _: None, 0.05)
    assert found.classes == made.classes
    assert found.codes.tolist() == made.codes.tolist()
    assert found.messages[-1].startswith("The other files teach too little to tell which finer types 'T cell' (coarse)")


def test_coarse_labels_that_no_level_puts_above_finer_ones_are_told():
    made = reference(FILES)
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
def test_cells_with_a_coarse_label_learn_as_the_finer_types_that_they_are(order):
    """Half of the T cells have a coarse label in a file of their own; it is no type of the annotator."""
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
    annotator, _, _, used = train_annotator(
        made, scgpt={"name": "", "sha256": ""}, unknown_rate=0.05, features="both", seed=0, threads=1,
        recipe=Recipe(min_steps=20, max_steps=30),
    )  # fmt: skip
    held = annotator.config["held_out"]
    assert annotator.classes == used.classes == ["B cell", "CD4", "CD8"]
    assert annotator.config["class_cells"] == {"B cell": 120, "CD4": 120, "CD8": 120}
    right = np.array([fine[label] for label in data.obs["cell_type"]], dtype=object)
    order = np.lexsort((data.obs_names.to_numpy(dtype=str), batches))
    assert (np.array(used.classes, dtype=object)[used.codes] == right[order]).mean() > 0.95
    assert held["accuracy"] > 0.9
    assert annotator.config["levels"]["held_out"]["set_error"] < 0.15
    assert {row["cell_type"] for row in annotator.config["leave_one_out"]} == {"B cell", "CD4", "CD8"}
    (told,) = annotator.config["training"]["coarse_labels"]
    assert told["label"] == "T cell"
    assert sum(told["learned_as"].values()) == 126
    assert told["learned_as"].keys() == {"CD4", "CD8"}
    assert any("Its 126 cells are learned as" in text for text in annotator.config["warnings"])
