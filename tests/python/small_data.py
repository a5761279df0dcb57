"""A small, quick subset of the demo's real cells, for tests that run whole steps."""

from pathlib import Path

import anndata
import numpy as np
from scipy import io as matrix_io
from scipy import sparse

SEED = 0


def draw(cells: anndata.AnnData, n: int, rng: np.random.Generator) -> anndata.AnnData:
    """`n` cells in the order in which they stand."""
    return cells[np.sort(rng.choice(cells.n_obs, n, replace=False))].copy()


def with_empty_droplets(cells: anndata.AnnData, droplets: int, rng: np.random.Generator) -> anndata.AnnData:
    """The cells among droplets that hold nothing but ambient RNA: 1 to 60 counts drawn from the cells' sum."""
    ambient = np.asarray(cells.X.sum(axis=0)).ravel() / cells.X.sum()
    empty = sparse.csr_matrix(np.stack([rng.multinomial(total, ambient) for total in rng.integers(1, 60, droplets)]))
    barcodes = [*cells.obs_names, *(f"empty_{i:05d}" for i in range(droplets))]
    raw = anndata.AnnData(X=sparse.vstack([cells.X, empty]).tocsr().astype(np.int32), var=cells.var[[]])
    raw.obs_names = barcodes
    return raw[rng.permutation(raw.n_obs)].copy()


def write_small_data(demo: Path, out: Path) -> Path:
    """Write reference, one filtered and one unfiltered sample and their samplesheet; give the sheet's path."""
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    reference = anndata.read_h5ad(demo / "reference.h5ad")
    common = reference.obs["cell_type"].value_counts()
    reference = reference[reference.obs["cell_type"].isin(common.index[common >= 25])]
    draw(reference, 450, rng).write_h5ad(out / "reference.h5ad")

    query = anndata.read_h5ad(demo / "human1_lib3.h5ad")
    draw(query, 150, rng).write_h5ad(out / "small.h5ad")

    raw = with_empty_droplets(draw(query, 120, rng), 1500, rng)
    folder = out / "raw"
    folder.mkdir(exist_ok=True)
    matrix_io.mmwrite(folder / "matrix.mtx", sparse.coo_matrix(raw.X.T), field="integer")
    (folder / "genes.tsv").write_text("".join(f"{gene}\t{gene}\n" for gene in raw.var_names))
    (folder / "barcodes.tsv").write_text("".join(f"{barcode}\n" for barcode in raw.obs_names))

    sheet = out / "samplesheet.csv"
    sheet.write_text(
        "sample,filtered,unfiltered,batch,condition,donor,expected_cells\n"
        f"small,{out}/small.h5ad,,run 1,\"it's <b>, 'quoted' & $HOME\",human1,\n"
        f"raw,,{out}/raw,run 2,control,human1,120\n"
    )
    return sheet
