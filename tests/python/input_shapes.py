"""The same real cells in the shapes of file that quantifiers, repositories and other software leave."""

import gzip
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from scipy import sparse
from spikgpt.base.genes import human_genes

CELLS, GENES = 60, 1500


@dataclass
class Cells:
    """Raw counts (cells x genes, int32) with barcodes, current symbols and their Ensembl ids."""

    counts: sparse.csr_matrix
    barcodes: list[str]
    symbols: list[str]
    ids: list[str]

    def parts(self, *shares: float) -> list[sparse.csr_matrix]:
        """The counts split at random; the parts add up to them."""
        rng = np.random.default_rng(0)
        drawn = np.array([rng.multinomial(count, [*shares, 1 - sum(shares)]) for count in self.counts.data])
        return [
            sparse.csr_matrix((part.astype(np.int32), self.counts.indices, self.counts.indptr), self.counts.shape)
            for part in drawn.T
        ]


def pairs(cells: Cells) -> list[tuple[str, str]]:
    """Ids and symbols."""
    return list(zip(cells.ids, cells.symbols, strict=True))


def real_cells(demo: Path) -> Cells:
    """Cells of the demo with its most frequent genes.

    Its authors left mitochondrial genes out; thirteen other genes are called by their names, so that a share of them
    can be looked at. HLA genes have their own names again.
    """
    cells = ad.read_h5ad(demo / "human1_lib3.h5ad")[:CELLS]
    symbols = [re.sub(r"^HLA\.", "HLA-", name) for name in cells.var_names]
    current = np.array([name in human_genes() and bool(human_genes()[name].gene_id) for name in symbols])
    totals = np.asarray(cells.X.sum(axis=0)).ravel()
    order = [at for at in np.argsort(-totals, kind="stable") if current[at]][:GENES]
    names = [symbols[at] for at in order]
    mitochondrial = sorted(name for name in human_genes() if re.fullmatch(r"MT-(ND\d|ND4L|CO\d|ATP\d|CYB)", name))
    for place, name in enumerate(mitochondrial):
        names[20 + place] = name
    by_name = sorted(range(GENES), key=lambda at: names[at])
    counts = sparse.csr_matrix(cells.X[:, order][:, by_name], dtype=np.int32)
    counts.eliminate_zeros()
    counts.sort_indices()
    names = [names[at] for at in by_name]
    barcodes = ["".join("ACGT"[(n >> 2 * place) % 4] for place in range(12)) + "-1" for n in range(1000, 1000 + CELLS)]
    return Cells(counts, barcodes, names, [human_genes()[name].gene_id for name in names])


# --- writers ------------------------------------------------------------------------------------------------


