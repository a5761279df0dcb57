# Annotated h5ad files of SpikGPT in R: read_seurat("cohort.h5ad"), read_sce("cohort.h5ad").
# Needs rhdf5, and Seurat or SingleCellExperiment (Debian: r-bioc-rhdf5, r-cran-seurat, r-bioc-singlecellexperiment).

# a column of texts is a group of categories and codes
read_column <- function(file, place, is_group) {
  if (is_group) {
    levels <- as.character(rhdf5::h5read(file, paste0(place, "/categories")))
    return(factor(levels[rhdf5::h5read(file, paste0(place, "/codes")) + 1], levels = levels))
  }
  value <- rhdf5::h5read(file, place)
  # True and False are an enumeration, which rhdf5 makes a factor
  if (is.factor(value)) value == "TRUE" else as.vector(value)
}

read_table <- function(file, place, stored) {
  about <- rhdf5::h5readAttributes(file, place)
  groups <- stored$name[stored$group == paste0("/", place) & stored$otype == "H5I_GROUP"]
  names <- stats::setNames(nm = about[["column-order"]])
  columns <- lapply(names, function(name) read_column(file, paste0(place, "/", name), name %in% groups))
  rows <- as.character(rhdf5::h5read(file, paste0(place, "/", about[["_index"]])))
  data.frame(columns, row.names = rows, check.names = FALSE, stringsAsFactors = FALSE)
}

# genes x cells, as R has it: the rows of a CSR matrix are the columns of a dgCMatrix
read_matrix <- function(file, place, genes, cells) {
  part <- function(name) as.vector(rhdf5::h5read(file, paste0(place, "/", name)))
  Matrix::sparseMatrix(
    i = part("indices"), p = part("indptr"), x = as.numeric(part("data")), index1 = FALSE,
    dims = c(length(genes), length(cells)), dimnames = list(genes, cells)
  )
}

# counts, log1p of counts per 10,000, obs, var, and embeddings (cells x dimensions) by name: umap, scGPT, ...
read_parts <- function(file, genes = identity) {
  stored <- rhdf5::h5ls(file, recursive = 2)
  obs <- read_table(file, "obs", stored)
  var <- read_table(file, "var", stored)
  rownames(var) <- make.unique(genes(rownames(var)))
  keys <- grep("^X_", stored$name[stored$group == "/obsm"], value = TRUE)
  embeddings <- lapply(stats::setNames(keys, sub("^X_", "", keys)), function(key) {
    values <- t(rhdf5::h5read(file, paste0("obsm/", key)))
    dimension <- gsub("[^A-Za-z0-9]", "", sub("^X_", "", key))
    dimnames(values) <- list(rownames(obs), paste0(dimension, "_", seq_len(ncol(values))))
    values
  })
  list(
    counts = read_matrix(file, "layers/counts", rownames(var), rownames(obs)),
    data = read_matrix(file, "X", rownames(var), rownames(obs)),
    obs = obs, var = var, embeddings = embeddings
  )
}

# Seurat allows no "_" in names of genes: they get "-", as CreateSeuratObject would give them
read_seurat <- function(file) {
  parts <- read_parts(file, function(genes) gsub("_", "-", genes))
  object <- Seurat::CreateSeuratObject(parts$counts, meta.data = parts$obs)
  object <- Seurat::SetAssayData(object, "data", parts$data)
  object[["RNA"]] <- Seurat::AddMetaData(object[["RNA"]], parts$var)
  for (name in names(parts$embeddings)) {
    key <- sub("_1$", "_", colnames(parts$embeddings[[name]])[1])
    object[[name]] <- Seurat::CreateDimReducObject(parts$embeddings[[name]], key = key, assay = "RNA")
  }
  Seurat::Idents(object) <- "spikgpt_cell_type"
  object
}

read_sce <- function(file) {
  parts <- read_parts(file)
  SingleCellExperiment::SingleCellExperiment(
    list(counts = parts$counts, logcounts = parts$data),
    colData = parts$obs, rowData = parts$var,
    reducedDims = stats::setNames(parts$embeddings, sub("^umap$", "UMAP", names(parts$embeddings)))
  )
}
