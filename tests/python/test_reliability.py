"""The page on reliability says what its figures say; the tools that make them."""

import subprocess
import sys

from conftest import ROOT

sys.path[:0] = [str(ROOT / "tools" / "reliability"), str(ROOT / "tools" / "bench")]

import faults  # noqa: E402
import write_page  # noqa: E402


def test_the_page_is_that_of_the_figures():
    assert (ROOT / "docs" / "reliability.md").read_text() == write_page.page(ROOT / "docs" / "reliability")


def test_what_was_not_measured_is_said(tmp_path):
    text = write_page.page(tmp_path)
    for command in ("make audit", "make faults", "tools/reliability/memory.py"):
        assert f"Not measured yet: `{command}" in text


def test_kills_are_counted_by_their_outcome():
    kill = {"target": "task", "hit": True, "differing": [], "resumed_status": 0, "half_written_at_the_kill": []}
    bad = {**kill, "target": "Nextflow", "differing": ["a"], "half_written_at_the_kill": ["a"]}
    text = write_page.faults(
        {"undisturbed_s": 60, "files": 20, "kills": [kill, kill, bad, {**kill, "hit": False}],
         "disks": [{"where": "work directory", "measured": False, "why": "no root"}]}
    )  # fmt: skip
    assert "| Nextflow | 1 | 0 | 1 |" in text
    assert "| task | 2 | 2 | 0 |" in text
    assert "1 kills came after the run's end" in text
    assert "Full work directory: not measured (no root)" in text


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
