"""What a facility's reader asks of the report: the bounds of quality control, what to know of the experiment, the
facility's own heading, earlier runs, and labels that the cells already have."""

import base64
import json
import re
import shutil
import subprocess
from dataclasses import replace

import anndata
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from scipy import sparse
from sklearn.metrics import cohen_kappa_score
from spikgpt.base.cell_ontology import term_of_label
from spikgpt.base.errors import UserError
from spikgpt.base.tsv import read_tsv, write_tsv
from spikgpt.cohort.comparison import AGREEMENT_COLUMNS, COMPARISON_COLUMNS, compare, plain, read_own, relation
from spikgpt.cohort.markers import MARKER_COLUMNS, find_markers, marker_statistics
from spikgpt.cohort.naming import SEURAT_COLUMNS, seurat_markers
from spikgpt.cohort.samples import SAMPLE_FIGURES, sample_figures
from spikgpt.cohort.tables import cells_per_step, read_cohort, read_statistics
from spikgpt.quality_control.rules import DEFAULTS
from spikgpt.read_input.own_labels import read_own_labels
from spikgpt.report.comparison import agreement_table, own_labels_heatmap
from spikgpt.report.experiment import on_confounding, on_mito, on_unknown
from spikgpt.report.facility import PNG, about, data_uri, multiqc_config
from spikgpt.report.history import FEWEST_RUNS, read_history, trend_lines, trend_table
from spikgpt.report.inputs import Inputs
from spikgpt.report.methods import methods_html
from spikgpt.report.removed import bounds_table
from spikgpt.report.summary import warnings_and_remarks
from test_cohort import annotated, joined, small, small_table  # noqa: F401
from test_report import given, head, inputs  # noqa: F401


class Told(list):
    """Warnings as they come: (message, subject, detail)."""

    def __call__(self, message: str, subject: str, detail: str) -> None:
        self.append((message, subject, detail))


def run_of(unknown: int, cells: int, rate: float = 0.05, mito: float = 2.0) -> Inputs:
    labels = ["Unknown"] * unknown + ["T"] * (cells - unknown)
    table = pd.DataFrame({"sample": "a", "spikgpt_cell_type": labels, "pct_counts_mt": mito})
    made = Inputs(["a"], {"parameters": {"unknown_rate": rate}}, [{"sample": "a"}], cells=table)
    made.steps = {"a": {"Unknown": unknown}}
    return made


@pytest.mark.parametrize(
    ("unknown", "cells", "warned"),
    # twice the rate is 10 %: beyond it and beyond chance (P(X >= 8 | 40, .05) = .0007); beyond it alone (.003); not
    [(8, 40, True), (7, 40, False), (30, 200, True), (20, 200, False), (101, 1000, True), (100, 1000, False)],
)
def test_twice_the_unknown_rate_is_told_where_it_is_more_than_chance(unknown, cells, warned):
    told = Told()
    on_unknown(told, run_of(unknown, cells), "a")
    assert bool(told) == warned
    if warned:
        assert f"{unknown:,} where {0.05 * cells:,.0f} are expected" in told[0][2]


def test_a_high_mitochondrial_share_is_told():
    told = Told()
    on_mito(told, run_of(0, 10, mito=9.9), "a")
    assert not told
    on_mito(told, run_of(0, 10, mito=10.4), "a")
    assert told[0][1:] == ("a", "10.4 %")


CONFOUNDED = [("1", "ctrl"), ("1", "ctrl"), ("2", "<b>stim")]


@pytest.mark.parametrize(
    ("rows", "warned"),
    [
        (CONFOUNDED, True),
        ([*CONFOUNDED, ("2", "ctrl")], False),
        ([("1", "ctrl"), ("2", "ctrl")], False),
        ([("1", "ctrl"), ("1", "stim")], False),
        ([("", "ctrl"), ("", "stim")], False),
    ],
)
def test_conditions_that_no_batch_has_together_are_told(rows, warned):
    told = Told()
    made = run_of(0, 10)
    made.sheet = [
        {"sample": str(at), "batch": batch, "condition": condition} for at, (batch, condition) in enumerate(rows)
    ]
    on_confounding(told, made)
    assert bool(told) == warned
    if warned:
        assert "(1: ctrl; 2: &lt;b&gt;stim)" in told[0][0]
        assert told[0][1] == "Cohort"


