"""What every benchmark here tells beside its numbers: the machine, and what a command cost."""

import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any


def machine() -> dict[str, Any]:
    """The machine in words that tell its speed and not its name."""
    cpu = Path("/proc/cpuinfo").read_text()
    flags = set(re.search(r"^flags\s*:\s*(.*)$", cpu, re.MULTILINE)[1].split())  # type: ignore[index]
    return {
        "cpu": re.search(r"^model name\s*:\s*(.*)$", cpu, re.MULTILINE)[1],  # type: ignore[index]
        "cores": os.cpu_count(),
        "instructions": sorted(flags & {"avx2", "avx512f", "avx512_bf16", "amx_bf16"}),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": None,
        "python": platform.python_version(),
        "torch": version("torch"),
    }


def measured(command: list[str | Path], **settings: Any) -> dict[str, Any]:
    """Run a command; its standard output, wall and CPU seconds, and the peak memory of the largest of its processes.

    Raises
    ------
    subprocess.CalledProcessError
        It failed; its messages go to standard error.
    """
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as messages:
        process = subprocess.Popen(
            [str(word) for word in command], stdout=subprocess.PIPE, stderr=messages, text=True, **settings
        )
        assert process.stdout is not None
        output = process.stdout.read()
        usage = _ended(process, messages)
    wall = time.monotonic() - started
    return {
        "output": output,
        "wall_s": round(wall, 2),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_rss_mib": round(usage.ru_maxrss / 1024),
    }


def _ended(process: "subprocess.Popen[str]", messages: IO[str]) -> resource.struct_rusage:
    """What a process and those it waited for used, when it has ended well."""
    _pid, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if status:
        messages.seek(0)
        sys.stderr.write(messages.read())
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return usage
