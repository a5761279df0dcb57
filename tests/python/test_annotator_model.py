"""The annotator as a whole: training, model folder, annotation, and what it refuses."""

import json
import shutil
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from annotator_cells import TYPES, made_cells, written
from spikgpt.annotator import cells
from spikgpt.annotator.annotation import Annotator
from spikgpt.annotator.benchmark import COLUMNS, compare
from spikgpt.annotator.card import model_card
from spikgpt.annotator.correction import LIMITS
from spikgpt.annotator.folder import load_annotator, save_annotator
from spikgpt.annotator.folder_files import digest
from spikgpt.annotator.held_out import HeldOut
from spikgpt.annotator.neighbours import MIN_CELLS_TO_POOL
from spikgpt.annotator.network import Recipe
from spikgpt.annotator.train import train_annotator
from spikgpt.annotator.training_set import Reference, read_reference
from spikgpt.base.columns import REASON_NAMES
from spikgpt.base.errors import UserError

SHA = "0" * 64
QUICK = Recipe(min_steps=40, max_steps=40)


Trained = tuple[Annotator, HeldOut, np.ndarray, Reference]


def learn(reference: Reference, features: str = "both", threads: int = 1) -> Trained:
    return train_annotator(
        reference,
        scgpt={"name": "made", "sha256": SHA},
        unknown_rate=0.05,
        features=features,
        seed=0,
        threads=threads,
        recipe=QUICK,
    )


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    data, embedding = made_cells({**dict.fromkeys(TYPES, 100), "platelet": 1}, seed=3, name="ref")
    return read_reference(*written(tmp_path_factory.mktemp("reference"), data, embedding, "reference"))


@pytest.fixture(scope="module")
def trained(reference: Reference) -> Trained:
    return learn(reference)


@pytest.fixture(scope="module")
def annotator(trained: Trained) -> Annotator:
    return trained[0]


@pytest.fixture
def folder(annotator: Annotator, tmp_path: Path) -> Path:
    save_annotator(annotator, tmp_path / "annotator")
    return tmp_path / "annotator"


def annotate(
    annotator: Annotator, data: ad.AnnData, embedding: np.ndarray, rate: float = 0.05
) -> tuple[pd.DataFrame, dict]:
    return annotator.annotate(
        sp.csr_matrix(data.layers["counts"]),
        list(data.var_names),
        embedding,
        list(data.obs_names),
        rate,
    )


def query(**types: int) -> tuple[ad.AnnData, np.ndarray]:
    cells = {"B cell": 80, "NK cell": 60, "T cell": 60, **{name.replace("_", " "): n for name, n in types.items()}}
    return made_cells(cells, seed=9, name="query", batches=("new",))


def test_known_types_are_labelled_and_a_new_one_is_unknown(annotator: Annotator) -> None:
    data, embedding = query(new_cell=40)
    table, figures = annotate(annotator, data, embedding)
    new = (data.obs["cell_type"] == "new cell").to_numpy()
    unknown = (table["spikgpt_cell_type"] == "Unknown").to_numpy()
    assert table["barcode"].tolist() == list(data.obs_names)
    assert (table["spikgpt_best_match"].to_numpy() == data.obs["cell_type"].to_numpy())[~new].mean() > 0.95
    assert unknown[new].mean() > 0.9
    assert unknown[~new].mean() < 0.12
    assert (unknown == (table["spikgpt_p_value"] <= 0.05)).all()
    assert set(table.loc[unknown, "spikgpt_unknown_reason"]) <= set(REASON_NAMES)
    assert (table.loc[~unknown, "spikgpt_unknown_reason"] == "").all()
    assert "Unknown" not in set(table["spikgpt_best_match"])
    assert (table["spikgpt_runner_up"] != table["spikgpt_best_match"]).all()
    assert table["spikgpt_confidence"].between(0, 1).all()
    assert table["spikgpt_confidence"].dtype == table["spikgpt_p_value"].dtype == np.float32
    assert figures["cells"] == len(table)
    assert figures["unknown"] == unknown.sum() == sum(figures["unknown_by_reason"].values())
    assert figures["tissue_warning"] is None
    assert figures["not_calibrated"] == []
    assert figures["rejected_types"] == []
    assert figures["shift_share"] == 1
    assert set(figures["shift"]) == set(figures["spread"]) == set(LIMITS)
    assert set(figures["firing_rates"])
    json.dumps(figures, allow_nan=False)


