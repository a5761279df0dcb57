"""Independent judges: what CellTypist and scikit-learn say, kept as arrays; their column and their table."""

import contextlib
import io
import json
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from annotator_cells import TYPES, made_cells, written
from sklearn.linear_model import LogisticRegression
from spikgpt.annotator.annotation import Annotator
from spikgpt.annotator.distances import dispersed_genes
from spikgpt.annotator.folder import load_annotator, save_annotator
from spikgpt.annotator.judges import BOUND, PENALTY, LinearJudge, celltypist, logistic_regression, train_judges
from spikgpt.annotator.network import Recipe
from spikgpt.annotator.train import train_annotator
from spikgpt.annotator.training_set import Reference, read_reference
from spikgpt.base.columns import AGREEMENT, JUDGE_COLUMNS
from spikgpt.base.normalisation import log1p_cp10k
from spikgpt.base.tsv import read_tsv, write_tsv
from spikgpt.cohort.judges import JUDGE_TABLE_COLUMNS, judges_table
from spikgpt.report.inputs import Inputs
from spikgpt.report.judges import judges_table as section

SHA = "0" * 64


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    data, embedding = made_cells(dict.fromkeys(TYPES, 60), seed=3, name="ref")
    return read_reference(*written(tmp_path_factory.mktemp("reference"), data, embedding, "reference"))


@pytest.fixture(scope="module")
def annotator(reference: Reference) -> Annotator:
    quick = Recipe(min_steps=20, max_steps=20)
    scgpt = {"name": "made", "sha256": SHA}
    made = train_annotator(
        reference, scgpt=scgpt, unknown_rate=0.05, features="both", seed=0, threads=1, recipe=quick, leave_one_out=False
    )[0]
    made.judges = train_judges(reference, 0)
    return made


def noisy(reference: Reference) -> sp.csr_matrix:
    """Counts of the reference's cells, most of them thrown at random: hard to call."""
    rng = np.random.default_rng(0)
    counts = reference.counts.toarray()
    return sp.csr_matrix(rng.binomial(counts.astype(int), 0.2) + rng.poisson(0.4, counts.shape)).astype(np.float32)


@pytest.mark.parametrize("classes", [2, 3])
def test_celltypist_says_what_the_package_says(reference: Reference, classes: int) -> None:
    """Its own annotate, on cells that lack genes of the reference."""
    rows = np.flatnonzero(reference.codes < classes)
    judge = celltypist(reference, rows, 0)
    counts = noisy(reference)
    measured = np.arange(len(reference.genes)) % 3 > 0
    counts[:, ~measured] = 0
    values = log1p_cp10k(counts)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import celltypist as package

        labels = np.array(reference.classes, dtype=object)[reference.codes[rows]]
        model = package.train(
            log1p_cp10k(reference.counts[rows]).toarray(), labels=labels, genes=reference.genes, random_state=0
        )
        genes = [gene for gene, known in zip(reference.genes, measured, strict=True) if known]
        query = ad.AnnData(values[:, measured].toarray(), var=pd.DataFrame(index=genes))
        theirs = package.annotate(query, model=model).predicted_labels["predicted_labels"]
    ours = np.array(reference.classes, dtype=object)[judge.calls(values, measured)]
    assert len(set(ours)) == classes
    assert (ours == theirs.to_numpy(dtype=object)).all()


def test_logistic_regression_says_what_scikit_learn_says(reference: Reference) -> None:
    rows = np.arange(len(reference.codes))
    genes = dispersed_genes(reference.counts, 2000)
    values = log1p_cp10k(reference.counts)[:, genes].toarray()
    mean, sd = values.mean(0), values.std(0)
    model = LogisticRegression(C=PENALTY, max_iter=300)
    model.fit(np.clip((values - mean) / sd, -BOUND, BOUND), reference.codes)
    query = log1p_cp10k(noisy(reference))
    theirs = model.predict(np.clip((query[:, genes].toarray() - mean) / sd, -BOUND, BOUND))
    measured = np.ones(len(reference.genes), dtype=bool)
    ours = logistic_regression(reference, rows).calls(query, measured)
    assert 0.3 < (ours == reference.codes).mean() < 1
    assert (ours == theirs).all()


def test_values_are_cut_at_both_bounds_and_a_class_without_cells_is_never_named() -> None:
    mean, sd = np.array([5.0, 1.0]), np.array([0.1, 0.1])
    judge = LinearJudge.of(
        np.array([0, 2]), mean, sd, -10.0, np.array([[1.0, 0.0], [0.0, 1.0]]), np.zeros(2), np.array([0, 2]), 3
    )
    assert judge.low.tolist() == [4.0, 0.0]
    assert judge.high.tolist() == [6.0, 2.0]
    # the first gene: 0 counts as 4, which is -10; the second as 1 - 10 sd = 0, which is -10 too
    cells = sp.csr_matrix(np.array([[0, 9, 0.1], [9, 9, 9], [5.2, 0, 1.1]]))
    assert judge.calls(cells, np.ones(3, dtype=bool)).tolist() == [2, 0, 0]
    assert judge.calls(cells, np.array([False, True, True])).tolist() == [0, 2, 2]


def annotate(annotator: Annotator, reference: Reference, embedding: np.ndarray) -> pd.DataFrame:
    barcodes = [f"c{number:03d}" for number in range(len(embedding))]
    return annotator.annotate(noisy(reference), reference.genes, embedding, barcodes, 0.05)[0]


