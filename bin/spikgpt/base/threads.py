"""One thread for every sum: more threads add in another order, and so give other bytes.

Work is spread over cores by cells, folds and types instead, in pieces that are the same on any number of cores.

BLAS, OpenMP and numba read their number of threads from the environment once, when they are loaded. What an import of
numpy or a shell has set before therefore cannot be relied on: libraries that are loaded already are told at run time.
"""

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Read by libraries when they are loaded, and by child processes. numba's is set by `pin_process` alone: numba reads
it again with each function it compiles, and refuses another value."""

_pinned = False


def pin_process() -> None:
    """One thread in this process and its children from now on: for a process of our own, not for a library's user."""
    global _pinned
    os.environ.update(dict.fromkeys((*VARIABLES, "NUMBA_NUM_THREADS"), "1"))
    threadpool_limits(1)
    for name in ("torch", "numba"):
        if name in sys.modules:
            sys.modules[name].set_num_threads(1)
    _pinned = True


def pin_thread() -> None:
    """One thread for what a new thread computes: OpenMP has a number for each thread, BLAS for the process."""
    threadpool_limits(1)


@contextmanager
def one_thread(*loaded_first: str) -> Iterator[None]:
    """One thread while this is open or, as a decorator, while the function runs; afterwards what was set before.

    For one call at a time: BLAS has one number for the whole process, and the first call to end puts it back.

    Parameters
    ----------
    loaded_first
        Modules to import before: numba, and what imports it, can only be told once it is loaded.
    """
    if _pinned:
        yield
        return
    for name in loaded_first:
        importlib.import_module(name)
    before = {name: os.environ.get(name) for name in VARIABLES}
    # torch's own BLAS and numba are not among what threadpoolctl knows
    others = [sys.modules[name] for name in ("torch", "numba") if name in sys.modules]
    numbers = [module.get_num_threads() for module in others]
    os.environ.update(dict.fromkeys(VARIABLES, "1"))
    try:
        with threadpool_limits(1):
            for module in others:
                module.set_num_threads(1)
            yield
    finally:
        for module, number in zip(others, numbers, strict=True):
            module.set_num_threads(number)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
