"""What every command line of the pipeline shares: threads, errors, whole files."""

import os

# One BLAS thread: sums in another order give other bytes, so a result would depend on the
# core count. Set before numpy is imported; work is spread over cores by cells instead.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse  # noqa: E402
import sys  # noqa: E402
import sysconfig  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402

from spikgpt import __version__  # noqa: E402
from spikgpt.base.errors import UserError  # noqa: E402

# Where the environment is not ours to write to (a container run as any user), compiled code goes to the
# task's own folder. Never to a shared one: numba unpickles what it finds there.
if not os.access(sysconfig.get_paths()["purelib"], os.W_OK):
    os.environ.setdefault("NUMBA_CACHE_DIR", str(Path.cwd() / ".numba"))

EXIT_USER_ERROR = 65
"""Exit status for a user's mistake (EX_DATAERR of sysexits.h); never retried."""

EXIT_OUT_OF_MEMORY = 137
"""What a task killed for memory ends with (128 + SIGKILL); `conf/base.config` tries it again with more."""

ERROR_MARK = "SpikGPT stopped: "
"""Begins the message of a user's mistake on standard error; `main.nf` looks for it."""


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser that shows defaults and the pipeline's version."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument("--version", action="version", version=__version__)
    return made


def launch(main: Callable[[], None]) -> None:
    """Run `main`; a `UserError` becomes one message on standard error and exit status 65, a `MemoryError` 137."""
    try:
        main()
    except UserError as error:
        print(f"{ERROR_MARK}{error}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    except MemoryError as error:
        print(f"out of memory: {error}", file=sys.stderr)
        sys.exit(EXIT_OUT_OF_MEMORY)
