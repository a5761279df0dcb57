"""Marker genes that textbooks and first papers name for a type, written down before any attribution was looked at.

Pancreas: the hormones and enzymes after which the cells are named, and the genes by which Baron et al. (Cell Systems 3,
2016), Muraro et al. (Cell Systems 3, 2016) and Segerstolpe et al. (Cell Metabolism 24, 2016) tell the types. Blood: the
table of canonical markers of Seurat's guided tutorial on pbmc3k, and the markers by which Ding et al. (Nature
Biotechnology 38, 2020) and Zheng et al. (Nature Communications 8, 2017) tell the types.
"""

PANCREAS = {
    "acinar": ("PRSS1", "CPA1", "CELA3A", "CTRB1"),
    "activated_stellate": ("COL1A1", "COL1A2", "COL3A1", "SPARC"),
    "alpha": ("GCG", "TTR", "IRX2", "LOXL4"),
    "beta": ("INS", "IAPP", "MAFA", "ADCYAP1"),
    "delta": ("SST", "HHEX", "LEPR", "RBP4"),
    "ductal": ("KRT19", "CFTR", "SPP1", "KRT7"),
    "endothelial": ("PECAM1", "VWF", "PLVAP", "CD34"),
    "epsilon": ("GHRL",),
    "gamma": ("PPY",),
    "macrophage": ("CD68", "SDS", "C1QA", "TYROBP"),
    "mast": ("TPSAB1", "CPA3", "KIT"),
    "quiescent_stellate": ("RGS5",),
    "schwann": ("SOX10", "CDH19", "PLP1", "S100B"),
    "t_cell": ("CD3D", "CD3E", "TRAC"),
}
BLOOD = {
    "B": ("MS4A1", "CD79A", "CD79B"),
    "CD4 T": ("CD3D", "CD3E", "IL7R", "CCR7"),
    "CD8 T": ("CD3D", "CD8A", "CD8B", "GZMK"),
    "DC": ("FCER1A", "CST3", "CLEC10A", "CD1C"),
    "Mono": ("LYZ", "CD14", "S100A8", "S100A9"),
    "NK": ("GNLY", "NKG7", "KLRD1", "KLRF1"),
    "Platelet": ("PPBP", "PF4"),
}
"""Type, as the data sets of the bench call it, to its markers."""
MARKERS = {**PANCREAS, **BLOOD}
