"""The bundled annotator of human blood on data sets that it has not seen, as `make annotator` measured it."""

from typing import Any

from sections.markdown import number, table

WITHIN = 0.2
"""Goal: how far the ratio of CD4 to CD8 T cells may be from that of the labels, of the latter."""


def render(figures: dict[str, Any]) -> str:
    goals = [
        f"{row['set']}: {row['ratio']:.2f} against {row['true_ratio']:.2f}, "
        + ("yes" if abs(row["ratio"] - row["true_ratio"]) <= WITHIN * row["true_ratio"] else "**no**")
        for row in figures["judged"]
        if row["method"] == "SpikGPT" and "ratio" in row
    ]
    parts = [
        "## Bundled annotator of human blood\n",
        "Trained on six data sets whose T cells were checked for CD8A and CD8B cell by cell (see its "
        "[model card](../assets/annotators/pbmc/README.md)), and judged on two that it has not seen; a type is right "
        "where the label covers it. Best match, rejection left aside. Unknown: at the unknown rate of training.\n",
        table(
            ("set", "method", "cells", "accuracy", "macro-F1", "Unknown", "CD8 T recall", "CD4:CD8", "of the labels"),
            [
                (
                    row["set"],
                    row["method"],
                    f"{row['cells']:,}",
                    number(row["accuracy"]),
                    number(row["macro_f1"]),
                    number(row["unknown"]),
                    number(row.get("cd8_recall")),
                    number(row.get("ratio"), 2),
                    number(row.get("true_ratio"), 2),
                )
                for row in figures["judged"]
            ],
        ),
        f"Goal: CD4:CD8 of the calls within {100 * WITHIN:.0f} % of the labels'. {'; '.join(goals)}.\n",
        "### Labels that it was trained on\n",
        "What the check made of each label; `none` are data sets without labels, which were labelled by the others.\n",
        table(
            ("batch", "label", "cells", "became", "left out"),
            [
                (row["batch"], row["label"], f"{row['cells']:,}", row["became"] or "–", f"{row['left_out']:,}")
                for row in figures["labels"]
            ],
        ),
    ]
    return "\n".join(parts)
