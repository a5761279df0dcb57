"""Samples that have next to nothing in them, cut from a sample of real cells, as each step would get them.

    python3 tests/lib/edge.py SMALL.counts.h5ad FOLDER

one_cell, one_gene and all_zeros, each as .h5ad, .counts.h5ad, .qc.parquet, .doublets.parquet and .filtered.h5ad.
"""

import sys
from pathlib import Path

import anndata
import numpy as np
from scipy import sparse

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bin"))

from spikgpt.base.h5ad import stored, write_h5ad
from spikgpt.base.metrics import cell_metrics
from spikgpt.quality_control.doublets import detect_doublets
from spikgpt.quality_control.groups import find_groups


def main() -> None:
    cells, folder = anndata.read_h5ad(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    commonest = [int(np.asarray(cells.X.sum(axis=0)).argmax())]
    zeros = cells[:30].copy()
    zeros.X = sparse.csr_matrix(zeros.shape, dtype=np.int32)
    for name, sample in {"one_cell": cells[:1], "one_gene": cells[:, commonest], "all_zeros": zeros}.items():
        write_h5ad(sample.copy(), folder / f"{name}.h5ad")
        write_h5ad(sample.copy(), folder / f"{name}.counts.h5ad")
        with stored(folder / f"{name}.counts.h5ad") as opened:
            metrics = cell_metrics(opened.blocks(), opened.barcodes, opened.symbols)
            groups = find_groups(opened, 0)
            doublets, _ = detect_doublets(opened, 0)
        metrics.join(groups).to_parquet(folder / f"{name}.qc.parquet", index=False)
        doublets.to_parquet(folder / f"{name}.doublets.parquet", index=False)
        kept = sample.copy()
        kept.obs = metrics.join(doublets.drop(columns="barcode")).set_index("barcode")
        write_h5ad(kept, folder / f"{name}.filtered.h5ad")


if __name__ == "__main__":
    main()
