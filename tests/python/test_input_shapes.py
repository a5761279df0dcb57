"""Shapes of files from public reports: each gives what the plain folder of the same cells gives, or one true error."""

import json

import h5py
import numpy as np
import pytest
from input_shapes import (
    SHAPES,
    Cells,
    anndata,
    dense,
    depth_corrected,
    h5ad,
    log1p,
    market,
    real_cells,
    table,
    triplet,
    unlabelled,
)
from scipy import sparse
from spikgpt.base.errors import UserError
from spikgpt.base.genes import mitochondrial_genes
from spikgpt.read_input.counts import import_counts
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


# --- true causes, and what is told --------------------------------------------------------------------------


def starsolo_em(p, c):
    triplet(p / "m", c, "matrix.mtx", "barcodes.tsv", "features.tsv")
    fractions = c.counts.T.astype(float).tocsr()
    fractions.data[::9] += 0.25
    market(p / "m/matrix.mtx", fractions, "coordinate float general")
    return p / "m"


def soupx(p, c):
    made = c.counts.toarray().astype(float)
    made[made > 3] -= 0.1
    return table(p / "m.csv", c.symbols, c.barcodes, made.T)


def zellkonverter(p, c):
    made = log1p(c.counts)
    made.data = made.data / np.float32(np.log(2))
    return h5ad(p, anndata(c, made))


def unpacked_lines(p, c, numbers):
    triplet(p / "m", c, "matrix.mtx", "barcodes.tsv", "features.tsv")
    lines = (p / "m/matrix.mtx").read_text().splitlines()
    (p / "m/matrix.mtx").write_text("\n".join([*lines[:2], *(f"{line} {numbers}" for line in lines[2:])]) + "\n")
    return p / "m"


def two_layers(p, c):
    scaled = log1p(c.counts).toarray() - 0.3
    layers = {"abc": c.counts, "xyz": c.counts * 2}
    return h5ad(p, anndata(c, scaled, layers=layers))


def many_in_one(p, c):
    for sample in ("GSM1", "GSM2"):
        names = (f"{sample}_{name}.gz" for name in ("matrix.mtx", "barcodes.tsv", "features.tsv"))
        triplet(p / "m", c, *names)
    return p / "m"


def named_otherwise(p, c):
    """Proteins under names that say nothing, as counts of 60 % of all."""
    more = c.counts.sum(axis=1) * 1.5 / 20
    return unlabelled(p, c, [f"target{n}" for n in range(20)], float(np.mean(more)))


REFUSED = {
    "EM counts (STARsolo)": (starsolo_em, "does not hold raw counts", "estimated", "UniqueAndMult"),
    "SoupX": (soupx, "does not hold raw counts", "estimated", "roundToInt"),
    "log2 (scater)": (zellkonverter, "does not hold raw counts", "log-transformed", "counts_layer"),
    "four numbers a line": (lambda p, c: unpacked_lines(p, c, "7"), "4 numbers in a line", " 7", "Gene or GeneFull"),
    "one part alone": (lambda p, c: h5ad(p, anndata(c, log1p(c.counts).toarray() - 0.3, layers={
        "spliced": c.counts})), "does not hold raw counts", "layers: spliced has a part", "counts_layer"),
    "layers that differ": (two_layers, "which are the raw counts", "layers: abc: ", "counts_layer"),
    "spliced alone": (lambda p, c: (triplet(p / "m", c, "spliced.mtx"), p / "m")[1], "spliced counts alone",
                      "spliced.mtx", "all parts"),
    "several samples": (many_in_one, "several matrices", "gsm1, gsm2", "a folder for each sample"),
    "rows of no gene": (named_otherwise, "rows that are not known as human genes", "target", "feature_types"),
    "genes that no table has": (lambda p, c: table(p / "m.csv", [f"g{n}" for n in range(1500)], c.barcodes, dense(c).T),
                                "Neither the rows nor the columns", "rows g0, g1", "symbols or Ensembl ids"),
    "transposed": (lambda p, c: h5ad(p, anndata(c).T.copy()), "not those the scGPT checkpoint knows", "cell barcodes",
                   "adata.T"),
    "UTF-16": (lambda p, c: (p.mkdir(), (p / "m.csv").write_text("x,CD3D\nc,1\n", encoding="utf-16"), p / "m.csv")[2],
               "not a text file", "UTF-16", "UTF-8"),
    "alevin's binary": (lambda p, c: (p.mkdir(), (p / "quants_mat.gz").write_bytes(b"\x1f\x8b"), p)[2],
                        "has no matrix", "quants_mat.gz", "--dumpMtx"),
    "h5Seurat": (lambda p, c: seurat_object(p), "Seurat object", "assays", "write10xCounts"),
    "bzip2": (lambda p, c: (p.mkdir(), (p / "m.h5ad.bz2").write_bytes(b"BZh91AY"), p / "m.h5ad.bz2")[2],
              "not a known matrix format", "bzip2", "Unpack it"),
    "antibodies alone": (lambda p, c: triplet(p / "m", c, rows=[f"p{n}\tp{n}\tAntibody Capture" for n in range(1500)]),
                         "no gene expression", "1500 features of type Antibody Capture", "gene expression matrix"),
}  # fmt: skip


def seurat_object(p):
    p.mkdir()
    with h5py.File(p / "m.h5seurat.h5", "w") as file:
        file.create_group("assays/RNA")
    return p / "m.h5seurat.h5"


