"""The corpus of bad input: each a real file, given to the command that the pipeline runs for it.

Every case must end with exit status 65, with one message that names the place, what was found, what was expected
and the next step, in the words of the table; without a traceback, and without a file left behind.
"""

import gzip
import json
import runpy
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import bad_files as bad
import numpy as np
import pytest
from bad_files import BARCODES, CELLS, COUNTS, GENES, SYMBOLS
from conftest import BIN
from scipy import sparse


@dataclass
class Case:
    """What a command is given, and the words that each line of its message must have."""

    name: str
    script: str
    make: bad.Maker
    what: str
    where: str
    found: str
    expected: str
    fix: str


def sheet(name: str, content: str | bytes | None, what: str, where: str, found: str, expected: str, fix: str) -> Case:
    return Case(f"sheet: {name}", "check_input.py", bad.check_input(content), what, where, found, expected, fix)


def matrix(name: str, make: bad.Maker, what: str, where: str, found: str, expected: str, fix: str) -> Case:
    return Case(f"matrix: {name}", "import_counts.py", make, what, where, found, expected, fix)


def ref(name: str, make: bad.Maker, what: str, where: str, found: str, expected: str, fix: str) -> Case:
    return Case(f"reference: {name}", "import_reference.py", make, what, where, found, expected, fix)


def model(name: str, make: bad.Maker, what: str, where: str, found: str, expected: str, fix: str) -> Case:
    return Case(f"annotator: {name}", "check_annotator.py", make, what, where, found, expected, fix)


def scgpt(name: str, make: bad.Maker, what: str, where: str, found: str, expected: str, fix: str) -> Case:
    return Case(f"scGPT: {name}", "embed_scgpt.py", make, what, where, found, expected, fix)


def text(content: bytes) -> bytes:
    return b"sample,filtered\n" + content


