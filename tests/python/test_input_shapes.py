"""Shapes of files from public reports: each gives what the plain folder of the same cells gives, or one true error."""

import numpy as np
import pytest
from input_shapes import SHAPES, Cells, real_cells, triplet
from scipy import sparse
from spikgpt.base.genes import mitochondrial_genes
from spikgpt.read_input.matrix import Matrix, read_matrix

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def cells(demo_data) -> Cells:
    return real_cells(demo_data)


@pytest.fixture(scope="module")
def plain(cells, tmp_path_factory) -> Matrix:
    found = read_matrix(triplet(tmp_path_factory.mktemp("plain") / "m", cells), frozenset(cells.symbols))
    assert found.symbols == cells.symbols
    assert (found.counts != cells.counts).nnz == 0
    return found


def by_name(matrix: Matrix, barcodes: list[str]) -> sparse.csr_matrix:
    """The counts with cells in the given order and genes in that of their names."""
    at = {name: row for row, name in enumerate(matrix.barcodes)}
    rows = [at[name] for name in barcodes]
    return matrix.counts[rows][:, np.argsort(np.asarray(matrix.symbols))]


def mitochondrial_share(matrix: Matrix) -> np.ndarray:
    totals = np.asarray(matrix.counts.sum(axis=1)).ravel()
    return np.asarray(matrix.counts[:, mitochondrial_genes(matrix.symbols)].sum(axis=1)).ravel() / totals


NUMBERED = ("BD AbSeq", "BD's targeted panel", "BD's Expression_Data.st")
"""Cells that have numbers for barcodes."""


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_gives_what_the_plain_folder_gives(name, cells, plain, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = read_matrix(SHAPES[name](tmp_path / "given", cells), frozenset(cells.symbols), filtered=True)
    barcodes = [str(n) for n in range(len(cells.barcodes))] if name in NUMBERED else cells.barcodes
    assert sorted(found.barcodes) == sorted(barcodes)
    # mt-ND1 stays as it is written, and is the gene all the same
    assert sorted(symbol.replace("mt-", "MT-") for symbol in found.symbols) == sorted(plain.symbols)
    if name != "lower-case mt-":
        assert (by_name(found, barcodes) != by_name(plain, cells.barcodes)).nnz == 0
    assert found.counts.sum() == plain.counts.sum()
    order = [list(found.barcodes).index(barcode) for barcode in barcodes]
    np.testing.assert_allclose(mitochondrial_share(found)[order], mitochondrial_share(plain))
