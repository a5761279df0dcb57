#!/usr/bin/env python3
"""Kill the pipeline at random moments, fill its disks, and compare what comes out with an undisturbed run.

    make faults [RUNS=20]

Every run takes the small samples of the tests (150 cells, and 1,620 droplets). A kill is SIGKILL of Nextflow's Java, or
of a task's Python, in turn, at a moment drawn from the time of the undisturbed run. When Nextflow has been killed, each
file published so far must be the undisturbed run's own; in the end all of them must be, byte for byte. A full disk is a
small tmpfs (needs root; skipped and told where none can be mounted). The figures go to a JSON file, for
docs/reliability.md.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "python"), str(ROOT / "bench")]

from launch import start  # noqa: E402
from library.measure import machine  # noqa: E402
from small_data import write_small_data  # noqa: E402

TIMES = "benchmark.tsv"
"""Says how many seconds training took: never the same."""
OF_THE_RUN = ("pipeline_info", "multiqc")
"""Tell of the run itself: when, and how long."""
HANGS = 3600
"""Seconds after which a run is said to hang; it takes minutes."""
SPACE = {"work directory": "30m", "results directory": "3m"}
"""What a full disk has room for: less than the run needs."""


def start_small(folder: Path, sheet: Path, *more: str) -> subprocess.Popen:
    """The pipeline on the small samples, started in `folder`."""
    words = ("-profile", "local,test", "--input", str(sheet), "--reference", str(sheet.parent / "reference.h5ad"),
             "--batch_key", "library", "--outdir", "results")  # fmt: skip
    return start(folder, *words, *more)


def contents(results: Path) -> dict[str, str]:
    """sha256 of each file that must be the same in every run."""
    return {
        str(path.relative_to(results)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(results.rglob("*"))
        if path.is_file() and path.name != TIMES and path.relative_to(results).parts[0] not in OF_THE_RUN
    }


def processes() -> dict[int, tuple[str, Path]]:
    """Command and working folder of the processes that can be seen."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                found[int(entry.name)] = (words, Path(os.readlink(entry / "cwd")))
            except OSError:
                continue  # it ended meanwhile, or is not ours
    return found


def victim(target: str, folder: Path) -> int | None:
    """The process to kill: Nextflow's Java, or a script of a task below `folder`."""
    for number, (words, place) in sorted(processes().items()):
        if target == "Nextflow" and place == folder and "java" in words.split(" ")[0] and " run " in words:
            return number
        if target == "task" and (folder / "work") in place.parents and "python" in words and ".py" in words:
            return number
    return None


def end_all(folder: Path) -> None:
    """End what a killed Nextflow left running: its tasks."""
    for number, (_words, place) in processes().items():
        if (folder / "work") in place.parents:
            try:
                os.kill(number, signal.SIGKILL)
            except ProcessLookupError:
                continue


def ended(process: subprocess.Popen, folder: Path) -> int | None:
    """Exit status of a run; None where it hangs, and is then ended."""
    try:
        return process.wait(HANGS)
    except subprocess.TimeoutExpired:
        process.kill()
        end_all(folder)
        process.wait()
        return None


def killed(folder: Path, sheet: Path, target: str, after: float, expected: dict[str, str]) -> dict | None:
    """One run with a kill, and its resume; None where the run ended before the kill."""
    shutil.rmtree(folder, ignore_errors=True)
    process = start_small(folder, sheet)
    time.sleep(after)
    hit = None
    while hit is None and process.poll() is None:
        if (hit := victim(target, folder)) is None:
            time.sleep(0.2)  # between two tasks
    if hit is None:
        return None
    os.kill(hit, signal.SIGKILL)
    status = ended(process, folder)
    published = half = None
    # where a task is killed the run goes on, and publishes meanwhile
    if target == "Nextflow":
        end_all(folder)
        at_kill = contents(folder / "results") if (folder / "results").exists() else {}
        published, half = len(at_kill), sorted(n for n, digest in at_kill.items() if expected.get(n) != digest)
    # a killed task is tried again by Nextflow itself
    resumed = ended(start_small(folder, sheet, "-resume"), folder) if status else status
    found = contents(folder / "results")
    return {
        "target": target, "after_s": round(after, 1), "status": status,
        "published_at_the_kill": published, "half_written_at_the_kill": half, "resumed_status": resumed,
        "differing": sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)),
    }  # fmt: skip


def full_disk(folder: Path, sheet: Path, where: str, expected: dict[str, str]) -> dict:
    """A run whose work or results directory has too little room; then one with room, by -resume."""
    shutil.rmtree(folder, ignore_errors=True)
    small = folder / ("work" if where == "work directory" else "results")
    small.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SPACE[where]}", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        return {"where": where, "measured": False, "why": "no tmpfs can be mounted here"}
    try:
        status = ended(start_small(folder, sheet), folder)
        half = sorted(n for n, digest in contents(folder / "results").items() if expected.get(n) != digest)
        said = (folder / "log.txt").read_text(encoding="utf-8", errors="replace")
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)
    return {
        "where": where, "measured": True, "room": SPACE[where], "status": status,
        "told": "No space left on device" in said, "half_written": half,
    }  # fmt: skip


def good_kill(kill: dict) -> bool:
    """Nothing half-written, and the bytes of the undisturbed run in the end."""
    return not kill["half_written_at_the_kill"] and kill["resumed_status"] == 0 and not kill["differing"]


def good_disk(disk: dict) -> bool:
    """The run failed, said why, and left nothing half-written; or there was no tmpfs to try it on."""
    return not disk["measured"] or (disk["status"] not in (0, None) and disk["told"] and not disk["half_written"])


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--runs", type=int, default=20, help="kills, of Nextflow and of a task in turn")
    made.add_argument("--seed", type=int, default=0, help="of the moments")
    made.add_argument("--work", type=Path, required=True, help="folder for data and runs")
    made.add_argument("--json", type=Path, default=ROOT / "docs" / "reliability" / "faults.json")
    given = made.parse_args()
    work = given.work.resolve()
    sheet = write_small_data(ROOT / ".demo" / "data", work / "data")
    shutil.rmtree(work / "undisturbed", ignore_errors=True)
    began = time.monotonic()
    if start_small(work / "undisturbed", sheet).wait():
        sys.exit(f"the undisturbed run failed; see {work}/undisturbed/log.txt")
    seconds = time.monotonic() - began
    expected = contents(work / "undisturbed" / "results")
    disks = [full_disk(work / "full", sheet, where, expected) for where in SPACE]
    moments = random.Random(given.seed)
    kills: list[dict] = []
    found = {"machine": machine(), "files": len(expected), "undisturbed_s": round(seconds), "seed": given.seed,
             "kills": kills, "disks": disks}  # fmt: skip
    lasts = seconds
    while len(kills) < given.runs:
        target = ("Nextflow", "task")[len(kills) % 2]
        kill = killed(work / "killed", sheet, target, moments.uniform(0.1, 0.95) * lasts, expected)
        if kill is None:
            # other work on the machine had slowed the run that was timed
            lasts *= 0.9
            continue
        kills.append(kill)
        # each takes minutes: what was measured outlives an end in between
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        print(f"[faults] {len(kills)} of {given.runs}: {kill}", file=sys.stderr)
    sys.exit(not all(map(good_kill, kills)) or not all(map(good_disk, disks)))


if __name__ == "__main__":
    main()
