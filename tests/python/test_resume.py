"""-resume: a task runs again when its input, its parameters or the code that it can import changed, and only then.

All with stub tasks, which write empty files.
"""

import json
import shutil
from pathlib import Path

import pytest
from run_pipeline import copy_project, nextflow, process_and_tag, stub_args, submitted, told

pytestmark = pytest.mark.skipif(shutil.which("nextflow") is None, reason="nextflow is not on PATH")


def contents(results: Path) -> dict[str, bytes]:
    """Every file of the results but those that tell of the run itself."""
    return {
        str(path.relative_to(results)): path.read_bytes()
        for path in sorted(results.rglob("*"))
        if path.is_file() and "pipeline_info" not in path.parts
    }


class StubProject:
    """A copy of the pipeline and a finished stub run of it, which tests go on with, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "a copy"
        self.project.mkdir()
        copy_project(self.project)
        self.folder = folder / "stub run"
        self.args = (*stub_args(self.folder), "--scgpt_model", "model")
        self.results = self.folder / "results"
        self.matrix = self.folder / "c" / "matrix.mtx.gz"
        self.model = self.folder / "model" / "deep" / "weights"
        for path in (self.matrix, self.model):
            path.parent.mkdir(parents=True)
            path.write_bytes(b"before")
        (self.folder / "sheet.csv").write_text("sample,filtered,unfiltered\na,a.h5ad,\nb,,a.h5ad\nc,c,\n")
        self.first = nextflow(self.folder, *self.args, project=self.project)
        assert self.first.returncode == 0, told(self.first)

    def resume(self, *more: object) -> set[str]:
        """The tasks that ran again, as "PROCESS (tag)"."""
        again = nextflow(self.folder, *self.args, "-resume", *more, project=self.project)
        assert again.returncode == 0, told(again)
        return submitted(again)

    def resumed(self, *more: object) -> set[str]:
        """The processes of which a task ran again."""
        return {process_and_tag(task)[0] for task in self.resume(*more)}


@pytest.fixture(scope="module")
def stub_project(tmp_path_factory):
    return StubProject(tmp_path_factory.mktemp("stub"))


def append(path: Path, line: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + line, encoding="utf-8")


def overwrite(path: Path) -> None:
    """Other content of the same size; the folder itself does not change."""
    before = path.parent.stat().st_mtime_ns
    path.write_bytes(path.read_bytes()[::-1])
    assert path.parent.stat().st_mtime_ns == before


COHORT = {
    "CLUSTER_COHORT", "WRITE_SAMPLE", "JOIN_COHORT", "FIND_MARKERS", "EXPLAIN_LABELS", "MAKE_TABLES", "EXPORT_COHORT",
    "MAKE_REPORT", "MULTIQC",
}  # fmt: skip


ANNOTATION = {"ANNOTATE", "TYPE_REMOVED", *COHORT}


def test_stub_run_makes_every_result_and_resumes(stub_project):
    results = stub_project.results
    assert (results / "multiqc" / "multiqc_report.html").exists()
    assert (results / "annotated" / "b.h5ad").exists()
    assert len(submitted(stub_project.first)) >= 25

    # without -resume it would be another run, whose files must not mix with these
    before = contents(results)
    mixed = nextflow(stub_project.folder, *stub_project.args, project=stub_project.project)
    assert mixed.returncode != 0
    for word in (
        "SpikGPT stopped: ",
        "results of an earlier run",
        "annotated, annotator, multiqc, tables",
        "add -resume ",
    ):
        assert word in told(mixed), told(mixed)
    assert not submitted(mixed)
    assert contents(results) == before

    # -resume alone would go on with the last run, which is the one that was refused; the message names the right one.
    # A file that a fault left half-written is whole again, and no task runs for it.
    (results / "tables" / "composition.tsv").write_text("half")
    (results / "annotated" / "cohort.h5ad").write_text("half")
    session = told(mixed).split("add -resume ")[1].split()[0]
    resumed = nextflow(stub_project.folder, *stub_project.args, "-resume", session, project=stub_project.project)
    assert resumed.returncode == 0, told(resumed)
    assert submitted(resumed) == set()
    assert contents(results) == before


def test_changed_code_runs_again_what_can_import_it(stub_project):
    # the trap: Nextflow looks at the scripts that a task calls, not at the package behind them
    package = stub_project.project / "bin" / "spikgpt"

    append(package / "report" / "methods.py", "\n# changed\n")
    append(package / "closure.tsv", "# changed\n")  # which no task imports
    assert stub_project.resumed() == {"MAKE_REPORT", "MULTIQC"}

    # annotators are trained and applied by it; nothing before them runs again
    append(package / "annotator" / "views.py", "\n# changed\n")
    assert stub_project.resumed() == {"TRAIN_ANNOTATOR", *ANNOTATION}

    append(package / "base" / "errors.py", "\n# changed\n")
    assert stub_project.resume() == submitted(stub_project.first)


def test_a_parameter_runs_again_what_uses_it(stub_project):
    # where a run is done, and how it is split, is no input of any task
    elsewhere = ("--queue", "other", "--region", "eu-central-1", "--chunk_cells", 5000, "--disk", "50 GB")
    assert stub_project.resume(*elsewhere) == set()
    used = json.loads((stub_project.results / "pipeline_info" / "params.json").read_text())["parameters"]
    assert (used["queue"], used["disk"]) == ("other", "50 GB")

    assert stub_project.resumed("--cluster_resolution", 2) == COHORT
    # every file tells the parameter; without batches there is nothing to decide on, and clusters stay
    assert stub_project.resumed("--integrate", "none") == COHORT - {"CLUSTER_COHORT"}
    assert stub_project.resumed("--integrate", "harmony") == {"BATCH_MIXING", *COHORT}
    assert stub_project.resumed("--unknown_rate", 0.1) == {"TRAIN_ANNOTATOR", *ANNOTATION}


def test_a_file_that_is_overwritten_in_a_folder_is_seen(stub_project):
    overwrite(stub_project.matrix)
    changed = {process_and_tag(task) for task in stub_project.resume()}
    assert ("IMPORT_COUNTS", "c") in changed
    # the other samples and the reference stay as they are
    assert {tag for process, tag in changed if process not in COHORT} == {"c", "cohort"}

    # the checkpoint is read by every step but the samplesheet's
    overwrite(stub_project.model)
    changed = stub_project.resume()
    assert changed == {task for task in submitted(stub_project.first) if "CHECK_INPUT" not in task}


def test_another_sample_runs_only_what_it_must(stub_project):
    sheet = stub_project.folder / "sheet.csv"
    rows = sheet.read_text()
    sheet.write_text(rows + "d,a.h5ad,\n")
    more = {process_and_tag(task) for task in stub_project.resume()}
    assert {tag for process, tag in more if process not in COHORT} == {"d", "cohort"}

    # one sample less: its files would stay among the results
    sheet.write_text(rows)
    less = nextflow(stub_project.folder, *stub_project.args, "-resume", project=stub_project.project)
    assert less.returncode != 0
    for word in ("SpikGPT stopped: ", "samples that are not in the samplesheet", "found:     d", "remove these files"):
        assert word in told(less), told(less)
    (stub_project.results / "annotated" / "d.h5ad").unlink()


def test_a_trained_annotator_that_is_overwritten_is_seen(stub_project, tmp_path):
    args = [arg for arg in stub_args(tmp_path) if arg not in ("--reference", "reference.h5ad")] + ["--annotator", "own"]
    config = tmp_path / "own" / "config.json"
    config.parent.mkdir()
    config.write_text("{}")
    first = nextflow(tmp_path, *args, project=stub_project.project)
    assert first.returncode == 0, told(first)
    overwrite(config)
    again = nextflow(tmp_path, *args, "-resume", project=stub_project.project)
    assert again.returncode == 0, told(again)
    assert {process_and_tag(task)[0] for task in submitted(again)} == {"CHECK_ANNOTATOR", *ANNOTATION}
