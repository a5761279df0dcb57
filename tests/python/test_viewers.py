"""What readers of the results use: a browser for the report, cellxgene and scanpy for the h5ad."""

import gzip
import json
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import anndata as ad
import pytest
from conftest import ROOT
from large_cohort import write_large
from spikgpt.base.colours import cell_type_colours
from spikgpt.base.columns import OBS_COLUMNS
from test_cohort import ODD, annotated, joined, small, small_table  # noqa: F401

VIEWERS = ROOT / ".venv-viewers" / "bin"
LARGEST = 15_000_000
"""Bytes of a report at most: what a mail server lets through."""

PLOTS = {
    "spikgpt_map": 9, "spikgpt_composition": 3, "spikgpt_levels": 2, "spikgpt_conditions_points": 1,
    "spikgpt_volcano": 12, "spikgpt_marker_clusters": 1, "spikgpt_marker_types": 1, "spikgpt_expected_map": 1,
    "spikgpt_own_labels": 1,
}  # fmt: skip
"""Plots of the cohort, and how many tabs each has."""
TABLES = ("spikgpt_conditions", "spikgpt_agreement", "spikgpt_stopped", "spikgpt_batches", "spikgpt_judges")

needs_viewers = pytest.mark.skipif(
    not VIEWERS.is_dir(), reason=".venv-viewers is not there: make setup-viewers makes it; NOT tested"
)


def make_report(given: dict[str, object], folder: Path) -> Path:
    """The HTML that the pipeline's two last steps make of the arguments of make_report.py."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["make_report.py", "--out", "content"]
    for name, value in given.items():
        command += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    subprocess.run(command, cwd=folder, check=True)
    config = ROOT / "assets" / "multiqc_config.yml"
    subprocess.run(
        ["multiqc", "-q", "--config", config, "--filename", "multiqc_report.html", "content"], cwd=folder, check=True
    )
    return folder / "multiqc_report.html"


@pytest.fixture(scope="module")
def large_report(tmp_path_factory) -> Path:
    """200 samples, 40 types with names that break things; the size depends on samples, not on cells."""
    folder = tmp_path_factory.mktemp("large")
    return make_report(write_large(folder, samples=200, cells=40), folder / "report")


def test_a_report_of_two_hundred_samples_can_be_mailed(large_report):
    assert large_report.stat().st_size < LARGEST
    # every plot that grows with the samples is in it
    for section in (*PLOTS, *TABLES):
        assert f'id="{section}"' in large_report.read_text(encoding="utf-8")
    page = large_report.read_text(encoding="utf-8")
    assert "sample_000" in page
    assert "sample_199" in page
    assert "<script>alert" not in page


def in_browser(report: Path, tmp_path: Path) -> tuple[str, dict[str, list[dict]]]:
    """Findings of tools/report/check_browser.py, and what was drawn in each section; skips without a browser."""
    tool = ROOT / "tools" / "report" / "check_browser.py"
    command = [VIEWERS / "python", tool, report, "--screenshots", tmp_path, "--json", tmp_path / "seen.json"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    if run.returncode == 77:
        pytest.skip(f"{run.stderr.strip()}; the report was NOT looked at in a browser")
    assert list(tmp_path.glob("*_spikgpt_map*.png")), run.stderr
    return run.stdout.strip(), json.loads((tmp_path / "seen.json").read_text(encoding="utf-8"))["sections"]


@needs_viewers
def test_every_plot_of_a_cohort_is_drawn_on_every_tab(tmp_path):
    """Several samples, conditions, batches and types: what one sample does not show."""
    report = make_report(write_large(tmp_path / "in", samples=20, cells=40), tmp_path / "report")
    findings, seen = in_browser(report, tmp_path / "shots")
    assert findings == ""
    drawn = {name: [(tab["kind"], tab["marks"] > 0) for tab in seen[name]] for name in PLOTS}
    assert drawn == {name: [("plot", True)] * tabs for name, tabs in PLOTS.items()}
    for name in TABLES:
        (table,) = seen[name]
        assert (table["kind"], table["marks"] > 0) == ("table", True)


@needs_viewers
def test_one_sample_with_hostile_names_renders_in_a_browser(tmp_path):
    report = make_report(write_large(tmp_path / "in", samples=1, cells=300), tmp_path / "report")
    assert in_browser(report, tmp_path / "shots")[0] == ""


def test_the_colours_of_the_h5ad_are_those_of_the_report(joined):  # noqa: F811
    cohort = ad.read_h5ad(joined)
    assert list(cohort.obs.columns) == list(OBS_COLUMNS)
    objects = [name for frame in (cohort.obs, cohort.var) for name in frame if frame[name].dtype == object]
    assert objects in ([], ["gene_id"])
    for column in ("spikgpt_cell_type", "spikgpt_best_match", "spikgpt_cluster_cell_type"):
        names = list(cohort.obs[column].cat.categories)
        colours = cell_type_colours(names)
        assert list(cohort.uns[f"{column}_colors"]) == [colours[name] for name in names]


@needs_viewers
def test_cellxgene_serves_embeddings_and_labels(joined, tmp_path):  # noqa: F811
    shutil.copy(joined, tmp_path / "cohort.h5ad")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}/api/v0.2"
    log = (tmp_path / "log").open("w+")
    server = subprocess.Popen(
        [VIEWERS / "python", VIEWERS / "cellxgene", "launch", "cohort.h5ad", "--host", "127.0.0.1", "--port", str(port),
         "--disable-annotations", "--disable-gene-sets-save"],
        cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT, env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip

    def fetch(path: str, kind: str = "application/json") -> bytes:
        # as a browser asks: without compression cellxgene 1.3.0 answers with nothing under werkzeug 3.1
        headers = {"Accept": kind, "Accept-Encoding": "gzip"}
        with urllib.request.urlopen(urllib.request.Request(f"{address}/{path}", headers=headers), timeout=60) as answer:
            data = answer.read()
            return gzip.decompress(data) if answer.headers["Content-Encoding"] == "gzip" else data

    try:
        for _ in range(180):
            try:
                schema = json.loads(fetch("schema"))["schema"]
                break
            except (urllib.error.URLError, ConnectionError):
                assert server.poll() is None, Path(log.name).read_text()
                time.sleep(1)
        else:
            pytest.fail(Path(log.name).read_text())
        columns = {column["name"]: column for column in schema["annotations"]["obs"]["columns"]}
        label = columns["spikgpt_cell_type"]
        assert label["type"] == "categorical"
        assert ODD in label["categories"]
        assert {layout["name"] for layout in schema["layout"]["obs"]} == {"scGPT", "umap"}
        cohort = ad.read_h5ad(joined, backed="r")
        packed = "application/octet-stream"
        places = fetch("layout/obs?layout-name=umap", packed)
        # a flatbuffer: some bytes of frame, then two float32 a cell
        assert len(places) > 8 * cohort.n_obs
        column = fetch("annotations/obs?annotation-name=spikgpt_cell_type", packed).decode("utf-8", "ignore")
        # in its flatbuffer, values that are text are a JSON list
        found = [json.JSONDecoder().raw_decode(column, at.start())[0] for at in re.finditer(r'\["', column)]
        assert list(cohort.obs["spikgpt_cell_type"]) in found
        assert set(json.loads(fetch("colors"))["spikgpt_cell_type"]) == set(label["categories"])
    finally:
        server.terminate()
        server.wait(30)
        log.close()