def test_how_genes_were_named_is_no_warning(inputs):  # noqa: F811
    names = "321 genes had an older symbol and took the current one (HGNC and GENCODE v44)."
    made = replace(inputs, annotator=inputs.annotator | {"warnings": [names, "Few cells."]})
    warnings, remarks = warnings_and_remarks(made)
    assert "older symbol" not in " ".join(warnings)
    assert "older symbol" in " ".join(remarks)
    assert "Few cells." in " ".join(warnings)


def test_bounds_say_what_the_samplesheet_gave(inputs):  # noqa: F811
    section = bounds_table(inputs)
    assert section.data["s2"]["given"] == "min_genes 200"
    assert section.data["s10"]["given"] == "defaults"
    assert "at least 200 genes" in section.description
    assert "5, 5, 5 and 3 median absolute deviations" in section.description


def test_methods_have_the_thresholds_to_cite(inputs):  # noqa: F811
    told = methods_html(inputs)
    assert "at least 200 genes (fewer in a group whose cells all have fewer), and at most 5, 5, 5 and 3 median" in told
    assert "but for what the samplesheet gave: min_genes 200 (1 of 4 samples); 200 cells remained" in told
    assert "expected rate of 0.8 % per 1,000 cells (1.0 %)" in told


def test_help_of_the_samplesheet_names_every_default():
    columns = json.loads((ROOT / "assets" / "schema_input.json").read_text())["items"]["properties"]
    page = (ROOT / "docs" / "usage.md").read_text(encoding="utf-8")
    for name, value in DEFAULTS.items():
        text = columns[name]["description"]
        assert f"default {value:g}" in text or f"default, {value:g}," in text, name
        assert f"`{name}` ({value:g})" in page, name


NASTY = 'A & <b>B</b> "C" \\\\ </title><script>x()</script>\\'
SVG = b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><rect width='9' height='9'/></svg>"


def test_the_head_shows_what_was_given_and_nothing_as_markup():
    made = run_of(0, 10)
    assert about(made) is None
    made.facility = {"title": "Only a title"}
    assert about(made) is None
    made.facility = {"title": NASTY, "customer": NASTY, "text": f"first\nline\n\nsecond {NASTY}"}
    section = about(made)
    assert "<b>B" not in section.data
    assert "<script" not in section.data
    assert "<h3>A &amp; &lt;b&gt;B" in section.data
    assert "<p>first<br>line</p><p>second A &amp; &lt;b&gt;B" in section.data
    assert "Customer" in section.data
    assert "Project" not in section.data
    assert "<img" not in section.data
    made.logo = "data:image/png;base64,QQ=="
    assert "<img src='data:image/png;base64,QQ=='" in about(made).data


def test_a_logo_becomes_part_of_the_page(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG + b"rest")
    (tmp_path / "a.svg").write_bytes(SVG)
    assert data_uri(tmp_path / "a.png") == "data:image/png;base64," + base64.b64encode(PNG + b"rest").decode()
    assert data_uri(tmp_path / "a.svg") == "data:image/svg+xml;base64," + base64.b64encode(SVG).decode()


def test_the_title_ends_neither_markup_nor_script():
    title = multiqc_config({"title": NASTY})["title"]
    assert not set(title) & set("<>\"'\\\\")
    assert multiqc_config({})["title"] == "SpikGPT"