def test_the_share_that_agrees_is_that_of_the_answers(annotator: Annotator, reference: Reference) -> None:
    embedding = reference.embedding.copy()
    embedding[::5] = np.nan
    table = annotate(annotator, reference, embedding)
    answers = table[list(JUDGE_COLUMNS.values())]
    # a cell that scGPT cannot read has its best match from the expression view: that is no second answer
    for view in ("embedding", "expression"):
        assert ((answers[JUDGE_COLUMNS[view]] == "") == np.isnan(embedding[:, 0])).all()
    assert (answers[["spikgpt_judge_regression", "spikgpt_judge_celltypist"]] != "").all(axis=None)
    for row, best, share in zip(
        answers.itertuples(index=False), table["spikgpt_best_match"], table[AGREEMENT], strict=True
    ):
        given = [name for name in row if name]
        assert share == np.float32(sum(name == best for name in given) / len(given))
    assert 0 < table[AGREEMENT].mean() < 1
    in_blocks = annotator.annotate(
        [noisy(reference)[:100], noisy(reference)[100:]],
        reference.genes,
        embedding,
        table["barcode"].tolist(),
        0.05,
    )[0]
    pd.testing.assert_frame_equal(in_blocks, table, check_exact=True)


def test_the_folder_keeps_the_judges_and_an_older_one_has_the_views_alone(
    annotator: Annotator, reference: Reference, tmp_path: Path
) -> None:
    whole = annotate(annotator, reference, reference.embedding)
    save_annotator(annotator, tmp_path / "now")
    loaded = load_annotator(tmp_path / "now", SHA)
    pd.testing.assert_frame_equal(annotate(loaded, reference, reference.embedding), whole, check_exact=True)
    older = Annotator(annotator.views, annotator.mixture, annotator.rejection, dict(annotator.config))
    save_annotator(older, tmp_path / "older")
    table = annotate(load_annotator(tmp_path / "older", SHA), reference, reference.embedding)
    assert (table[["spikgpt_judge_regression", "spikgpt_judge_celltypist"]] == "").all(axis=None)
    assert (table["spikgpt_judge_expression"] != "").all()
    others = [name for name in whole if name != AGREEMENT and not name.endswith(("regression", "celltypist"))]
    pd.testing.assert_frame_equal(table[others], whole[others], check_exact=True)


def test_one_view_is_no_judge_of_itself(reference: Reference) -> None:
    quick = Recipe(min_steps=20, max_steps=20)
    scgpt = {"name": "made", "sha256": SHA}
    made = train_annotator(
        reference, scgpt=scgpt, unknown_rate=0.05, features="expression", seed=0, threads=1, recipe=quick,
        leave_one_out=False,
    )[0]  # fmt: skip
    table = annotate(made, reference, reference.embedding)
    assert (table[list(JUDGE_COLUMNS.values())] == "").all(axis=None)
    assert table[AGREEMENT].isna().all()


@pytest.fixture
def cells() -> pd.DataFrame:
    """Cluster 1 has 4 cells, 0 has 6, two are in none; CellTypist has no answer."""
    best = ["B"] * 6 + ["T"] * 4 + ["T"] * 2
    return pd.DataFrame(
        {
            "spikgpt_cluster": ["0"] * 6 + ["1"] * 4 + [""] * 2,
            "spikgpt_cluster_cell_type": ["B"] * 6 + ["<b>T</b>"] * 4 + [""] * 2,
            "spikgpt_best_match": best,
            "spikgpt_judge_embedding": ["B"] * 6 + ["NK"] * 3 + ["", "", ""],
            "spikgpt_judge_expression": best,
            "spikgpt_judge_regression": ["T", "A", "B", "B", "B", "B"] + ["T"] * 6,
            "spikgpt_judge_celltypist": "",
        }
    ).astype("category")


def test_the_table_of_clusters(cells: pd.DataFrame) -> None:
    table = judges_table(cells)
    assert list(table) == list(JUDGE_TABLE_COLUMNS)
    assert table["cluster"].drop_duplicates().tolist() == ["all", "0", "1"]
    rows = table.set_index(["cluster", "judge"])
    assert "celltypist" not in table["judge"].to_numpy()
    one = rows.loc[("1", "embedding")]
    assert (one["cells"], one["answered"], one["percent_agree"]) == (4, 3, 0)
    assert (one["other_answer"], one["percent_other"]) == ("NK", 100)
    # the first by name of those as frequent
    assert rows.loc[("0", "regression"), "other_answer"] == "A"
    assert rows.loc[("0", "regression"), "percent_agree"] == pytest.approx(100 * 4 / 6)
    assert rows.loc[("all", "expression"), ["answered", "percent_agree", "other_answer"]].tolist() == [12, 100, ""]


def test_the_report_names_what_judges_say_instead(cells: pd.DataFrame, tmp_path: Path) -> None:
    write_tsv(tmp_path / "judges.tsv", judges_table(cells))
    made = section(Inputs([], {}, tables={"judges.tsv": read_tsv(tmp_path / "judges.tsv")}))
    assert made is not None
    assert made.data["Cluster 1"]["embedding"] == 0
    assert made.data["Cluster 1"]["others"] == "Embedding view: NK (100 %)"
    assert "celltypist" not in made.options["headers"]
    assert "holds no logistic regression or CellTypist" in made.description
    assert "<b>" not in json.dumps(made.data)
    assert section(Inputs([], {}, tables={})) is None
