"""An AnnData of a test as the steps read it: from disk, in blocks."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import anndata as ad
from spikgpt.base.h5ad import Stored, stored, write_h5ad


@contextmanager
def on_disk(adata: ad.AnnData) -> Iterator[Stored]:
    with TemporaryDirectory() as folder:
        write_h5ad(adata, Path(folder) / "cells.h5ad")
        with stored(Path(folder) / "cells.h5ad") as cells:
            yield cells