SHEETS = [
    sheet("empty", "", "is empty", "sheet.csv", "no line", "a header line", "list the samples"),
    sheet("header alone", "sample,filtered\n", "lists no sample", "sheet.csv", "only a header line",
          "one line per sample", "add the samples"),
    sheet("missing column", "filtered\nx.h5\n", "lacks a column", "line 1", "filtered", "'sample', and",
          "add the column"),
    sheet("misspelt column", "sample,filtred\na,x\n", "unknown column 'filtred'", "line 1", "sample, filtred",
          "did you mean 'filtered'", "rename or remove"),
    sheet("no column of matrices", "sample,age,path\na,40,x.h5\n", "lacks a column", "line 1", "sample, age, path",
          "'filtered' or 'unfiltered'", "if 'path' has the matrices, rename it to 'filtered'"),
    sheet("column twice", "sample,filtered,filtered\na,x,y\n", "'filtered' twice", "line 1", "filtered, filtered",
          "each column once", "remove one"),
    sheet("duplicate sample", "sample,filtered\na,x.h5\nb,y.h5\na,z.h5\n", "Two samples have the name 'a'",
          "lines 2 and 4, column sample", "a", "a different name", "rename one"),
    sheet("same but for case", "sample,filtered\na,x.h5\nA,y.h5\n", "Two samples", "lines 2 and 3", "A",
          "different name", "rename one"),
    sheet("name with a path", "sample,filtered\n../../etc/cron.d/a,x.h5\n", "'sample' has an invalid value",
          "line 2, column sample", "../../etc/cron.d/a", "letters, digits", "Name of the sample"),
    sheet("name with a command", "sample,filtered\na;rm -rf ~,x.h5\n", "'sample' has an invalid value",
          "line 2, column sample", "rm -rf", "letters, digits", "Name of the sample"),
    sheet("name of a result", "sample,filtered\ncohort,x.h5\n", "No sample can be called 'cohort'", "line 2",
          "cohort", "other than cohort", "rename the sample"),
    sheet("no matrix", "sample,filtered,unfiltered\na,,\n", "'filtered' has an invalid value",
          "line 2, column filtered", "no matrix", "'filtered', 'unfiltered' or both", "Counts of called cells"),
    sheet("more fields than columns", "sample,filtered\na,x.h5,y\n", "more fields than the header", "line 2",
          "3 fields", "2 fields", "quote fields"),
    sheet("a word for a number", "sample,filtered,min_genes\na,x.h5,many\n", "'min_genes' has an invalid value",
          "line 2, column min_genes", '"many"', "type integer", "fewer genes"),
    sheet("NaN for a number", "sample,filtered,max_mito_percentage\na,x.h5,nan\n",
          "'max_mito_percentage' has an invalid value", "column max_mito_percentage", "nan", "number", "mitochondrial"),
    sheet("Excel workbook", bad.workbook(), "is not a text file", "sheet.csv", "Excel workbook", "comma-separated",
          "save it as CSV"),
    sheet("old Excel workbook", b"\xd0\xcf\x11\xe0\xa1\xb1", "is not a text file", "sheet.csv", "old Excel",
          "comma-separated", "save it as CSV"),
    sheet("folder", None, "is not a text file", "sheet.csv", "a folder", "a file of comma-separated", "save it as CSV"),
    sheet("semicolons", "sample;filtered\na;x.h5\n", "separated by semicolons", "line 1", "sample;filtered", "commas",
          "CSV with commas"),
    sheet("tabs", "sample\tfiltered\na\tx.h5\n", "separated by tabs", "line 1", "filtered", "commas",
          "CSV with commas"),
    sheet("UTF-16", "sample,filtered\na,x.h5\n".encode("utf-16"), "not UTF-8", "byte 0", "xff", "UTF-8 text",
          "CSV in UTF-8"),
    sheet("Latin-1", text("a,x\u00e9.h5\n".encode("latin-1")), "not UTF-8", "byte 19", "xe9", "UTF-8 text",
          "CSV in UTF-8"),
    sheet("open quote", 'sample,filtered\n"a,x.h5\n' + "x" * 200_000, "cannot be read as comma-separated", "line",
          "field larger", "quoted where they hold a comma", "docs/usage.md"),
    sheet("web address", "sample,filtered\na,https://example.org/m.h5\n", "has a URL of an unsupported kind",
          "line 2, column filtered", "https://example.org/m.h5", "a path, or an address in a cloud's store",
          "download"),
    sheet("formula", "sample,filtered,condition\na,x.h5,=cmd|'/C calc'!A0\n", "a formula or control characters",
          "line 2, column condition", "begins as a formula", "does not begin as a formula", "another way"),
    sheet("control characters", "sample,filtered,batch\na,x.h5,run\x1b[2J1\n", "a formula or control characters",
          "line 2, column batch", "control character", "without control characters", "another way"),
]  # fmt: skip


def holes(values: np.ndarray) -> np.ndarray:
    made = values.astype(np.float32)
    made[3, 5] = np.nan
    return made


