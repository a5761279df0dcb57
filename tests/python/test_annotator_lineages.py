"""Labels of a reference against the genes of their lineage, and references that are not told apart at all."""

import numpy as np
import pytest
import scipy.sparse as sp
from spikgpt.annotator.cautions import grave_cautions, reference_warnings
from spikgpt.annotator.lineages import lineage_of
from spikgpt.annotator.training_set import Reference


@pytest.mark.parametrize(
    ("label", "lineage"),
    [
        ("Naive CD4 T", "CD4 T"),
        ("T_CD8", "CD8 T"),
        ("CD8 TEM", "CD8 T"),
        ("naive thymus-derived CD8-positive, alpha-beta T cell", "CD8 T"),
        ("CD4+ T cells", "CD4 T"),
        # both or neither of the receptors, or no receptor at all: a T cell
        ("CD4+/CD8+ T", "T"),
        ("CD4-CD8- T", "T"),
        ("CD4-negative, CD8-negative T", "T"),
        ("T activated", "T"),
        ("B Activated", "B"),
        ("CD40 B", "B"),
        ("FCGR3A+ Mono", "monocyte"),
        ("CD14-low, CD16-positive monocyte", "monocyte"),
        ("NK_CD56bright", "NK"),
        ("pDC", "pDC"),
        ("Platelet", "platelet"),
        ("T/NK", None),
        ("NKT", None),
        ("cDC CD8", None),
        ("Type B synoviocyte", None),
        ("beta cell", None),
        ("?", None),
    ],
)
def test_the_lineage_that_a_label_says(label, lineage):
    assert lineage_of(label) == lineage


def test_a_term_goes_before_a_name():
    assert lineage_of("cluster 3", "CL:0000895") == "CD4 T"
    assert lineage_of("CD4 T", "CL:0000236") == "B"


def with_lineages(cd8_in_cd4: float, genes: list[str]) -> list[str]:
    """Warnings about 200 cells each of four types of blood; a share of the CD4 T cells are CD8 T cells."""
    draw = np.random.default_rng(0)
    classes = ["B", "CD8 T", "Mono", "Naive CD4 T"]
    codes = np.repeat(np.arange(4), 200)
    shown = np.array([[0.02, 0.03, 0.9], [0.4, 0.4, 0.05], [0.03, 0.03, 0.05], [0.03, 0.03, 0.05]])
    real = np.where((codes == 3) & (draw.random(800) < cd8_in_cd4), 1, codes)
    counts = sp.csr_matrix((draw.random((800, 3)) < shown[real]).astype(np.float32))
    made = Reference(
        counts=counts, genes=genes, embedding=np.zeros((800, 2)), codes=codes, depth=np.full(800, 9.0), classes=classes,
        batch_codes=np.arange(800) % 2, batches=["a", "b"], without_known_gene=0,
    )  # fmt: skip
    return reference_warnings(made, "batch", 0.05, None)


def test_a_type_that_holds_cells_of_another_lineage_is_told():
    (told,) = with_lineages(0.35, ["CD8A", "CD8B", "CD79A"])
    assert told.startswith("Of the 200 cells labelled 'Naive CD4 T', ")
    assert "% show CD8A/CD8B (" in told
    assert with_lineages(0.0, ["CD8A", "CD8B", "CD79A"]) == []
    # nothing is said of genes that were not measured
    assert with_lineages(0.35, ["G1", "G2", "CD79A"]) == []


def test_types_that_held_out_cells_do_not_tell_apart_are_a_grave_caution():
    def types(**recall: float) -> dict[str, dict[str, object]]:
        return {k: {"cells": 40, "recall": v, "most_often_mistaken_for": "B"} for k, v in recall.items()}

    assert grave_cautions({"macro_f1": 0.5, "types": types(B=0.9, T=0.3)}, 0.05) == []
    (poor,) = grave_cautions({"macro_f1": 0.49, "types": types(B=0.9)}, 0.05)
    assert "macro-F1 0.49" in poor
    lost = {**types(B=0.9, T=0.29), "pDC": {"cells": 18, "recall": 0.0, "most_often_mistaken_for": "B"}}
    (told,) = grave_cautions({"macro_f1": 0.8, "types": lost}, 0.05)
    assert "T (recall 0.29, most often called B)" in told
    assert "pDC" not in told  # a handful of cells has a warning of its own
