"""What benchmarks of single steps share: the machine in words, what a command cost, and where results go."""

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """The machine in words that tell its speed and not its name."""
    # as Linux tells it on x86; elsewhere the architecture alone
    told = dict(re.findall(r"^(flags|model name)\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE))
    flags = set(told.get("flags", "").split())
    return {
        "cpu": told.get("model name", platform.machine()),
        "cores": os.cpu_count(),
        "instructions": sorted(flags & {"avx2", "avx512f", "avx512_bf16", "amx_bf16"}),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": None,
        "python": platform.python_version(),
        "torch": version("torch"),
    }


def store(path: Path, part: str, content: dict[str, Any]) -> None:
    """Put a part of the results into a JSON file, beside the other parts that it holds."""
    figures = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    figures[part] = content
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


# run between this process and the command: Linux counts the memory of the process that forks as the child's own
BETWEEN = """
import json, resource, subprocess, sys, time
started = time.monotonic()
code = subprocess.call(sys.argv[2:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
cost = {"wall_s": round(time.monotonic() - started, 2), "cpu_s": round(used.ru_utime + used.ru_stime, 2),
        "peak_rss_mib": round(used.ru_maxrss / 1024)}
json.dump(cost, open(sys.argv[1], "w"))
sys.exit(code)
"""


def measured(command: list[Any], **settings: Any) -> dict[str, Any]:
    """Run a command; its standard output, wall and CPU seconds, and the peak memory of the largest of its processes.

    Raises
    ------
    subprocess.CalledProcessError
        It failed; its messages go to standard error.
    """
    with tempfile.NamedTemporaryFile("r") as cost:
        words = [sys.executable, "-I", "-S", "-c", BETWEEN, cost.name, *map(str, command)]
        done = subprocess.run(words, capture_output=True, text=True, check=False, **settings)
        if done.returncode:
            sys.stderr.write(done.stderr)
            raise subprocess.CalledProcessError(done.returncode, command)
        return {"output": done.stdout, **json.load(cost)}