def imported(path, folder, cells, sample="s"):
    """The statistics of an import with a model that knows all of the cells' genes."""
    model = folder / "model"
    model.mkdir(exist_ok=True)
    (model / "vocab.json").write_text(json.dumps({name: n for n, name in enumerate(cells.symbols)}))
    return import_counts(sample, path, folder / "out.h5ad", model, 0.3, filtered=True)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_has_its_true_cause_and_a_next_step(name, cells, tmp_path):
    write, what, found, fix = REFUSED[name]
    with pytest.raises(UserError) as error:
        imported(write(tmp_path / "given", cells), tmp_path, cells)
    head, *lines = str(error.value).splitlines()
    assert what in head
    told = {line.split(":", 1)[0].strip(): line.split(":", 1)[1] for line in lines}
    assert found in told["found"]
    assert fix in told["next step"]


def lacking(c, start):
    """Without the genes whose names begin so."""
    kept = [n for n, name in enumerate(c.symbols) if not name.startswith(start)]
    return Cells(c.counts[:, kept], c.barcodes, [c.symbols[n] for n in kept], [c.ids[n] for n in kept])


TOLD = {
    "USA mode": (lambda p, c: SHAPES["alevin-fry USA, ids"](p, c), "messages", "4500 rows to 1500 genes"),
    "parts": (lambda p, c: SHAPES["three matrices (STARsolo Velocyto)"](p, c), "messages",
              "ambiguous, spliced, unspliced were added up"),
    "five numbers": (lambda p, c: SHAPES["five numbers a line (STARsolo Velocyto)"](p, c), "messages", "added up"),
    "velocity layers": (lambda p, c: SHAPES["velocity layers, X spliced"](p, c), "messages",
                        "layers: spliced + layers: unspliced + layers: ambiguous are used"),
    "variable genes": (lambda p, c: SHAPES["X of variable genes, raw.X of all"](p, c), "messages",
                       "raw counts of raw.X are used: it has 1500 genes, X 300"),
    "corrected counts": (lambda p, c: SHAPES["corrected counts in X, counts in a layer"](p, c), "messages",
                         "nearly the same depth"),
    "antibodies": (lambda p, c: SHAPES["antibodies by AB_"](p, c), "messages", "20 Antibody Capture ("),
    "spike-ins": (lambda p, c: SHAPES["ERCC"](p, c), "messages", "88 spike-in RNA ("),
    "R's names": (lambda p, c: SHAPES["R's check.names"](p, c), "messages", "genes had names that other software"),
    "types with gaps": (lambda p, c: SHAPES["feature types with gaps"](p, c), "messages", "have no feature type"),
    "log1p of corrected counts": (
        lambda p, c: h5ad(p, anndata(c, depth_corrected(c).log1p())), "messages", "cannot be told from the values"),
    "depth": (lambda p, c: h5ad(p, anndata(c, depth_corrected(c))), "warnings", "nearly the same total"),
    "depth, log1p": (lambda p, c: h5ad(p, anndata(c, depth_corrected(c).log1p())), "warnings", "nearly the same total"),
    "no mitochondrial gene": (lambda p, c: triplet(p / "m", lacking(c, "MT-")), "warnings", "no mitochondrial gene"),
    "transgenes": (lambda p, c: unlabelled(p, c, ["EGFP", "tdTomato"], 300), "warnings",
                   "names that no table of human genes has"),
    "mouse in upper case": (lambda p, c: triplet(p / "m", c, rows=[
        f"GM{1000 + n}\t" if n % 40 == 0 and c.counts[:, n].sum() < 100 else s for n, s in enumerate(c.symbols)]),
        "warnings", "mouse genes in upper case"),
}  # fmt: skip


@pytest.mark.parametrize("name", TOLD)
def test_every_choice_and_every_doubt_is_told(name, cells, tmp_path):
    write, where, said = TOLD[name]
    stats = imported(write(tmp_path / "given", cells), tmp_path, cells)
    assert any(said in message for message in stats[where]), stats[where]


def test_the_plain_folder_has_nothing_to_tell(cells, tmp_path):
    stats = imported(triplet(tmp_path / "m", cells), tmp_path, cells)
    assert stats["messages"] == stats["warnings"] == []
    assert stats["counts_left_out"] == {}
    assert stats["usual_genes"]["mitochondrial"]["genes"] == 13
    assert stats["usual_genes"]["known_names"] == 1.0


@pytest.mark.parametrize("layer", ["spliced", "X"])
def test_a_layer_that_is_asked_for_is_used_alone(layer, cells, tmp_path):
    path = SHAPES["velocity layers, X spliced"](tmp_path / "given", cells)
    found = read_matrix(path, frozenset(cells.symbols), counts_layer=layer)
    assert (found.counts != cells.parts(0.5, 0.4)[0]).nnz == 0


def test_labels_of_anndata_before_0_7(cells, tmp_path):
    found = read_matrix(SHAPES["anndata 0.6"](tmp_path / "given", cells), frozenset(cells.symbols))
    assert found.obs["cell_type"].tolist() == ["B cell", "T cell"] * (len(cells.barcodes) // 2)


@pytest.mark.parametrize("filtered", [True, False])
def test_of_both_matrices_the_one_of_the_column_is_read(filtered, cells, tmp_path):
    fewer = Cells(cells.counts[:40], cells.barcodes[:40], cells.symbols, cells.ids)
    triplet(tmp_path / "outs/filtered_feature_bc_matrix", fewer)
    triplet(tmp_path / "outs/raw_feature_bc_matrix", cells)
    found = read_matrix(tmp_path / "outs", frozenset(cells.symbols), filtered=filtered)
    assert len(found.barcodes) == (40 if filtered else 60)
    assert "holds several matrices" in found.messages[0]
