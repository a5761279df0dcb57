"""Import of count matrices: every format, every mistake a user makes with one."""

import gzip
import io
import json
import tarfile
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import io as scipy_io
from scipy import sparse
from spikgpt.base.errors import UserError
from spikgpt.base.genes import symbol_of_id
from spikgpt.read_input.counts import import_counts
from spikgpt.read_input.matrix import open_matrix, read_matrix
from spikgpt.read_input.raw_counts import CountCheck, fault, restore_log1p

CELLS, GENES = 40, 120
HUMAN = [
    (gene_id, symbol)
    for gene_id, symbol in symbol_of_id().items()
    if symbol.isalnum() and not symbol.startswith(("ENSG", "LINC", "MIR", "AC"))
][:GENES]
IDS = [gene_id for gene_id, _ in HUMAN]
SYMBOLS = [symbol for _, symbol in HUMAN]
VOCAB = frozenset(SYMBOLS)


@pytest.fixture
def counts() -> sparse.csr_matrix:
    dense = np.random.default_rng(0).poisson(1.5, (CELLS, GENES))
    return sparse.csr_matrix(dense, dtype=np.int32)


@pytest.fixture
def barcodes() -> list[str]:
    letters = np.random.default_rng(1).choice(list("ACGT"), (CELLS, 16))
    return ["".join(row) + "-1" for row in letters]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    tokens = ["<pad>", "<cls>", "<eoc>", *SYMBOLS]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    return folder


def as_anndata(counts, barcodes, **more) -> ad.AnnData:
    return ad.AnnData(counts, obs=pd.DataFrame(index=barcodes), var=pd.DataFrame(index=SYMBOLS), **more)


def log1p_cp10k(counts: sparse.csr_matrix, dtype=np.float32) -> sparse.csr_matrix:
    made = counts.astype(np.float64)
    made.data *= np.repeat(1e4 / np.asarray(made.sum(axis=1)).ravel(), np.diff(made.indptr))
    made.data = np.log1p(made.data)
    return made.astype(dtype)


def write_text(path: Path, lines) -> None:
    text = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


def write_10x(folder: Path, counts, barcodes, features, matrix="matrix.mtx", bars="barcodes.tsv", genes="features.tsv"):
    """A triplet; `features` is a list of rows."""
    folder.mkdir(parents=True)
    buffer = io.BytesIO()
    scipy_io.mmwrite(buffer, sparse.coo_matrix(counts.T), field="integer")
    content = buffer.getvalue()
    (folder / matrix).write_bytes(gzip.compress(content) if matrix.endswith(".gz") else content)
    write_text(folder / bars, barcodes)
    write_text(folder / genes, ["\t".join(row) for row in features])
    return folder


def write_10x_h5(path: Path, counts, barcodes, ids, names, types, genomes) -> Path:
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        by_cell = sparse.csr_matrix(counts)
        group["data"], group["indices"], group["indptr"] = by_cell.data, by_cell.indices, by_cell.indptr
        group["shape"] = np.array([counts.shape[1], counts.shape[0]])
        group["barcodes"] = np.array(barcodes, dtype="S")
        features = group.create_group("features")
        for name, values in (("id", ids), ("name", names), ("feature_type", types), ("genome", genomes)):
            features[name] = np.array(values, dtype="S")
        features["_all_tag_keys"] = np.array(["genome"], dtype="S")
    return path


def same(matrix, counts, barcodes, symbols=SYMBOLS) -> None:
    assert list(matrix.barcodes) == list(barcodes)
    assert matrix.symbols == list(symbols)
    assert matrix.counts.dtype == np.int32
    assert (matrix.counts != counts).nnz == 0


# --- formats ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        ({"matrix": "matrix.mtx", "bars": "barcodes.tsv", "genes": "genes.tsv"}, 2),  # Cell Ranger 2
        ({"matrix": "matrix.mtx.gz", "bars": "barcodes.tsv.gz", "genes": "features.tsv.gz"}, 3),  # 3 and later
        ({"matrix": "matrix.mtx", "bars": "barcodes.tsv", "genes": "features.tsv"}, 3),  # STARsolo
    ],
)
def test_10x_folders(tmp_path, counts, barcodes, names, columns):
    features = [[*pair, "Gene Expression"][:columns] for pair in HUMAN]
    matrix = read_matrix(write_10x(tmp_path / "m", counts, barcodes, features, **names), VOCAB)
    same(matrix, counts, barcodes)
    assert matrix.gene_ids == IDS
    assert matrix.format == "10x folder"
    assert matrix.feature_types_left_out == {}


