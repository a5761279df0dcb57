"""Mouse cells: one mouse to another, types left out, and human to mouse, as `make bench-species` measured it."""

from statistics import fmean
from typing import Any

from sections.markdown import number, percent, table

OWN = "SpikGPT"
MICE, ACROSS = "mouse 1 to mouse 2", "human to mouse, through orthologs"
VIEWS = {"both views": OWN, "expression": f"{OWN}, expression view alone", "embedding": f"{OWN}, embedding view alone"}
RULES = {"both": "as it is", "quantile": "Cell Ranger's alone", "share": "share alone"}

SHARES = ("found", "false")


def mean(rows: list[dict[str, Any]], name: str) -> float | None:
    values = [row[name] for row in rows if row[name] is not None]
    return fmean(values) if values else None


def render(figures: dict[str, Any]) -> str:
    rows = figures["rows"]

    def of(split: str, method: str, left_out: bool = False) -> list[dict[str, Any]]:
        return [
            row
            for row in rows
            if row["split"] == split and row["method"] == method and (row["left_out"] is not None) == left_out
        ]

    def scores(split: str) -> str:
        methods = list(dict.fromkeys(row["method"] for row in rows if row["split"] == split))
        return table(
            ("method", "accuracy", "macro-F1", "Unknown of known types", "accuracy of the labelled"),
            [
                (
                    method,
                    number(mean(of(split, method), "accuracy")),
                    number(mean(of(split, method), "macro_f1")),
                    percent(mean(of(split, method), "false_unknown")),
                    number(mean(of(split, method), "accuracy_kept")),
                )
                for method in methods
            ],
        )

    left_out = sorted({row["left_out"] for row in rows if row["left_out"] is not None})
    methods = list(dict.fromkeys(row["method"] for row in rows if row["left_out"] is not None))
    f1 = {name: mean(of(MICE, method), "macro_f1") or 0.0 for name, method in VIEWS.items()}
    gain = f1["both views"] - f1["expression"]
    seeds = len(of(MICE, OWN))
    drawn = "one seed" if seeds == 1 else f"mean of {seeds} seeds"
    cells = figures["cells"]
    simulated = figures["barnyard"]
    parts = [
        "## Mouse cells\n",
        f"Mouse pancreas (Baron 2016), read by the pipeline: {cells['mouse1']} cells of mouse 1, {cells['mouse2']} of "
        f"mouse 2, in the mouse's own genes. scGPT reads the one-to-one human orthologs: "
        f"{percent(figures['ortholog_genes'])} of the genes with a count, {percent(figures['ortholog_counts'])} of the "
        f"counts; {percent(figures['gene_match_counts'])} of the counts are on genes that the checkpoint "
        f"(`{figures['scgpt']['name']}`, human cells alone) knows. Best match, rejection left aside; SpikGPT rejects "
        f"at a rate of 5 %. Methods that draw random numbers: {drawn}.\n",
        "### Mouse 1 to mouse 2\n",
        scores(MICE),
        f"The embedding's own share: macro-F1 of {number(f1['embedding'])} by the embedding alone, "
        f"{number(f1['expression'])} by expression alone, {number(f1['both views'])} by both: the embedding adds "
        f"{gain:+.3f}.\n",
        "### Types left out in turn\n",
        "Mouse 1 without a type, mouse 2 with it. Caught: share of the type that is rejected where 5 % of the cells of "
        "known types are; by the method's own rule in brackets.\n",
        table(
            ("type", *(f"{method}: caught" for method in methods), *(f"{method}: AUROC" for method in methods)),
            [
                (
                    left,
                    *(_caught(_one(rows, left, method)) for method in methods),
                    *(number(_one(rows, left, method)["auroc"]) for method in methods),
                )
                for left in left_out
            ],
        ),
        "### Human to mouse\n",
        "Human donor 1 as the reference of both mice, on the one-to-one orthologs that both have "
        f"({figures['shared_genes'][ACROSS]:,} genes; insulin, of which mice have two genes, is not among them). The "
        "pipeline refuses this, for an annotator is of its own species; it is measured here alone.\n",
        scores(ACROSS),
        "### Two genomes in one matrix\n",
        "Simulated barcodes with the totals of these cells, ambient RNA of both species (mean counts of a barcode as a "
        "share of the median cell's), and pairs of a human and a mouse cell. Found: pairs called mixed; false: single "
        "cells called mixed.\n",
        table(
            (
                "human and mouse cells",
                "ambient",
                *(f"{rule}: {what}" for rule in RULES.values() for what in SHARES),
            ),
            [
                (
                    f"{human:,} and {mouse:,}",
                    percent(ambient, 0),
                    *(
                        percent(row[what])
                        for rule in RULES
                        for row in simulated
                        if (row["human"], row["mouse"], row["ambient"], row["rule"]) == (human, mouse, ambient, rule)
                        for what in SHARES
                    ),
                )
                for human, mouse, ambient in dict.fromkeys((r["human"], r["mouse"], r["ambient"]) for r in simulated)
            ],
        ),
    ]
    return "\n".join(parts)


def _one(rows: list[dict[str, Any]], left_out: str, method: str) -> dict[str, Any]:
    return next(row for row in rows if row["left_out"] == left_out and row["method"] == method)


def _caught(row: dict[str, Any]) -> str:
    own = row["unseen_unknown"]
    return percent(row["caught_at_5"]) + (f" ({percent(own)})" if own is not None else "")
