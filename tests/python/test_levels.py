"""Answers on levels: the tree of types, how far a cell climbs, what the training and the tables say of it."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from spikgpt.annotator.levels import (
    AT_TYPE,
    MARGIN,
    MOST_SHAPE,
    NOWHERE,
    SET_RATES,
    LeftOut,
    Levels,
    Tails,
    cut_of_sample,
    distance_of,
    far_of_node,
    shape_of_null,
)
from spikgpt.annotator.realised import figures, left_out_row, level_names, right
from spikgpt.annotator.tree import (
    COLUMNS,
    FLAT,
    LIKENESS,
    NEVER,
    ONTOLOGY,
    Node,
    Tree,
    exact_term,
    grow_tree,
    tree_of_likeness,
    tree_of_ontology,
)
from spikgpt.base.cell_ontology import ancestors, cell_ontology
from spikgpt.base.errors import UserError
from spikgpt.cohort.levels import FAR, SEVERAL, levels_table
from spikgpt.read_input.levels import label_levels

BLOOD = {
    "B": "CL:0000236", "CD14 Mono": "CL:0001054", "CD16 Mono": "CL:0002396", "CD4 memory": "CL:0000897",
    "CD4 naive": "CL:0000895", "CD8": "CL:0000625", "DC": "CL:0000451", "NK": "CL:0000623", "pDC": "CL:0000784",
    "platelet": "CL:0000233",
}  # fmt: skip
NAMES = list(BLOOD)


def types_of(tree: Tree, classes: list[str]) -> dict[str, set[str]]:
    return {node.name: {classes[k] for k in node.members} for node in tree.nodes}


def grown(classes, ontology=(), levels=(), profiles=None) -> Tree:
    number = len(classes)
    codes = np.repeat(np.arange(number), 4)
    log_p = np.log(np.full((len(codes), number), 0.1 / number) + 0.9 * np.eye(number)[codes])
    profiles = np.random.default_rng(0).normal(size=(number, 30)) if profiles is None else profiles
    return grow_tree(classes, dict(ontology), dict(levels), codes, log_p, profiles)


def test_the_tree_of_terms_is_a_tree_and_tells_nested_types_apart():
    tree = grown(NAMES, BLOOD)
    found = types_of(tree, NAMES)
    assert tree.source == ONTOLOGY
    assert found["CD14 Mono or below"] == {"CD14 Mono", "CD16 Mono"}
    assert found["DC or below"] == {"DC", "pDC"}
    assert found["T cell"] == {"CD4 memory", "CD4 naive", "CD8"}
    assert found["lymphocyte"] == {"B", "CD4 memory", "CD4 naive", "CD8", "NK"}
    for node in tree.nodes:
        assert 1 < len(node.members) < len(NAMES)
        assert node.term not in NEVER or node.own is not None
        assert all(node.term in ancestors(BLOOD[NAMES[k]]) for k in node.members)
        for other in tree.nodes:
            assert set(node.members) <= set(other.members) or set(other.members) <= set(node.members) or not (
                set(node.members) & set(other.members)
            )  # fmt: skip
    assert Tree.from_dict(tree.as_dict(NAMES), NAMES) == tree
    assert [node.own for node in tree.nodes if node.name == "DC or below"] == [NAMES.index("DC")]


def test_what_is_never_emitted_is_in_the_ontology():
    assert set(cell_ontology()) >= NEVER


def test_a_path_leads_up_and_skips_levels_that_a_missing_type_leaves_without_a_choice():
    tree = grown(NAMES, BLOOD)
    naive, memory, cd8 = (NAMES.index(name) for name in ("CD4 naive", "CD4 memory", "CD8"))
    assert [tree.nodes[at].name for at in tree.path(naive)][1:3] == ["T cell", "lymphocyte"]
    without = [tree.nodes[at].name for at in tree.path(naive, memory)]
    assert without[:2] == ["T cell", "lymphocyte"]
    assert tree.path(NAMES.index("platelet")) == []
    assert len(tree.path(cd8)) == len(set(tree.path(cd8)))


def test_coarse_levels_join_at_most_half_of_the_types():
    coarse = grown(NAMES, BLOOD).coarse(NAMES)
    assert coarse["CD4 naive"] == coarse["B"] == "lymphocyte"
    assert coarse["leukocyte"] == "leukocyte"
    assert coarse["platelet"] == "platelet"


def test_the_users_columns_are_the_levels():
    levels = {"a": ["x", "x1"], "b": ["x", "x1"], "c": ["x", "x2"], "d": ["y", "y1"], "e": ["y", "y1"]}
    tree = grown(list(levels), levels=levels)
    assert tree.source == COLUMNS
    assert types_of(tree, list(levels)) == {"x": {"a", "b", "c"}, "x1": {"a", "b"}, "y1": {"d", "e"}}
    assert tree.coarse(list(levels))["a"] == "x"
    same = grown(["T", "CD4", "B"], levels={"T": ["T"], "CD4": ["T"], "B": ["B"]})
    assert types_of(same, ["T", "CD4", "B"]) == {"T or below": {"T", "CD4"}}


def test_without_terms_alike_types_are_joined_and_named_by_their_members():
    draw = np.random.default_rng(1)
    lymphoid, myeloid = draw.normal(size=(2, 200))
    profiles = np.stack([lymphoid, lymphoid, myeloid, myeloid]) + 0.2 * draw.normal(size=(4, 200))
    tree = grown(["type 1", "type 2", "type 3", "type 4"], profiles=profiles)
    assert tree.source == LIKENESS
    assert set(types_of(tree, ["type 1", "type 2", "type 3", "type 4"])) == {"type 1 or type 2", "type 3 or type 4"}
    assert "none have a term" in tree.told
    codes = np.repeat(np.arange(4), 5)
    other = tree_of_likeness(["a", "b", "c", "d"], codes, np.log(np.full((20, 4), 0.25)), np.eye(4)[[0, 1, 2, 3]], 0)
    assert other.source == FLAT


@pytest.mark.parametrize(
    ("classes", "ontology", "levels", "told"),
    [
        (["a", "b"], {}, {}, "The reference has 2 types"),
        (["B", "CD8", "platelet"], {name: BLOOD[name] for name in ("B", "CD8", "platelet")}, {}, None),
        (["B", "hepatocyte", "neuron"], {"B": "CL:0000236", "hepatocyte": "CL:0000182", "neuron": "CL:0000540"}, {},
         "No level lies between"),
        (["a", "b", "c"], {}, {"a": ["x"], "b": ["x"], "c": ["x"]}, "No level lies between"),
    ],
)  # fmt: skip
def test_few_types_and_flat_trees_work_and_say_so(classes, ontology, levels, told):
    tree = grown(classes, ontology, levels)
    assert (tree.source == FLAT) == (told is not None)
    assert tree.told.startswith(told or "The levels are terms")
    levels = Levels(tree, [-3.0] * 11, [[] for _ in tree.nodes])
    answers = levels.answer(
        np.log(np.eye(len(classes)) * 0.9 + 0.01), *np.ones((3, len(classes))), np.zeros(len(classes)), 0.05,
    )  # fmt: skip
    assert (answers.node == AT_TYPE).all()


def test_labels_are_terms_only_where_they_are_exactly_a_name():
    assert exact_term("macrophages") == exact_term("Macrophage") == "CL:0000235"
    assert exact_term("alpha") is None  # of the mouse's retina
    assert exact_term("CD4 T") is None


TREE = Tree(ONTOLOGY, "", (Node("T cell", "CL:0000084", (1, 2)), Node("lymphocyte", "CL:0000542", (0, 1, 2))))
CLASSES = ["B", "CD4", "CD8", "platelet"]


def answered(best, set_with=(), p_value=1.0, tail=1.0, far=0.0, cut=0.0, may_climb=True, near=((), ())):
    """The answer of one cell."""
    p = np.full(4, 0.001)
    p[best] = 0.9
    p[list(set_with)] = 0.2
    levels = Levels(TREE, [np.log(0.1)] * 11, [list(one) for one in near])
    answers = levels.answer(
        np.log(p)[None], *(np.array([value]) for value in (p_value, tail, far, cut)), 0.05,
        may_climb=may_climb,
    )  # fmt: skip
    return level_names(TREE, CLASSES, answers, np.array([best]))[0], int(answers.steps[0])


def test_a_cell_climbs_to_the_first_level_that_holds():
    measured = (np.linspace(0, 2, 99), np.linspace(0, 6, 99))
    assert answered(1) == ("CD4", 0)
    assert answered(1, set_with=[2]) == ("T cell", 1)
    assert answered(1, set_with=[0]) == ("lymphocyte", 2)
    assert answered(1, set_with=[3]) == ("Unknown", 0)  # no level has both
    assert answered(1, tail=0.1, cut=0.2) == ("T cell", 1)
    # near to half of the left-out cells of a level, or higher
    assert answered(1, tail=0.1, cut=0.2, far=0.5, near=measured) == ("T cell", 1)
    assert answered(1, tail=0.1, cut=0.2, far=1.5, near=measured) == ("lymphocyte", 2)
    assert answered(1, tail=0.1, cut=0.2, far=9.0, near=measured) == ("lymphocyte", 2)
    # Unknown cells climb only where left-out cells were as far, and only in a sample that is calibrated
    assert answered(1, p_value=0.05) == ("Unknown", 0)
    assert answered(1, p_value=0.05, far=0.5, near=measured) == ("T cell", 1)
    assert answered(1, p_value=0.05, far=9.0, near=measured) == ("Unknown", 0)
    assert answered(1, p_value=0.05, far=0.5, near=measured, may_climb=False) == ("Unknown", 0)
    # a cell that is Unknown at a little more than the rate is not called by its type
    assert answered(1, p_value=0.05 * MARGIN) == ("T cell", 1)
    assert answered(1, p_value=0.051 * MARGIN) == ("CD4", 0)
    # a type without a level above it
    assert answered(3, p_value=0.051) == ("platelet", 0)
    assert answered(3, tail=0.1, cut=0.2) == ("platelet", 0)
    assert answered(3, p_value=0.05) == ("Unknown", 0)


def test_a_group_of_far_cells_is_cut_and_a_types_own_tail_is_not():
    draw = np.random.default_rng(0)
    own = draw.uniform(size=400)
    foreign = draw.uniform(0, 0.05, size=200)
    false = [cut_of_sample(draw.uniform(size=100), np.zeros(100, dtype=int), 1)[0] for _ in range(50)]
    assert np.mean(false) < 0.02
    few = [cut_of_sample(draw.uniform(size=15), np.zeros(15, dtype=int), 1)[0] for _ in range(400)]
    assert np.mean(few) < 0.05
    cut = cut_of_sample(np.concatenate([own, foreign]), np.zeros(600, dtype=int), 2)
    assert cut[0] >= 0.05
    assert cut[1] == 0
    assert (own <= cut[0]).mean() < 0.25
    assert cut_of_sample(foreign[:10], np.zeros(10, dtype=int), 1)[0] == 0  # too few to tell


def test_what_a_types_own_cells_would_have_is_told_by_those_of_the_sample_that_fit():
    draw = np.random.default_rng(0)
    uniform = draw.uniform(size=4000)
    assert shape_of_null(uniform) == pytest.approx(1.0, abs=0.1)
    # of shape a, tails are u^(1/a)
    assert shape_of_null(uniform ** (1 / 1.3)) == pytest.approx(1.3, abs=0.1)
    assert shape_of_null(uniform[:20] ** (1 / 3), most=4.0) < 2.7  # few cells lean on the uniform null
    assert shape_of_null(uniform ** (1 / 3), most=4.0) == pytest.approx(3.0, abs=0.2)
    assert shape_of_null(uniform ** (1 / 3)) == MOST_SHAPE
    assert shape_of_null(uniform**2) == shape_of_null(uniform[uniform < 0.5]) == 1.0
    # a missing sibling beside cells that all lie near: seen by their own null, missed by that of the held-out cells
    near, foreign = draw.uniform(size=300) ** (1 / 3), draw.uniform(0.0, 0.1, size=100)
    tails, called = np.concatenate([near, foreign]), np.zeros(400, dtype=int)
    assert cut_of_sample(tails, called, 1, most=1.0)[0] == 0
    cut = cut_of_sample(tails, called, 1)[0]
    assert (foreign <= cut).all()
    assert (near <= cut).mean() < 0.05


def test_sets_are_asked_with_the_margin():
    rates = np.array(SET_RATES)
    levels = Levels(TREE, list(np.log(rates)), [[], []])
    p = np.log([0.05 / MARGIN - 0.001, 0.05 / MARGIN + 0.001])
    assert levels.may_be(p, 0.05).tolist() == [False, True]
    assert levels.may_be(p, 0.05, margin=1.0).tolist() == [False, False]


def test_tails_are_ranks_among_the_types_own_cells():
    tails = Tails([np.arange(100.0), np.zeros(2)], np.arange(1000.0))
    found = tails(np.array([94.5, 94.5]), np.array([0, 1]))
    assert found[0] == pytest.approx(6 / 101)
    assert found[1] == pytest.approx(906 / 1001)


def test_distance_is_that_in_the_embedding_where_there_is_one():
    v = np.array([[1.0, 2.0, 5.0]])
    assert distance_of(v, ["expression_profile", "embedding_distance", "doubt"]) == [2.0]
    assert distance_of(v, ["expression_profile", "marker_detection", "doubt"]) == [2.0]


def left_out(type_: int, best: int, far) -> LeftOut:
    far = np.asarray(far, dtype=float)
    log_p = np.log(np.full((len(far), 4), 0.01))
    log_p[:, best] = np.log(0.97)
    return LeftOut(type_, np.full(len(far), 0.5), log_p, far, np.full(len(far), 0.01), np.full(len(far), 0.1))


def test_levels_learn_how_far_missing_types_lie_each_type_weighing_alike():
    parts = [left_out(2, 1, np.full(300, 1.0)), left_out(1, 2, np.full(3, 5.0)), left_out(3, 1, np.full(50, 99.0))]
    values = far_of_node((1, 2), parts)
    assert (np.array(values) == 1.0).mean() == pytest.approx(0.5, abs=0.02)
    assert max(values) == 5.0  # a type from elsewhere says nothing of the level
    codes = np.arange(4)
    levels = Levels.learn(TREE, codes, np.log(np.eye(4) * 0.9 + 0.02), parts[1:])
    assert Levels.from_dict(levels.as_dict(CLASSES), CLASSES) == levels
    row = left_out_row(TREE, levels, left_out(2, 1, np.full(10, 3.0)), 0.05)
    assert row == {"level_unknown": 0.0, "level_above": 1.0, "level": "lymphocyte"}  # the T cell node has CD4 alone now
    with pytest.raises(ValueError, match="do not fit"):
        Levels.from_dict({**levels.as_dict(CLASSES), "far": []}, CLASSES)


def test_a_coarse_label_counts_for_all_below_it():
    classes = ["B cell", "T cell", "naive CD4 T"]
    tree = tree_of_ontology(classes, {"B cell": "CL:0000236", "T cell": "CL:0000084", "naive CD4 T": "CL:0000895"})
    assert types_of(tree, classes) == {"T cell or below": {"T cell", "naive CD4 T"}}
    levels = Levels(tree, [np.log(0.1)] * 11, [[]])
    log_p = np.log(np.array([[0.01, 0.5, 0.49], [0.01, 0.01, 0.98], [0.01, 0.98, 0.01]]))
    answers = levels.answer(log_p, *np.ones((2, 3)), np.zeros(3), np.zeros(3), 0.05)
    best = log_p.argmax(1)
    assert list(level_names(tree, classes, answers, best)) == ["T cell or below", "naive CD4 T", "T cell"]
    assert right(tree, answers, best, np.array([2, 1, 1])).all()
    assert list(right(tree, answers, best, np.array([0, 0, 2]))) == [False, False, False]
    told = figures(tree, classes, answers, best, np.array([2, 1, 1]), np.array([2, 1, 1]))
    assert (told["at_type"], told["above"], told["unknown"]) == (0.666667, 0.333333, 0.0)
    assert (told["error_at_type"], told["error_above"]) == (0.0, 0.0)
    assert told["set_error"] == pytest.approx(1 / 3, abs=1e-6)
    assert (answers.node != NOWHERE).all()


def test_coarser_labels_of_a_reference_are_read_and_checked():
    labels = ["CD4", "CD8", "CD4", "B"]
    coarse, fine = pd.Series(["lymphoid"] * 4), pd.Series(["T", "T", "T", "B"])
    found = label_levels([coarse, fine], ["l1", "l2"], labels, "ref.h5ad")
    assert found == {"B": ["lymphoid", "B"], "CD4": ["lymphoid", "T"], "CD8": ["lymphoid", "T"]}
    assert label_levels([], [], labels, "ref.h5ad") == {}
    for columns, message in (
        ([pd.Series(["T", "T", "B", "B"])], "Cells of one label have several names"),
        ([pd.Series(["T", None, "T", "B"])], "have no name at a level"),
        ([pd.Series(["T", "unassigned", "T", "B"])], "have no name at a level"),
        ([fine, coarse], "cut across each other"),
    ):
        with pytest.raises(UserError, match=message):
            label_levels(columns, ["l1", "l2"][: len(columns)], labels, "ref.h5ad")


def test_the_table_says_where_cells_stopped_and_why():
    cells = pd.DataFrame(
        {
            "sample": "s", "spikgpt_cell_type": ["CD4", "CD4", "CD4", "Unknown", "Unknown"],
            "spikgpt_best_match": "CD4",
            "spikgpt_unknown_reason": ["", "", "", "outside_reference", "outside_reference"],
            "spikgpt_level_cell_type": ["CD4", "T cell", "T cell", "lymphocyte", "Unknown"],
            "spikgpt_level": ["leaf", "ancestor 1", "ancestor 1", "ancestor 2", ""],
            "spikgpt_label_set": ["CD4", "CD4|CD8", "CD4", "CD4", ""],
        }
    )  # fmt: skip
    table = levels_table(cells, Levels(TREE, [-3.0] * 11, [[], []]).as_dict(CLASSES), CLASSES)
    assert table["cells"].sum() == 5
    why = {(row.cell_type, row.why) for row in table.itertuples()}
    assert why == {
        ("CD4", ""), ("T cell", SEVERAL), ("T cell", FAR), ("lymphocyte", "outside_reference"),
        ("Unknown", "outside_reference"),
    }  # fmt: skip
    assert dict(zip(table["cell_type"], table["coarse"], strict=True)) == {
        "CD4": "T cell", "T cell": "T cell", "lymphocyte": "lymphocyte", "Unknown": "Unknown",
    }  # fmt: skip


def test_levels_travel_from_the_reference_to_training(tmp_path):
    """What import wrote is what training reads."""
    from annotator_cells import TYPES, made_cells
    from spikgpt.annotator.training_set import read_reference
    from spikgpt.base.h5ad import LEVELS, REFERENCE_FILES

    data, embedding = made_cells(dict.fromkeys(TYPES, 20), seed=1, name="reference")
    data.uns[LEVELS] = '{"B cell": ["lymphoid"]}'
    data.uns[REFERENCE_FILES] = '{"a": ["one"], "b": ["two"]}'
    data.write_h5ad(tmp_path / "reference.norm.h5ad")
    np.save(tmp_path / f"reference.{0:09d}.embedding.npy", embedding)
    assert isinstance(ad.read_h5ad(tmp_path / "reference.norm.h5ad").uns[LEVELS], str)
    read = read_reference(tmp_path / "reference.norm.h5ad", [tmp_path / f"reference.{0:09d}.embedding.npy"])
    assert read.levels == {"B cell": ["lymphoid"]}
    assert read.files == {"a": ["one"], "b": ["two"]}
    assert read.types_of_file == {"a": {0, 1, 2}, "b": {0, 1, 2}}