def test_alevin_folder_is_cells_by_genes(tmp_path, counts, barcodes):
    folder = write_10x(
        tmp_path / "m", counts.T, barcodes, [[i] for i in IDS],
        matrix="quants_mat.mtx", bars="quants_mat_rows.txt", genes="quants_mat_cols.txt",
    )  # fmt: skip
    same(read_matrix(folder, VOCAB), counts, barcodes)


def test_genome_folder_below_is_found(tmp_path, counts, barcodes):
    write_10x(tmp_path / "m" / "GRCh38", counts, barcodes, HUMAN, genes="genes.tsv")
    same(read_matrix(tmp_path / "m", VOCAB), counts, barcodes)
    write_10x(tmp_path / "m" / "mm10", counts, barcodes, HUMAN, genes="genes.tsv")
    same(read_matrix(tmp_path / "m", VOCAB), counts, barcodes)
    write_10x(tmp_path / "m" / "GRCh37", counts, barcodes, HUMAN, genes="genes.tsv")
    with pytest.raises(UserError, match="several matrices"):
        read_matrix(tmp_path / "m", VOCAB)


def test_archive(tmp_path, counts, barcodes, monkeypatch):
    folder = write_10x(tmp_path / "filtered_feature_bc_matrix", counts, barcodes, HUMAN)
    with tarfile.open(tmp_path / "m.tar.gz", "w:gz") as tar:
        tar.add(folder, arcname=folder.name)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    matrix = read_matrix("m.tar.gz", VOCAB)
    same(matrix, counts, barcodes)
    assert matrix.format == "10x archive"
    assert sorted(tmp_path.iterdir()) == before


