#!/usr/bin/env python3
"""Write a copy of cohort.h5ad that CELLxGENE takes (schema 7.1.0): genes by Ensembl id, raw counts in `raw`.

    pip install cellxgene-schema==7.1.2
    python assets/cellxgene.py results/annotated/cohort.h5ad cellxgene.h5ad --title "PBMC of eight donors"
    cellxgene-schema validate cellxgene.h5ad

Tissue, assay, disease and the like are columns of the samplesheet (docs/usage.md, "For CELLxGENE"), which the pipeline
carries into `obs`. Runs in an environment of its own, since cellxgene-schema needs older packages than the pipeline.
"""

import argparse
import sys

import anndata as ad
import numpy as np
import scipy.sparse as sp
from cellxgene_schema.gencode import get_organism_from_feature_id

ORGANISM = "organism_ontology_term_id"
COLUMNS = (
    "assay_ontology_term_id", "development_stage_ontology_term_id", "disease_ontology_term_id", "donor_id",
    "is_primary_data", "self_reported_ethnicity_ontology_term_id", "sex_ontology_term_id", "suspension_type",
    "tissue_ontology_term_id", "tissue_type",
)  # fmt: skip
"""Columns that the schema asks for beside `cell_type_ontology_term_id`, which the pipeline writes."""
RESERVED = (
    "assay", "cell_type", "development_stage", "disease", "observation_joinid", "organism", "self_reported_ethnicity",
    "sex", "tissue",
)  # fmt: skip
"""Columns that CELLxGENE adds itself, from the terms."""


def convert(cells: ad.AnnData, title: str) -> tuple[ad.AnnData, list[str]]:
    """The cells as the schema wants them, and the symbols of genes that were left out.

    Raises
    ------
    SystemExit
        A column that the schema asks for is missing or has gaps, or the cells are of several organisms.
    """
    obs = cells.obs.copy()
    if "donor_id" not in obs and (obs["donor"].astype(str) != "").all():
        obs["donor_id"] = obs["donor"]
    wanted = (*COLUMNS, ORGANISM)
    missing = [name for name in wanted if name not in obs or (obs[name].astype(str) == "").any()]
    if missing:
        sys.exit(f"Columns of the samplesheet that CELLxGENE asks for are missing or have gaps: {', '.join(missing)}")
    organisms = sorted(set(obs[ORGANISM].astype(str)))
    primary = obs["is_primary_data"].astype(str).str.lower()
    if len(organisms) > 1 or not primary.isin(["true", "false"]).all():
        sys.exit(f"{ORGANISM} must be one for all samples, and is_primary_data True or False")
    obs["is_primary_data"] = primary == "true"
    obs = obs.drop(columns=[ORGANISM, *(name for name in RESERVED if name in obs)])
    ids = cells.var["gene_id"].astype(str)
    known = [
        organism is not None and organism.value == organisms[0]
        for organism in (get_organism_from_feature_id(name) for name in ids)
    ]
    kept = np.array(known) & ~ids.duplicated().to_numpy()
    var = cells.var[kept].set_index(ids[kept].rename(None)).drop(columns="gene_id")
    var["feature_is_filtered"] = False
    out = ad.AnnData(sp.csr_matrix(cells.X[:, kept]), obs, var)
    counts = sp.csr_matrix(cells.layers["counts"][:, kept], dtype=np.float32)
    out.raw = ad.AnnData(counts, obs, var.drop(columns="feature_is_filtered"))
    for key in cells.obsm:
        if key.startswith("X_"):
            out.obsm[key] = cells.obsm[key]
    out.uns = {key: value for key, value in cells.uns.items() if key.endswith("_colors") or key == "spikgpt"}
    out.uns |= {"title": title, ORGANISM: organisms[0], "default_embedding": "X_umap"}
    return out, list(cells.var_names[~kept])


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("cohort", help="cohort.h5ad, or the h5ad of a sample")
    args.add_argument("out", help="h5ad to write")
    args.add_argument("--title", required=True, help="title of the data set, as CELLxGENE shows it")
    options = args.parse_args()
    made, left_out = convert(ad.read_h5ad(options.cohort), options.title)
    if left_out:
        shown = ", ".join(left_out[:10]) + (", ..." if len(left_out) > 10 else "")
        print(
            f"{len(left_out)} genes without an Ensembl id that CELLxGENE knows are left out: {shown}", file=sys.stderr
        )
    made.write_h5ad(options.out, compression="gzip")


if __name__ == "__main__":
    main()
