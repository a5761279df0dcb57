"""How many cells went in and stayed, and how good they are."""

import numpy as np
import pandas as pd

from spikgpt import UNKNOWN
from spikgpt.base.colours import UNKNOWN_COLOUR, series_colours
from spikgpt.base.groups import evenly
from spikgpt.cohort.tables import STEPS
from spikgpt.report.content import Group, Section, number, short, text
from spikgpt.report.inputs import Inputs
from spikgpt.report.plots import TableColumn, bars, boxes, five_numbers, lines, table, violins

GROUP = Group("spikgpt_cells", "Cells and quality", "How many cells went in and stayed, and how good they are.")

VIOLIN_CELLS = 1000
"""Cells that the violins are drawn from at most: each is in the page."""

METRICS = (
    ("n_genes_by_counts", "Genes per cell", "genes"),
    ("total_counts", "Counts per cell", "counts (UMIs)"),
    ("pct_counts_mt", "Mitochondrial", "% of counts"),
    ("pct_counts_ribo", "Ribosomal", "% of counts"),
    ("pct_counts_hb", "Haemoglobin", "% of counts"),
)
"""What is drawn of quality control's metrics: name, title, unit."""


def steps_bars(inputs: Inputs) -> Section:
    """Where cells went, per sample; the parts of a bar add up to its called cells."""
    reasons = [name for name in next(iter(inputs.steps.values())) if name.startswith("removed: ")]
    colours = series_colours(len(reasons) + 1)
    categories = {"annotated": {"name": "Annotated with a type", "color": colours[0]}}
    categories["unknown"] = {"name": UNKNOWN, "color": UNKNOWN_COLOUR}
    for at, name in enumerate(reasons):
        label = short(name.removeprefix("removed: ").replace("_", " "))
        categories[f"r{at}"] = {"name": f"Removed: {label}", "color": colours[at + 1]}
    data = {
        sample: {
            "annotated": count["annotated"],
            "unknown": count[UNKNOWN],
            **{f"r{at}": count[name] for at, name in enumerate(reasons)},
        }
        for sample, count in inputs.steps.items()
    }
    return bars(
        "spikgpt_steps",
        "Cells per step",
        "Each bar shows one sample's called cells: kept cells on the left, then removed cells by the first rule that "
        "removed them. Good samples keep most of their cells; a long bar of one rule shows what went wrong.",
        data,
        categories,
    )


def steps_table(inputs: Inputs) -> Section:
    """The same as numbers, barcodes included."""
    keys = {step: f"s{at}" for at, step in enumerate(STEPS)}
    rows = {sample: {key: count[step] for step, key in keys.items()} for sample, count in inputs.steps.items()}
    hints = (
        "Barcodes in the input matrix",
        "Cells found by cell calling; all barcodes of a filtered matrix",
        "Cells that still have counts once ambient RNA is removed; all called cells with --ambient none",
        "Cells left once predicted doublets are removed",
        "Cells that passed every filter",
        "Cells labelled with a type of the reference",
        f"Rejected cells; Annotated and {UNKNOWN} add up to After filters",
    )
    columns = {
        key: TableColumn(step[0].upper() + step[1:], hint)
        for (step, key), hint in zip(keys.items(), hints, strict=True)
    }
    return table(
        "spikgpt_steps_table",
        "Cells per step, in numbers",
        f"From left to right, the cells left after each step; Annotated and {UNKNOWN} add up to After filters. The "
        "same numbers are in tables/cells_per_step.tsv.",
        rows,
        columns,
        first="Sample",
        decimals=0,
    )


def features_left_out(inputs: Inputs) -> Section | None:
    """Features of the matrices that are not gene expression of the samples' species."""
    left_out = {s: stats.get("feature_types_left_out") or {} for s, stats in sorted(inputs.stats["import"].items())}
    kinds = sorted({kind for features in left_out.values() for kind in features})
    if not kinds:
        return None
    keys = {kind: f"f{at}" for at, kind in enumerate(kinds)}
    rows = {
        sample: {keys[kind]: count for kind, count in features.items()}
        for sample, features in left_out.items()
        if features
    }
    columns = {
        key: TableColumn(text(kind), f"Features of type {text(kind)} in the matrix") for kind, key in keys.items()
    }
    return table(
        "spikgpt_left_out",
        "Features left out",
        "Features of the matrices that are not gene expression of the samples' species, such as antibodies. They are "
        "dropped at import and counted in no result.",
        rows,
        columns,
        first="Sample",
        decimals=0,
    )


def knee_lines(inputs: Inputs) -> Section | None:
    """Barcode rank curves of samples whose cells were called."""
    curves = {
        sample: [[point["rank"], point["umis"]] for point in stats["knee"]]
        for sample, stats in sorted(inputs.stats["called"].items())
        if stats.get("knee")
    }
    if not curves:
        return None
    return lines(
        "spikgpt_knee",
        "Knee plot",
        "Counts of each barcode, from the largest. A good library has a clear step between cells (left) and empty "
        "droplets (right); without one, the number of cells is uncertain.",
        curves,
        xlab="Barcode rank",
        ylab="Counts (UMIs)",
        xlog=True,
        ylog=True,
        smooth_points=None,
    )