FORMATS = "10x .h5, .h5ad, .loom"
TRIPLET = "barcodes.tsv"
MATRICES = [
    matrix("nothing there", bad.import_counts(lambda path: None, "m.h5ad"), "does not exist", "m.h5ad", "nothing",
           FORMATS, "Correct the path"),
    matrix("h5ad cut short", bad.cut(lambda p: bad.cells().write_h5ad(p), "m.h5ad"), "cannot be read", "m.h5ad",
           "OSError", FORMATS, "copy it again"),
    matrix("h5 cut short", bad.cut(lambda p: bad.hdf5(bad.ten_x, p.name)(p.parent), "m.h5"), "cannot be read", "m.h5",
           "truncated", FORMATS, "copy it again"),
    matrix("empty file", bad.bytes_of(b"", "m.h5"), "cannot be read", "m.h5", "an empty file", FORMATS,
           "copy it again"),
    matrix("web page as h5", bad.bytes_of(b"<!DOCTYPE html><html>log in</html>", "m.h5ad"), "cannot be read",
           "m.h5ad", "a web page", FORMATS, "copy it again"),
    matrix("LFS pointer", bad.bytes_of(b"version https://git-lfs.github.com/spec/v1\n", "m.h5"), "cannot be read",
           "m.h5", "Git LFS pointer", FORMATS, "copy it again"),
    matrix("gzip cut short", bad.cut(lambda p: bad.triplet(p, packed=True), "m", "matrix.mtx.gz"), "cannot be read",
           "m", "ended before", FORMATS, "copy it again"),
    matrix("barcodes cut short", bad.cut(lambda p: bad.triplet(p, packed=True), "m", "barcodes.tsv.gz"),
           "cannot be read", "m", "ended before", FORMATS, "copy it again"),
    matrix("no matrix market", bad.folder_of(head="gene cell count"), "does not begin as a matrix market file",
           "line 1", "gene cell count", "%%MatrixMarket", "that the quantifier wrote"),
    matrix("market lines cut short", bad.cut(bad.triplet, "m", "matrix.mtx", 0.9), "cannot be read", "m", "Error",
           FORMATS, "copy it again"),
    matrix("wrong sizes", bad.folder_of(sizes="7 9 3"), "do not belong together", "m", "7 x 9", "features x barcodes",
           "same run"),
    matrix("barcodes of another run", bad.folder_of(barcodes=BARCODES[:-3]), "do not belong together", "m",
           "37 barcodes", "features x barcodes", "same run"),
    matrix("10 million rows claimed", bad.folder_of(sizes=f"10000000 {CELLS} 5000"), "do not belong together", "m",
           "10000000 x 40", "features x barcodes", "same run"),
    matrix("10 million values claimed", bad.folder_of(sizes=f"{GENES} {CELLS} 10000000"),
           "more values than it can hold", "matrix.mtx, line 2", "10,000,000 values", "rows, columns",
           "cut short or edited"),
    matrix("10^12 cells claimed", bad.edited_h5ad(lambda f: f["X"].attrs.modify("shape", [10**12, GENES])),
           "larger than any sample", "m.h5ad", "1,000,000,000,000 cells", "50,000,000 cells",
           "damaged file or an attack"),
    matrix("10 million cells in an h5", bad.hdf5(lambda f: bad.ten_x(f, cells=10**7)), "do not fit together", "m.h5",
           "10000000 cells", "a name for every row", "same run"),
    matrix("no barcodes file", bad.without("barcodes.tsv"), "has no barcodes.tsv", "m",
           "features.tsv, matrix.mtx", TRIPLET, "Copy the whole folder"),
    matrix("folder without a matrix", bad.import_counts(lambda p: p.mkdir(), "m"), "The folder has no matrix", "m",
           "nothing", TRIPLET, "filtered_feature_bc_matrix"),
    matrix("market file alone", bad.bytes_of(b"%%MatrixMarket\n", "matrix.mtx"), "not a known matrix format",
           "matrix.mtx", "a file called matrix.mtx", FORMATS, "Give the folder"),
    matrix("R object", bad.bytes_of(b"RDX3\n", "m.rds"), "not a known matrix format", "m.rds", "R data", FORMATS,
           "zellkonverter"),
    matrix("Excel as csv", bad.bytes_of(bad.workbook(), "m.csv"), "is not a text file", "m.csv", "Excel workbook",
           "comma- or tab-separated", "Export it as CSV"),
    matrix("trailing commas", bad.bytes_of(bad.table(tail=",").encode(), "m.csv"), "a column without a name",
           f"m.csv, column {GENES + 2}", "an empty name", "names in the first row", "commas at the end"),
    matrix("table of one column", bad.bytes_of(b"gene\nCD3D\n", "m.csv"), "one column only", "m.csv", "gene",
           "tab-separated", "commas or tabs"),
    matrix("rows of other lengths", bad.bytes_of(b"x,CD3D,MS4A1\nc1,1\n", "m.csv"), "differ in length", "line 2",
           "2 columns", "same number", "Write the table again"),
    matrix("words in a table", bad.bytes_of(b"x,CD3D,MS4A1\nc1,1,2\nc2,B cell,2\n", "m.csv"), "other than numbers",
           "column 'CD3D'", "B cell", "counts; names in the first", "Drop columns"),
    matrix("missing values in a table", bad.bytes_of(b"x,CD3D,MS4A1\nc1,1,2\nc2,NA,2\n", "m.csv"),
           "not hold raw counts", "m.csv", "NaN", "whole numbers", 'layers["counts"]'),
    matrix("empty table", bad.bytes_of(b"x,CD3D\n", "m.csv"), "table is empty", "m.csv", "no line after",
           "names in the first row", "written whole"),
    matrix("negative", bad.h5ad(bad.cells(COUNTS.astype(np.float32) - 1)), "not hold raw counts", "m.h5ad",
           "negative", "whole numbers", 'layers["counts"]'),
    matrix("NaN", bad.h5ad(bad.cells(holes(COUNTS))), "not hold raw counts", "m.h5ad", "NaN", "whole numbers",
           'layers["counts"]'),
    matrix("fractions", bad.h5ad(bad.cells(COUNTS * np.float32(0.37))), "not hold raw counts", "m.h5ad", "fractions",
           "whole numbers", 'layers["counts"]'),
    matrix("binarised", bad.h5ad(bad.cells(np.ones((CELLS, 300), np.int32), [f"CD{n}" for n in range(300)])),
           "not hold raw counts", "m.h5ad", "0 and 1", "whole numbers", 'layers["counts"]'),
    matrix("all zero", bad.h5ad(bad.cells(sparse.csr_matrix((CELLS, GENES), dtype=np.int32))), "no counts at all",
           "m.h5ad", "40 barcodes x 100 genes, all zero", "raw counts", "the one the quantifier wrote"),
    matrix("no cells", bad.h5ad(bad.cells(COUNTS[:0], barcodes=[])), "is empty", "m.h5ad", "0 cells x 100 genes",
           "at least one cell", "the quantifier wrote"),
    matrix("no genes", bad.h5ad(bad.cells(COUNTS[:, :0], symbols=[])), "is empty", "m.h5ad", "40 cells x 0 genes",
           "at least one cell", "the quantifier wrote"),
    matrix("barcode twice", bad.h5ad(bad.cells(barcodes=[*BARCODES[:-1], BARCODES[0]])), "occur more than once",
           "m.h5ad", BARCODES[0], "every barcode once", "a sample of its own"),
    matrix("transposed", bad.h5ad(bad.cells(COUNTS.T, BARCODES, SYMBOLS)), "not those the scGPT checkpoint knows",
           "m.h5ad", "cell barcodes: genes and cells seem to be swapped", "human gene symbols",
           "cells in rows and genes in columns"),
    matrix("mouse symbols", bad.h5ad(bad.cells(symbols=[n.capitalize() for n in SYMBOLS]), **{"--species": "human"}),
           "not of human, which --species says", "m.h5ad", "symbols are of mouse genes", "genes of human",
           "Leave --species out"),
    matrix("human symbols", bad.h5ad(bad.cells(), **{"--species": "mouse"}), "not of mouse, which --species says",
           "m.h5ad", "symbols in upper case", "Gapdh", "Leave --species out"),
    matrix("mouse ids", bad.h5ad(bad.cells(symbols=[f"ENSMUSG9{n:010d}" for n in range(GENES)])),
           "by way of a human ortholog", "m.h5ad", f"{GENES} of {GENES} genes are not the one ortholog", "at least 30%",
           "Give gene symbols"),
    matrix("rat ids", bad.h5ad(bad.cells(symbols=[f"ENSRNOG{n:011d}" for n in range(GENES)])),
           "The genes are of rat", "m.h5ad", "ENSRNOG", "genes of human, mouse, pig", "to human orthologs"),
    matrix("numbered genes", bad.h5ad(bad.cells(symbols=[str(n) for n in range(GENES)])), "not those the scGPT",
           "m.h5ad", "numbers: Entrez ids", "human gene symbols", "Give human gene symbols"),
    matrix("genes without a name", bad.h5ad(bad.cells(symbols=["", *SYMBOLS[1:]])), "1 genes have no name", "m.h5ad",
           "gene number 1", "a symbol or an Ensembl id", "Name or drop"),
    matrix("proteins alone", bad.hdf5(lambda f: bad.ten_x(f, "Antibody Capture")), "no gene expression", "m.h5",
           "100 features of type Antibody Capture", "type Gene Expression", "Give the gene expression matrix"),
    matrix("molecule_info", bad.hdf5(lambda f: f.create_group("molecules"), "molecule_info.h5"), "not a 10x matrix",
           "molecule_info.h5", "groups molecules", "filtered_feature_bc_matrix.h5", "Give the matrix .h5"),
    matrix("no AnnData", bad.hdf5(lambda f: f.create_group("x"), "m.h5ad"), "not an AnnData", "m.h5ad", "groups x",
           "X, obs and var", "write_h5ad"),
    matrix("no loom", bad.hdf5(lambda f: f.create_group("x"), "m.loom"), "not a loom", "m.loom", "groups x",
           "row_attrs", "velocyto"),
    matrix("layer that is not there", bad.h5ad(bad.cells(), **{"--counts-layer": "umis"}),
           "layer 'umis' does not exist", "m.h5ad", "X", "counts_layer", "Correct counts_layer"),
    matrix("column that is not there", bad.h5ad(bad.cells(), **{"--symbol-col": "name"}), "no column 'name'",
           "m.h5ad", "none", "symbol_col", "Correct symbol_col"),
    matrix("column for a folder", bad.import_counts(bad.triplet, "m", "--symbol-col", "name"),
           "for h5ad and zarr files only", "m", "symbol_col name", "an h5ad or a zarr", "Leave these columns"),
    matrix("unknown encoding", bad.edited_h5ad(lambda f: f["obs"].attrs.modify("encoding-type", "riddle")),
           "cannot be read", "m.h5ad", "riddle", FORMATS, "copy it again"),
    matrix("indices outside",
           bad.edited_h5ad(lambda f: bad.replace(f, "X/indices", np.full(len(f["X/indices"]), 10**6))),
           "cannot be read", "m.h5ad", "ValueError", FORMATS, "copy it again"),
    matrix("pointers that fall", bad.edited_h5ad(lambda f: bad.replace(f, "X/indptr", f["X/indptr"][:][::-1])),
           "cannot be read", "m.h5ad", "Error", FORMATS, "copy it again"),
    matrix("archive without a matrix", bad.archive(bad.member("notes.pdf")), "archive has no matrix",
           "m.tar.gz", "notes.pdf", TRIPLET, "Pack the folder"),
    matrix("archive with a link", bad.archive(bad.member("m/matrix.mtx", tarfile.SYMTYPE)), "not safe to unpack",
           "m.tar.gz", "a link or device", "plain files", "Pack the folder again"),
    matrix("archive cut short", bad.cut(lambda p: p.write_bytes(gzip.compress(bytes(9000))), "m.tar.gz"),
           "cannot be read", "m.tar.gz", "Error", FORMATS, "copy it again"),
    matrix("formula as a barcode", bad.h5ad(bad.cells(barcodes=["=HYPERLINK(0)", *BARCODES[1:]])),
           "One of the barcodes is no name", "number 1", "begins as a formula", "does not begin as a formula",
           "Rename"),
]  # fmt: skip

