"""The annotator: two views of a cell, a label, and an honest Unknown.

`spikgpt.annotator.network` is the embedding view, `expression` the expression view, `mixing` weighs them;
`fit` and `conformal` decide what is Unknown; `reference` reads what it learns from, `train` trains it,
`model` holds, saves and applies it, `benchmark` and `card` tell how good it is.
"""
