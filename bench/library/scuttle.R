# scuttle's isOutlier on the metrics of cells in a CSV file; the answer goes to another one.
suppressPackageStartupMessages(library(scuttle))
at <- commandArgs(trailingOnly = TRUE)
cells <- read.csv(at[1])
found <- isOutlier(cells$total_counts, nmads = 3, type = "lower", log = TRUE) |
  isOutlier(cells$n_genes_by_counts, nmads = 3, type = "lower", log = TRUE) |
  isOutlier(cells$pct_counts_mt, nmads = 3, type = "higher")
write.csv(data.frame(outlier = as.integer(found)), at[2], row.names = FALSE)
