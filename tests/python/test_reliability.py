"""The page on reliability says what its figures say; the tools that make them."""

import re
import subprocess
import sys

import anndata as ad
import numpy as np
from conftest import ROOT
from scipy import sparse

sys.path[:0] = [str(ROOT / "tools" / "reliability"), str(ROOT / "bench")]

import faults  # noqa: E402
import load  # noqa: E402
import write_page  # noqa: E402


def test_the_page_is_that_of_the_figures():
    assert (ROOT / "docs" / "reliability.md").read_text() == write_page.page(ROOT / "docs" / "reliability")


def test_the_tests_that_pages_name_are_there():
    tests = {path.name: path.read_text() for path in (ROOT / "tests" / "python").glob("*.py")}
    for page in ("reliability", "reproducibility"):
        named = set(re.findall(r"\btest_\w+(?:\.py)?", (ROOT / "docs" / f"{page}.md").read_text()))
        assert named
        for name in named:
            assert name in tests or any(f"def {name}(" in text for text in tests.values()), f"{page}.md: {name}"


def test_what_was_not_measured_is_said(tmp_path):
    text = write_page.page(tmp_path)
    for command in ("make audit", "make faults", "tools/reliability/load.py"):
        assert f"Not measured yet: `{command}" in text


def test_kills_are_counted_by_their_outcome():
    kill = {"target": "task", "differing": [], "resumed_status": 0, "half_written_at_the_kill": None}
    bad = {**kill, "target": "Nextflow", "differing": ["a"], "half_written_at_the_kill": ["a"]}
    text = write_page.faults(
        {"undisturbed_s": 60, "files": 20, "kills": [kill, kill, bad],
         "disks": [{"where": "work directory", "measured": False, "why": "no root"}]}
    )  # fmt: skip
    assert "| Nextflow | 1 | 0 | 1 |" in text
    assert "| task | 2 | 2 | – |" in text
    assert "Full work directory: not measured (no root)" in text


def test_what_went_wrong_fails_the_command():
    kill = {"target": "Nextflow", "differing": [], "resumed_status": 0, "half_written_at_the_kill": []}
    assert faults.good_kill(kill)
    for wrong in ({"differing": ["a"]}, {"resumed_status": 1}, {"resumed_status": None},
                  {"half_written_at_the_kill": ["a"]}):  # fmt: skip
        assert not faults.good_kill({**kill, **wrong}), wrong
    disk = {"measured": True, "status": 1, "told": True, "half_written": []}
    assert faults.good_disk(disk)
    for wrong in ({"status": 0}, {"status": None}, {"told": False}, {"half_written": ["a"]}):
        assert not faults.good_disk({**disk, **wrong}), wrong
    assert faults.good_disk({"measured": False, "why": "no root"})


def test_a_task_is_found_by_where_it_works(tmp_path):
    place = tmp_path / "work" / "ab" / "cdef"
    place.mkdir(parents=True)
    script = place / "step.py"
    script.write_text("import time; time.sleep(60)\n")
    task = subprocess.Popen([sys.executable, str(script)], cwd=place)
    try:
        while faults.victim("task", tmp_path) is None:
            assert task.poll() is None
        assert faults.victim("task", tmp_path) == task.pid
        assert faults.victim("task", tmp_path / "other") is None
        faults.end_all(tmp_path)
        assert task.wait(10) == -9
    finally:
        task.kill()


FIRST = {"CHECK_INPUT": 1, "CHECK_ANNOTATOR": 1, "IMPORT_COUNTS": 3, "EMBED_SCGPT": 6, "WRITE_SAMPLE": 3, "MULTIQC": 1}


def test_one_sample_more_must_run_its_own_and_what_sees_all():
    assert load.must_run(FIRST, 3) == {
        "CHECK_INPUT": 1, "IMPORT_COUNTS": 1, "EMBED_SCGPT": 2, "WRITE_SAMPLE": 4, "MULTIQC": 1,
    }  # fmt: skip


def test_the_page_says_what_a_load_took_and_what_resume_ran():
    run = {
        "samples": 3, "cells_each": 500, "drawn_from": "9 cells of x.h5ad", "wall_s": 180,
        "peak_mib": 2048, "head_peak_mib": 512,
        "processes": [{"process": "ANNOTATE", "tasks": 3, "cpu_s": 120.4, "longest_s": 9.0, "peak_mib": 1024},
                      {"process": "MULTIQC", "tasks": 1, "cpu_s": 4.0, "longest_s": 5.0, "peak_mib": 200}],
        "one_more": {"wall_s": 60, "ran": {"ANNOTATE": 1, "MULTIQC": 1}, "must": {"ANNOTATE": 1, "MULTIQC": 1}},
    }  # fmt: skip
    found = {
        "machine": {"cpu": "a CPU", "memory_gib": 16},
        "cores": 2,
        "limit_gb": 16,
        "head_heap_gb": 2,
        "runs": [run],
    }
    text = write_page.load(found)
    assert "| 3 | 500 | 3 | 2 | 0.5 GiB | 2.0 GiB | ANNOTATE, 1.0 GiB |" in text
    assert "| ANNOTATE | 3 | 120 | 9 | 1,024 |" in text
    assert "2 tasks ran, as it should" in text
    run["one_more"]["ran"]["ANNOTATE"] = 4
    text = write_page.load(found)
    assert "5 tasks ran, NOT as it should" in text
    assert "- ANNOTATE: 4 tasks, not 1" in text


def test_samples_of_the_load_differ_and_have_batches(tmp_path):
    source = ad.AnnData(sparse.csr_matrix(np.full((5, 40), 10, dtype=np.int32)))
    load.write_samples(source, range(2), 30, tmp_path)
    sheet = load.write_samples(source, range(2, 3), 30, tmp_path)
    header, *rows = sheet.read_text().splitlines()
    assert header == "sample,filtered,counts_layer,batch"
    assert [row.split(",")[0] for row in rows] == ["s0000", "s0001", "s0002"]
    assert len({row.split(",")[3] for row in rows}) == 3
    made = [ad.read_h5ad(row.split(",")[1]).layers["counts"].toarray() for row in rows]
    assert len(np.unique(np.vstack(made), axis=0)) == 90


def test_memory_of_a_run_is_that_of_its_session():
    command = "x = bytearray(200 << 20); import time; print(flush=True); time.sleep(60)"
    started = subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.PIPE, start_new_session=True)
    try:
        started.stdout.readline()
        total, head = load.resident(started.pid)
        assert 200 << 20 < total < 300 << 20
        assert head == 0  # no Java in it
    finally:
        started.kill()
        started.communicate()