def attack(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.linkname = "/etc/passwd"
    return member


@pytest.mark.parametrize(
    "member",
    [
        attack("../matrix.mtx"), attack("/tmp/matrix.mtx"), attack("m/../../x"), attack("matrix.mtx", tarfile.SYMTYPE),
        attack("matrix.mtx", tarfile.LNKTYPE), attack("matrix.mtx", tarfile.CHRTYPE), attack("x", tarfile.FIFOTYPE),
    ],
)  # fmt: skip
def test_hostile_archives_write_nothing(tmp_path, monkeypatch, member):
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    with tarfile.open(tmp_path / "m.tar.gz", "w:gz") as tar:
        tar.addfile(member, io.BytesIO(b""))
    with pytest.raises(UserError, match="not safe to unpack"):
        read_matrix(tmp_path / "m.tar.gz", VOCAB)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["m.tar.gz", "work"]


def test_10x_h5_other_features_are_left_out(tmp_path, counts, barcodes):
    types = ["Gene Expression"] * 100 + ["Antibody Capture"] * 15 + ["CRISPR Guide Capture"] * 5
    path = write_10x_h5(tmp_path / "m.h5", counts, barcodes, IDS, SYMBOLS, types, ["GRCh38"] * GENES)
    matrix = read_matrix(path, VOCAB)
    same(matrix, counts[:, :100], barcodes, SYMBOLS[:100])
    assert matrix.gene_ids == IDS[:100]
    assert matrix.feature_types_left_out == {"Antibody Capture": 15, "CRISPR Guide Capture": 5}


def test_10x_h5_of_antibodies_alone_is_refused(tmp_path, counts, barcodes):
    path = write_10x_h5(
        tmp_path / "m.h5", counts, barcodes, IDS, SYMBOLS, ["Antibody Capture"] * GENES, [""] * GENES
    )  # fmt: skip
    with pytest.raises(UserError, match=r"no gene expression.*(?s:.)*120 features of type Antibody Capture"):
        read_matrix(path, VOCAB)


@pytest.mark.parametrize("kind", ["h5", "folder"])
def test_of_several_genomes_the_human_goes_on(tmp_path, counts, barcodes, kind):
    ids = [f"GRCh38_{i}" for i in IDS[:90]] + [f"mm10___{i.replace('ENSG', 'ENSMUSG')}" for i in IDS[90:]]
    names = [f"GRCh38_{s}" for s in SYMBOLS[:90]] + [f"mm10___{s.title()}" for s in SYMBOLS[90:]]
    genomes = ["GRCh38"] * 90 + ["mm10"] * 30
    types = ["Gene Expression"] * GENES
    if kind == "h5":
        path = write_10x_h5(tmp_path / "m.h5", counts, barcodes, ids, names, types, genomes)
    else:
        path = write_10x(tmp_path / "m", counts, barcodes, zip(ids, names, types, strict=True))
    matrix = read_matrix(path, VOCAB)
    same(matrix, counts[:, :90], barcodes, SYMBOLS[:90])
    assert matrix.feature_types_left_out == {"Gene Expression (mm10)": 30}
    assert any("only GRCh38 goes on" in message for message in matrix.messages)


def test_10x_h5_of_cell_ranger_2(tmp_path, counts, barcodes):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        for genome in ("GRCh38", "mm10"):
            group = file.create_group(genome)
            group["data"], group["indices"], group["indptr"] = counts.data, counts.indices, counts.indptr
            group["shape"] = np.array([GENES, CELLS])
            group["barcodes"] = np.array(barcodes, dtype="S")
            group["genes"], group["gene_names"] = np.array(IDS, dtype="S"), np.array(SYMBOLS, dtype="S")
    matrix = read_matrix(tmp_path / "m.h5", VOCAB)
    same(matrix, counts, barcodes)
    assert matrix.feature_types_left_out == {"Gene Expression (mm10)": GENES}


@pytest.mark.parametrize("place", ["X", "raw.X", "layer"])
@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_anndata_counts_are_found_wherever_they_are(tmp_path, counts, barcodes, place, layout, suffix):
    made = {"csr": counts.astype(np.float32), "csc": counts.astype(np.float32).tocsc(), "dense": counts.toarray()}[
        layout
    ]
    logged = log1p_cp10k(counts)
    logged.data *= np.float32(1.03)  # no longer log1p of counts
    adata = as_anndata(made if place == "X" else logged, barcodes)
    if place == "raw.X":
        adata.raw = as_anndata(made, barcodes)
    if place == "layer":
        adata.layers["my_umis"] = made
    path = tmp_path / f"m{suffix}"
    adata.write_h5ad(path) if suffix == ".h5ad" else adata.write_zarr(path)
    matrix = read_matrix(path, VOCAB)
    same(matrix, counts, barcodes)
    assert matrix.counts_from == {"X": "X", "raw.X": "raw.X", "layer": "layers: my_umis"}[place]
    if place != "X":
        assert matrix.messages[0].startswith("X holds fractions")
        assert f"the raw counts of {matrix.counts_from} are used" in matrix.messages[0]


@pytest.mark.parametrize("name", ["m.h5", "m.hdf5", "m.loom"])
def test_an_anndata_by_another_name(tmp_path, counts, barcodes, name):
    as_anndata(counts, barcodes).write_h5ad(tmp_path / "m.h5ad")
    (tmp_path / "m.h5ad").rename(tmp_path / name)
    matrix = read_matrix(tmp_path / name, VOCAB)
    same(matrix, counts, barcodes)
    assert matrix.format == "h5ad"


def test_h5ad_of_several_genomes(tmp_path, counts, barcodes):
    var = pd.DataFrame(
        {"gene_ids": [f"GRCh38_{i}" for i in IDS[:90]] + [f"mm10_{i}" for i in IDS[90:]],
         "feature_types": "Gene Expression", "genome": ["GRCh38"] * 90 + ["mm10"] * 30},
        index=[f"GRCh38_{s}" for s in SYMBOLS[:90]] + [f"mm10_{s}" for s in SYMBOLS[90:]],
    )  # fmt: skip
    ad.AnnData(counts, obs=pd.DataFrame(index=barcodes), var=var).write_h5ad(tmp_path / "m.h5ad")
    matrix = read_matrix(tmp_path / "m.h5ad", VOCAB)
    same(matrix, counts[:, :90], barcodes, SYMBOLS[:90])
    assert matrix.gene_ids == IDS[:90]
    assert matrix.feature_types_left_out == {"Gene Expression (mm10)": 30}


def test_h5ad_without_x(tmp_path, counts, barcodes):
    as_anndata(None, barcodes, layers={"counts": counts}).write_h5ad(tmp_path / "m.h5ad")
    same(read_matrix(tmp_path / "m.h5ad", VOCAB), counts, barcodes)


def test_quoted_names_with_commas(tmp_path, counts, barcodes):
    as_anndata(counts, [f"{b},x" for b in barcodes]).to_df().astype(int).T.to_csv(tmp_path / "m.csv")
    same(read_matrix(tmp_path / "m.csv", VOCAB), counts, [f"{b},x" for b in barcodes])


def test_a_matrix_that_claims_too_much(tmp_path, counts, barcodes):
    folder = write_10x(tmp_path / "m", counts, barcodes, HUMAN)
    lines = (folder / "matrix.mtx").read_text().splitlines()
    size = next(i for i, line in enumerate(lines) if not line.startswith("%"))
    lines[size] = f"{GENES} {CELLS} {10**15}"
    write_text(folder / "matrix.mtx", lines)
    with pytest.raises(UserError, match=r"more values than it can hold(?s:.)*1,000,000,000,000,000 values in 120 x 40"):
        read_matrix(folder, VOCAB)


def test_raw_may_have_more_genes_than_x(tmp_path, counts, barcodes):
    adata = as_anndata(counts, barcodes)
    adata.raw = adata
    adata = adata[:, :50].copy()
    adata.X = adata.X.toarray() - 1.0
    adata.write_h5ad(tmp_path / "m.h5ad")
    same(read_matrix(tmp_path / "m.h5ad", VOCAB), counts, barcodes)


def test_parts_that_are_stored_as_nothing_are_not_there(tmp_path, counts, barcodes):
    # what anndata's write_elem makes of an AnnData without X and raw
    adata = as_anndata(counts, barcodes)
    adata = ad.AnnData(obs=adata.obs, var=adata.var, layers={"counts": counts})
    with h5py.File(tmp_path / "m.h5ad", "w") as file:
        ad.io.write_elem(file, "/", adata)
        assert file["raw"].attrs["encoding-type"] == "null"
    same(read_matrix(tmp_path / "m.h5ad", VOCAB), counts, barcodes)


def test_counts_layer_and_columns_are_obeyed(tmp_path, counts, barcodes):
    adata = ad.AnnData(
        counts, obs=pd.DataFrame(index=barcodes), layers={"other": counts * 2},
        var=pd.DataFrame({"sym": SYMBOLS, "ens": [f"{i}.7" for i in IDS]}, index=[str(i) for i in range(GENES)]),
    )  # fmt: skip
    path = tmp_path / "m.h5ad"
    adata.write_h5ad(path)
    found = read_matrix(path, VOCAB)
    same(found, counts, barcodes)
    assert found.symbols_from == "var column sym"
    assert found.gene_ids == IDS
    told = read_matrix(path, VOCAB, symbol_col="sym", geneid_col="ens", counts_layer="other")
    same(told, counts * 2, barcodes)
    with pytest.raises(UserError, match=r"layer 'nope'(?s:.)*X, layers: other"):
        read_matrix(path, VOCAB, counts_layer="nope")
    with pytest.raises(UserError, match=r"no column 'nope'(?s:.)*sym, ens"):
        read_matrix(path, VOCAB, symbol_col="nope")
    write_text(tmp_path / "m.csv", ["x"])
    with pytest.raises(UserError, match="symbol_col are for h5ad and zarr"):
        read_matrix(tmp_path / "m.csv", VOCAB, symbol_col="sym")


def test_loom(tmp_path, counts, barcodes):
    with h5py.File(tmp_path / "m.loom", "w") as file:
        file["matrix"] = counts.T.toarray()
        file["row_attrs/Gene"] = np.array(SYMBOLS, dtype="S")
        file["row_attrs/Accession"] = np.array(IDS, dtype="S")
        file["col_attrs/CellID"] = np.array(barcodes, dtype="S")
    matrix = read_matrix(tmp_path / "m.loom", VOCAB)
    same(matrix, counts, barcodes)
    assert matrix.gene_ids == IDS
    assert matrix.symbols_from == "row_attrs/Gene"


@pytest.mark.parametrize("genes_in_rows", [True, False])
@pytest.mark.parametrize("corner", ["", '""', None])
@pytest.mark.parametrize("name", ["m.csv", "m.tsv.gz"])
def test_text_in_either_orientation(tmp_path, counts, barcodes, genes_in_rows, corner, name):
    separator = "," if "csv" in name else "\t"
    values, rows, columns = counts.toarray(), barcodes, SYMBOLS
    if genes_in_rows:
        values, rows, columns = values.T, SYMBOLS, barcodes
    header = separator.join([*([] if corner is None else [corner]), *columns])
    body = [separator.join([row, *map(str, line)]) for row, line in zip(rows, values, strict=True)]
    write_text(tmp_path / name, [header, *body])
    matrix = read_matrix(tmp_path / name, VOCAB)
    same(matrix, counts, barcodes)
    assert matrix.messages == [f"The table has {'genes' if genes_in_rows else 'cells'} in rows."]


# --- mistakes -----------------------------------------------------------------------------------------


def test_scaled_data_is_refused_with_where_counts_usually_are(tmp_path, counts, barcodes):
    dense = log1p_cp10k(counts).toarray()
    as_anndata((dense - dense.mean(0)) / dense.std(0), barcodes).write_h5ad(tmp_path / "m.h5ad")
    with pytest.raises(UserError) as error:
        read_matrix(tmp_path / "m.h5ad", VOCAB)
    text = str(error.value)
    assert "does not hold raw counts" in text
    assert "m.h5ad" in text
    assert "negative values" in text
    assert "z-scored" in text
    assert 'layers["counts"] or raw.X' in text


def test_every_place_that_was_looked_at_is_told(tmp_path, counts, barcodes):
    scaled = counts.toarray() - 0.5
    adata = as_anndata(scaled, barcodes, layers={"cpm": counts * 100.3})
    adata.write_h5ad(tmp_path / "m.h5ad")
    with pytest.raises(UserError, match=r"X has negative values.*; layers: cpm has fractions .*CPM"):
        read_matrix(tmp_path / "m.h5ad", VOCAB)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, np.nan], "NaN or infinite"),
        ([1.0, np.inf], "NaN or infinite"),
        ([-1, 3], "negative values"),
        ([0.5, 3.2], "normalised and log-transformed"),
        ([0.5, 3000.2], "normalised (CPM, TPM) or estimated"),
        ([3_000_000_000], "too large"),
    ],
)
def test_faults(values, expected):
    assert expected in fault(np.asarray(values))