def test_a_sample_of_another_tissue_is_warned_about(annotator: Annotator) -> None:
    data, embedding = made_cells({"new cell": 60, "mast cell": 60}, seed=5, name="other", batches=("new",))
    figures = annotate(annotator, data, embedding)[1]
    assert figures["unknown"] > 60
    assert "another tissue" in figures["tissue_warning"]
    assert figures["not_calibrated"]
    assert figures["shift_share"] < 0.2
    assert sum(row["rejected"] for row in figures["rejected_types"]) > 60


def test_blocks_of_cells_and_threads_change_nothing(annotator: Annotator, monkeypatch: pytest.MonkeyPatch) -> None:
    data, embedding = query(new_cell=40)
    embedding[7] = np.nan
    whole, figures = annotate(annotator, data, embedding)
    monkeypatch.setattr(cells, "AT_ONCE", 37)
    counts = sp.csr_matrix(data.layers["counts"])
    blocks = (counts[start : start + 50] for start in range(0, data.n_obs, 50))
    with cells.working_threads(2):
        table, others = annotator.annotate(blocks, list(data.var_names), embedding, list(data.obs_names), 0.05)
    pd.testing.assert_frame_equal(table, whole, check_exact=True)
    assert others == figures


def test_order_of_cells_does_not_matter(annotator: Annotator) -> None:
    data, embedding = query(new_cell=30)
    order = np.random.default_rng(0).permutation(data.n_obs)
    whole = annotate(annotator, data, embedding)[0]
    mixed = annotate(annotator, data[order], embedding[order])[0]
    pd.testing.assert_frame_equal(mixed.reset_index(drop=True), whole.iloc[order].reset_index(drop=True))


def test_order_and_lack_of_genes_are_handled(annotator: Annotator) -> None:
    data, embedding = query()
    table = annotate(annotator, data, embedding)[0]
    turned = annotate(annotator, data[:, ::-1], embedding)[0]
    pd.testing.assert_frame_equal(turned, table)
    fewer = annotate(annotator, data[:, :200], embedding)[0]
    assert (fewer["spikgpt_best_match"] == table["spikgpt_best_match"]).mean() > 0.95
    renamed = data.copy()
    renamed.var_names = [f"ENSMUSG{number}" for number in range(data.n_vars)]
    with pytest.raises(UserError, match="shares no gene"):
        annotate(annotator, renamed, embedding)


@pytest.mark.parametrize("cells", [1, 2, MIN_CELLS_TO_POOL - 1])
def test_tiny_samples(annotator: Annotator, cells: int) -> None:
    data, embedding = query()
    table, figures = annotate(annotator, data[:cells], embedding[:cells])
    assert len(table) == cells
    assert not figures["pooled"]
    assert (table["spikgpt_cell_type"] != "Unknown").mean() > 0.8 or cells < 3
    assert np.isfinite(table["spikgpt_p_value"]).all()


@pytest.mark.parametrize("features", ["both", "embedding"])
def test_cells_without_a_known_gene(annotator: Annotator, reference: Reference, features: str) -> None:
    model = annotator if features == "both" else learn(reference, features)[0]
    data, embedding = query()
    alone = annotate(model, data, embedding)[0]
    embedding[[3, 50]] = np.nan
    table, figures = annotate(model, data, embedding)
    assert (table.loc[[3, 50], "spikgpt_cell_type"] == "Unknown").all()
    assert (table.loc[[3, 50], "spikgpt_unknown_reason"] == "low_gene_match").all()
    assert (table.loc[[3, 50], "spikgpt_p_value"] == 0).all()
    assert figures["unknown_by_reason"]["low_gene_match"] == 2
    rest = np.delete(np.arange(len(table)), [3, 50])
    assert (table["spikgpt_best_match"] == alone["spikgpt_best_match"])[rest].mean() > 0.97
    assert (table["spikgpt_cell_type"] != "Unknown")[rest].mean() > 0.85
    none = annotate(model, data, np.full_like(embedding, np.nan))[1]
    assert none["unknown"] == none["cells"]


