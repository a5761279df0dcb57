"""The annotator: two views of a cell, a label, and an honest Unknown. In the order of the data:

`training_set` reads the labelled cells, `folds` holds some out; `cells` are those of a sample or of a fold.
Views of a cell: `network` reads the embedding; `ranks` and `expression` the counts; `batch` is what a sample's types
share. `views` fits and asks them together, `mixture` weighs them, `probabilities` makes that a calibrated probability.
Unknown: `neighbours` pools cells, `distances` ask whether a cell fits its type, `conformal` turns them into p-values,
`rejection` is the one rule.
`train` does all of it on `workers`, `leave_out` tries the rule on missing types, `cautions` looks at the reference,
`record` writes it down; `annotation` applies an annotator to a sample, `folder` stores it.
Types that are taught later: `populations` reads what a person has named, `purity` and `lessons` refuse what is no type,
`teach` learns, `taught` is what `annotation` asks.
For readers: `benchmark`, `card`, `reference_markers`, `missing_types`, `energy`.
"""
