"""The parameters: what is accepted, what each mistake is told, and which of them bear on results."""

import json
import re
import shutil
import subprocess

import pytest
from conftest import ROOT

pytestmark = pytest.mark.skipif(shutil.which("nextflow") is None, reason="nextflow is not on PATH")

SCHEMA = json.loads((ROOT / "nextflow_schema.json").read_text())
SPECS = {name: spec for group in SCHEMA["$defs"].values() for name, spec in group["properties"].items()}
GOOD = {"input": "sheet.csv", "outdir": "results", "unknown_rate": 0.05, "reference": "ref.h5ad", "annotator": None}

MISTAKES = [
    ({"unknown_rte": 0.1}, "There is no parameter --unknown_rte", "--unknown_rte", "did you mean 'unknown_rate'"),
    ({"unknown-rate": 0.1}, "There is no parameter --unknown-rate", "--unknown-rate", "did you mean 'unknown_rate'"),
    ({"zzzzzzzzzzzz": 1}, "There is no parameter --zzzzzzzzzzzz", "--zzzzzzzzzzzz", "known names: ambient, annotator"),
    ({"unknown_rate": 0}, "Invalid value for --unknown_rate", "0.0", "more than 0"),
    ({"unknown_rate": 0.9}, "Invalid value for --unknown_rate", "0.9", "at most 0.5"),
    ({"unknown_rate": "much"}, "Invalid value for --unknown_rate", '"much"', "type number"),
    ({"unknown_rate": True}, "Invalid value for --unknown_rate", "true", "type number"),
    ({"seed": -1}, "Invalid value for --seed", "-1", "at least 0"),
    ({"seed": 1.5}, "Invalid value for --seed", "1.5", "type integer"),
    ({"seed": 4294967296}, "Invalid value for --seed", "4294967296", "at most 4294967295"),
    ({"chunk_cells": "many"}, "Invalid value for --chunk_cells", '"many"', "type integer"),
    ({"skip_doublets": "yes"}, "Invalid value for --skip_doublets", '"yes"', "type boolean"),
    ({"features": "all"}, "Invalid value for --features", '"all"', "one of both, embedding, expression"),
    ({"label_key": ""}, "Invalid value for --label_key", '""', "not empty"),
    ({"batch_key": True}, "Invalid value for --batch_key", "true", "type string"),
    ({"disk": "large"}, "Invalid value for --disk", '"large"', "a size such as 100 GB"),
    ({"input": None}, "The parameter --input is missing", "no value", "Samplesheet, one row"),
    ({"outdir": None}, "The parameter --outdir is missing", "no value", "Folder for the results"),
    ({"input": "sheet.xlsx"}, "Invalid value for --input", '"sheet.xlsx"', ".csv"),
    ({"annotator": "a"}, "Both --reference and --annotator", "--reference ref.h5ad and --annotator a", "one of them"),
    ({"teach": "a.tsv"}, "Both --teach and --reference", "--teach a.tsv and --reference ref.h5ad", "one of them"),
    ({"teach": "a.txt", "reference": None}, "Invalid value for --teach", '"a.txt"', "ends in .tsv"),
    ({"teach": "a.tsv", "annotator": "tissue", "reference": None}, "cannot be taught", "--annotator tissue", "pbmc"),
    ({"teach": "a.tsv", "annotator": "a,b", "reference": None}, "cannot be taught", "--annotator a,b", "one trained"),
    ({"annotator": "a, a", "reference": None}, "names no annotator, or one twice", '"a, a"', "(pbmc, tissue)"),
    ({"reference": "a/r.h5ad,b/r.h5ad"}, "names no file, or two of one name", '"a/r.h5ad,b/r.h5ad"', "named by their"),
    ({"reference": "a.h5ad,a.h5ad"}, "names no file, or two of one name", '"a.h5ad,a.h5ad"', "different names"),
    ({"annotator": ",", "reference": None}, "names no annotator, or one twice", '","', "(pbmc, tissue)"),
]  # fmt: skip

