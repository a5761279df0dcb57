#!/usr/bin/env python3
"""The measurements of import, quality control and cohort: one JSON from their parts, and its text.

    bench/qc_docs.py collect --out docs/benchmarks/qc.json ambient=ambient.json doublets=doublets.json ...
    bench/qc_docs.py show docs/benchmarks/qc.json

Parts: scale_sample and scale_cohort (qc_scale.py), calling and calling_toy (calling.py), ambient (ambient.py), doublets
(doublets.py), mixing (mixing.py). A part that was not measured has no section.
"""

import argparse
import json
from pathlib import Path
from typing import Any

PARTS = ("scale_sample", "scale_cohort", "calling", "calling_toy", "ambient", "doublets", "mixing")


def _table(head: list[str], rows: list[list[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in row)} |" for row in lines)


def _steps(found: dict) -> str:
    keys = ("step", "peak_gb", "cpu_seconds", "seconds")
    rows = [[row.get(key, "not measured") for key in keys] for row in found["steps"]]
    table = _table(["step", "peak memory, GB", "processor, s", "clock, s"], rows)
    return f"{table}\n\n{found['note']}" if found.get("note") else table


def scale_sample(found: dict) -> str:
    return (
        f"### One sample of {found['cells']:,} cells\n\nResampled cells, "
        f"{found['counted_genes_per_cell']:,} genes each; one core.\n\n{_steps(found)}"
    )


def scale_cohort(found: dict) -> str:
    thinned = found.get("thinned_to", 1)
    less = f" Counts were thinned to {100 * thinned:g} % beforehand." if thinned < 1 else ""
    return (
        f"### A cohort of {found['cells']:,} cells in {found['samples']} samples\n\nResampled cells, drawn embeddings "
        f"of {found['dimensions']} dimensions; one core.{less}\n\n{_steps(found)}"
    )


def calling(found: dict, title: str = "Cell calling beside DropletUtils") -> str:
    names = {"as_it_is": "the raw matrix", "with_small_cells": "with 500 small cells and 500 ambient barcodes"}
    rows = []
    for key, part in found.items():
        for bound, told in (("own_knee", "its own knee"), ("same_bound", "the same bound")):
            other = part[f"dropletutils_{bound}"]
            extra = [
                f"{part[k]} / {other[k]}" if k in part else ""
                for k in ("called_small_cells", "called_ambient_barcodes")
            ]
            tested = f"{other['agree_percent_of_tested']} of {part['tested']}" if part["tested"] else "none tested"
            rows.append(
                [names[key], told, f"{part['cells']} / {other['cells']}", other["agree_percent"], tested, *extra]
            )
    head = ["matrix", "DropletUtils with", "cells, ours / theirs", "agree, %", "agree among tested, %",
            "small cells called", "ambient barcodes called"]  # fmt: skip
    return f"### {title}\n\n{_table(head, rows)}"


def ambient(found: dict) -> str:
    rows = []
    for name, genes in found["markers"].items():
        for gene, n in genes.items():
            own = 100 * n["own_cells_after"] / max(n["own_cells_before"], 1)
            gone = 100 * (1 - n["others_after"] / max(n["others_before"], 1))
            cells = f"{n['other_cells_with_it_before']} to {n['other_cells_with_it_after']}"
            rows.append([gene, name, f"{own:.1f}", f"{gone:.1f}", cells])
    head = [
        "gene",
        "belongs to",
        "counts kept in its own cells, %",
        "counts removed elsewhere, %",
        "other cells with it",
    ]
    return (
        f"### Ambient RNA\n\n{found['cells']:,} cells; ambient profile: {found['background']}. DecontX takes "
        f"{found['estimated_percent']:.1f} % of the counts for ambient RNA; {found['removed_percent']:.1f} % were "
        f"removed after rounding.\n\n{_table(head, rows)}"
    )


def doublets(found: dict) -> str:
    methods = [name for name in found["all"] if isinstance(found["all"][name], dict)]
    rows = []
    for batch, part in found.items():
        if batch in ("parts", "ordinary"):
            continue
        for name in methods:
            m = part[name]
            share = f"{part['doublets']} of {part['cells']} ({100 * part['doublets'] / part['cells']:.0f} %)"
            rows.append(
                [batch, share, f"{100 * part['expected_rate']:.1f}", name, m["auroc"], m["called"], m["called_right"]]
            )
    head = ["batch", "true doublets", "expected, %", "method", "AUROC", "called", "of these true"]
    text = f"### Doublets\n\n{_table(head, rows)}"
    alone = [part["SpikGPT"] for batch, part in found.items() if batch not in ("all", "parts", "ordinary")]
    called, right = sum(part["called"] for part in alone), sum(part["called_right"] for part in alone)
    whole = found["all"]
    text += (
        f"\n\nThe pipeline scores a sample at a time. The libraries one by one: {called} cells called, {right} of them "
        f"true, of\n{whole['doublets']} true doublets; pooled into one sample, {whole['SpikGPT']['called']}. The calls "
        "are right and few: the threshold,\nnot the limit on what may be called, leaves the others."
    )
    if "parts" in found:
        p = found["parts"]
        text += (
            f"\n\nIn {p['parts']} random parts instead of at once: AUROC {p['auroc_parts']} instead of "
            f"{p['auroc_whole']}, rank correlation of the scores {p['spearman']}."
        )
    if "ordinary" in found:
        head = ["sample", "cells", "doublets expected", "called", "of which types (called of all)"]
        rows = [
            [row["sample"], f"{row['cells']:,}", row["expected"], row["called"], _types(row.get("types", {}))]
            for row in found["ordinary"]
        ]
        text += (
            "\n\nThe threshold is where Scrublet's histogram of simulated doublets parts in two. In ordinary samples,\n"
            "whose doublets nobody knows and some of which their authors had taken out:\n\n" + _table(head, rows)
        )
    return text


def _types(types: dict[str, list[int]]) -> str:
    """The three types with most calls."""
    most = sorted(types.items(), key=lambda item: (-item[1][0], item[0]))[:3]
    return ", ".join(f"{name} {called} of {cells}" for name, (called, cells) in most)


def mixing(found: dict) -> str:
    rows = [[name, f"{found[name]['ours']:.4f}", f"{found[name]['scib']:.4f}"]
            for name in ("ilisi", "clisi", "kbet_acceptance")]  # fmt: skip
    table = _table(["score", "ours", "scib-metrics"], rows)
    return f"### Batch mixing beside scib-metrics {found['scib_metrics']}\n\n{found['cells']:,} cells.\n\n{table}"


def render(found: dict) -> str:
    """The section as Markdown."""
    makers = {
        "scale_sample": scale_sample, "scale_cohort": scale_cohort, "calling": calling, "ambient": ambient,
        "calling_toy": lambda part: calling(part, "Cell calling on a small, really unfiltered matrix"),
        "doublets": doublets, "mixing": mixing,
    }  # fmt: skip
    return (
        "## Import, quality control and cohort\n\n"
        + "\n\n".join(makers[p](found[p]) for p in PARTS if p in found)
        + "\n"
    )


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = made.add_subparsers(dest="what", required=True)
    collect = which.add_parser("collect")
    collect.add_argument("parts", nargs="+", metavar="PART=JSON")
    collect.add_argument("--out", required=True)
    show = which.add_parser("show")
    show.add_argument("json")
    given = made.parse_args()
    if given.what == "show":
        print(render(json.loads(Path(given.json).read_text())), end="")
        return
    out = Path(given.out)
    found = json.loads(out.read_text()) if out.exists() else {}
    for part in given.parts:
        name, path = part.split("=", 1)
        if name not in PARTS:
            raise SystemExit(f"{name} is none of {', '.join(PARTS)}")
        found[name] = json.loads(Path(path).read_text())
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({name: found[name] for name in PARTS if name in found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