def ambient_table(inputs: Inputs) -> Section | None:
    """How much of the counts was ambient RNA, per sample."""
    rows = {}
    for sample, stats in sorted(inputs.stats["ambient"].items()):
        if not stats.get("run"):
            continue
        lost = [f"{g['gene']} {100 * (1 - g['after'] / g['before']):.0f} %" for g in stats["genes"][:8]]
        rows[sample] = {
            "estimated": stats["estimated_percent"],
            "removed": stats["removed_percent"],
            "median": stats["contamination"]["median"],
            "largest": stats["contamination"]["max"],
            "background": text(stats["background"]),
            "genes": text(", ".join(lost)),
        }
    if not rows:
        return None
    return table(
        "spikgpt_ambient",
        "Ambient RNA",
        "What DecontX removed. A few per cent are usual. Far more, or markers of a cell type among the genes, mean "
        "that many cells burst or that the correction went too far. The uncorrected counts are in "
        "layers[&quot;uncorrected_counts&quot;].",
        rows,
        {
            "estimated": TableColumn("Estimated %", "Share of all counts that DecontX estimates to be ambient RNA"),
            "removed": TableColumn("Removed %", "Share of all counts that was removed, after rounding to whole counts"),
            "median": TableColumn("Median cell %", "Ambient share of the median cell"),
            "largest": TableColumn("Worst cell %", "Ambient share of the most contaminated cell"),
            "background": TableColumn("Profile", "Where the ambient profile comes from"),
            "genes": TableColumn("Genes", "Genes that lost most counts, and the share of their counts that they lost"),
        },
        first="Sample",
        decimals=1,
    )


def _drawn_metrics(inputs: Inputs) -> tuple[list[tuple[str, str, str]], str]:
    """The metrics that are not 0 in every cell, and a sentence on those that are."""
    measured = [m for m in METRICS if any(m[0] in metrics for metrics in inputs.qc.values())]
    drawn = [m for m in measured if any((metrics[m[0]] > 0).any() for metrics in inputs.qc.values() if m[0] in metrics)]
    zero = [m[1] for m in measured if m not in drawn]
    return drawn, f" Not drawn because they are 0 in every cell: {', '.join(zero)}." if zero else ""


def quality_boxes(inputs: Inputs) -> Section | None:
    """Distribution of each metric per sample, before any filter."""
    drawn, zero = _drawn_metrics(inputs)
    data = [
        {
            sample: five_numbers(metrics[metric].to_numpy(dtype=np.float64))
            for sample, metrics in sorted(inputs.qc.items())
            if len(metrics)
        }
        for metric, _, _ in drawn
    ]
    if not any(data):
        return None
    return boxes(
        "spikgpt_qc",
        "Quality per sample",
        "Called cells before any filter: box = middle half, line = median, whiskers = 1st to 99th percentile. Samples "
        f"of one experiment should look alike; few genes or a high mitochondrial share suggest damaged cells.{zero}",
        data,
        [(title, unit) for _, title, unit in drawn],
    )


def quality_violins(inputs: Inputs) -> Section | None:
    """Distribution of each metric over all called cells."""
    by_sample = [metrics.assign(sample=sample) for sample, metrics in sorted(inputs.qc.items()) if len(metrics)]
    drawn, zero = _drawn_metrics(inputs)
    if not by_sample or not drawn:
        return None
    called = pd.concat(by_sample, ignore_index=True)
    some = called.iloc[evenly(len(called), VIOLIN_CELLS)]
    cells = {
        f"{text(row.sample)} {text(row.barcode)}": {metric: number(getattr(row, metric)) for metric, _, _ in drawn}
        for row in some.itertuples(index=False)
    }
    headers = {
        metric: {
            "title": title,
            "description": f"{title}, {unit}",
            "min": 0,
            "suffix": " %" if metric.startswith("pct") else "",
            "format": "{:,.1f}" if metric.startswith("pct") else "{:,.0f}",
        }
        for metric, title, unit in drawn
    }
    return violins(
        "spikgpt_qc_violin",
        "Quality of all cells",
        f"Violins over {len(some):,} of {len(called):,} called cells of all samples, evenly spaced, before any filter. "
        f"One bulge is usual; a second one at few genes or high mitochondrial share is debris or dying cells.{zero}",
        cells,
        headers,
    )


def doublets_table(inputs: Inputs) -> Section | None:
    """What doublet detection expected and found."""
    rows = {
        sample: {
            "expected": number(100 * stats["expected_rate"]),
            "found": number(100 * stats["predicted_rate"]),
            "cells": stats["predicted"],
            "threshold": number(stats["threshold"]),
        }
        for sample, stats in sorted(inputs.stats["doublets"].items())
        if stats.get("run")
    }
    if not rows:
        return None
    return table(
        "spikgpt_doublets",
        "Doublets",
        "Found should not be far above expected. None found where many were expected means that the scores had no "
        "clear gap, or that the threshold would have removed too many cells; the sample then has a warning.",
        rows,
        {
            "expected": TableColumn("Expected %", "From the number of cells, 0.8 % per 1,000"),
            "found": TableColumn("Found %", "Predicted doublets"),
            "cells": TableColumn("Doublets", "Predicted doublets, cells", decimals=0),
            "threshold": TableColumn("Threshold", "Scrublet's score above which a cell is called a doublet"),
        },
        first="Sample",
        decimals=2,
    )