def test_an_annotator_without_embedding_reads_cells_that_scgpt_cannot(tmp_path: Path) -> None:
    """Cells without a gene that scGPT knows teach it, are labelled by it, and change nothing for the others."""
    data, embedding = made_cells(dict.fromkeys(TYPES, 60), seed=3, name="ref")
    unread = embedding.copy()
    unread[::3] = np.nan
    whole, part = (
        learn(read_reference(*written(tmp_path / name, data, values, "reference"), "expression"), "expression")
        for name, values in (("whole", embedding), ("part", unread))
    )
    assert part[0].config == whole[0].config
    assert part[0].config["training"]["cells"] == 180
    assert not any("no gene that scGPT knows" in text for text in part[0].config["warnings"])
    new, of_new = query(new_cell=40)
    table, figures = annotate(whole[0], new, of_new)
    without, others = annotate(part[0], new, np.full_like(of_new, np.nan))
    pd.testing.assert_frame_equal(without, table, check_exact=True)
    assert others == figures
    assert figures["unknown_by_reason"]["low_gene_match"] == 0
    # the benchmark's regression on the embedding still takes part
    reference = read_reference(*written(tmp_path / "part", data, unread, "reference"), "expression")
    assert compare(reference, *part[1:3], "batch", 0)["accuracy"].between(0, 1).all()
    # an annotator with the embedding leaves them out
    both = read_reference(*written(tmp_path / "part", data, unread, "reference"), "both")
    assert (len(both.codes), both.without_known_gene) == (120, 60)


