"""What a facility's reader asks of the report: the bounds of quality control, what to know of the experiment, the
facility's own heading, earlier runs, and labels that the cells already have."""

import json
from dataclasses import replace

import pandas as pd
import pytest
from conftest import ROOT
from spikgpt.quality_control.rules import DEFAULTS
from spikgpt.report.experiment import on_confounding, on_mito, on_unknown
from spikgpt.report.inputs import Inputs
from spikgpt.report.methods import methods_html
from spikgpt.report.removed import bounds_table
from spikgpt.report.summary import warnings_and_remarks
from test_cohort import annotated, joined, small, small_table  # noqa: F401
from test_report import given, inputs  # noqa: F401


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