ACCEPTED = [
    # as text, as a launcher may hand over a command line
    ({"seed": "1", "unknown_rate": "0.1"}, {"seed": 1, "unknown_rate": 0.1}),
    (
        {"seed": "1", "skip_doublets": "true", "unknown_rate": "0.1"},
        {"seed": 1, "skip_doublets": True, "unknown_rate": 0.1},
    ),
    ({"skip_doublets": "true"}, {"skip_doublets": True}),
    ({"skip_doublets": "false", "max_genes": "1200 "}, {"skip_doublets": False, "max_genes": 1200}),
    ({"seed": "4294967295"}, {"seed": 4294967295}),
    ({"seed": 3.0, "cluster_resolution": 2}, {"seed": 3, "cluster_resolution": 2.0}),
    # a column that is called 12, a queue that is called 7
    ({"batch_key": 12, "queue": 7}, {"batch_key": "12", "queue": "7"}),
    ({"batch_key": None}, {}),
]  # fmt: skip


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What the pipeline makes of every case, in one start of Nextflow."""
    folder = tmp_path_factory.mktemp("parameters")
    cases = [GOOD | change for change, *_ in [*MISTAKES, *ACCEPTED]]
    (folder / "cases.json").write_text(json.dumps(cases))
    run = subprocess.run(
        ["nextflow", "run", ROOT / "tests" / "lib" / "parameters.nf", "-ansi-log", "false", "--cases", "cases.json",
         "--schema", ROOT / "nextflow_schema.json", "--out", "told.json"],
        cwd=folder, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    return json.loads((folder / "told.json").read_text())


@pytest.mark.parametrize("case", range(len(MISTAKES)), ids=[str(change) for change, *_ in MISTAKES])
def test_a_mistake_is_told(case, answers):
    _, what, found, expected = MISTAKES[case]
    lines = answers[case]["mistake"].splitlines()
    assert lines[0].startswith("SpikGPT stopped: ")
    assert what in lines[0]
    assert lines[1] == "  where:     command line or -params-file"
    assert lines[2] == f"  found:     {found}"
    assert lines[3].startswith("  expected:  ")
    assert expected in lines[3]
    assert lines[4].startswith("  next step: ")


@pytest.mark.parametrize("case", range(len(ACCEPTED)), ids=[str(change) for change, _ in ACCEPTED])
def test_a_value_has_the_schemas_type(case, answers):
    answer = answers[len(MISTAKES) + case]
    change, expected = ACCEPTED[case]
    assert answer["mistake"] is None
    good = {name: value for name, value in GOOD.items() if value is not None and name not in change}
    assert answer["values"] == good | expected
    assert list(answer["values"]) == sorted(answer["values"])
    for name, value in expected.items():
        assert type(answer["values"][name]) is type(value), name


def test_every_parameter_is_of_one_kind():
    """It bears on results, and is told in them, or it says where the run is done."""
    groups = SCHEMA["$defs"]
    assert all(isinstance(group["bears_on_results"], bool) for group in groups.values())
    names = [name for group in groups.values() for name in group["properties"]]
    assert len(names) == len(set(names))
    science = {name for group in groups.values() if group["bears_on_results"] for name in group["properties"]}
    assert science == {
        "species", "reference", "label_key", "batch_key", "exclude_labels", "merge_similar_labels", "label_levels",
        "annotator", "teach", "features", "unknown_rate", "scgpt_model", "scgpt_backend",
        "scgpt_precision", "max_genes", "min_gene_match", "ambient", "skip_doublets", "integrate", "cluster_resolution",
        "seed",
    }  # fmt: skip
    assert {ref["$ref"].split("/")[-1] for ref in SCHEMA["allOf"]} == set(groups)


def test_the_schema_asks_for_nothing_that_is_not_checked():
    checked = {"type", "enum", "minimum", "maximum", "exclusiveMinimum", "minLength", "pattern", "errorMessage"}
    # format and mimetype are for other programs: a path's existence is looked at by the pipeline
    told = {"description", "help_text", "default", "format", "mimetype"}
    for name, spec in SPECS.items():
        assert set(spec) <= checked | told, name
        assert spec["type"] in ("string", "boolean", "integer", "number"), name


def test_defaults_of_config_and_schema_agree():
    config = (ROOT / "nextflow.config").read_text()
    block = re.search(r"params \{(.*?)\n\}", config, re.S).group(1)
    written = dict(re.findall(r"^\s+(\w+)\s+= (.+)$", block, re.M))
    assert set(written) == set(SPECS)
    for name, spec in SPECS.items():
        if "default" in spec:
            value = written[name].strip("'\"")
            assert value == str(spec["default"]).lower() or value == str(spec["default"]), name
