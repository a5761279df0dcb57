"""The pipeline starts in any environment; a mistake ends it before heavy work, and the message says what to do."""

import json
import os
import shutil
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from run_pipeline import copy_project, ended, launcher, nextflow, stub_args, told

pytestmark = pytest.mark.skipif(shutil.which("nextflow") is None, reason="nextflow is not on PATH")


def write_z_scored(path: Path, demo: Path) -> None:
    cells = anndata.read_h5ad(demo / "human1_lib3.h5ad")[:200].copy()
    dense = np.log1p(cells.X.toarray())
    cells.X = ((dense - dense.mean(axis=0)) / (dense.std(axis=0) + 1e-3)).astype(np.float32)
    cells.write_h5ad(path)


def write_mouse(path: Path, demo: Path) -> None:
    cells = anndata.read_h5ad(demo / "human1_lib3.h5ad")[:200].copy()
    cells.var_names = [name.capitalize() for name in cells.var_names]  # mouse symbols: Cd3d, Gcg
    cells.write_h5ad(path)


MISTAKES = {
    "missing file": (None, ["line 2", "column filtered", "not_there.h5ad", "next step:"]),
    "z-scored": (write_z_scored, ["negative", "counts_layer", "next step:"]),
    "mouse": (write_mouse, ["The reference is of human cells", "bad: mouse", "next step:"]),
}


def test_the_bundled_annotator_refuses_a_mouse_before_heavy_work(demo_data, tmp_path):
    write_mouse(tmp_path / "mouse.h5ad", demo_data)
    sheet = tmp_path / "sheet.csv"
    sheet.write_text(f"sample,filtered\ns,{tmp_path}/mouse.h5ad\n")
    run = nextflow(tmp_path, "-profile", "local,test", "--input", sheet, "--outdir", "results")
    assert run.returncode != 0
    for word in ("The annotator is of human cells", "s: mouse", "--reference", "of human blood"):
        assert word in told(run), told(run)
    assert "EMBED_SCGPT" not in told(run)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_ends_the_run_before_heavy_work(mistake, demo_data, tmp_path):
    write, words = MISTAKES[mistake]
    matrix = tmp_path / "not_there.h5ad"
    if write:
        matrix = tmp_path / "matrix.h5ad"
        write(matrix, demo_data)
    sheet = tmp_path / "sheet.csv"
    # a good sample beside the bad one: nothing of it may be published either
    sheet.write_text(f"sample,filtered\nbad,{matrix}\ngood,{demo_data}/human1_lib3.h5ad\n")
    run = nextflow(tmp_path, "-profile", "local,test", "--input", sheet, "--reference", demo_data / "reference.h5ad",
                   "--outdir", "results")  # fmt: skip
    assert run.returncode != 0
    for word in ("SpikGPT stopped: ", *words):
        assert word in told(run), told(run)
    assert "Traceback" not in told(run)
    assert "EMBED_SCGPT" not in told(run)
    left = {path.name for path in (tmp_path / "results").iterdir()}
    assert left <= {"pipeline_info"}


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--unknown_rat", "0.1"), ["no parameter --unknown_rat", "did you mean 'unknown_rate'"]),
        (("--unknown_rate", "2"), ["Invalid value for --unknown_rate", "at most 0.5"]),
        (("--annotator", "."), ["Both --reference and --annotator"]),
        (("--scgpt_model", "nowhere"), ["--scgpt_model", "nowhere"]),
        (("--annotator", "pbmc,pbmc"), ["--annotator names no annotator, or one twice", "pbmc, tissue"]),
    ],
)
def test_a_wrong_parameter_ends_the_run(args, words, demo_data, tmp_path):
    run = nextflow(tmp_path, "-profile", "local,test", "--input", demo_data / "samplesheet.csv",
                   "--reference", demo_data / "reference.h5ad", "--outdir", "results", *args)  # fmt: skip
    assert run.returncode != 0
    for word in ("SpikGPT stopped: ", *words):
        assert word in told(run), told(run)
    assert "IMPORT_COUNTS (" not in told(run)


def test_a_task_that_is_killed_is_tried_with_more_memory_then_told(tmp_path):
    folder = tmp_path / "stub"
    args = stub_args(folder)
    (folder / "kill.config").write_text(
        "process { withName: IMPORT_COUNTS { beforeScript = 'exit 137' } }\n"
        "trace.fields = 'process,attempt,memory,exit'\ntrace.raw = true\n"
    )
    run = nextflow(folder, "-c", "kill.config", *args)
    assert run.returncode != 0
    for word in ("SpikGPT stopped: A task needed more memory", "withName: 'NAME_OF_THE_STEP'", "-resume"):
        assert word in told(run), told(run)
    trace = pd.read_csv(folder / "results" / "pipeline_info" / "trace.tsv", sep="\t")
    tried = trace[(trace["process"].str.endswith("IMPORT_COUNTS")) & (trace["exit"].astype(str) == "137")]
    asked = tried.groupby("attempt")["memory"].max()
    assert asked.loc[1] < asked.loc[2] <= asked.loc[3]
    assert {path.name for path in (folder / "results").iterdir()} == {"pipeline_info"}


PLAIN = {"no locale": {}, "LC_ALL=C": {"LC_ALL": "C"}}


