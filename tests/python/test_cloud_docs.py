"""What the page on clouds rests on: Nextflow's traces, the figures of docs/benchmarks, commands that a client takes."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap

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


def page_section(heading: str) -> str:
    text = (ROOT / "docs" / "cloud.md").read_text(encoding="utf-8")
    return text.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def commands(section: str) -> str:
    """The indented blocks of a section as one shell script; those of a numbered list are indented deeper."""
    lines = [line for line in section.splitlines() if line.startswith("    ") or not line.strip()]
    return textwrap.dedent(
        "\n".join(line[7:] if line.startswith("       ") and "1. " in section else line[4:] for line in lines)
    )


AWS_CLIENT = """#!/usr/bin/env bash
# the real command line checks the command before it finds that nobody answers; then an answer for the next command
echo "$*" >>"$CALLS"
said=$("$REAL_AWS" "$@" --region eu-central-1 --endpoint-url http://127.0.0.1:9 2>&1 >/dev/null) || true
case $said in *'Could not connect to the endpoint'*) ;; *) echo "$* $said" >&2; exit 1 ;; esac
case "$1 $2" in
    'sts get-caller-identity') echo 111122223333 ;;
    'ec2 describe-subnets') echo '["subnet-1", "subnet-2"]' ;;
    'ec2 describe-vpcs') echo vpc-1 ;;
    'ec2 describe-security-groups') echo sg-1 ;;
    'batch describe-compute-environments')
        # it is made at the second look
        [ "$(tail -3 "$CALLS" | grep -c describe-compute-environments)" = 2 ] && echo VALID || echo CREATING ;;
esac
"""
OTHER = """#!/usr/bin/env bash
echo "$(basename "$0") $*" >>"$CALLS"
"""


@pytest.mark.skipif(shutil.which("aws") is None, reason="the AWS command line is not on PATH")
def test_the_commands_for_an_empty_aws_account_are_ones_that_its_client_takes(tmp_path):
    """All of them, in one shell, each checked by the real command line; no account is asked."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("docker", "make", "nextflow", "sleep"):
        (programs / name).write_text(OTHER)
    (programs / "aws").write_text(AWS_CLIENT)
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "cloud-check").write_text(OTHER)
    for path in [*programs.iterdir(), tmp_path / "tools" / "cloud-check"]:
        path.chmod(0o755)
    script = commands(page_section("From an empty AWS account to a report"))
    calls = tmp_path / "calls"
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}", "CALLS": str(calls), "REAL_AWS": shutil.which("aws") or "",
        "AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_PAGER": "", "AWS_MAX_ATTEMPTS": "1",
    }  # fmt: skip
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, env={**os.environ, **environment},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    told = calls.read_text().splitlines()
    # the queue comes after the compute environment was looked at until it was there
    made = [line.split()[1] for line in told if line.startswith("batch ")]
    assert made[:4] == ["create-compute-environment", "describe-compute-environments", "describe-compute-environments",
                        "create-job-queue"]  # fmt: skip
    environments = [line for line in told if line.startswith("batch create-compute-environment")]
    assert ['"type": "SPOT"' in line for line in environments] == [True, False]
    assert '"type": "EC2"' in environments[1]
    # what is made is taken down
    for kind in ("compute-environment", "job-queue", "launch-template", "repository", "role", "instance-profile"):
        names = [
            {word.split("=")[-1] for line in told if f" {verb}-{kind} " in line for word in [line.split()[3]]}
            for verb in ("create", "delete")
        ]
        assert names[0] == names[1] != set(), kind
    assert any(line.startswith("make push REGISTRY=111122223333.dkr.ecr.eu-central-1.amazonaws.com/") for line in told)


def test_runs_and_checks_on_the_page_have_parameters_that_exist():
    schema = json.loads((ROOT / "nextflow_schema.json").read_text(encoding="utf-8"))
    names = {name for group in schema["$defs"].values() for name in group["properties"]}
    text = (ROOT / "docs" / "cloud.md").read_text(encoding="utf-8").replace("\\\n", " ")
    runs = [line for line in text.splitlines() if re.search(r"^\s+(nextflow run \.|tools/cloud-check) ", line)]
    assert len(runs) >= 9
    for run in runs:
        assert {word for word in re.findall(r" --([\w-]+)", run)} <= names, run