def text(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def market(path: Path, matrix: object, head: str = "coordinate integer general", form: str = "{}") -> None:
    at = sparse.coo_matrix(matrix)
    values = zip(at.row, at.col, at.data, strict=True)
    lines = [f"{row + 1} {column + 1} {form.format(value)}" for row, column, value in values]
    text(path, [f"%%MatrixMarket matrix {head}", f"{at.shape[0]} {at.shape[1]} {at.nnz}", *lines])


def triplet(
    folder: Path,
    cells: Cells,
    matrix: str = "matrix.mtx.gz",
    barcodes: str = "barcodes.tsv.gz",
    features: str = "features.tsv.gz",
    rows: list[str] | None = None,
    turned: bool = True,
    **more: str,
) -> Path:
    """A folder with a matrix, barcodes and features; `rows` are the lines of the features."""
    market(folder / matrix, cells.counts.T if turned else cells.counts, **more)
    text(folder / barcodes, cells.barcodes)
    text(folder / features, rows or [f"{i}\t{s}\tGene Expression" for i, s in pairs(cells)])
    return folder


def anndata(cells: Cells, counts: object = None, **more: object) -> ad.AnnData:
    made = cells.counts.astype(np.float32) if counts is None else counts
    var = pd.DataFrame({"gene_ids": cells.ids}, index=cells.symbols)
    return ad.AnnData(made, obs=pd.DataFrame(index=cells.barcodes), var=var, **more)


def h5ad(folder: Path, made: ad.AnnData, name: str = "m.h5ad") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    made.write_h5ad(folder / name)
    return folder / name


def log1p(counts: sparse.csr_matrix, to: float = 1e4) -> sparse.csr_matrix:
    made = counts.astype(np.float64)
    made.data *= np.repeat(to / np.asarray(made.sum(axis=1)).ravel(), np.diff(made.indptr))
    return made.log1p().astype(np.float32)


def table(
    path: Path, rows: list[str], columns: list[str], values: np.ndarray, separator: str = ",", corner: str = "",
    before: Iterable[str] = (), form: str = "{}",
) -> Path:  # fmt: skip
    lines = [separator.join([corner, *columns])]
    lines += [separator.join([name, *(form.format(v) for v in row)]) for name, row in zip(rows, values, strict=True)]
    text(path, [*before, *lines])
    return path


def with_rows(cells: Cells, names: list[str], counts: np.ndarray, ids: list[str] | None = None) -> Cells:
    """More rows, as antibodies are; counts of shape (cells, names)."""
    joined = sparse.csr_matrix(sparse.hstack([cells.counts, sparse.csr_matrix(counts)]), dtype=np.int32)
    return Cells(joined, cells.barcodes, [*cells.symbols, *names], [*cells.ids, *(ids or names)])


def pack(path: Path, folder: Path) -> Path:
    """A folder as .tar.gz or .zip."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(folder.rglob("*")):
                archive.write(file, file.relative_to(folder.parent))
    else:
        with tarfile.open(path, "w:gz") as tar:
            tar.add(folder, folder.name)
    return path


def old_anndata(path: Path, cells: Cells) -> Path:
    """As anndata 0.6 wrote it: obs and var tables of records, names of categories in uns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        group = file.create_group("X")
        group.attrs["h5sparse_format"], group.attrs["h5sparse_shape"] = "csr", np.array(cells.counts.shape)
        group["data"] = cells.counts.data.astype(np.float32)
        group["indices"], group["indptr"] = cells.counts.indices, cells.counts.indptr
        kinds = np.arange(CELLS) % 2
        obs = np.zeros(CELLS, dtype=[("index", "S20"), ("cell_type", "i1")])
        obs["index"], obs["cell_type"] = cells.barcodes, kinds
        var = np.zeros(GENES, dtype=[("index", "S30"), ("gene_ids", "S20")])
        var["index"], var["gene_ids"] = cells.symbols, cells.ids
        file["obs"], file["var"] = obs, var
        file["uns/cell_type_categories"] = np.array(["B cell", "T cell"], dtype="S")
    return path


def sharded_zarr(path: Path, cells: Cells) -> Path:
    import zarr

    ad.settings.zarr_write_format = 3
    try:
        anndata(cells, cells.counts.toarray()).write_zarr(path)
    finally:
        ad.settings.zarr_write_format = 2
    del zarr.open_group(path)["X"]
    made = zarr.create_array(path / "X", shape=(CELLS, GENES), chunks=(10, 100), shards=(20, 500), dtype="float32")
    made[:] = cells.counts.toarray()
    made.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    zarr.consolidate_metadata(path)
    return path


def loom(path: Path, cells: Cells, matrix: np.ndarray, **layers: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["matrix"] = matrix.T
        for name, values in layers.items():
            file[f"layers/{name}"] = values.T
        file["row_attrs/Gene"] = np.array(cells.symbols, dtype="S")
        file["row_attrs/Accession"] = np.array(cells.ids, dtype="S")
        file["col_attrs/CellID"] = np.array(cells.barcodes, dtype="S")
    return path


Shape = Callable[[Path, Cells], Path]
SHAPES: dict[str, Shape] = {}
"""Every shape that must give the plain folder's cells, counts and symbols; name to what writes it into a folder."""


def shape(name: str) -> Callable[[Shape], Shape]:
    def add(write: Shape) -> Shape:
        assert name not in SHAPES
        SHAPES[name] = write
        return write

    return add


def made(name: str, write: Shape) -> None:
    shape(name)(write)


# --- folders ------------------------------------------------------------------------------------------------

both = lambda c: [f"{i}\t{s}" for i, s in pairs(c)]  # noqa: E731

made("Cell Ranger 3", lambda p, c: triplet(p / "m", c))
made("Cell Ranger 2", lambda p, c: triplet(p / "m/hg19", c, "matrix.mtx", "barcodes.tsv", "genes.tsv", both(c)))
made("STARsolo Gene", lambda p, c: triplet(p / "m", c, "matrix.mtx", "barcodes.tsv", "features.tsv"))
made("float, all whole (STARsolo)", lambda p, c: triplet(p / "m", c, head="coordinate float general", form="{}.000"))
made("real, all whole", lambda p, c: triplet(p / "m", c, head="coordinate real general", form="{}.0"))
made("DNBelab C4", lambda p, c: triplet(p / "filter_matrix", c, rows=both(c)))
made("symbols alone", lambda p, c: triplet(p / "m", c, features="genes.tsv", rows=c.symbols))
made("ids alone", lambda p, c: triplet(p / "m", c, features="genes.tsv", rows=c.ids))
made("columns swapped", lambda p, c: triplet(p / "m", c, rows=[f"{s}\t{i}" for i, s in pairs(c)]))
made("biotypes as types", lambda p, c: triplet(p / "m", c, rows=[f"{row}\tprotein_coding" for row in both(c)]))
made("type in lower case", lambda p, c: triplet(p / "m", c, rows=[f"{row}\tGene expression" for row in both(c)]))
made(
    "ragged features",
    lambda p, c: triplet(
        p / "m",
        c,
        rows=[f"{row}\tGene Expression" + ("\tchr1\t1\t2" if n > 3 else "") for n, row in enumerate(both(c))],
    ),
)
made("versions", lambda p, c: triplet(p / "m", c, rows=[f"{i}.7\t{s}" for i, s in pairs(c)]))
made("genome before symbols", lambda p, c: triplet(p / "m", c, rows=[f"GRCh38_{s}" for s in c.symbols]))
made("genome of Seurat", lambda p, c: triplet(p / "m", c, rows=[f"GRCh38-{s}" for s in c.symbols]))
made("genome before both", lambda p, c: triplet(p / "m", c, rows=[f"hg19_{i}\thg19_{s}" for i, s in pairs(c)]))
made(
    "GEO prefix",
    lambda p, c: triplet(p / "m", c, "GSM1_A_matrix.mtx.gz", "GSM1_A_barcodes.tsv.gz", "GSM1_A_features.tsv.gz"),
)
made("GEO suffix", lambda p, c: triplet(p / "m", c, "matrix_S1.mtx.gz", "barcodes_S1.tsv.gz", "genes_S1.tsv.gz"))
made(
    "GEO prefixes that differ",
    lambda p, c: triplet(p / "m", c, "GSM1_matrix.mtx.gz", "GSM1_x_barcodes.tsv.gz", "GSE9_genes.tsv.gz"),
)
made("GEO dots", lambda p, c: triplet(p / "m", c, "S1.matrix.mtx.gz", "S1.barcodes.tsv.gz", "S1.features.tsv.gz"))
made(
    "header lines in both",
    lambda p, c: (
        triplet(p / "m", c, rows=["gene_id\tgene_name", *both(c)]),
        text(p / "m/barcodes.tsv.gz", ["barcode", *c.barcodes]),
    )[0],
)
made(
    "R's quotes and row numbers",
    lambda p, c: (
        triplet(
            p / "m",
            c,
            barcodes="barcodes.csv",
            features="genes.csv",
            rows=['"","gene"', *(f'"{n}","{s}"' for n, s in enumerate(c.symbols, 1))],
        ),
        text(p / "m/barcodes.csv", ['"","x"', *(f'"{n}","{b}"' for n, b in enumerate(c.barcodes, 1))]),
    )[0],
)
made(
    "gz that is not packed",
    lambda p, c: (triplet(p / "m", c), (p / "m/barcodes.tsv.gz").write_bytes("\n".join(c.barcodes).encode()))[0],
)
made(
    "packed without gz",
    lambda p, c: (
        triplet(p / "m", c, matrix="matrix.mtx"),
        (p / "m/matrix.mtx").write_bytes(gzip.compress((p / "m/matrix.mtx").read_bytes())),
    )[0],
)
made(
    "alevin-fry",
    lambda p, c: triplet(
        p / "alevin", c, "quants_mat.mtx", "quants_mat_rows.txt", "quants_mat_cols.txt", c.ids, turned=False
    ),
)
made(
    "kb-python",
    lambda p, c: (
        triplet(
            p / "counts_unfiltered",
            c,
            "cells_x_genes.mtx",
            "cells_x_genes.barcodes.txt",
            "cells_x_genes.genes.txt",
            c.ids,
            turned=False,
        ),
        text(p / "counts_unfiltered/cells_x_genes.genes.names.txt", c.symbols),
    )[0],
)
made("bustools", lambda p, c: triplet(p / "m", c, "s1.mtx", "s1.barcodes.txt", "s1.genes.txt", c.ids, turned=False))
for mtx in ("DGE.mtx", "count_matrix.mtx"):
    made(
        f"split-pipe {mtx}",
        lambda p, c, mtx=mtx: (
            triplet(
                p / "DGE_filtered",
                c,
                mtx,
                "cell_metadata.csv",
                "all_genes.csv",
                ["gene_id,gene_name,genome", *(f"{i},{s},hg38" for i, s in pairs(c))],
                turned=False,
            ),
            text(
                p / "DGE_filtered/cell_metadata.csv",
                ["bc_wells,sample,gene_count", *(f"{b},all,3" for b in c.barcodes)],
            ),
        )[0],
    )
made(
    "EM beside",
    lambda p, c: (
        triplet(p / "m", c, "matrix.mtx", "barcodes.tsv", "features.tsv"),
        market(p / "m/UniqueAndMult-EM.mtx", c.counts.T, "coordinate float general", "{}.5"),
    )[0],
)
made(
    "metadata beside",
    lambda p, c: (triplet(p / "m", c), text(p / "m/cells_metadata.tsv.gz", [f"{b}\tT cell" for b in c.barcodes]))[0],
)
made("genomes side by side", lambda p, c: (triplet(p / "m/GRCh38", c), triplet(p / "m/mm10", c))[0].parent)
made(
    "outs of Cell Ranger",
    lambda p, c: (
        (triplet(p / "outs/filtered_feature_bc_matrix", c), triplet(p / "outs/raw_feature_bc_matrix", c))[0].parent
    ),
)
made("tar", lambda p, c: pack(p / "m.tar.gz", triplet(p / "in/m", c)))
made("zip", lambda p, c: pack(p / "m.zip", triplet(p / "in/m", c)))
made("BD's MEX zip", lambda p, c: pack(p / "S1_RSEC_MolsPerCell_MEX.zip", triplet(p / "in/MEX", c)))
made(
    "tar of GEO",
    lambda p, c: pack(
        p / "GSE1_RAW.tar.gz", triplet(p / "in/m", c, "GSM1_matrix.mtx.gz", "GSM1_barcodes.tsv.gz", "GSM1_genes.tsv.gz")
    ),
)
made("zip of an h5ad", lambda p, c: pack(p / "m.zip", h5ad(p / "in/m", anndata(c)).parent))


# --- parts of the counts ------------------------------------------------------------------------------------

THIRDS = (0.5, 0.4)


def usa(p: Path, c: Cells, names: list[str], endings: tuple[str, ...] = ("", "-U", "-A")) -> Path:
    joined = Cells(sparse.csr_matrix(sparse.hstack(c.parts(*THIRDS))), c.barcodes, [], [])
    rows = [f"{name}{ending}" for ending in endings for name in names]
    return triplet(p / "alevin", joined, "quants_mat.mtx", "quants_mat_rows.txt", "quants_mat_cols.txt", rows,
                   turned=False)  # fmt: skip


made("alevin-fry USA, ids", lambda p, c: usa(p, c, c.ids))
made("alevin-fry USA, symbols", lambda p, c: usa(p, c, c.symbols))
made(
    "introns by -I",
    lambda p, c: triplet(
        p / "m",
        Cells(sparse.csr_matrix(sparse.hstack(c.parts(0.7))), c.barcodes, [], []),
        features="genes.tsv",
        rows=[*c.ids, *(f"{i}-I" for i in c.ids)],
    ),
)
made(
    "USA in an h5ad",
    lambda p, c: h5ad(
        p,
        ad.AnnData(
            sparse.csr_matrix(sparse.hstack(c.parts(*THIRDS))),
            obs=pd.DataFrame(index=c.barcodes),
            var=pd.DataFrame(index=[f"{i}{end}" for end in ("", "-U", "-A") for i in c.ids]),
        ),
    ),
)


def five_numbers(p: Path, c: Cells) -> Path:
    triplet(p / "Velocyto", c, "matrix.mtx", "barcodes.tsv", "features.tsv")
    parts = [sparse.csr_matrix(part.T).toarray() for part in c.parts(*THIRDS)]
    rows, columns = np.nonzero(sum(parts))
    found = zip(rows, columns, strict=True)
    lines = [f"{gene + 1} {cell + 1} {' '.join(str(part[gene, cell]) for part in parts)}" for gene, cell in found]
    text(p / "Velocyto/matrix.mtx", ["%%MatrixMarket matrix coordinate integer general", "%",
                                     f"{GENES} {CELLS} {len(lines)}", *lines])  # fmt: skip
    return p / "Velocyto"


made("five numbers a line (STARsolo Velocyto)", five_numbers)


def velocyto_folder(p: Path, c: Cells) -> Path:
    triplet(p / "m", c, "matrix.mtx", "barcodes.tsv", "features.tsv")
    (p / "m/matrix.mtx").unlink()
    for name, part in zip(("spliced", "unspliced", "ambiguous"), c.parts(*THIRDS), strict=True):
        market(p / f"m/{name}.mtx", part.T)
    return p / "m"


made("three matrices (STARsolo Velocyto)", velocyto_folder)


def nac(p: Path, c: Cells) -> Path:
    for name, part in zip(("mature", "nascent", "ambiguous"), c.parts(*THIRDS), strict=True):
        market(p / f"m/cells_x_genes.{name}.mtx", part)
    market(p / "m/cells_x_genes.cell.mtx", c.parts(*THIRDS)[0])
    text(p / "m/cells_x_genes.barcodes.txt", c.barcodes)
    text(p / "m/cells_x_genes.genes.txt", c.ids)
    text(p / "m/cells_x_genes.genes.names.txt", c.symbols)
    return p / "m"


made("kb-python nac", nac)


def lamanno(p: Path, c: Cells) -> Path:
    """Each part has barcodes and genes of its own; the cells come in another order in the second."""
    spliced, unspliced = c.parts(0.6)
    order = np.random.default_rng(1).permutation(CELLS)
    for name, part, barcodes in (("spliced", spliced, c.barcodes),
                                 ("unspliced", unspliced[order], [c.barcodes[n] for n in order])):  # fmt: skip
        market(p / f"m/{name}.mtx", part)
        text(p / f"m/{name}.barcodes.txt", barcodes)
        text(p / f"m/{name}.genes.txt", c.ids)
    return p / "m"


made("kb-python lamanno", lamanno)


def velocity(c: Cells, counts: object) -> ad.AnnData:
    spliced, unspliced, ambiguous = (part.astype(np.float32) for part in c.parts(*THIRDS))
    return anndata(c, counts, layers={"ambiguous": ambiguous, "spliced": spliced, "unspliced": unspliced})


made("velocity layers, X restorable", lambda p, c: h5ad(p, velocity(c, log1p(c.counts))))
made("velocity layers, X scaled", lambda p, c: h5ad(p, velocity(c, log1p(c.counts).toarray() - 0.7)))
made("velocity layers, X spliced", lambda p, c: h5ad(p, velocity(c, c.parts(*THIRDS)[0].astype(np.float32))))
made("velocity layers, X all", lambda p, c: h5ad(p, velocity(c, None)))
made("velocity layers, X empty", lambda p, c: h5ad(p, velocity(c, sparse.csr_matrix(c.counts.shape))))
made("velocity layers of a zarr", lambda p, c: (velocity(c, log1p(c.counts)).write_zarr(p / "m.zarr"), p / "m.zarr")[1])
made(
    "exons and introns",
    lambda p, c: h5ad(
        p, anndata(c, log1p(c.counts).toarray() - 0.7, layers=dict(zip(("exon", "intron"), c.parts(0.8), strict=True)))
    ),
)
made("loom of velocyto", lambda p, c: loom(p / "m.loom", c, c.counts.toarray()))
made(
    "loom, matrix spliced",
    lambda p, c: loom(
        p / "m.loom",
        c,
        c.parts(*THIRDS)[0].toarray(),
        **{
            name: part.toarray()
            for name, part in zip(("spliced", "unspliced", "ambiguous"), c.parts(*THIRDS), strict=True)
        },
    ),
)
made(
    "loom, matrix normalised",
    lambda p, c: loom(
        p / "m.loom",
        c,
        log1p(c.counts).toarray() - 0.5,
        **{
            name: part.toarray()
            for name, part in zip(("spliced", "unspliced", "ambiguous"), c.parts(*THIRDS), strict=True)
        },
    ),
)


def variable_genes(p: Path, c: Cells) -> Path:
    """X of 300 genes, raw.X of all."""
    whole = anndata(c)
    part = whole[:, np.argsort(-np.asarray(c.counts.sum(axis=0)).ravel())[:300]].copy()
    part.raw = whole
    return h5ad(p, part)


made("X of variable genes, raw.X of all", variable_genes)


def raw_log(p: Path, c: Cells) -> Path:
    whole = anndata(c, log1p(c.counts))
    scaled = anndata(c, log1p(c.counts).toarray() - 0.3)
    scaled.raw = whole
    return h5ad(p, scaled)


made("raw.X log-normalised", raw_log)


def depth_corrected(c: Cells) -> sparse.csr_matrix:
    """Counts scaled to the median depth and rounded, as SCTransform's are nearly."""
    totals = np.asarray(c.counts.sum(axis=1)).ravel()
    made = c.counts.multiply((np.median(totals) / totals)[:, None]).tocsr()
    made.data = np.rint(made.data)
    made.eliminate_zeros()
    return sparse.csr_matrix(made, dtype=np.float32)


made(
    "corrected counts in X, counts in a layer",
    lambda p, c: h5ad(p, anndata(c, depth_corrected(c), layers={"counts": c.counts.astype(np.float32)})),
)


# --- rows that are no genes ---------------------------------------------------------------------------------


def noise(c: Cells, rows: int, mean: float) -> np.ndarray:
    return np.random.default_rng(2).poisson(mean, (CELLS, rows))


PROTEINS = [f"CD{n}" for n in (3, 4, 8, 14, 16, 19, 25, 27, 45, 56)] + [f"HLA-DR_{n}" for n in range(10)]
made(
    "antibodies by AB_",
    lambda p, c: h5ad(
        p,
        ad.AnnData(
            with_rows(c, [f"AB_{name}" for name in PROTEINS], noise(c, 20, 300)).counts,
            obs=pd.DataFrame(index=c.barcodes),
            var=pd.DataFrame(index=[*c.symbols, *(f"AB_{name}" for name in PROTEINS)]),
        ),
    ),
)


def unlabelled(p: Path, c: Cells, names: list[str], mean: float) -> Path:
    more = with_rows(c, names, noise(c, len(names), mean))
    return h5ad(p, ad.AnnData(more.counts, obs=pd.DataFrame(index=c.barcodes), var=pd.DataFrame(index=more.symbols)))


made("TotalSeq", lambda p, c: unlabelled(p, c, [f"{name}_TotalSeqB" for name in PROTEINS], 200))
made("CITE-seq-Count", lambda p, c: unlabelled(p, c, [f"{name}-ACGTACGTACGTACG" for name in PROTEINS], 200))
made("ADT of Seurat", lambda p, c: unlabelled(p, c, [f"adt_{name}" for name in PROTEINS], 200))
made("antibodies by CD names", lambda p, c: unlabelled(p, c, ["CD3", "CD45RA", "CD45RO", "CD62L", "CD11b", "IgD"], 300))
made("hashtags", lambda p, c: unlabelled(p, c, [f"HTO_{n}" for n in range(1, 9)], 300))
made("guides", lambda p, c: unlabelled(p, c, ["non-targeting_1", "sgRNA-GATA1-1", "sgRNA-GATA1-2"], 300))
made("peaks", lambda p, c: unlabelled(p, c, [f"chr1:{n}00-{n}90" for n in range(1, 60)], 3))
made("ERCC", lambda p, c: unlabelled(p, c, [f"ERCC-{n:05d}" for n in range(2, 90)], 60))
made("ERCC as R has it", lambda p, c: unlabelled(p, c, [f"ERCC.{n:05d}" for n in range(2, 90)], 60))
made(
    "ERCC typed as genes",
    lambda p, c: triplet(p / "m", with_rows(c, [f"ERCC-{n:05d}" for n in range(2, 90)], noise(c, 88, 60))),
)
made("htseq-count's statistics", lambda p, c: unlabelled(p, c, ["__no_feature", "__ambiguous", "__not_aligned"], 900))
made("STAR's statistics", lambda p, c: unlabelled(p, c, ["N_unmapped", "N_multimapping", "N_noFeature"], 900))
made(
    "BD AbSeq",
    lambda p, c: table(
        p / "S1_RSEC_MolsPerCell.csv",
        [str(n) for n in range(CELLS)],
        [*c.symbols, *(f"{n}:clone|{n}|AHS{k:04d}|pAbO" for k, n in enumerate(PROTEINS))],
        with_rows(c, PROTEINS, noise(c, 20, 300)).counts.toarray(),
        corner="Cell_Index",
        before=[f"## line {n}" for n in range(7)],
    ),
)


def typed(p: Path, c: Cells, column: str, gene: object, other: object, missing: float = 0.0) -> Path:
    more = with_rows(c, [f"p{n}" for n in range(20)], noise(c, 20, 300))
    kinds = np.array([gene] * GENES + [other] * 20, dtype=object)
    kinds[np.random.default_rng(0).random(len(kinds)) < missing * (np.arange(len(kinds)) < GENES)] = None
    var = pd.DataFrame({column: pd.Categorical(kinds)}, index=more.symbols)
    return h5ad(p, ad.AnnData(more.counts, obs=pd.DataFrame(index=c.barcodes), var=var))


made("feature types with gaps", lambda p, c: typed(p, c, "feature_types", "Gene Expression", "Antibody Capture", 0.3))
made("modality", lambda p, c: typed(p, c, "modality", "rna", "protein"))
made("feature_biotype of CELLxGENE", lambda p, c: typed(p, c, "feature_biotype", "gene", "spike-in"))


def barnyard(p: Path, c: Cells) -> Path:
    """Mouse genes beside the human ones, told apart by the symbols' prefixes alone."""
    names = [*(f"GRCh38_{s}" for s in c.symbols), *(f"mm10___{s.title()}" for s in c.symbols[:400])]
    counts = sparse.hstack([c.counts, c.counts[:, :400]]).tocsr()
    return h5ad(p, ad.AnnData(counts, obs=pd.DataFrame(index=c.barcodes), var=pd.DataFrame(index=names)))


made("two genomes by symbols", barnyard)


# --- names that were altered --------------------------------------------------------------------------------


def r_names(names: list[str]) -> list[str]:
    """R's make.names."""
    plain = [re.sub(r"[^A-Za-z0-9._]", ".", name) for name in names]
    return [f"X{name}" if name[0].isdigit() else name for name in plain]


dense = lambda c: c.counts.toarray()  # noqa: E731
made("R's check.names", lambda p, c: table(p / "m.csv", c.barcodes, r_names(c.symbols), dense(c)))
made("R's check.names, genes in rows", lambda p, c: table(p / "m.csv", r_names(c.symbols), c.barcodes, dense(c).T))
made("upper case", lambda p, c: table(p / "m.csv", [s.upper() for s in c.symbols], c.barcodes, dense(c).T))
made(
    "lower-case mt-",
    lambda p, c: table(p / "m.csv", [s.replace("MT-", "mt-") for s in c.symbols], c.barcodes, dense(c).T),
)
for prefix in ("GRCh38_", "GRCh38---", "hg19-", "hg19_"):
    made(
        f"table with {prefix}",
        lambda p, c, prefix=prefix: table(p / "m.csv", [f"{prefix}{s}" for s in c.symbols], c.barcodes, dense(c).T),
    )
made(
    "BD's targeted panel",
    lambda p, c: table(
        p / "m.csv",
        [str(n) for n in range(CELLS)],
        [f"{s}|NM_000{n}.1|PolyA_1" for n, s in enumerate(c.symbols)],
        dense(c),
        corner="Cell_Index",
    ),
)


# --- tables -------------------------------------------------------------------------------------------------

made("Drop-seq", lambda p, c: table(p / "dge.txt.gz", c.symbols, c.barcodes, dense(c).T, separator="\t", corner="GENE"))
made("counts as 1.0", lambda p, c: table(p / "m.csv", c.symbols, c.barcodes, dense(c).T, form="{}.0"))
made("semicolons", lambda p, c: table(p / "m.csv", c.symbols, c.barcodes, dense(c).T, separator=";"))
made("R's csv2", lambda p, c: table(p / "m.csv", c.symbols, c.barcodes, dense(c).T, separator=";", form="{},0"))
made(
    "tabs and decimal commas",
    lambda p, c: table(p / "m.tsv", c.symbols, c.barcodes, dense(c).T, separator="\t", form="{},0"),
)
made("spaces", lambda p, c: table(p / "m.txt", c.symbols, c.barcodes, dense(c).T, separator=" ", corner="gene"))
made(
    "spaces, no corner",
    lambda p, c: (
        text(
            p / "m.txt",
            [
                " ".join(f'"{b}"' for b in c.barcodes),
                *(f'"{s}" ' + " ".join(map(str, row)) for s, row in zip(c.symbols, dense(c).T, strict=True)),
            ],
        )
        or p / "m.txt"
    ),
)
made(
    "ids and symbols",
    lambda p, c: table(p / "m.csv", [f"{i},{s}" for i, s in pairs(c)], c.barcodes, dense(c).T, corner="id,symbol"),
)
made(
    "row numbers and symbols",
    lambda p, c: table(
        p / "m.csv", [f"{n},{s}" for n, s in enumerate(c.symbols)], c.barcodes, dense(c).T, corner=",gene"
    ),
)
made(
    "comments before",
    lambda p, c: table(p / "m.csv", c.symbols, c.barcodes, dense(c).T, before=["# made by a tool", "#x,y"]),
)
made(
    "featureCounts",
    lambda p, c: table(
        p / "m.txt",
        [f"{i}\tchr1;chr1\t1;5\t3;9\t+;+\t77" for i in c.ids],
        c.barcodes,
        dense(c).T,
        separator="\t",
        corner="Geneid\tChr\tStart\tEnd\tStrand\tLength",
        before=["# Program:featureCounts v2.0"],
    ),
)
made(
    "umi_tools",
    lambda p, c: (
        text(
            p / "m.tsv.gz",
            ["gene\tcell\tcount", *(f"{c.ids[g]}\t{c.barcodes[b]}\t{n}" for b, g, n in zip(*coo(c), strict=True))],
        )
        or p / "m.tsv.gz"
    ),
)
made(
    "BD's Expression_Data.st",
    lambda p, c: (
        text(
            p / "S_Expression_Data.st",
            [
                "## x",
                "## y",
                "\t".join(("Cell_Index", "Gene", "RSEC_Reads", "Raw_Molecules", "RSEC_Adjusted_Molecules")),
                *(f"{b}\t{c.symbols[g]}\t{9 * n}\t{2 * n}\t{n}" for b, g, n in zip(*coo(c), strict=True)),
            ],
        )
        or p / "S_Expression_Data.st"
    ),
)


def coo(c: Cells) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    at = c.counts.tocoo()
    return at.row, at.col, at.data


# --- AnnData ------------------------------------------------------------------------------------------------


def packed_h5ad(p: Path, c: Cells) -> Path:
    path = h5ad(p, anndata(c))
    (p / "m.h5ad.gz").write_bytes(gzip.compress(path.read_bytes()))
    return p / "m.h5ad.gz"


made("h5ad", lambda p, c: h5ad(p, anndata(c)))
made("h5ad.gz", packed_h5ad)
made("anndata 0.6", lambda p, c: old_anndata(p / "m.h5ad", c))
made("sharded zarr", lambda p, c: sharded_zarr(p / "m.zarr", c))
made(
    "CELLxGENE",
    lambda p, c: h5ad(
        p,
        ad.AnnData(
            c.counts,
            obs=pd.DataFrame(index=c.barcodes),
            var=pd.DataFrame(
                {"feature_name": pd.Categorical(c.symbols), "feature_type": "protein_coding"}, index=c.ids
            ),
        ),
    ),
)


def nan_symbols(p: Path, c: Cells) -> Path:
    made = anndata(c)
    made.var["symbol"] = pd.Series([None if n % 7 == 0 else s for n, s in enumerate(c.symbols)], index=made.var_names)
    made.var_names = c.ids
    del made.var["gene_ids"]
    return h5ad(p, made)


made("symbols with gaps", nan_symbols)


def seurat_h5(p: Path, c: Cells) -> Path:
    """Cell Ranger's .h5 as CellBender writes it, without genome and type."""
    p.mkdir(parents=True, exist_ok=True)
    with h5py.File(p / "m.h5", "w") as file:
        group = file.create_group("matrix")
        group["data"], group["indices"], group["indptr"] = c.counts.data, c.counts.indices, c.counts.indptr
        group["shape"] = np.array([GENES, CELLS])
        group["barcodes"] = np.array(c.barcodes, dtype="S")
        group["features/id"], group["features/name"] = np.array(c.ids, dtype="S"), np.array(c.symbols, dtype="S")
        file["droplet_latents/cell_probability"] = np.ones(CELLS)
    return p / "m.h5"


made("CellBender", seurat_h5)