REFERENCES = [
    ref("no such column", bad.reference(column="celltype"), "no column 'cell_type'",
        "ref.h5ad, --label_key cell_type", "celltype", "a column of obs", "did you mean celltype"),
    ref("one class", bad.reference(["B cell"] * CELLS), "one cell type only", "obs column cell_type",
        "'B cell' for all 40", "at least two", "another column"),
    ref("no labels", bad.reference([None, "nan", "unknown", "Doublet"] * (CELLS // 4)), "No cell of the reference has",
        "obs column cell_type", "no label, Doublet, nan, unknown", "at least two cell types", "another column"),
    ref("two spellings", bad.reference(["B cell", "B cells", "T cell", "NK"] * (CELLS // 4)), "differ in spelling",
        "obs column cell_type", "'B cell' (10 cells) and 'B cells' (10 cells)", "one spelling",
        "--merge_similar_labels"),
    ref("label to exclude that is not there", bad.reference(None, "--exclude-labels", "B cell,Tcel"),
        "no label 'Tcel' to exclude", "--exclude_labels", "B cell, T cell", "separated by commas", "mean 'T cell'?"),
    ref("a level that its labels do not have", bad.reference(None, "--label-levels", "lineage"),
        "no column 'lineage'", "ref.h5ad, --label_levels lineage", "cell_type", "a column of obs", "--label_levels"),
    ref("numbers as labels", bad.reference([n % 4 for n in range(CELLS)]), "are numbers", "obs column cell_type",
        "0, 1, 2, 3", "names of cell types", "Name another column"),
    ref("numbers as text", bad.reference([str(n % 4) for n in range(CELLS)]), "are numbers", "obs column cell_type",
        "0, 1, 2, 3", "names of cell types", "clusters"),
    ref("formula as a label", bad.reference(['=cmd|"/C calc"!A0', "B cell"] * (CELLS // 2)),
        "One of the labels is no name", "obs column cell_type", "begins as a formula", "does not begin", "Rename"),
    ref("no gene in common", bad.reference(symbols=[f"gene{n}" for n in range(GENES)]), "not those the scGPT",
        "ref.h5ad", "of the counts are on known genes", "human gene symbols", "Give human gene symbols"),
    ref("normalised", bad.reference(counts=COUNTS * np.float32(0.37)), "not hold raw counts", "ref.h5ad", "fractions",
        "whole numbers", 'layers["counts"]'),
    ref("cell without a batch", bad.reference(None, "--batch-key", "library"),
        "20 of 40 cells of the reference have no batch", "obs column library", BARCODES[1], "a batch for every cell",
        "--batch_key"),
    ref("cell without counts", bad.reference(counts=np.vstack([COUNTS[:1] * 0, COUNTS[1:]])),
        "1 cells of the reference have no counts", "ref.h5ad", BARCODES[0], "never filtered", "Drop these cells"),
]  # fmt: skip

WHOLE = "as a training run wrote it"
MODELS = [
    model("no folder", lambda folder: ["--annotator", "nothing", "--scgpt-model", bad.MINI],
          "file of the annotator is missing", "config.json", "nothing there", "model.safetensors",
          "the whole folder"),
    model("missing tensors", bad.annotator(lambda f: (f / "model.safetensors").unlink()),
          "file of the annotator is missing", "model.safetensors", "README.md, config.json", "config.json",
          "the whole folder"),
    model("other format version", bad.annotator(bad.config(lambda c: c.update(format_version=99), True)),
          "a format that this version", "config.json", "format_version 99", "format_version 3",
          "train it again with --reference"),
    model("edited JSON", bad.annotator(bad.config(lambda c: c.update(unknown_rate=0.4))), "damaged or was edited",
          "config.json", "digest does not fit", WHOLE, "copy the folder again"),
    model("class renamed, digest too", bad.annotator(bad.config(lambda c: c["classes"].append("new"), True)),
          "damaged or was edited", "model.safetensors", "does not fit config.json", WHOLE, "copy the folder again"),
    model("field missing", bad.annotator(bad.config(lambda c: c.pop("genes"), True)), "damaged or was edited",
          "config.json", "field genes is missing", WHOLE, "copy the folder again"),
    model("field of another type", bad.annotator(bad.config(lambda c: c.update(classes="B cell"), True)),
          "damaged or was edited", "config.json", "field classes is of type str", WHOLE, "copy the folder again"),
    model("not JSON", bad.annotator(lambda f: (f / "config.json").write_text("{")), "damaged or was edited",
          "config.json", "no JSON", WHOLE, "copy the folder again"),
    model("nested too deep", bad.annotator(lambda f: (f / "config.json").write_text("[" * 200_000)),
          "damaged or was edited", "config.json", "no JSON", WHOLE, "copy the folder again"),
    model("truncated tensors", bad.annotator(lambda f: bad.truncate(f / "model.safetensors")),
          "damaged or was edited", "model.safetensors", "its sha256", WHOLE, "copy the folder again"),
    model("other scGPT", bad.other_checkpoint, "another scGPT checkpoint", "config.json", "sha256", "(scgpt-mini)",
          "give --scgpt_model that checkpoint"),
    model("file for a folder", lambda folder: ["--annotator", __file__, "--scgpt-model", bad.MINI],
          "file of the annotator is missing", "config.json", "nothing there", "a folder with config.json",
          "the whole folder"),
]  # fmt: skip

CHECKPOINTS = [
    Case("scGPT: truncated, found before training", "import_reference.py",
         bad.with_checkpoint(bad.reference(), lambda f: bad.truncate(f / "best_model.pt")), "weights cannot be read",
         "best_model.pt", "bytes", "tensors by name", "Copy the file again"),
    scgpt("missing weights", bad.checkpoint(lambda f: (f / "best_model.pt").unlink()), "checkpoint is not complete",
          "scgpt", "args.json", "best_model.pt", "complete scGPT checkpoint"),
    scgpt("truncated weights", bad.checkpoint(lambda f: bad.truncate(f / "best_model.pt")), "weights cannot be read",
          "best_model.pt", "bytes", "tensors by name", "Copy the file again"),
    scgpt("weight missing", bad.checkpoint(bad.state(lambda w: w.pop("encoder.enc_norm.bias"))),
          "1 parameters are wrong", "best_model.pt", "encoder.enc_norm.bias", "every parameter",
          "one and the same checkpoint"),
    scgpt("NaN in the weights", bad.checkpoint(bad.state(lambda w: w["encoder.enc_norm.bias"].fill_(float("nan")))),
          "1 parameters are wrong", "best_model.pt", "no finite real numbers", "every parameter",
          "one and the same checkpoint"),
    scgpt("settings are no JSON", bad.checkpoint(lambda f: (f / "args.json").write_text("embsize: 64")),
          "is not JSON", "args.json", "Expecting value", "a JSON object", "Copy the checkpoint again"),
    scgpt("vocabulary of another model",
          bad.checkpoint(lambda f: (f / "vocab.json").write_text('{"<pad>": 0, "<cls>": 1}')), "parameters are wrong",
          "best_model.pt", "the vocabulary has 2 tokens", "every parameter", "one and the same"),
]  # fmt: skip

ANNOTATED = [
    Case("annotate: other number of cells", "annotate.py", bad.annotate(np.zeros((3, 64), np.float32)),
         "embedding is not that of the cells", "s1.norm.h5ad", "40 cells, 3 embeddings", "40 cells", "each once"),
    Case("annotate: other width", "annotate.py", bad.annotate(np.zeros((CELLS, 7), np.float32)),
         "not those of the annotator's scGPT", "embedding", "7 numbers a cell", "64", "embed the sample with"),
    Case("annotate: no gene in common", "annotate.py",
         bad.annotate(np.zeros((CELLS, 64), np.float32), [f"gene{n}" for n in range(GENES)]),
         "shares no gene with the annotator", "genes of the sample", "gene0", "", "species"),
]  # fmt: skip

CASES = [*SHEETS, *MATRICES, *REFERENCES, *MODELS, *CHECKPOINTS, *ANNOTATED]
LINES = ("where", "found", "expected", "next step")


def run(name: str, args: list, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a script of bin/ as its own main program, in this process; its exit status."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [name, *map(str, args)])
    # for the rest of this process, which is not the script's own
    monkeypatch.setattr("spikgpt.cli.pin_process", lambda: None)
    try:
        runpy.run_path(str(BIN / name), run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def check_message(case: Case, told: str) -> None:
    """One message, all of its lines, each with the words of the table."""
    assert told.count("SpikGPT stopped: ") == 1, told
    assert "Traceback" not in told
    head, *lines = told[told.index("SpikGPT stopped: ") :].splitlines()
    said: dict[str, str] = {}
    for line in lines:
        name = next((name for name in LINES if line.startswith(f"  {name}:")), None)
        assert name is not None or line.startswith("      "), f"beyond the message: {line}"
        said[name or list(said)[-1]] = said.get(name or list(said)[-1], "") + line
    assert list(said) == list(LINES), told
    assert case.what in head
    for name, words in zip(LINES, (case.where, case.found, case.expected, case.fix), strict=True):
        assert words in said[name], f"{words!r} is not in: {said[name]}"
        assert said[name].split(":", 1)[1].strip(), f"{name} is empty: {told}"


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_the_corpus_is_large_and_its_names_differ():
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_ends_with_one_message_and_no_file(case, tmp_path, monkeypatch, capfd):
    args = case.make(tmp_path)
    before = files(tmp_path)
    capfd.readouterr()
    assert run(case.script, args, tmp_path, monkeypatch) == 65
    out, told = capfd.readouterr()
    check_message(case, told)
    assert not out
    assert files(tmp_path) == before


BY_NAME = {case.name: case for case in CASES}


@pytest.mark.parametrize(
    "name", ["sheet: semicolons", "matrix: gzip cut short", "matrix: indices outside", "annotator: other scGPT"]
)
def test_the_same_in_a_process_of_its_own(name, tmp_path, script):
    case = BY_NAME[name]
    args = case.make(tmp_path)
    before = files(tmp_path)
    done = script(case.script, *args)
    assert done.returncode == 65
    check_message(case, done.stderr)
    assert not done.stdout
    assert files(tmp_path) == before


BOM = "\ufeff"
SOUND = {
    "table with a byte order mark": bad.bytes_of((BOM + bad.table()).encode(), "m.csv"),
    "table with Windows line ends": bad.bytes_of(bad.table(ending="\r\n").encode(), "m.csv"),
    "packed table without .gz": bad.bytes_of(gzip.compress(bad.table().encode()), "m.csv"),
    "table that a browser unpacked": bad.bytes_of(bad.table().encode(), "m.csv.gz"),
    "10x folder with Windows line ends": bad.folder_of(
        head="%%MatrixMarket matrix coordinate integer general\r", barcodes=[f"{name}\r" for name in BARCODES],
        features=[[name, name, "Gene Expression\r"] for name in SYMBOLS],
    ),
    "10x folder with a byte order mark": bad.folder_of(barcodes=[BOM + BARCODES[0], *BARCODES[1:]]),
}  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
def test_what_editors_leave_in_files_is_no_mistake(name, tmp_path, monkeypatch):
    assert run("import_counts.py", SOUND[name](tmp_path), tmp_path, monkeypatch) == 0
    made = ad.read_h5ad(tmp_path / "s1.counts.h5ad")
    assert list(made.obs_names) == BARCODES
    assert list(made.var_names) == SYMBOLS
    np.testing.assert_array_equal(made.X.toarray(), COUNTS)


@pytest.mark.filterwarnings("ignore")
def test_one_cell_comes_through_quality_control(tmp_path, monkeypatch):
    make = bad.h5ad(bad.cells(sparse.csr_matrix(COUNTS[:1]), barcodes=BARCODES[:1]))
    (tmp_path / "thresholds.json").write_text("{}")
    counts = ["--sample", "s1", "--h5ad", "s1.counts.h5ad"]
    for name, args in (
        ("import_counts.py", make(tmp_path)),
        ("qc_metrics.py", counts),
        ("detect_doublets.py", [*counts, "--seed", 0]),
        ("filter_cells.py", [*counts, "--qc", "s1.qc.parquet", "--doublets", "s1.doublets.parquet",
                             "--thresholds", "thresholds.json"]),
    ):  # fmt: skip
        assert run(name, args, tmp_path, monkeypatch) == 0, name
    # kept, or reported as removed: no cell is lost
    removed = gzip.decompress((tmp_path / "s1.removed.tsv.gz").read_bytes()).decode().splitlines()[1:]
    assert len(removed) + json.loads((tmp_path / "s1.filter.json").read_text())["cells_out"] == 1
