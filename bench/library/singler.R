# SingleR on the matrices that peers.py wrote into a folder; labels.tsv and seconds.tsv are the answer.
suppressPackageStartupMessages({
  library(Matrix)
  library(SingleR)
})
folder <- commandArgs(trailingOnly = TRUE)[1]
at <- function(name) file.path(folder, name)
genes <- readLines(at("genes.txt"))

# genes x cells of log1p counts per 10,000
read <- function(kind) {
  number <- function(ending, size) file.size(at(paste0(kind, ending))) / size
  p <- readBin(at(paste0(kind, ".p")), "integer", number(".p", 4), size = 4, endian = "little")
  i <- readBin(at(paste0(kind, ".i")), "integer", number(".i", 4), size = 4, endian = "little")
  x <- readBin(at(paste0(kind, ".x")), "double", number(".x", 8), size = 8, endian = "little")
  cells <- length(p) - 1
  new("dgCMatrix", i = i, p = p, x = x, Dim = c(length(genes), as.integer(cells)),
      Dimnames = list(genes, paste0("c", seq_len(cells))))
}
reference <- read("reference")
query <- read("query")

cpu <- function() sum(proc.time()[c("user.self", "sys.self")])
start <- cpu()
trained <- trainSingleR(reference, labels = readLines(at("labels.txt")))
middle <- cpu()
found <- classifySingleR(query, trained)
done <- cpu()

write.table(
  data.frame(
    label = found$labels,
    delta = getDeltaFromMedian(found),
    pruned = as.integer(is.na(found$pruned.labels))
  ),
  at("labels.tsv"), sep = "\t", row.names = FALSE, quote = FALSE
)
write.table(
  data.frame(train = middle - start, predict = done - middle),
  at("seconds.tsv"), sep = "\t", row.names = FALSE, quote = FALSE
)
