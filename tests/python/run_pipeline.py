"""How tests run the pipeline: Nextflow on this checkout or on a copy of it, with real or stub tasks."""

import os
import shutil
import signal
import subprocess
import warnings
from pathlib import Path

import pytest
from conftest import ROOT


def nextflow(folder: Path, *args: object, project: Path = ROOT, **env: object) -> subprocess.CompletedProcess[str]:
    """Run the pipeline in `folder`; its output is kept whole, for the message of a test that fails."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["nextflow", "run", str(project), "-ansi-log", "false", *map(str, args)]
    return ended(command, folder, os.environ | {name: str(value) for name, value in env.items()})


def ended(command: list[str], folder: Path, env: dict[str, str], limit: int = 1200) -> subprocess.CompletedProcess[str]:
    """Run a command that starts Nextflow. One that stands still fails with what it was at.

    A run that hung once and ran the next time cannot be understood without: the tasks that were not over, each thread
    of the virtual machine, and the end of Nextflow's log.
    """
    run = subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
        start_new_session=True,
    )  # fmt: skip
    try:
        out, err = run.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        tasks = commands_of(run.pid)
        run.send_signal(signal.SIGQUIT)  # Java prints its threads
        try:
            out, err = run.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            out, err = run.communicate()
        log = folder / ".nextflow.log"
        at = log.read_text(encoding="utf-8")[-20_000:] if log.exists() else "no log"
        state = "\n\n".join((f"Nextflow stands still, {limit} s after its start", *tasks, out, err, at))
        warnings.warn(state, stacklevel=2)  # told also where the test is run again (tools/test)
        pytest.fail(state)
    return subprocess.CompletedProcess(command, run.returncode, out, err)


def commands_of(session: int) -> list[str]:
    """The processes of a session, as Linux tells them: state, what the kernel waits in, and the command line."""
    told = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            state, _parent, _group, of = (process / "stat").read_text().rsplit(")", 1)[1].split()[:4]
            if int(of) == session:
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                told.append(f"{process.name} {state} {(process / 'wchan').read_text()} {words[:300]}")
        except OSError:  # over since it was listed
            continue
    return told


def told(run: subprocess.CompletedProcess[str]) -> str:
    return run.stdout + run.stderr


def submitted(run: subprocess.CompletedProcess[str]) -> set[str]:
    return {line.split(" > ")[1] for line in run.stdout.splitlines() if "Submitted process" in line}


def process_and_tag(task: str) -> tuple[str, str]:
    process, tag = task.rstrip(")").split(" (")
    return process.split(":")[-1], tag.split(":")[0]


def copy_project(folder: Path) -> Path:
    """The pipeline in a folder of its own, whose code a test may change.

    Its answer to what a package's version is takes no time: a stub run has more of these than of anything else.
    """
    for name in ("main.nf", "nextflow.config", "nextflow_schema.json"):
        shutil.copy2(ROOT / name, folder / name)
    for name in ("assets", "bin", "conf", "modules", "subworkflows"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "bin" / "package_version.py").write_text("#!/bin/sh\necho 1\n")
    return folder


def stub_args(folder: Path) -> tuple:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("a.h5ad", "reference.h5ad"):
        (folder / name).touch()
    sheet = folder / "sheet.csv"
    sheet.write_text("sample,filtered,unfiltered\na,a.h5ad,\nb,,a.h5ad\n")
    return ("-profile", "local,test", "-stub", "--input", sheet, "--reference", "reference.h5ad", "--outdir", "results")


def launcher(folder: Path) -> Path:
    """Nextflow as `make setup` installs it from this checkout, over the jars of the active environment."""
    jars = Path(shutil.which("nextflow")).resolve().parents[1] / "nextflow"
    if not jars.is_dir():
        pytest.skip("the active Nextflow is not the one that tools/setup installs")
    (folder / "bin").mkdir(parents=True)
    (folder / "nextflow").symlink_to(jars)
    shutil.copy2(ROOT / "tools" / "env" / "nextflow.sh", folder / "bin" / "nextflow")
    return folder / "bin"
