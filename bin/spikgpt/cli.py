"""What every command line of the pipeline shares: one thread, errors, exit statuses. Imported by scripts alone."""

import argparse
import gc
import importlib.util
import logging
import os
import sys
import sysconfig
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from spikgpt import __version__
from spikgpt.base.errors import UserError
from spikgpt.base.threads import pin_process

EXIT_USER_ERROR = 65
"""Exit status for a user's mistake (EX_DATAERR of sysexits.h); never retried."""

EXIT_OUT_OF_MEMORY = 137
"""What a task killed for memory ends with (128 + SIGKILL); `conf/base.config` tries it again with more."""

OBJECTS_BETWEEN_COLLECTIONS = 10_000
"""Python's collector of cyclic garbage looks for some after every 700 new objects, which importing a library makes by
the hundred thousand and throws none away: with 10,000 the imports of scanpy take 0.15 s of CPU less. No task of six
samples, nor quality control of 2,150 cells, has a higher peak of memory for it."""

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


def without_meta_kernels() -> None:
    """Import torch without its kernels for tensors that have a shape and no values: 0.3 s of CPU on every task.

    Compilers alone ask them; to be called before torch is imported.
    """
    sys.modules.setdefault("torch._meta_registrations", ModuleType("torch._meta_registrations"))


def without_zarr() -> None:
    """Import anndata without zarr, which it loads for two classes: 0.25 s of CPU on every task.

    For a process that opens no zarr. A stand-in has the classes, which nothing is an instance of.
    """
    if "zarr" in sys.modules:
        return
    lean = ModuleType("zarr")
    lean.__spec__ = ModuleSpec("zarr", None)
    lean.__dict__.update({name: type(name, (), {}) for name in ("Array", "Group")}, __version__="3")
    sys.modules["zarr"] = lean


def without_scipy_stats() -> None:
    """Import scikit-learn without scipy.stats: 0.2 s of CPU on every task.

    For a process that computes nothing with it. scikit-learn takes these functions from it, for ranking metrics and
    transformations.
    """
    lean = ModuleType("scipy.stats")
    lean.__dict__.update(dict.fromkeys(("chi2", "gmean", "rankdata", "spearmanr")))
    sys.modules.setdefault("scipy.stats", lean)


def without_matplotlib() -> None:
    """Import igraph, and what else can do without plots, without matplotlib: 0.5 s of CPU on every sample."""
    sys.modules.setdefault("matplotlib", None)  # type: ignore[arg-type]


def lean_scanpy(*tools: str) -> None:
    """Import scanpy's preprocessing, and these of its tools, without matplotlib: 0.8 s of CPU on every sample.

    The imports of its packages for plots, and for files, are left out. `import scanpy` afterwards gives `pp`, and `tl`
    with these tools.
    """
    without_matplotlib()
    if "scanpy" in sys.modules:
        return
    for name in ("scanpy", "scanpy.tools"):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        # the package, its __init__.py not run
        sys.modules[name] = importlib.util.module_from_spec(spec)
    scanpy = sys.modules["scanpy"]
    scanpy.__dict__.update(pp=importlib.import_module("scanpy.preprocessing"), tl=sys.modules["scanpy.tools"])
    for tool in tools:
        setattr(sys.modules["scanpy.tools"], tool, getattr(importlib.import_module(f"scanpy.tools._{tool}"), tool))


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


def with_compiled_umap() -> None:
    """Have numba keep umap's compiled functions, as it keeps scanpy's: compiling them takes 5 s of CPU each time.

    They are kept beside umap's code, where that is ours to write to; see `launch` for where it is not.
    """
    umap, layouts = (importlib.import_module(f"umap.{name}") for name in ("umap_", "layouts"))
    for function in (
        umap.smooth_knn_dist,
        umap.compute_membership_strengths,
        layouts._nb_optimize_layout_euclidean_single_epoch,
    ):
        function.enable_caching()


def launch(main: Callable[[], None], *, opens_zarr: bool = False) -> None:
    """Run `main` on one thread; a `UserError` becomes one message and exit status 65, a `MemoryError` 137.

    ``opens_zarr``: whether it may be given a zarr to read; see `without_zarr`.
    """
    pin_process()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    if not opens_zarr:
        without_zarr()
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
    # Python looks through all objects for garbage twice more before it ends, 0.15 to 0.4 s of CPU for what the
    # libraries made; the system frees them anyway
    gc.freeze()
