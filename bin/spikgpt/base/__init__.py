"""What several steps share: errors, files, columns, names, h5ad, genes, guards, ontology, normalisation, colours.

It imports none of the steps' folders.
"""
