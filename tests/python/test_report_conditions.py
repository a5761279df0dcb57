"""The report's sections on conditions."""

import numpy as np
import pandas as pd
import pytest
from spikgpt.base.tsv import read_tsv, write_tsv
from spikgpt.cohort.conditions import compare_conditions, replicates
from spikgpt.cohort.contrast import DIFFERENTIAL_COLUMNS
from spikgpt.report.conditions import MOST_POINTS, conditions_points, conditions_table
from spikgpt.report.differential import MOST_GENES, differential_table, volcano
from spikgpt.report.inputs import Inputs
from spikgpt.report.methods import methods_html
from spikgpt.report.summary import warnings_and_remarks


def inputs_of(conditions: str, types: int, tmp_path, donors: str = "") -> Inputs:
    """Samples of one donor each; the cells of type k are 10 + k, twice as many in condition b for type 0."""
    rows = []
    for at, condition in enumerate(conditions):
        for k in range(types):
            number = (10 + k + at % 2) * (2 if condition == "b" and k == 0 else 1)
            rows += [(f"s{at}", donors[at] if donors else f"<d{at}>", condition, f"t{k}")] * number
    cells = pd.DataFrame(rows, columns=["sample", "donor", "condition", "spikgpt_cell_type"])
    sheet = cells.rename(columns={"spikgpt_cell_type": "cell_type"}).value_counts().rename("cells").reset_index()
    found = replicates(sheet)
    inputs = Inputs([], {"parameters": {"unknown_rate": 0.05}}, cells=cells.assign(batch="one"))
    if found is not None:
        table, inputs.comparison = compare_conditions(found)
        write_tsv(tmp_path / "conditions.tsv", table)
        inputs.tables["conditions.tsv"] = read_tsv(tmp_path / "conditions.tsv")
    return inputs


def test_every_replicate_has_a_point_for_every_type(tmp_path):
    inputs = inputs_of("aaabbb", 5, tmp_path)
    section = conditions_points(inputs)
    (data,) = section.data
    assert len(data) == 6
    assert all(len(points) == 5 for points in data.values())
    assert "<" not in "".join(data)
    # types by p-value, and the points are those of the cells
    tested = inputs.tables["conditions.tsv"]
    order = list(tested.sort_values("p_value", key=lambda p: p.astype(float), kind="stable")["cell_type"])
    assert section.options["pconfig"]["categories"] == order
    cells = inputs.cells
    for at, points in enumerate(data.values()):
        own = cells[cells["sample"] == f"s{at}"]
        for place, (name, point) in enumerate(zip(order, points, strict=True)):
            assert point["y"] == pytest.approx(100 * (own["spikgpt_cell_type"] == name).mean(), abs=1e-3)
            assert abs(point["x"] - place) < 0.5
    assert len({point["color"] for points in data.values() for point in points}) == 2
    table = conditions_table(inputs).data
    assert list(table) == order
    assert float(table["t0"]["fdr"]) < 0.01
    assert table["t0"]["replicates"] == "a=3; b=3"


def test_what_was_not_tested_is_a_warning_and_has_no_p_value(tmp_path):
    inputs = inputs_of("aab", 3, tmp_path)
    row = conditions_table(inputs).data["t0"]
    assert row["test"] == "not tested"
    assert not {"p", "fdr", "statistic"} & row.keys()
    warnings, _ = warnings_and_remarks(inputs_without_removed(inputs))
    assert any("fewer than 2 donors" in warning and "b=1" in warning for warning in warnings)


def inputs_without_removed(inputs: Inputs) -> Inputs:
    inputs.tables["removed_cells.tsv.gz"] = pd.DataFrame(columns=["sample", "barcode", "reason", "nearest_type"])
    return inputs


def test_one_condition_has_no_section(tmp_path):
    inputs = inputs_of("aaa", 3, tmp_path)
    assert conditions_points(inputs) is None
    assert conditions_table(inputs) is None


def test_many_replicates_show_fewer_types(tmp_path):
    inputs = inputs_of("ab" * 100, 20, tmp_path)
    section = conditions_points(inputs)
    (data,) = section.data
    points = sum(len(points) for points in data.values())
    assert points <= MOST_POINTS
    assert "5 further types" in section.description
    assert np.isfinite([point["y"] for points in data.values() for point in points]).all()


def test_the_volcano_has_the_genes_of_the_table(tmp_path):
    inputs = inputs_of("aaa", 3, tmp_path)
    assert volcano(inputs) is None
    assert differential_table(inputs) is None
    rows = [("T", f"<g{at}>", "", 9.0, 3.0 - at / 100, 0.1, 1.0, at * 1e-5, at * 1e-4) for at in range(600)]
    write_tsv(tmp_path / "d.tsv.gz", pd.DataFrame(rows, columns=list(DIFFERENTIAL_COLUMNS)))
    inputs.tables["differential_expression.tsv.gz"] = read_tsv(tmp_path / "d.tsv.gz")
    told = {"cell_type": "T", "treated": 2, "control": 3, "replicates": "donor", "paired": True, "genes": 600,
            "higher": 301, "lower": 200}  # fmt: skip
    inputs.differential = {"contrast": ["condition", "b", "a"], "types": [told], "messages": []}
    (points,) = volcano(inputs).data
    assert len(points) == MOST_GENES
    assert "<" not in "".join(points)
    # the gene whose p-value is 0 has a place
    (point,) = points["&lt;g0&gt;"]
    assert (point["x"], point["group"]) == (3.0, "higher")
    assert 300 < point["y"] < 310
    row = differential_table(inputs).data["T"]
    assert (row["higher"], row["lower"], row["paired"]) == (301, 200, "yes")
    assert row["top"].startswith("&lt;g0&gt;, &lt;g1&gt;")


def test_the_methods_name_what_was_tested(tmp_path):
    inputs = inputs_of("aaabbb", 3, tmp_path)
    inputs.run["version"] = "0"
    assert "propeller" in methods_html(inputs)
    assert "PyDESeq2" not in methods_html(inputs)
    told = {"cell_type": "T", "replicates": "donor"}
    inputs.differential = {"contrast": ["condition", "<b>", "a"], "types": [told], "messages": []}
    assert "between &lt;b&gt; and a (condition)" in methods_html(inputs)
    untested = inputs_of("aab", 3, tmp_path)
    untested.run["version"] = "0"
    assert "propeller" not in methods_html(untested)