@pytest.mark.parametrize("locale", PLAIN)
def test_a_run_starts_in_a_plain_environment(locale, tmp_path):
    """As a cluster's node or cron gives it: no locale, an empty home, private files, a checkout that is read-only."""
    project = tmp_path / "a copy"
    project.mkdir()
    for path in [copy_project(project), *project.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    before = sorted((str(path), path.stat().st_mtime_ns) for path in project.rglob("*"))
    path = os.pathsep.join(map(str, (launcher(tmp_path / "launcher"), os.environ["PATH"])))
    folder, home = tmp_path / "läuft [1] hier", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    # the signs of a pattern, of a shell and of another alphabet in the names
    names = ["run[1].h5ad", "star*.h5ad", "o'br & ü.h5ad", "a{1,2}.h5ad", "$HOME.h5ad", "-dash.h5ad"]
    for name in names:
        (folder / name).touch()
    rows = [f'{sample},"{name}"' for sample, name in zip("abcdef", names, strict=True)]
    (folder / "sheet.csv").write_text("\n".join(["sample,filtered", *rows]) + "\n", encoding="utf-8")
    command = ["sh", "-c", 'umask 077 && exec "$0" "$@"', "nextflow", "run", str(project), "-ansi-log", "false",
               "-profile", "local,test", "-stub", "--input", "sheet.csv", "--outdir", "ergebnisse [ü]"]  # fmt: skip
    run = ended(command, folder, {"PATH": path, "HOME": str(home), **PLAIN[locale]}, limit=600)
    assert run.returncode == 0, told(run)
    results = folder / "ergebnisse [ü]"
    assert (results / "multiqc" / "multiqc_report.html").exists()
    annotated = {path.name for path in (results / "annotated").iterdir()}
    assert annotated == {"cohort.h5ad", *(f"{sample}.h5ad" for sample in "abcdef")}
    assert sorted((str(path), path.stat().st_mtime_ns) for path in project.rglob("*")) == before


def test_a_name_is_no_pattern(tmp_path):
    """run[1].h5ad is the file of this name, and not run1.h5ad, for which a shell would take it."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "run[1].h5ad").write_text("this file")
    (folder / "run1.h5ad").write_text("another file")
    (folder / "ref{a}.h5ad").touch()
    (tmp_path / "sheet [1].csv").write_text("sample,filtered\na,data/run[1].h5ad\n")
    run = nextflow(tmp_path, "-profile", "local,test", "-stub", "--input", "sheet [1].csv", "--outdir", "results",
                   "--reference", folder / "ref{a}.h5ad")  # fmt: skip
    assert run.returncode == 0, told(run)
    staged = [path for path in (tmp_path / "work").glob("*/*/run*.h5ad") if path.is_symlink()]
    assert [path.read_text() for path in staged] == ["this file"]


def test_a_comma_separates_references(tmp_path):
    args = list(stub_args(tmp_path))
    at = args.index("--reference") + 1
    (tmp_path / "one,two.h5ad").touch()
    args[at] = "one,two.h5ad"
    run = nextflow(tmp_path, *args)
    assert run.returncode != 0
    for words in ("A comma in --reference separates files", "one,two.h5ad", "rename the file"):
        assert words in told(run)
    args[at] = "reference,a.h5ad"
    run = nextflow(tmp_path, *args)
    assert run.returncode != 0
    for words in ("one of them is no labelled reference", '"reference"', "ends in .h5ad"):
        assert words in told(run)
    args[at] = "reference.h5ad, a.h5ad"
    run = nextflow(tmp_path, *args)
    assert run.returncode == 0, told(run)
    tasks = {link.parent for link in (tmp_path / "work").glob("*/*/reference.h5ad")}
    assert len(tasks) == 1
    staged = sorted(path.name for path in tasks.pop().glob("*.h5ad") if path.is_symlink())
    assert staged == ["a.h5ad", "reference.h5ad"]


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        ("s3://no-such-bucket/a.h5ad", ["A file or folder is missing", "s3://no-such-bucket/a.h5ad: Missing plugin"]),
        ("not [1].h5ad", ["A file or folder is missing", "nothing at ", "not [1].h5ad"]),
    ],
)
def test_a_path_that_cannot_be_read_is_told(matrix, words, tmp_path):
    args = stub_args(tmp_path)
    (tmp_path / "sheet.csv").write_text(f'sample,filtered\na,"{matrix}"\n')
    run = nextflow(tmp_path, *args)
    assert run.returncode != 0
    for word in ("SpikGPT stopped: ", "samplesheet, line 2, column filtered", *words):
        assert word in told(run), told(run)
    assert "Exception" not in told(run)


def test_help_lists_every_parameter(tmp_path):
    run = nextflow(tmp_path, "--help")
    assert run.returncode == 0
    schema = json.loads((ROOT / "nextflow_schema.json").read_text())
    for group in schema["$defs"].values():
        for name in group["properties"]:
            assert f"--{name}" in told(run)


def test_the_bundled_annotators_are_listed(tmp_path):
    run = nextflow(tmp_path, "--list_annotators")
    assert run.returncode == 0, told(run)
    for text in ("--annotator pbmc", "--annotator tissue", "pancreatic islet cell", "CD14-positive monocyte",
                 "Trained on", "Known limits", "kidney, breast, stomach"):  # fmt: skip
        assert text in told(run)
