"""Names of cells and of the files between the steps: `<sample>.<kind>`, and an embedding's chunks."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

CELL_SEPARATOR = ":"
"""Joins barcode and sample to a cell's name in the cohort; a sample's name never holds it."""


def name_before(path: str | Path, ending: str) -> str:
    """The sample that a file `<sample><ending>` belongs to; ValueError when it ends otherwise."""
    name = Path(path).name
    if not name.endswith(ending) or name == ending:
        raise ValueError(f"{name} is not named <sample>{ending}")
    return name.removesuffix(ending)


def by_sample(paths: Iterable[str | Path], ending: str) -> dict[str, Path]:
    """Files `<sample><ending>`, by sample, in the order of the samples' names."""
    found = {name_before(path, ending): Path(path) for path in paths}
    return dict(sorted(found.items()))


def embedding_chunks(paths: Iterable[str | Path]) -> dict[str, list[Path]]:
    """The chunks of each sample's embedding in the order of their cells, samples in the order of names.

    Parameters
    ----------
    paths
        Files `<sample>.<first cell>.embedding.npy` in any order, each float32 of shape
        (cells of the chunk, dimensions).

    Raises
    ------
    ValueError
        A name is not of that form, or chunks of a sample overlap or leave a gap.
    """
    chunks: dict[str, dict[int, Path]] = {}
    for path in map(Path, paths):
        match = re.fullmatch(r"(.+)\.(\d+)\.embedding\.npy", path.name)
        if match is None:
            raise ValueError(f"{path.name} is not named <sample>.<first cell>.embedding.npy")
        chunks.setdefault(match[1], {})[int(match[2])] = path
    for parts in chunks.values():
        expected = 0
        for start, path in sorted(parts.items()):
            if start != expected:
                raise ValueError(f"{path.name} begins at cell {start}, expected {expected}")
            expected += len(np.load(path, mmap_mode="r"))
    return {sample: [path for _, path in sorted(chunks[sample].items())] for sample in sorted(chunks)}


def read_embeddings(paths: Iterable[str | Path]) -> dict[str, np.ndarray]:
    """Embeddings of whole samples from the files of their chunks, see `embedding_chunks`.

    Returns
    -------
    Sample name to float32 array (cells, dimensions), in the order of names.
    """
    chunks = embedding_chunks(paths)
    return {sample: np.concatenate([np.load(path) for path in parts]) for sample, parts in chunks.items()}


def joined_embeddings(paths: Iterable[str | Path], cells: Mapping[str, int]) -> np.ndarray:
    """The embeddings of all samples in the order of `cells`, one chunk in memory beside them.

    Parameters
    ----------
    cells
        Number of cells of each sample.

    Returns
    -------
    float32 (all cells, dimensions).

    Raises
    ------
    ValueError
        A sample has no embedding, or one for another number of cells.
    """
    chunks = embedding_chunks(paths)
    if set(chunks) != set(cells):
        raise ValueError(f"embeddings of {', '.join(chunks)}, cells of {', '.join(cells)}: not of the same samples")
    width = np.load(next(iter(chunks.values()))[0], mmap_mode="r").shape[1]
    joined, at = np.empty((sum(cells.values()), width), dtype=np.float32), 0
    for sample, number in cells.items():
        found = sum(len(np.load(path, mmap_mode="r")) for path in chunks[sample])
        if found != number:
            raise ValueError(f"{sample}: {number} cells, {found} embeddings")
        for path in chunks[sample]:
            part = np.load(path)
            joined[at : at + len(part)] = part
            at += len(part)
    return joined
