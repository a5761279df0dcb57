"""What the pages on resources and on costs rest on: Nextflow's traces, and the figures of docs/benchmarks."""

import sys

import pytest
from conftest import ROOT

sys.path.append(str(ROOT / "bench"))

import cloud_cost
from resources import bytes_of, processes, seconds_of

TRACE = """\
name\tstatus\trealtime\t%cpu\tpeak_rss
READ_INPUT:IMPORT_COUNTS (a)\tCOMPLETED\t1m 2s\t50.0%\t1 GB
READ_INPUT:IMPORT_COUNTS (b)\tCOMPLETED\t500ms\t100.0%\t512.5 MB
NORMALISE (a)\tFAILED\t1s\t100.0%\t9 GB
"""


def test_times_and_sizes_as_nextflow_writes_them():
    assert seconds_of("2h 1m 17s") == 2 * 3600 + 77
    assert seconds_of("450ms") == pytest.approx(0.45)
    assert bytes_of("846.3 MB") == pytest.approx(846.3 * 2**20)
    assert bytes_of("0") == 0


def test_a_trace_becomes_one_row_per_process(tmp_path):
    (tmp_path / "trace.tsv").write_text(TRACE)
    assert processes(tmp_path / "trace.tsv") == [
        {"process": "IMPORT_COUNTS", "tasks": 2, "cpu_s": 31.5, "longest_s": 62.0, "peak_mib": 1024}
    ]


def test_a_trace_without_memory_is_refused(tmp_path):
    (tmp_path / "trace.tsv").write_text(TRACE.replace("1 GB", "-"))
    with pytest.raises(SystemExit, match="ps"):
        processes(tmp_path / "trace.tsv")


def test_dearer_machines_cost_in_proportion():
    folder = ROOT / "docs" / "benchmarks"
    cheap, dear = (cloud_cost.total(folder, price, 2, 8) for price in (0.1, 0.2))
    assert dear[0] == pytest.approx(2 * cheap[0])
    assert cheap[1] > cheap[0] > 0


def test_the_cost_on_the_page_is_what_the_figures_say():
    text = cloud_cost.render(ROOT / "docs" / "benchmarks", 0.096, 2, 8)
    assert text in (ROOT / "docs" / "cloud.md").read_text(encoding="utf-8")