@pytest.mark.parametrize("values", [[0, 1, 5], [0.0, 1.0, 7.0], [], [True, False]])
def test_raw_values_have_no_fault(values):
    assert fault(np.asarray(values)) is None


def test_binarised_data_is_refused():
    check = CountCheck("m")
    check.counts(sparse.csr_matrix(np.ones((10, 300))))
    with pytest.raises(UserError, match="binarised"):
        check.finish()


def test_all_zero_is_refused(tmp_path, barcodes):
    as_anndata(sparse.csr_matrix((CELLS, GENES)), barcodes).write_h5ad(tmp_path / "m.h5ad")
    with pytest.raises(UserError, match=r"no counts at all(?s:.)*40 barcodes x 120 genes"):
        read_matrix(tmp_path / "m.h5ad", VOCAB)


def test_no_cells_is_refused(tmp_path, counts):
    as_anndata(counts[:0], []).write_h5ad(tmp_path / "m.h5ad")
    with pytest.raises(UserError, match=r"empty(?s:.)*0 cells x 120 genes"):
        read_matrix(tmp_path / "m.h5ad", VOCAB)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log1p_is_restored_exactly(tmp_path, barcodes, dtype):
    rng = np.random.default_rng(3)
    counts = sparse.csr_matrix(rng.negative_binomial(0.3, 0.02, (CELLS, GENES)), dtype=np.int32)
    as_anndata(log1p_cp10k(counts, dtype), barcodes).write_h5ad(tmp_path / "m.h5ad")
    matrix = read_matrix(tmp_path / "m.h5ad", VOCAB)
    same(matrix, counts, barcodes)
    assert any("restored exactly" in message for message in matrix.messages)