def earlier(runs: int, **figures: float) -> pd.DataFrame:
    """Two samples of each run, whose median is the figure that is given, times 1 + its number."""
    base = dict.fromkeys(SAMPLE_FIGURES[1:], 10.0) | figures
    rows = [
        {"run": f"2026-{run:02}", "sample": name, **{key: value * (1 + run) + off for key, value in base.items()}}
        for run in range(runs)
        for name, off in (("a", -1.0), ("b", 1.0))
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def now(inputs) -> Inputs:  # noqa: F811
    figures = {"sample": ["s2"], **{name: ["30"] for name in SAMPLE_FIGURES[1:]}, "percent_ambient": [""]}
    return replace(inputs, tables=inputs.tables | {"samples.tsv": pd.DataFrame(figures)}, history=None)


def test_a_run_is_shown_beside_earlier_ones(now):
    assert trend_table(now) is None
    now.history = earlier(FEWEST_RUNS, median_genes=1000.0, percent_ambient=np.nan)
    rows = trend_table(now).data
    assert list(rows) == ["Cells", "Genes", "Mitochondrial %", "Doublets %", "Unknown %"]
    assert rows["Cells"] == {"now": "30", "median": "30", "range": "10 to 50", "runs": 5, "outside": ""}
    assert rows["Genes"]["outside"] == "lower than ever"
    curves = trend_lines(now).data
    shares = [100 / 3, 200 / 3, 100, 400 / 3, 500 / 3, 100]
    assert curves["Cells"] == [[at, pytest.approx(share)] for at, share in enumerate(shares)]
    # too few runs to call anything unusual
    now.history = earlier(FEWEST_RUNS - 1, median_genes=1000.0)
    assert trend_table(now).data["Genes"]["outside"] == ""


def test_names_of_earlier_runs_are_text(now):
    now.history = earlier(3).replace("2026-01", "<b>x")
    assert "&lt;b&gt;x" in trend_lines(now).description
    assert "<b>" not in trend_lines(now).description


def test_a_table_that_is_no_history_is_a_mistake(tmp_path):
    whole = earlier(2)
    write_tsv(tmp_path / "history.tsv", whole)
    pd.testing.assert_frame_equal(read_history(str(tmp_path / "history.tsv")), whole)
    write_tsv(tmp_path / "short.tsv", whole.drop(columns="cells_kept"))
    with pytest.raises(UserError, match="a column cells_kept"):
        read_history(str(tmp_path / "short.tsv"))
    write_tsv(tmp_path / "text.tsv", whole.astype(object).replace(9.0, "many"))
    with pytest.raises(UserError, match="'many' in column"):
        read_history(str(tmp_path / "text.tsv"))


def test_figures_of_samples_are_those_of_the_report(given, joined):  # noqa: F811
    cells, _ = read_cohort(joined)
    statistics = read_statistics(given["stats"])
    removed = read_tsv(given["tables"] / "removed_cells.tsv.gz")
    samples = [row["sample"] for row in json.loads(given["samples"].read_text())]
    steps = cells_per_step(samples, statistics, removed, cells)
    found = sample_figures(samples, statistics, steps, cells).set_index("sample")
    assert tuple(found.reset_index().columns) == SAMPLE_FIGURES
    own = cells[cells["sample"] == "s2"]
    assert found.loc["s2", "cells_kept"] == len(own) == 80
    assert found.loc["s2", "cells_in"] == 85
    assert found.loc["s2", "median_genes"] == own["n_genes_by_counts"].median()
    assert found.loc["s2", "percent_ambient"] == 4.2
    assert np.isnan(found.loc["s10", "percent_ambient"])
    assert found.loc["s2", "percent_unknown"] == pytest.approx(25)
    assert found.loc["s2", "percent_doublets"] == pytest.approx(200 / 85)
    assert found.loc["empty", ["cells_in", "cells_kept"]].tolist() == [5, 0]
    assert found.loc["empty", ["median_genes", "percent_unknown"]].isna().all()


def test_markers_for_tools_that_name_clusters_are_those_of_the_table(joined):  # noqa: F811
    statistics = marker_statistics(joined)[0]
    table, seurat = find_markers(joined)[0], seurat_markers(statistics)
    assert tuple(table.columns) == MARKER_COLUMNS
    assert tuple(seurat.columns) == SEURAT_COLUMNS
    assert seurat["gene"].tolist() == table["gene"].tolist()
    assert seurat["cluster"].tolist() == table["cluster"].tolist()
    np.testing.assert_allclose(seurat["pct.1"], table["pct_in"] / 100)
    assert ((seurat["pct.1"] >= 0) & (seurat["pct.1"] <= 1)).all()
    assert (seurat["p_val"] <= seurat["p_val_adj"] + 1e-12).all()
    # one more in both means: the same sign, and nearer to 0
    assert (np.sign(seurat["avg_log2FC"]) == np.sign(table["log2fc"])).all()
    assert (seurat["avg_log2FC"].abs() <= table["log2fc"].abs() + 1e-9).all()


def test_the_whole_report_has_the_facilitys_head(given, tmp_path):  # noqa: F811
    """Through the script and MultiQC, with names that would be markup."""
    (tmp_path / "head.json").write_text(json.dumps({"title": NASTY, "customer": NASTY, "text": "Hello."}))
    (tmp_path / "logo.svg").write_bytes(SVG)
    figures = {"sample": ["s2"], **{name: ["30"] for name in SAMPLE_FIGURES[1:]}}
    shutil.copytree(given["tables"], tmp_path / "tables")
    write_tsv(tmp_path / "tables" / "samples.tsv", pd.DataFrame(figures))
    write_tsv(tmp_path / "history.tsv", earlier(3))
    command = [str(ROOT / "bin" / "make_report.py"), "--out", "content", "--facility", "head.json"]
    command += ["--logo", "logo.svg", "--history", "history.tsv"]
    for name, value in (given | {"tables": tmp_path / "tables"}).items():
        command += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    subprocess.run(command, cwd=tmp_path, check=True)
    subprocess.run(
        ["multiqc", "--config", ROOT / "assets" / "multiqc_config.yml", "--config", "multiqc_title.json", "--filename",
         "report.html", "content"],
        cwd=tmp_path, check=True, capture_output=True, text=True,
    )  # fmt: skip
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<title>A &amp; &lt;b&gt;B" in page
    assert "<script>x()" not in page
    assert not re.search(r"configTitle = \"[^\"]*\\\\\";", page)
    assert f"data:image/svg+xml;base64,{base64.b64encode(SVG).decode()}" in page
    assert page.index("spikgpt_about") < page.index("spikgpt_overview")
    assert "spikgpt_trend" in page


T_CELL, CD4 = "CL:0000084", "CL:0000624"


@pytest.mark.parametrize(
    ("own", "ours", "expected"),
    [
        ("B cells", "B cell", "same"),
        ("B lymphocyte", "B cell", "same"),
        ("T cell", "CD4-positive, alpha-beta T cell", "broader"),
        ("CD4-positive, alpha-beta T cell", "T cell", "narrower"),
        ("B cell", "T cell", "different"),
        ("cluster 7", "T cell", ""),
        # no terms, but a name that the pipeline has for another type
        ("my type", "group 3", "different"),
        ("group 3", "Group_3 cells", "same"),
        ("T cell", "Unknown", ""),
    ],
)
def test_how_a_label_stands_to_ours(own, ours, expected):
    names = frozenset({plain("my type"), plain(ours)})
    assert relation(own, term_of_label(own), ours, term_of_label(ours), names) == expected


def test_kappa_of_the_same_names_is_cohens(tmp_path):
    rng = np.random.default_rng(0)
    names = np.array(["B cell", "T cell", "monocyte"])
    ours = rng.choice(names, 300)
    theirs = np.where(rng.random(300) < 0.7, ours, rng.choice(names, 300))
    cells = pd.DataFrame({"sample": "a", "barcode": [f"c{i}" for i in range(300)], "spikgpt_cell_type": ours})
    cells["spikgpt_best_match"] = ours
    own = cells[["sample", "barcode"]].assign(own_label=theirs)
    # a cell that quality control removed
    own = pd.concat([own, pd.DataFrame({"sample": ["a"], "barcode": ["gone"], "own_label": ["B cell"]})])
    own[["barcode", "own_label"]].rename(columns={"own_label": "label"}).to_parquet(tmp_path / "a.own_labels.parquet")
    confusion, agreement = compare(cells, read_own([tmp_path / "a.own_labels.parquet"]))
    assert tuple(confusion.columns) == COMPARISON_COLUMNS
    assert tuple(agreement.columns) == AGREEMENT_COLUMNS
    assert agreement["sample"].tolist() == ["a", "all"]
    row = agreement.iloc[0]
    assert row[["cells", "unknown", "not_comparable", "compared"]].tolist() == [300, 0, 0, 300]
    assert row["agreement"] == pytest.approx((ours == theirs).mean())
    assert row["kappa"] == pytest.approx(cohen_kappa_score(ours, theirs))
    assert confusion["cells"].sum() == 300
    assert agreement.iloc[1, 1:].tolist() == row[1:].tolist()


def test_a_broader_label_agrees_and_unknown_is_not_compared():
    labels = [("T cell", "CD4 T", 6), ("B cell", "B cell", 2), ("B cell", "Unknown", 1), ("group 3", "B cell", 1)]
    rows = [(own, ours) for own, ours, n in labels for _ in range(n)]
    cells = pd.DataFrame(
        {"sample": "a", "barcode": [str(i) for i in range(10)], "spikgpt_cell_type": [r[1] for r in rows]}
    )
    cells["spikgpt_best_match"] = cells["spikgpt_cell_type"]
    cells["cell_type_ontology_term_id"] = (
        cells["spikgpt_cell_type"].map({"CD4 T": CD4, "B cell": "unknown"}).fillna("unknown")
    )
    own = cells[["sample", "barcode"]].assign(own_label=[r[0] for r in rows])
    confusion, agreement = compare(cells, own)
    told = confusion.set_index(["own_label", "cell_type"])["relation"].to_dict()
    assert told == {("B cell", "B cell"): "same", ("B cell", "Unknown"): "", ("T cell", "CD4 T"): "broader",
                    ("group 3", "B cell"): ""}  # fmt: skip
    assert agreement.iloc[0, 1:].tolist() == [10, 1, 1, 8, 1.0, 1.0]


def test_own_labels_are_shown_as_text(inputs):  # noqa: F811
    without = replace(inputs, tables={})
    assert own_labels_heatmap(without) is None
    assert agreement_table(without) is None
    confusion = pd.DataFrame(
        [
            ("s2", "<b>T", "T cell", "6", "same"),
            ("s2", "<b>T", "Unknown", "2", ""),
            ("s10", "B", "B cell", "4", "same"),
        ],
        columns=list(COMPARISON_COLUMNS),
    )
    agreement = pd.DataFrame(
        [("s2", "8", "2", "0", "6", "1", ""), ("all", "12", "2", "0", "10", "0.9", "0.8")],
        columns=list(AGREEMENT_COLUMNS),
    )
    made = replace(inputs, tables=inputs.tables | {"comparison.tsv": confusion, "agreement.tsv": agreement})
    section = own_labels_heatmap(made)
    assert section.options["ycats"] == ["&lt;b&gt;T", "B"]
    assert section.options["xcats"] == ["B cell", "T cell", "Unknown"]
    assert section.data == [[0, 75, 25], [100, 0, 0]]
    rows = agreement_table(made).data
    assert rows["s2"] == {"cells": 8, "unknown": 2, "not_comparable": 0, "agreement": 100}
    assert rows["All samples"]["kappa"] == 0.8


def test_own_labels_are_read_without_the_counts(tmp_path):
    obs = pd.DataFrame({"author": ["T", "unassigned", None, "B"]}, index=list("abcd"))
    symbols = pd.DataFrame(index=["CD3D", "MS4A1"])
    anndata.AnnData(sparse.csr_matrix(np.ones((4, 2), dtype=np.float32)), obs, symbols).write_h5ad(tmp_path / "a.h5ad")
    found = read_own_labels(tmp_path / "a.h5ad", "author", True)
    assert found.to_numpy().tolist() == [["a", "T"], ["d", "B"]]
    with pytest.raises(UserError, match=r"Did you mean author\?"):
        read_own_labels(tmp_path / "a.h5ad", "autor", True)


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> dict:
    """What the start of a run makes of logos and of earlier runs."""
    folder = tmp_path_factory.mktemp("told")
    logos = folder / "logos"
    logos.mkdir()
    for name, content in {
        "good.png": PNG + b"rest", "good.svg": b"<?xml version='1.0'?>" + SVG, "page.svg": b"<html/>",
        "text.png": b"hello", "large.png": PNG + bytes(2**20),
        "grows.svg": b"<!DOCTYPE svg [<!ENTITY a 'aaaa'>]>" + SVG,
    }.items():  # fmt: skip
        (logos / name).write_bytes(content)
    for run in ("2026-02", "2026-01", "now"):
        (folder / "runs" / run / "tables").mkdir(parents=True)
        (folder / "runs" / run / "tables" / "samples.tsv").write_text(f"sample\tcells_in\n{run[-1]}\t7\n")
    (folder / "runs" / "notes").mkdir()
    run = subprocess.run(
        ["nextflow", "run", ROOT / "tests/lib/facility.nf", "-ansi-log", "false", "--logos", logos, "--history",
         folder / "runs", "--outdir", folder / "runs" / "now", "--out", "told.json"],
        cwd=folder, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    return json.loads((folder / "told.json").read_text())


@pytest.mark.skipif(shutil.which("nextflow") is None, reason="nextflow is not on PATH")
def test_a_logo_is_looked_at_when_a_run_starts(told):
    assert told["logos"]["good.png"] is None
    assert told["logos"]["good.svg"] is None
    for name in ("page.svg", "text.png", "grows.svg"):
        assert told["logos"][name].startswith("SpikGPT stopped: The logo is neither PNG nor SVG"), name
    assert "The logo is not a small picture" in told["logos"]["large.png"]


@pytest.mark.skipif(shutil.which("nextflow") is None, reason="nextflow is not on PATH")
def test_earlier_runs_come_in_order_and_without_this_one(told):
    assert told["history"] == "run\tsample\tcells_in\n2026-01\t1\t7\n2026-02\t2\t7\n"
