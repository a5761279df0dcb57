"""Taught types: a named population becomes a type, all else stays as it was, and wrong populations are refused."""

import json
import shutil
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from annotator_cells import TYPES, made_cells
from conftest import ROOT
from earlier_run import named, write_run
from spikgpt import UNKNOWN
from spikgpt.annotator.annotation import Annotator
from spikgpt.annotator.card import with_taught
from spikgpt.annotator.folder import load_annotator, save_annotator
from spikgpt.annotator.folder_files import TAUGHT_VERSION, digest
from spikgpt.annotator.lessons import own_term, taught_annotator
from spikgpt.annotator.network import Recipe
from spikgpt.annotator.populations import read_cells, read_populations
from spikgpt.annotator.purity import two_parts
from spikgpt.annotator.train import train_annotator
from spikgpt.annotator.training_set import Reference
from spikgpt.base.errors import UserError
from spikgpt.scgpt.checkpoint import read_checkpoint
from spikgpt.scgpt.embed import Embedder

MINI = ROOT / "assets" / "scgpt-mini"
QUICK = Recipe(min_steps=40, max_steps=40)
NEW = "mast cell"


def sample(name: str, seed: int, types: dict[str, int] | None = None) -> tuple[tuple, np.ndarray]:
    """A sample with a type that the annotator lacks, as `write_run` takes it, and the true types."""
    cells, embedding = made_cells(types or {**dict.fromkeys(TYPES, 60), NEW: 60}, seed=seed, name=name)
    whole = (cells.layers["counts"], list(cells.var_names), embedding, np.array(cells.obs_names, dtype=object))
    return whole, cells.obs["cell_type"].to_numpy(dtype=object)


def ask(annotator: Annotator, whole: tuple, rate: float = 0.05):
    counts, genes, embedding, barcodes = whole
    return annotator.annotate(counts, genes, embedding, list(barcodes), rate)[0]


@pytest.fixture(scope="module")
def annotator(tmp_path_factory: pytest.TempPathFactory) -> Annotator:
    cells, embedding = made_cells(dict.fromkeys(TYPES, 100), seed=3, name="ref")
    reference = Reference.of(
        cells.layers["counts"], list(cells.var_names), embedding, cells.obs["cell_type"].tolist(),
        cells.obs["batch"].tolist(), list(cells.obs_names), "both",
    )  # fmt: skip
    trained = train_annotator(
        reference, scgpt={"name": "made", "sha256": "0" * 64}, unknown_rate=0.05, features="both", seed=0, threads=1,
        recipe=QUICK, leave_one_out=False,
    )[0]  # fmt: skip
    save_annotator(trained, tmp_path_factory.mktemp("annotator"))  # gives it its digest
    return trained


def learn(annotator: Annotator, table: Path, seed: int = 0) -> Annotator:
    """What teach_annotator.py does."""
    populations = read_populations(table, annotator)
    files = {path.stem: path for path in (table.parents[1] / "annotated").iterdir()}
    cells = read_cells(table, populations, files, annotator)
    return taught_annotator(annotator, populations, cells, str(table), "5" * 64, seed)


@pytest.fixture(scope="module")
def taught(annotator: Annotator, tmp_path_factory: pytest.TempPathFactory) -> Annotator:
    whole, truth = sample("a", 4)
    table = write_run(tmp_path_factory.mktemp("run"), annotator, {"a": whole}, {"7": whole[3][truth == NEW]})
    return learn(annotator, named(table, c7=NEW))


def test_a_taught_type_is_called_and_all_else_stays(annotator: Annotator, taught: Annotator) -> None:
    whole, truth = sample("b", 5)
    before, after = ask(annotator, whole), ask(taught, whole)
    new = (after["spikgpt_best_match"] == NEW).to_numpy()
    assert (after["spikgpt_cell_type"] == NEW)[truth == NEW].mean() >= 0.9
    assert not new[truth != NEW].any()
    assert before[~new].equals(after[~new])
    told = after[new & (after["spikgpt_cell_type"] == NEW)]
    assert (told["spikgpt_level_cell_type"] == NEW).all()
    assert (told["spikgpt_level"] == "leaf").all()
    assert (told["spikgpt_label_set"] == NEW).all()
    assert told["spikgpt_confidence"].between(0.5, 1).all()
    assert (told["spikgpt_p_value"] > 0.05).all()
    assert set(told["spikgpt_runner_up"]) <= set(TYPES)


def test_best_match_and_p_value_are_the_same_at_any_rate(taught: Annotator) -> None:
    whole, _ = sample("b", 5)
    strict, loose = ask(taught, whole, 0.3), ask(taught, whole, 0.01)
    for column in ("spikgpt_best_match", "spikgpt_p_value", "spikgpt_confidence"):
        assert strict[column].equals(loose[column])
    assert (strict["spikgpt_cell_type"] == UNKNOWN).sum() > (loose["spikgpt_cell_type"] == UNKNOWN).sum()


