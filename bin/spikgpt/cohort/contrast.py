"""What is compared between two groups of samples, and how it is told; apart from the test, which imports PyDESeq2."""

DIFFERENTIAL_COLUMNS = (
    "cell_type", "gene", "gene_id", "base_mean", "log2_fold_change", "lfc_se", "statistic", "p_value", "fdr",
)  # fmt: skip
FEWEST = 2
"""Replicates of each group from which on a dispersion can be told; three or more are needed to find much."""
MIN_CELLS = 10
"""Cells of a sample and type from which on their sum is used, as muscat's `pbDS` has it (Crowell et al., Nature
Communications 11:6077, 2020): below, the sum is that of a few cells."""
MIN_COUNTS = 10
"""Counts of a gene in as many replicates as the smaller group has, below which it is not tested: the filter of DESeq2's
vignette."""
FDR = 0.05
"""False discovery rate at which genes are counted as higher or lower."""
