"""The genes that labels rest on, judged by known markers and by deletion, as `explanations.py` measured them."""

from typing import Any

from sections.markdown import listed, number, percent, table

INTRO = """\
`tables/explanations.tsv` names {top} genes for each cluster. Two questions judge the way in which they are found,
beside its parts and other ways, by type, on cells that the annotator was not trained on:

- *Markers*: which share of the markers that textbooks name for the type is among its {top} genes
  (`bench/library/canonical.py`, written down before any result).
- *Deletion*: each cell's counts of its type's {top} genes are exchanged for those of a random cell of the sample that
  is called another type, brought to the cell's depth. The cell is embedded and annotated again in the sample as it was:
  the probability that its label lost, and the share of cells that get another label. At most {exchanged} cells of a
  type; the same random cells for every way. It is SpikGPT's answer that is asked in each row, also where the genes are
  another method's.

Types of at least {min_cells} cells with a label; figures are means over types. Gradients are taken in {asked} cells of
each type where nothing else is said. Random genes: drawn {random_draws} times among those nearest in mean expression.
The bar is the bench's logistic regression on 2,000 variable genes. CPU is milliseconds per cell of the sample. `make
bench-explanations DATA=folder` measures all of it again."""


def verdict(figures: dict[str, Any]) -> str:
    """Which ways pass on every split, whether the product's is among them, and which one each split alone would choose.

    A way passes where it finds as many markers as the bar and takes as much from the label.
    """
    bar, own = figures["bar"], figures["own"]
    most = max(split["types"] for split in figures["splits"])
    passing = []
    for split in figures["splits"]:
        rows = {row["method"]: row for row in split["methods"] if row["method"] != figures["random"]}
        better = [
            row
            for name, row in rows.items()
            if name != bar and row["recall"] >= rows[bar]["recall"] and row["lost"] >= rows[bar]["lost"]
        ]
        passing.append({row["method"]: row["recall"] for row in better})
    good = [name for name in passing[0] if all(name in ways for ways in passing)]
    alone = [
        f"{max(ways, key=lambda name: ways[name])} by {split['split']}"
        for split, ways in zip(figures["splits"], passing, strict=True)
        if ways
    ]
    return (
        "Goal: as many markers and as much lost as with logistic regression, on every split. "
        f"{f'Passes on every split: {listed(good)}' if good else 'No way passes'}. "
        f"{'The product gives the first of them' if own in good else 'The product gives another: goal missed'}. "
        f"What one split alone would choose, the most markers of those that pass: {listed(alone)}. "
        "Types are few, and some have one marker: finding it or not moves the mean over "
        f"{most} types by {percent(1 / most, 0)}. Both splits were in view when the way and its number of cells with "
        "gradients were chosen: expect less on others."
    )


def render(figures: dict[str, Any]) -> str:
    """The section as Markdown."""
    header = ("way", "markers found", "probability lost", "other label", "CPU ms")
    parts = ["## What labels rest on\n", INTRO.format(**figures) + "\n"]
    for split in figures["splits"]:
        rows = [
            (
                row["method"],
                percent(row["recall"]),
                number(row["lost"]),
                percent(row["changed"]),
                number(row["ms"], 2),
            )
            for row in split["methods"]
        ]
        parts += [
            f"### Genes of labels: {split['split']}\n",
            f"{split['labelled']:,} of {split['cells']:,} cells have a label, of {split['types']} types with "
            f"{split['markers']} markers. The embedding view weighs {split['embedding_weight']:g}.\n",
            table(header, rows),
        ]
    parts.append(verdict(figures) + "\n")
    return "\n".join(parts)