def test_cells_whose_smallest_count_is_not_one_are_restored(counts):
    odd = counts.copy()
    odd.data = odd.data * 2 + 1  # 3, 5, 7, ...
    odd = odd[:, odd.getnnz(axis=0) > 0]
    restored = restore_log1p(log1p_cp10k(odd, np.float64))
    divisor = np.gcd.reduceat(odd.data, odd.indptr[:-1])
    assert (divisor == 1).all()
    assert (restored != odd).nnz == 0


def test_what_is_not_log1p_of_counts_is_not_restored(counts):
    corrected = counts.astype(np.float64)
    corrected.data += np.random.default_rng(0).uniform(0.0, 0.3, corrected.data.size)
    assert restore_log1p(log1p_cp10k(sparse.csr_matrix(corrected))) is None
    noisy = log1p_cp10k(counts)
    noisy.data += np.random.default_rng(0).normal(0, 1e-3, noisy.data.size).astype(np.float32)
    assert restore_log1p(noisy) is None


def test_duplicate_barcodes_are_refused(tmp_path, counts, barcodes):
    barcodes[7] = barcodes[3]
    folder = write_10x(tmp_path / "m", counts, barcodes, HUMAN)
    with pytest.raises(UserError, match=f"1 barcodes occur more than once(?s:.)*{barcodes[3]}"):
        read_matrix(folder, VOCAB)


