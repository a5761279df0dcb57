"""Removed cells get their nearest type."""

import anndata as ad
import numpy as np
from annotator_cells import TYPES, made_cells
from spikgpt.annotator.expression import ExpressionView
from spikgpt.annotator.removed import nearest_types
from spikgpt.base.h5ad import count_data
from stored_cells import on_disk


def as_removed(data: ad.AnnData) -> ad.AnnData:
    """Raw counts as quality control writes them; the genes in another order than the annotator's."""
    counts = data.layers["counts"][:, ::-1]
    return count_data(counts.tocsr(), np.asarray(data.obs_names), list(data.var_names[::-1]), [""] * data.n_vars)


def test_removed_cells_get_the_type_they_look_like_whatever_their_order():
    reference, _ = made_cells(dict.fromkeys(TYPES, 60), seed=0, name="r")
    codes = reference.obs["cell_type"].map({name: at for at, name in enumerate(TYPES)}).to_numpy().astype(np.int64)
    view = ExpressionView.fit(reference.layers["counts"].astype(np.float32).tocsr(), codes, len(TYPES))
    removed, _ = made_cells({"B cell": 20, "T cell": 30}, seed=1, name="q")
    counts = removed.layers["counts"].tolil()
    counts[3] = 0
    removed.layers["counts"] = counts.tocsr()
    genes = [str(gene) for gene in reference.var_names]

    def found(data: ad.AnnData, view: ExpressionView | None = view, genes: list[str] = genes):
        with on_disk(as_removed(data)) as cells:
            return nearest_types(view, list(TYPES), genes, cells, "q")

    table = found(removed)
    assert list(table["barcode"]) == list(removed.obs_names)
    assert set(table["sample"]) == {"q"}
    # a cell without a count has none
    assert table["nearest_type"][3] == ""
    right = table["nearest_type"].to_numpy() == removed.obs["cell_type"].astype(str).to_numpy()
    assert right.sum() >= 48
    order = np.random.default_rng(0).permutation(removed.n_obs)
    again = found(removed[order].copy())
    assert list(again["nearest_type"]) == list(table["nearest_type"][order])
    # an annotator of embeddings alone, genes of another species, no cell at all: nothing can be told
    assert set(found(removed, None)["nearest_type"]) == {""}
    assert set(found(removed, view, [gene.lower() for gene in genes])["nearest_type"]) == {""}
    assert found(removed[:0].copy()).empty
