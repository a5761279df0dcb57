"""What every command line of the pipeline shares: one thread, errors, exit statuses. Imported by scripts alone."""

import argparse
import importlib
import logging
import os
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from spikgpt import __version__
from spikgpt.base.errors import UserError
from spikgpt.base.threads import pin_process

EXIT_USER_ERROR = 65
"""Exit status for a user's mistake (EX_DATAERR of sysexits.h); never retried."""

EXIT_OUT_OF_MEMORY = 137
"""What a task killed for memory ends with (128 + SIGKILL); `conf/base.config` tries it again with more."""

ERROR_MARK = "SpikGPT stopped: "
"""Begins the message of a user's mistake on standard error, as it does where `main.nf` finds one itself."""


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser that shows defaults and the pipeline's version."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument("--version", action="version", version=__version__)
    return made


def without_triton() -> None:
    """Have torch do without Triton, for a process that computes on a CPU alone; to be called before torch is imported.

    At a neuron's first step spikingjelly registers kernels for GPUs, for which torch loads Triton and its compiler:
    1.3 s of CPU on every sample that is annotated (python -X importtime bin/annotate.py ...). Where Triton cannot be
    imported torch leaves that out; the bytes are the same.
    """
    sys.modules.setdefault("triton", None)  # type: ignore[arg-type]
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)


def without_pynndescent() -> None:
    """Import umap without pynndescent, which compiles its distances anew in every process that imports it: 4 s of CPU.

    umap's own class alone uses it. scanpy calls umap's functions for a graph and its map, and imports pynndescent
    itself where a graph is large enough to need it, as it still can afterwards.
    """
    if "umap" in sys.modules or "pynndescent" in sys.modules:
        return
    names = {
        "pynndescent": "NNDescent",
        "pynndescent.distances": "named_distances",
        "pynndescent.sparse": "sparse_named_distances",
    }
    for module, name in names.items():
        sys.modules[module] = ModuleType(module)
        setattr(sys.modules[module], name, ())
    importlib.import_module("umap.umap_")
    for module in names:
        del sys.modules[module]


def launch(main: Callable[[], None]) -> None:
    """Run `main` on one thread; a `UserError` becomes one message and exit status 65, a `MemoryError` 137."""
    pin_process()
    # Where the environment is not ours to write to (a container run as any user), compiled code goes to the
    # task's own folder. Never to a shared one: numba unpickles what it finds there.
    if not os.access(sysconfig.get_paths()["purelib"], os.W_OK):
        os.environ.setdefault("NUMBA_CACHE_DIR", str(Path.cwd() / ".numba"))
    try:
        main()
    except UserError as error:
        print(f"{ERROR_MARK}{error}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    except MemoryError as error:
        print(f"out of memory: {error}", file=sys.stderr)
        sys.exit(EXIT_OUT_OF_MEMORY)