def test_shallow_cells_are_told_apart_from_foreign_ones(annotator: Annotator) -> None:
    data, embedding = query()
    counts = data.layers["counts"].toarray()
    counts[:5] = np.random.default_rng(0).permuted(counts[:5] // 12, axis=1)  # shallow, and like no type
    data.layers["counts"] = sp.csr_matrix(counts)
    table = annotate(annotator, data, embedding, rate=0.3)[0].iloc[:5]
    rejected = table["spikgpt_cell_type"] == "Unknown"
    assert rejected.any()
    assert set(table.loc[rejected, "spikgpt_unknown_reason"]) == {"low_quality"}


def test_a_type_with_one_cell_is_kept_and_named(annotator: Annotator) -> None:
    assert "platelet" in annotator.classes
    assert any("platelet (1)" in text for text in annotator.config["warnings"])
    assert annotator.config["held_out"]["types"]["platelet"]["recall"] is None


def test_training_is_the_same_whatever_the_threads(reference: Reference, folder: Path, tmp_path: Path) -> None:
    save_annotator(learn(reference, threads=2)[0], tmp_path / "two")
    for name in ("model.safetensors", "config.json"):
        assert (folder / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_saved_and_loaded_says_the_same(annotator: Annotator, folder: Path, tmp_path: Path) -> None:
    data, embedding = query(new_cell=20)
    loaded = load_annotator(folder, SHA)
    pd.testing.assert_frame_equal(annotate(annotator, data, embedding)[0], annotate(loaded, data, embedding)[0])
    save_annotator(loaded, tmp_path / "again")
    for name in ("model.safetensors", "config.json"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def edited(folder: Path, **fields: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= fields
    config["digest"] = digest(config)
    (folder / "config.json").write_text(json.dumps(config))


def test_damaged_folders_are_refused(folder: Path) -> None:
    def broken(message: str) -> None:
        with pytest.raises(UserError, match=message):
            load_annotator(folder, SHA)

    whole = (folder / "config.json").read_text()
    with pytest.raises(UserError, match="another scGPT checkpoint"):
        load_annotator(folder, "1" * 64)
    (folder / "config.json").write_text(whole[: len(whole) // 2])
    broken("damaged")
    (folder / "config.json").write_text(whole.replace("B cell", "D cell"))
    broken("digest")
    (folder / "config.json").write_text("[1]")
    broken("no JSON object")
    (folder / "config.json").write_text(whole)
    edited(folder, format_version=1)
    with pytest.raises(UserError) as refused:
        load_annotator(folder, SHA)
    assert "train it again with --reference" in str(refused.value)
    for fields, message in (
        ({"format_version": 1}, "format_version 1"),
        ({"classes": "B cell"}, "field classes"),
        ({"features": "all"}, "features all"),
        ({"architecture": {"embedding_size": 16}}, "does not fit config.json"),
        ({"classes": ["B cell"]}, "does not fit config.json"),
        ({"mixture": {"weight": 0.5}}, "field mixture.scale"),
        ({"calibration": {}}, "field calibration.kinds"),
        ({"scgpt": {"name": "made", "sha256": 7}}, "field scgpt.sha256"),
    ):
        (folder / "config.json").write_text(whole)
        edited(folder, **fields)
        broken(message)
    config = json.loads(whole)
    for name in config:
        if name not in ("format_version", "digest"):
            (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != name}))
            broken(f"field {name} is missing")
    (folder / "config.json").write_text(whole)
    tensors = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(tensors[:-10])
    broken("sha256")
    (folder / "model.safetensors").unlink()
    broken("missing")
    shutil.rmtree(folder)
    broken("missing")


def test_an_annotator_without_embedding_does_not_mind_the_checkpoint(reference: Reference, tmp_path: Path) -> None:
    save_annotator(learn(reference, "expression")[0], tmp_path)
    assert load_annotator(tmp_path, "1" * 64).config["features"] == "expression"


def test_embeddings_of_another_width_are_refused(annotator: Annotator) -> None:
    data, embedding = query()
    with pytest.raises(UserError, match="not those of the annotator's"):
        annotate(annotator, data, embedding[:, :8])


def test_benchmark_and_card(reference: Reference, trained: Trained) -> None:
    annotator, held, fold_of, _ = trained
    table = compare(reference, held, fold_of, "batch", 0)
    assert list(table.columns) == COLUMNS
    assert {"SpikGPT", "logistic regression on genes", "logistic regression on the embedding", "CellTypist"} <= set(
        table["method"]
    )
    assert table["accuracy"].between(0.8, 1).all()
    card = model_card(annotator.config, table)
    for text in ("CellTypist", SHA, "platelet", "not a guarantee", "| Unknown (95 % interval) |"):
        assert text in card
    assert model_card(annotator.config, table.assign(seconds=1e4)) == card  # the same training, the same card


def test_labels_are_text_in_the_card(trained: Trained) -> None:
    name = '<script>alert(1)</script> | "B", *cell*\n# ' + "x" * 300
    whole = json.dumps(trained[0].config).replace('"NK cell"', json.dumps(name))
    config = json.loads(whole)
    card = model_card(config, pd.DataFrame(columns=COLUMNS))
    assert "<script>" not in card
    assert '\\<script\\>alert(1)\\</script\\> \\| "B", \\*cell\\* \\# xxx' in card
    rows = [line for line in card.splitlines() if "script" in line]
    assert all(line.startswith(("| ", "- ")) for line in rows)


def test_leave_one_out_table_names_what_a_missing_type_would_be_called(annotator: Annotator) -> None:
    rows = annotator.config["leave_one_out"]
    assert [row["cell_type"] for row in rows] == list(TYPES)
    for row in rows:
        assert row["mistaken_for"] in set(TYPES) - {row["cell_type"]}
        assert row["auroc"] > 0.9
        assert 0.5 < row["caught"] <= 1
        assert row["interval"][0] < row["caught"] <= row["interval"][1]


def test_single_batch_reference_is_calibrated_fold_by_fold(tmp_path: Path) -> None:
    data, embedding = made_cells(dict.fromkeys(TYPES, 60), seed=3, name="ref", batches=("one",))
    single = learn(read_reference(*written(tmp_path, data, embedding, "reference")), "expression")[0]
    told = single.config["calibration"]
    assert (told["folds_by"], told["samples"]) == ("stratified", told["folds"])
    assert not single.rejection.by_batch
    table, figures = annotate(single, *query(new_cell=40))
    assert figures["not_calibrated"] == []
    unknown = (table["spikgpt_cell_type"] == "Unknown").to_numpy()
    new = (query(new_cell=40)[0].obs["cell_type"] == "new cell").to_numpy()
    assert unknown[new].mean() > 0.8
    assert unknown[~new].mean() < 0.12
    # a rate that 180 held-out cells cannot give is named
    figures = annotate(single, *query(), rate=0.001)[1]
    assert "too few held-out cells" in figures["not_calibrated"][0]