def test_files_that_do_not_belong_together_are_refused(tmp_path, counts, barcodes):
    folder = write_10x(tmp_path / "m", counts, barcodes[:-1], HUMAN)
    with pytest.raises(UserError, match=r"120 x 40, features.tsv 120 features, barcodes.tsv 39 barcodes"):
        read_matrix(folder, VOCAB)
    (folder / "features.tsv").unlink()
    with pytest.raises(UserError, match=r"has no features.tsv or genes.tsv"):
        read_matrix(folder, VOCAB)


@pytest.mark.parametrize("damage", ["gzip", "header", "hdf5", "10x h5", "folder", "text"])
def test_damaged_files_are_refused(tmp_path, counts, barcodes, damage):
    if damage in ("gzip", "header"):
        path = write_10x(tmp_path / "m", counts, barcodes, HUMAN, matrix="matrix.mtx.gz")
        content = (path / "matrix.mtx.gz").read_bytes()
        new = content[: len(content) // 2] if damage == "gzip" else gzip.compress(b"not a matrix\n1 2 3\n")
        (path / "matrix.mtx.gz").write_bytes(new)
    elif damage == "hdf5":
        path = tmp_path / "m.h5ad"
        as_anndata(counts, barcodes).write_h5ad(path)
        path.write_bytes(path.read_bytes()[:3000])
    elif damage == "10x h5":
        path = tmp_path / "molecule_info.h5"
        with h5py.File(path, "w") as file:
            file["molecules"] = [1, 2]
    elif damage == "folder":
        path = tmp_path / "m"
        path.mkdir()
    else:
        path = tmp_path / "m.csv"
        write_text(path, ["cell,A1BG,CD3D", "c1,1,2", "c2,B cell,2"])
    with pytest.raises(UserError) as error:
        read_matrix(path, VOCAB)
    assert path.name in str(error.value)


@pytest.mark.parametrize(
    ("name", "told"), [("m.rds", "Export the R object"), ("m.mtx.gz", "Give the folder"), ("m.xlsx", "Convert")]
)
def test_unknown_formats_are_refused(tmp_path, name, told):
    (tmp_path / name).touch()
    with pytest.raises(UserError, match=told):
        read_matrix(tmp_path / name, VOCAB)


def test_absent_matrix(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_matrix(tmp_path / "nothing.h5ad", VOCAB)


# --- blocks ---------------------------------------------------------------------------------------------


@pytest.fixture
def small_blocks(monkeypatch):
    """Every reader in blocks of a few cells."""
    for module in ("sources", "market", "anndata_store", "loom"):
        monkeypatch.setattr(f"spikgpt.read_input.{module}.BLOCK", 500)
    monkeypatch.setattr("spikgpt.base.h5ad.BLOCK", 500)
    monkeypatch.setattr("spikgpt.read_input.market.LARGEST_IN_MEMORY", 0)


def block_sizes(matrix) -> list[int]:
    return [block.shape[0] for block in matrix.blocks()]


@pytest.mark.parametrize("form", ["mtx", "10x h5", "csr", "csc", "dense", "zarr", "loom", "csv"])
def test_blocks_give_the_same_as_the_whole(tmp_path, counts, barcodes, small_blocks, form):
    holes = counts.toarray()
    holes[[0, 1, 17, CELLS - 1]] = 0
    counts = sparse.csr_matrix(holes)
    if form == "mtx":
        path = write_10x(tmp_path / "m", counts, barcodes, [[*pair, "Gene Expression"] for pair in HUMAN])
    elif form == "10x h5":
        kinds, genomes = ["Gene Expression"] * GENES, ["GRCh38"] * GENES
        path = write_10x_h5(tmp_path / "m.h5", counts, barcodes, IDS, SYMBOLS, kinds, genomes)
    elif form == "loom":
        path = tmp_path / "m.loom"
        with h5py.File(path, "w") as file:
            file["matrix"] = counts.toarray().T
            file["col_attrs/CellID"] = np.array(barcodes, dtype="S")
            file["row_attrs/Gene"] = np.array(SYMBOLS, dtype="S")
    elif form == "csv":
        path = tmp_path / "m.csv"
        pd.DataFrame(counts.toarray(), index=barcodes, columns=SYMBOLS).to_csv(path)
    else:
        made = counts.toarray() if form == "dense" else counts.tocsc() if form == "csc" else counts
        path = tmp_path / ("m.zarr" if form == "zarr" else "m.h5ad")
        adata = as_anndata(made, barcodes)
        adata.write_zarr(path) if form == "zarr" else adata.write_h5ad(path)
    matrix = read_matrix(path, VOCAB)
    same(matrix, counts, barcodes)
    with open_matrix(path, VOCAB) as opened:
        sizes = block_sizes(opened)
    assert len(sizes) > 3
    assert sum(sizes) == CELLS


def test_matrix_market_in_any_order_of_lines(tmp_path, counts, barcodes, small_blocks):
    folder = write_10x(tmp_path / "m", counts, barcodes, [[*pair, "Gene Expression"] for pair in HUMAN])
    lines = (folder / "matrix.mtx").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if not line.startswith("%")) + 1
    mixed = np.random.default_rng(0).permutation(lines[start:])
    (folder / "matrix.mtx").write_text("\n".join([*lines[:start], *mixed]) + "\n")
    same(read_matrix(folder, VOCAB), counts, barcodes)


def test_log1p_is_restored_in_blocks(tmp_path, counts, barcodes, small_blocks):
    as_anndata(log1p_cp10k(counts), barcodes).write_h5ad(tmp_path / "m.h5ad")
    matrix = read_matrix(tmp_path / "m.h5ad", VOCAB)
    same(matrix, counts, barcodes)
    assert sum("restored exactly" in message for message in matrix.messages) == 1


@pytest.mark.parametrize("first", ["counts", "log1p"])
def test_a_matrix_is_one_or_the_other_throughout(tmp_path, counts, barcodes, small_blocks, first):
    logged = log1p_cp10k(counts)
    parts = [counts[:20].astype(np.float32), logged[20:]] if first == "counts" else [logged[:20], counts[20:]]
    as_anndata(sparse.vstack(parts, format="csr"), barcodes).write_h5ad(tmp_path / "m.h5ad")
    with pytest.raises(UserError, match="does not hold raw counts"):
        read_matrix(tmp_path / "m.h5ad", VOCAB)


def test_10x_h5_is_what_scanpy_reads(tmp_path, counts, barcodes):
    import scanpy as sc

    kinds, genomes = ["Gene Expression"] * GENES, ["GRCh38"] * GENES
    path = write_10x_h5(tmp_path / "m.h5", counts, barcodes, IDS, SYMBOLS, kinds, genomes)
    theirs, ours = sc.read_10x_h5(path), read_matrix(path, VOCAB)
    same(ours, theirs.X.astype(np.int32), theirs.obs_names, theirs.var_names)
    assert ours.gene_ids == list(theirs.var["gene_ids"])


def test_names_with_spaces_and_suffixes(tmp_path, counts, barcodes):
    spaced = [f" {barcode} " for barcode in barcodes]
    folder = write_10x(tmp_path / "m", counts, spaced, [[i, f"{s} "] for i, s in HUMAN], genes="genes.tsv")
    # the suffix stays, the spaces go
    same(read_matrix(folder, VOCAB), counts, barcodes)
    twins = [barcodes[0], barcodes[0].replace("-1", "-2"), *barcodes[2:]]
    assert list(read_matrix(write_10x(tmp_path / "n", counts, twins, [[*g] for g in HUMAN]), VOCAB).barcodes) == twins


def test_genes_of_the_same_symbol_are_added_up(tmp_path, counts, barcodes, small_blocks):
    names = [*SYMBOLS[:-1], SYMBOLS[0]]
    kinds, genomes = ["Gene Expression"] * (GENES - 10) + ["Antibody Capture"] * 9 + ["Gene Expression"], [""] * GENES
    ids = [*IDS[:-1], IDS[0]]
    path = write_10x_h5(tmp_path / "m.h5", counts, barcodes, ids, names, kinds, genomes)
    matrix = read_matrix(path, VOCAB)
    expected = counts.toarray()[:, : GENES - 10]
    expected[:, 0] += counts.toarray()[:, -1]
    same(matrix, sparse.csr_matrix(expected), barcodes, SYMBOLS[: GENES - 10])
    assert matrix.feature_types_left_out == {"Antibody Capture": 9}
    assert any("share 1 symbols" in message for message in matrix.messages)


# --- the step -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cells", "genes"), [(1, GENES), (CELLS, 1), (1, 1)])
def test_one_cell_and_one_gene(tmp_path, model, counts, barcodes, cells, genes):
    small = counts[:cells, :genes] + sparse.csr_matrix(np.ones((cells, genes), dtype=np.int32))
    as_anndata(counts, barcodes)[:cells, :genes].copy().write_h5ad(tmp_path / "m.h5ad")
    adata = ad.read_h5ad(tmp_path / "m.h5ad")
    adata.X = small
    adata.write_h5ad(tmp_path / "m.h5ad")
    stats = import_counts("s", tmp_path / "m.h5ad", tmp_path / "out.h5ad", model, 0.3, filtered=True)
    assert ad.read_h5ad(tmp_path / "out.h5ad").shape == (cells, genes) == (stats["barcodes"], stats["genes"])


def test_barcodes_without_counts_leave_unfiltered_matrices_only(tmp_path, model, counts, barcodes):
    holes = counts.toarray()
    holes[5:9] = 0
    as_anndata(sparse.csr_matrix(holes), barcodes).write_h5ad(tmp_path / "m.h5ad")
    stats = import_counts("s", tmp_path / "m.h5ad", tmp_path / "out.h5ad", model, 0.3, filtered=True)
    kept = ad.read_h5ad(tmp_path / "out.h5ad")
    assert kept.n_obs == CELLS
    stats = import_counts("s", tmp_path / "m.h5ad", tmp_path / "out.h5ad", model, 0.3, filtered=False)
    kept = ad.read_h5ad(tmp_path / "out.h5ad")
    assert kept.n_obs == CELLS - 4
    assert (stats["barcodes"], stats["barcodes_without_counts"]) == (CELLS, 4)


def test_script_writes_the_contract_and_the_same_bytes(tmp_path, script, model, counts, barcodes):
    write_10x(tmp_path / "a b", counts, barcodes, [[f"{i}.3", s] for i, s in HUMAN], genes="genes.tsv")
    written = []
    for _ in range(2):
        done = script("import_counts.py", "--sample", "s1", "--matrix", "a b", "--scgpt-model", model)
        assert done.returncode == 0, done.stderr
        written.append((tmp_path / "s1.counts.h5ad").read_bytes())
    assert written[0] == written[1]
    adata = ad.read_h5ad(tmp_path / "s1.counts.h5ad")
    assert isinstance(adata.X, sparse.csr_matrix)
    assert adata.X.dtype == np.int32
    assert (counts != adata.X).nnz == 0
    assert list(adata.obs_names) == barcodes
    assert list(adata.var_names) == SYMBOLS
    assert list(adata.var["gene_id"]) == IDS
    stats = json.loads((tmp_path / "s1.import.json").read_text())
    assert stats["gene_match_counts"] == stats["gene_match_genes"] == 1.0
    assert {key: stats[key] for key in ("sample", "format", "filtered", "barcodes", "genes")} == {
        "sample": "s1", "format": "10x folder", "filtered": True, "barcodes": CELLS, "genes": GENES,
    }  # fmt: skip


def test_script_leaves_nothing_behind_a_mistake(tmp_path, script, model, counts, barcodes):
    adata = as_anndata(counts, barcodes)
    adata.var_names = [symbol.title() for symbol in SYMBOLS]
    adata.write_h5ad(tmp_path / "mouse.h5ad")
    done = script(
        "import_counts.py", "--sample", "s1", "--matrix", "mouse.h5ad", "--scgpt-model", model, "--species", "human"
    )
    assert done.returncode == 65
    assert done.stderr.startswith("SpikGPT stopped: ")
    assert "mouse" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "mouse.h5ad"]
