"""BUILD_COHORT: clusters and map of all samples, the annotated h5ad files, markers, evidence, tables."""