def test_cells_of_another_new_type_are_not_taken_for_the_taught_one(annotator: Annotator, taught: Annotator) -> None:
    whole, truth = sample("c", 6, {**dict.fromkeys(TYPES, 60), "new cell": 60})
    after = ask(taught, whole)
    assert (ask(annotator, whole)["spikgpt_cell_type"] == UNKNOWN)[truth == "new cell"].mean() > 0.9
    assert (after["spikgpt_cell_type"] == NEW).sum() <= 1


def test_the_order_of_cells_does_not_count(annotator: Annotator, taught: Annotator, tmp_path: Path) -> None:
    whole, truth = sample("a", 4)
    turned = tuple(part if isinstance(part, list) else part[::-1] for part in whole)
    table = write_run(tmp_path / "run", annotator, {"a": turned}, {"7": whole[3][truth == NEW]})
    again = learn(annotator, named(table, c7=NEW))
    save_annotator(again, tmp_path / "again")
    save_annotator(taught, tmp_path / "first")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()


def test_a_folder_keeps_what_was_taught(taught: Annotator, annotator: Annotator, tmp_path: Path) -> None:
    save_annotator(taught, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    read = load_annotator(tmp_path, "0" * 64)
    whole, _ = sample("b", 5)
    assert ask(read, whole).equals(ask(taught, whole))
    assert read.classes == [*TYPES, NEW]
    assert read.own_classes == list(TYPES)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["format_version"] == TAUGHT_VERSION
    assert config["taught"][0]["annotator_sha256"] == annotator.config["digest"] != config["digest"]
    assert config["class_cells"][NEW] == config["taught"][0]["held_out"]["cells"]
    assert {marker["gene"] for marker in config["markers"]["types"][NEW]} <= {f"GENE{n}" for n in range(80, 100)}
    with pytest.raises(UserError, match="another scGPT checkpoint"):
        load_annotator(tmp_path, "1" * 64)


@pytest.mark.parametrize("change", ["name", "no taught", "no samples", "version"])
def test_a_folder_that_was_edited_is_refused(taught: Annotator, tmp_path: Path, change: str) -> None:
    save_annotator(taught, tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    if change == "name":
        config["taught"][0]["name"] = "other"
    elif change == "no taught":
        config["taught"] = []
    elif change == "no samples":
        del config["taught"][0]["samples"]
    else:
        config["format_version"] = 3
        del config["taught"]
    config["digest"] = digest(config)
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match="damaged"):
        load_annotator(tmp_path, "0" * 64)


def test_taught_twice(taught: Annotator, tmp_path: Path) -> None:
    """A taught annotator is taught another type; what it was taught before stays to the last digit."""
    save_annotator(taught, tmp_path / "annotator")
    first = load_annotator(tmp_path / "annotator", "0" * 64)
    types = {**dict.fromkeys(TYPES, 60), NEW: 60, "new cell": 60}
    whole, truth = sample("d", 7, types)
    table = write_run(tmp_path / "run", first, {"d": whole}, {"3": whole[3][truth == "new cell"]})
    twice = learn(first, named(table, c3="stromal cell"))
    save_annotator(twice, tmp_path / "twice")
    twice = load_annotator(tmp_path / "twice", "0" * 64)
    assert twice.classes == [*TYPES, NEW, "stromal cell"]
    whole, truth = sample("e", 8, types)
    before, after = ask(first, whole), ask(twice, whole)
    assert (after["spikgpt_cell_type"] == "stromal cell")[truth == "new cell"].mean() >= 0.9
    assert (after["spikgpt_cell_type"] == NEW)[truth == NEW].mean() > 0.85
    other = (after["spikgpt_best_match"] != "stromal cell").to_numpy()
    assert before[other].equals(after[other])


def test_two_populations_at_once_and_two_samples(annotator: Annotator, tmp_path: Path) -> None:
    """Two names in one table; whole samples are held out where several have the population."""
    types = {**dict.fromkeys(TYPES, 60), NEW: 60, "new cell": 60}
    (one, true_one), (two, true_two) = sample("f", 9, types), sample("g", 10, types)
    places = {
        cluster: np.concatenate([one[3][true_one == name], two[3][true_two == name]])
        for cluster, name in (("7", NEW), ("8", "new cell"))
    }
    table = write_run(tmp_path / "run", annotator, {"f": one, "g": two}, places)
    both = learn(annotator, named(table, c7=NEW, c8="stromal cell"))
    assert [one["held_out"]["folds_by"] for one in both.config["taught"]] == ["batch", "batch"]
    whole, truth = sample("h", 11, types)
    after = ask(both, whole)
    for name, true in ((NEW, NEW), ("stromal cell", "new cell")):
        assert (after["spikgpt_cell_type"] == name)[truth == true].mean() >= 0.9
        assert not (after["spikgpt_cell_type"] == name)[truth != true].any()


def test_one_name_for_two_populations_is_one_type(annotator: Annotator, tmp_path: Path) -> None:
    whole, truth = sample("a", 4)
    new = whole[3][truth == NEW]
    table = write_run(tmp_path / "run", annotator, {"a": whole}, {"7": new[:30], "8": new[30:]})
    once = learn(annotator, named(table, c7=NEW, c8=NEW))
    assert once.classes == [*TYPES, NEW]
    assert once.config["taught"][0]["clusters"] == ["7", "8"]


def test_the_card_says_who_taught_what(taught: Annotator, annotator: Annotator, tmp_path: Path) -> None:
    whole, truth = sample("a", 4)
    table = write_run(
        tmp_path / "run", annotator, {"a": whole}, {"7": whole[3][truth == NEW]}, taught_by="A. <b>Person</b>",
        taught_on="2026-01-02",
    )  # fmt: skip
    config = learn(annotator, named(table, c7=NEW)).config
    card = with_taught("# Annotator\n\nMade, format 3.\n\n## Trained on\nCells.\n", config)
    assert card.startswith("# Annotator\n\nMade, format 4.\n\n## Taught types\n")
    assert "## Trained on\nCells." in card
    assert "2026-01-02" in card
    assert "A. \\<b\\>Person" in card
    assert "<b>" not in card
    assert with_taught(card, config) == card


def test_a_name_has_a_term_only_where_it_is_the_terms_own() -> None:
    assert own_term("Mast Cell") == "CL:0000097"
    assert own_term("alpha cell") is None
    assert own_term("my favourite cell") is None


REFUSED = {
    "no name": ({}, {}, "No population has a name."),
    "a name of the annotator": ({"c7": "b CELL"}, {}, "A population cannot be called b CELL."),
    "Unknown": ({"c7": "unknown"}, {}, "A population cannot be called unknown."),
    "a separator": ({"c7": "a|b"}, {}, "A population cannot be called a|b."),
    "a formula": ({"c7": "=1+1"}, {}, "One of the names of populations is no name."),
    "mostly named": ({"c7": NEW}, {"unknown_percent": "31.5"}, "A population is mostly of a type"),
    "probably known": ({"c7": NEW}, {"probably": "T cell"}, "A population is probably a type"),
    "doublets": ({"c7": NEW}, {"qc_flags": "doublets: most markers of a and of b at once"}, "A population may be no"),
    "few by the table": ({"c7": NEW}, {"unknown_cells": "18"}, "has too few cells to be taught"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_a_table_that_speaks_against_a_population(annotator: Annotator, tmp_path: Path, why: str) -> None:
    names, row, message = REFUSED[why]
    whole, truth = sample("a", 4)
    table = write_run(tmp_path / "run", annotator, {"a": whole}, {"7": whole[3][truth == NEW]}, **row)
    with pytest.raises(UserError, match="next step") as refused:
        read_populations(named(table, **names), annotator)
    assert message in str(refused.value)
    assert str(table) in str(refused.value)


@pytest.mark.parametrize("content", ["", "a\tb\n1\t2\n", "\x00\xff"])
def test_what_is_no_table(annotator: Annotator, tmp_path: Path, content: str) -> None:
    path = tmp_path / "other.tsv"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match="--teach names no table of unknown populations"):
        read_populations(path, annotator)


def test_results_that_are_not_there_or_of_another_run(annotator: Annotator, taught: Annotator, tmp_path: Path) -> None:
    whole, truth = sample("a", 4)
    table = named(write_run(tmp_path / "run", annotator, {"a": whole}, {"7": whole[3][truth == NEW]}), c7=NEW)
    populations = read_populations(table, annotator)
    with pytest.raises(UserError, match="not beside it"):
        read_cells(table, populations, {}, annotator)
    other = {"a": tmp_path / "run" / "annotated" / "a.h5ad"}
    save_annotator(taught, tmp_path / "taught")
    with pytest.raises(UserError, match="not of the annotator that is to be taught"):
        read_cells(table, populations, other, taught)
    (tmp_path / "empty.h5ad").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be read"):
        read_cells(table, populations, {"a": tmp_path / "empty.h5ad"}, annotator)
    shutil.rmtree(tmp_path / "run")
    table = write_run(tmp_path / "run", annotator, {"a": whole}, {"8": whole[3][truth == NEW]})
    with pytest.raises(UserError, match="not those that it was made of"):
        read_cells(table, populations, other, annotator)


def test_a_known_type_under_a_new_name_is_refused(annotator: Annotator, tmp_path: Path) -> None:
    """Half of the B cells, called Unknown by hand: the other half looks like them."""
    whole, truth = sample("a", 4, dict.fromkeys(TYPES, 90))
    half = whole[3][truth == "B cell"][::2]
    table = named(
        write_run(tmp_path / "run", annotator, {"a": whole}, {"7": half}, unknown_cells="45"), c7="plasma cell"
    )
    path = tmp_path / "run" / "annotated" / "a.h5ad"
    cells = ad.read_h5ad(path)
    inside = cells.obs_names.isin(half)
    cells.obs["spikgpt_cell_type"] = np.where(inside, UNKNOWN, cells.obs["spikgpt_cell_type"].astype(str))
    cells.obs["spikgpt_unknown_reason"] = np.where(inside, "outside_reference", "")
    cells.write_h5ad(path)
    with pytest.raises(UserError, match="is not told from other cells") as refused:
        learn(annotator, table)
    assert "nearest is B cell" in str(refused.value)


def test_cells_of_another_tissue_have_nothing_to_be_learned_against(annotator: Annotator, tmp_path: Path) -> None:
    whole, _ = sample("a", 4, {NEW: 100})
    table = write_run(tmp_path / "run", annotator, {"a": whole}, {"7": whole[3]})
    with pytest.raises(UserError, match="too few other cells"):
        learn(annotator, named(table, c7=NEW))


# --- real cells ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pancreas(demo_data: Path):
    """Baron's library 3 with its true types, and an annotator of libraries 1 and 2 without alpha cells."""
    checkpoint = read_checkpoint(MINI)

    def embedded(cells: ad.AnnData) -> np.ndarray:
        embedder = Embedder(
            checkpoint, list(cells.var_names), sample="x", max_tokens=1200, seed=0, device="cpu", threads=1
        )
        return embedder.embed(sp.csr_matrix(cells.X), list(cells.obs_names))

    known, asked = (ad.read_h5ad(demo_data / f"{name}.h5ad") for name in ("reference", "human1_lib3"))
    reference = Reference.of(
        sp.csr_matrix(known.X), list(known.var_names), embedded(known), known.obs["cell_type"].astype(str).tolist(),
        known.obs["library"].astype(str).tolist(), list(known.obs_names), "both",
    )  # fmt: skip
    annotator = train_annotator(
        reference, scgpt={"name": checkpoint.name, "sha256": checkpoint.sha256}, unknown_rate=0.05, features="both",
        seed=0, threads=1, leave_one_out=False,
    )[0]  # fmt: skip
    truth = np.array([line.split("\t")[1] for line in (demo_data / "truth.tsv").read_text().splitlines()[1:]], object)
    whole = (sp.csr_matrix(asked.X), list(asked.var_names), embedded(asked), np.array(asked.obs_names, dtype=object))
    return annotator, whole, truth


def rows_of(whole: tuple, rows: np.ndarray) -> tuple:
    counts, genes, embedding, barcodes = whole
    return counts[rows], genes, embedding[rows], barcodes[rows]


@pytest.mark.parametrize("seed", [0, 1])
def test_alpha_cells_are_called_by_name_once_taught(pancreas, tmp_path: Path, seed: int) -> None:
    """Half of library 3 teaches; alpha cells of the other half are called so, and the other types lose nothing."""
    annotator, whole, truth = pancreas
    save_annotator(annotator, tmp_path / "annotator")
    order = np.random.default_rng(seed).permutation(len(truth))
    first, second = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    one, two = rows_of(whole, first), rows_of(whole, second)
    table = write_run(tmp_path / "run", annotator, {"lib3": one}, {"7": one[3][truth[first] == "alpha"]})
    after = learn(annotator, named(table, c7="alpha"))
    old, new = (ask(which, two)["spikgpt_cell_type"].to_numpy(dtype=object) for which in (annotator, after))
    alpha, known = truth[second] == "alpha", np.isin(truth[second], annotator.classes)
    assert (new[alpha] == "alpha").mean() >= 0.9
    assert ((old == truth[second])[known].mean() - (new == truth[second])[known].mean()) <= 0.005


def test_a_mixture_of_alpha_and_beta_cells_is_of_two_kinds(pancreas) -> None:
    _, (counts, genes, _, _), truth = pancreas
    alpha, beta = (np.flatnonzero(truth == name) for name in ("alpha", "beta"))
    mixed = two_parts(counts[np.concatenate([alpha[:60], beta[:60]])], genes)
    assert mixed.mixed
    assert 0.4 < mixed.share <= 0.5
    assert any("GCG" in part for part in mixed.genes)
    assert any("INS" in part for part in mixed.genes)
    assert not two_parts(counts[alpha], genes).mixed
    assert not two_parts(counts[beta], genes).mixed
