"""Terms of the Cell Ontology for the labels of the bench's data sets, by which an answer above a type is judged."""

TERMS = {
    "CD4 T": "CL:0000624", "CD4 T cells": "CL:0000624", "CD4 Naive T": "CL:0000895", "CD4 Memory T": "CL:0000897",
    "Naive CD4 T": "CL:0000895", "Memory CD4 T": "CL:0000897", "T cell": "CL:0000084",
    "CD14+ Mono": "CL:0001054", "FCGR3A+ Mono": "CL:0002396",
    "CD8 T": "CL:0000625", "CD8 T cells": "CL:0000625", "T activated": "CL:0000084", "t_cell": "CL:0000084",
    "B": "CL:0000236", "B cells": "CL:0000236", "B Activated": "CL:0000236", "NK": "CL:0000623",
    "NK cells": "CL:0000623", "Mono": "CL:0000576", "Monocytes": "CL:0000576", "CD14 Mono": "CL:0001054",
    "CD14+ Monocytes": "CL:0001054", "CD16 Mono": "CL:0002396", "FCGR3A+ Monocytes": "CL:0002396", "DC": "CL:0000451",
    "Dendritic cells": "CL:0000451", "pDC": "CL:0000784", "Platelet": "CL:0000233", "Mk": "CL:0000233",
    "Megakaryocytes": "CL:0000556", "Eryth": "CL:0000232", "T/NK cells": "CL:0000542",
    "alpha": "CL:0000171", "beta": "CL:0000169", "delta": "CL:0000173", "gamma": "CL:0002275", "epsilon": "CL:0005019",
    "acinar": "CL:0002064", "ductal": "CL:0002079", "endothelial": "CL:0000115", "macrophage": "CL:0000235",
    "mast": "CL:0000097", "schwann": "CL:0002573", "activated_stellate": "CL:0002410",
    "quiescent_stellate": "CL:0002410",
}  # fmt: skip
"""T and NK cells that a set does not tell apart are lymphocytes; the `Mk` of Kang's blood are platelets."""
