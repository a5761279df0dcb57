"""Jobs side by side in processes of one thread each."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any

from spikgpt.base.threads import pin_process

Job = tuple[Callable[..., Any], *tuple[Any, ...]]
"""A function that a module defines, and its arguments."""


def results(jobs: Sequence[Job], processes: int) -> list[Any]:
    """What the jobs return, in their order; they start in this order too, so the longest goes first.

    Raises
    ------
    MemoryError
        A process was killed, which the kernel does where memory is short.
    """
    if processes == 1 or len(jobs) < 2:
        return [function(*arguments) for function, *arguments in jobs]
    # the server imports the package once for all of them
    context = get_context("forkserver")
    context.set_forkserver_preload(sorted({function.__module__ for function, *_ in jobs}))
    try:
        with ProcessPoolExecutor(min(processes, len(jobs)), mp_context=context, initializer=_begin) as pool:
            futures: list[Future[Any]] = []
            running: set[Future[Any]] = set()
            for function, *arguments in jobs:
                # Only to a process that is free to read it: where one is killed while a job is still being written,
                # some Pythons (cpython gh-94777; 3.11.2, which is Debian's) wait for ever
                if len(running) == processes:
                    _, running = wait(running, return_when=FIRST_COMPLETED)
                futures.append(pool.submit(function, *arguments))
                running.add(futures[-1])
            return [future.result() for future in futures]
    except BrokenProcessPool as error:
        raise MemoryError("a worker process was killed") from error


def _begin() -> None:
    pin_process()
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Without this, a worker outlives a killed parent and keeps the task's output open, so the task never ends."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
