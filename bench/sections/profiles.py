"""The second opinion on labelled cells, as `profiles.py` measured it."""

from typing import Any

from sections.markdown import MISSING, number, percent, table


def render(figures: dict[str, Any]) -> str:
    tissues = [row for row in figures["sets"] if row["set"] not in HELD_BACK]
    unseen = figures["unseen"]
    alone, wrongly = (_given([row for row in unseen if row["near_relative"] is near]) for near in (True, False))
    clusters = sum(row["clusters_with_opinion"] for row in tissues)
    right = sum(row["clusters_right"] for row in tissues)
    parts = [
        "## Second opinion\n",
        "What the bundled tissue profiles (31 broad classes) say of cells without their reference. The cuts come from "
        "studies withheld from the profiles. No constant of the opinions was chosen on these cells, but the sets are "
        "few: blood and one pancreas. From which share of opinions in blood on a sample looks like blood (90 %), and "
        "which share without an opinion is expected (25 %), was set with this table in view. At most "
        f"{figures['cells_at_most']:,} cells each. Right means: of the right broad class.\n",
        table(
            (
                "set",
                "cells",
                "genes found",
                "likeliest class right",
                "with opinion",
                "opinions right",
                "opinions in blood",
                "clusters with opinion",
                "of these right",
            ),
            [
                (
                    row["set"],
                    f"{row['cells']:,}",
                    f"{row['genes']:,}",
                    percent(row["likeliest_right"] if row["set"] not in HELD_BACK[1:] else None),
                    percent(row["with_opinion"]),
                    percent(row["opinions_right"]),
                    percent(row["blood"]),
                    f"{row['clusters_with_opinion']} of {row['clusters']}",
                    str(row["clusters_right"]),
                )
                for row in figures["sets"]
            ],
        ),
        f"Goals: {_goals(tissues, clusters, right, wrongly, alone)}\n",
        "Mouse genes are not found, so mouse cells are given nothing; cell lines mostly get no opinion.\n",
        "### Classes that the profiles lack\n",
        "Classes withheld from the profiles in turn, where a set has 30 cells of them: every opinion on these cells is "
        "wrong. A class whose near relative stays in the profiles is taken for it (T for NK cells, dendritic cells for "
        f"monocytes): {percent(alone)} of their cells get an opinion. Withheld together with the relative, and of the "
        f"classes without one, {percent(wrongly)} do.\n",
        table(
            ("set", "withheld", "cells", "with opinion", "mostly"),
            [
                (row["set"], row["withheld"], f"{row['cells']:,}", percent(row["with_opinion"]), row["most"] or MISSING)
                for row in unseen
            ],
        ),
        "### Labels of a reference\n",
        "Cohen's kappa of labels and likeliest classes, and opinions that contradict the label. The labels of the "
        "placenta set belong to other cells.\n",
        table(
            ("set", "cells compared", "kappa", "contradicted", "the run warns"),
            [
                (
                    row["set"],
                    f"{row['compared']:,}",
                    number(row["kappa"], 2),
                    f"{row['contradicted']:,} of {row['with_opinion']:,}",
                    "yes" if row["messages"] else "no",
                )
                for row in figures["labels"]
            ],
        ),
        "Labels of a part of the cells dealt anew among them. Precision: of the labels that an opinion contradicts, "
        "those that became wrong; an opinion that contradicts the authors' own label counts against it. Recall: of the "
        "wrong labels, and of those wrong by class, those that are contradicted.\n",
        table(
            ("set", "shuffled", "wrong", "wrong by class", "precision", "recall", "recall by class", "kappa"),
            [
                (
                    row["set"],
                    percent(row["shuffled"], 0),
                    f"{row['wrong']:,}",
                    f"{row['wrong_by_class']:,}",
                    percent(row["precision"]),
                    percent(row["recall"]),
                    percent(row["recall_by_class"]),
                    number(row["kappa"], 2),
                )
                for row in figures["shuffled"]
            ],
        ),
    ]
    if figures.get("annotator"):
        labelled, conflicts = (sum(row[name] for row in figures["annotator"]) for name in ("cells", "conflicts"))
        found = round(sum(row["conflicts"] * (row["precision"] or 0) for row in figures["annotator"]))
        parts += [
            "### Labels of the annotator\n",
            "The annotator trained on the reference of each split (expression alone), its labels on the query beside "
            f"the opinions. Of {conflicts:,} conflicts on {labelled:,} labelled cells, {found:,} are on wrong labels. "
            "Where the reference is right, an opinion does not find the annotator's mistakes: they lie within a class, "
            "or between T and NK cells, which are never held against each other. A conflict on few cells is then more "
            "often the opinion's mistake; what conflicts find is a wrong reference, or wrong labels in it.\n",
            table(
                ("split", "labelled", "wrong", "wrong by class", "conflicts", "precision", "recall by class"),
                [
                    (
                        row["split"],
                        f"{row['cells']:,}",
                        f"{row['wrong']:,}",
                        f"{row['wrong_by_class']:,}",
                        f"{row['conflicts']:,}",
                        percent(row["precision"]),
                        percent(row["recall_by_class"]),
                    )
                    for row in figures["annotator"]
                ],
            ),
        ]
    return "\n".join(parts)


HELD_BACK = ("five cell lines", "mouse pancreas", "placenta, labels of other cells")
"""Sets of no tissue, of another species, or without labels that hold: not part of the means."""


def _given(rows: list[dict[str, Any]]) -> float | None:
    """Share of all cells that get an opinion."""
    cells = sum(row["cells"] for row in rows)
    return sum(row["cells"] * row["with_opinion"] for row in rows) / cells if cells else None


def _goals(tissues: list[dict[str, Any]], clusters: int, right: int, wrongly: float | None, alone: float | None) -> str:
    """The goals and whether they are met, over the sets of human tissue."""
    given = sum(row["with_opinion"] for row in tissues) / len(tissues)
    accuracy = sum(row["opinions_right"] for row in tissues) / len(tissues)
    by_cluster = right / clusters if clusters else None

    def said(what: str, value: float | None, goal: float, at_most: bool = False) -> str:
        met = value is not None and (value <= goal if at_most else value >= goal)
        bound = "at most" if at_most else "at least"
        return f"{what} {percent(value)} ({bound} {percent(goal, 0)}: {'met' if met else 'missed'})"

    return (
        "; ".join(
            (
                said("mean share of cells with an opinion", given, 0.80),
                said("mean accuracy of opinions", accuracy, 0.95),
                said("clusters with an opinion that are right", by_cluster, 0.95),
                said("cells of withheld classes given an opinion, near relatives apart", wrongly, 0.10, at_most=True),
                said("those with a near relative left", alone, 0.10, at_most=True),
            )
        )
        + "."
    )
