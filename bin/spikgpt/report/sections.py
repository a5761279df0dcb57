"""The sections of the report, in the order a reader needs them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from spikgpt import UNKNOWN
from spikgpt.annotator.energy import ScGPTShape
from spikgpt.annotator.energy import scgpt as scgpt_operations
from spikgpt.annotator.verdicts import CAUGHT, verdict
from spikgpt.base.colours import CONTINUOUS, REASON_COLOURS, UNKNOWN_COLOUR, cell_type_colours, series_colours
from spikgpt.base.columns import REASON_NAMES, UNKNOWN_REASONS
from spikgpt.cohort.clusters import cluster_order
from spikgpt.cohort.tables import STEPS
from spikgpt.report.content import Group, Section, html_facts, html_list, labels, number, short, text
from spikgpt.report.inputs import Inputs
from spikgpt.report.methods import methods_html
from spikgpt.scgpt.tissue import UNFAMILIAR_SHARE

MAP_POINTS = 3000
"""Cells on the map at most: MultiQC draws each as a series, and more make a browser slow."""

VIOLIN_CELLS = 1000

HIGH_UNKNOWN = 3
"""A sample with more Unknown cells than this many times the expected rate is pointed out."""

FEW_CELLS = 100
"""A sample with fewer cells than this is pointed out."""

LOW_CONFIDENCE = 0.7
"""A sample whose median confidence is lower is pointed out: three in ten best matches would be wrong."""

HIGH_MITO = 10
"""A sample whose median mitochondrial percentage is higher is pointed out, as populations are."""

QC_METRICS = (
    ("n_genes_by_counts", "Genes per cell", "genes"),
    ("total_counts", "Counts per cell", "counts (UMIs)"),
    ("pct_counts_mt", "Mitochondrial", "% of counts"),
    ("pct_counts_ribo", "Ribosomal", "% of counts"),
    ("pct_counts_hb", "Haemoglobin", "% of counts"),
)

REASON_TEXTS = {reason.name: f"{reason.meaning} ({reason.name})" for reason in UNKNOWN_REASONS}

SUMMARY = Group("spikgpt_summary", "Summary", "What came out, and what needs a look before the data are used.")
CELLS = Group("spikgpt_cells", "Cells and quality", "How many cells went in and stayed, and how good they are.")
TYPES = Group("spikgpt_types", "Cell types", "What the cells are, and how sure the labels are.")
UNKNOWNS = Group("spikgpt_unknown", "Unknown cells", "Cells that were rejected, why, and whether they are a type.")
MODELS = Group("spikgpt_models", "Models", "What the labels come from, and how well it does.")
RECORD = Group("spikgpt_record", "Methods and parameters", "What was done, in words to cite, and with which values.")

# MultiQC puts general statistics first whatever its configuration says; the summary goes above them. Its own
# welcome, which links to a video on the web, does not belong in a report that is sent on, and its logo, which
# the side bar has too, would take the place of the answers on the first screen
_ON_TOP = """<style>
.mainpage > div:first-child { display: flex; flex-direction: column; }
.mainpage > div:first-child > * { min-width: 0; }
#general_stats { order: 1; margin-top: 1rem; }
#general_stats .mqc-section-comment { font-size: .875rem; background: none; border: 0; padding: 0; margin: 0 0 .5rem; }
.mqc-module-section { order: 2; }
#mqc-module-section-spikgpt_summary { order: 0; }
#mqc_welcome, #page_title { display: none !important; }
#mqc-section-wrapper-spikgpt_evidence td.found, #mqc-section-wrapper-spikgpt_evidence td.missing,
#mqc-section-wrapper-spikgpt_populations td.markers { min-width: 10rem; }
.mainpage .mqc_table td, .mainpage .mqc_table th { max-width: 18rem; overflow-wrap: break-word; }
.mainpage p.lead { font-size: 1rem; margin-bottom: .5rem; }
</style>"""

LEGEND_LINES = 15
"""Lines in a plot up to which a legend helps."""

Made = Section | None


def general_statistics(inputs: Inputs) -> Section:
    """One row per sample for MultiQC's table at the top of the report."""
    steps = inputs.steps
    rows: dict[str, dict[str, Any]] = {}
    for sample in inputs.samples:
        cells = inputs.of_sample(sample)
        kept = len(cells)
        doublets = inputs.stats["doublets"].get(sample, {})
        rows[sample] = {
            "cells_in": steps[sample]["called"],
            "cells_kept": kept,
            "median_genes": number(cells["n_genes_by_counts"].median()),
            "median_counts": number(cells["total_counts"].median()),
            "pct_mt": number(cells["pct_counts_mt"].median()),
            "pct_doublets": number(100 * doublets["predicted_rate"]) if doublets.get("run") else None,
            "median_confidence": number(cells["spikgpt_confidence"].median()),
            "pct_unknown": number(100 * steps[sample][UNKNOWN] / kept) if kept else None,
        }
        rows[sample] = {name: value for name, value in rows[sample].items() if value is not None}
    expected = 100 * inputs.unknown_rate
    columns: dict[str, tuple[str, str, str, str, dict[str, Any]]] = {
        "cells_in": ("Cells in", "Cells before quality control", "Blues", "{:,.0f}", {}),
        "cells_kept": ("Cells kept", "Cells after doublets and filters, all annotated", "Greens", "{:,.0f}",
                       {"cond_formatting_rules": {"warn": [{"lt": FEW_CELLS}], "fail": [{"lt": 1}]}}),
        "median_genes": ("Genes", "Median genes per kept cell", "PuBu", "{:,.0f}", {}),
        "median_counts": ("Counts", "Median counts (UMIs) per kept cell", "BuPu", "{:,.0f}", {}),
        "pct_mt": ("Mito", "Median mitochondrial share of a kept cell's counts", "Reds", "{:,.1f}",
                   {"max": 20, "cond_formatting_rules": {"warn": [{"gt": HIGH_MITO}]}}),
        "pct_doublets": ("Doublets", "Predicted doublets among cells in", "Oranges", "{:,.1f}", {"max": 20}),
        "median_confidence": (
            "Confidence",
            "Median calibrated probability of the best match; near 1 is good",
            "RdYlGn",
            "{:,.2f}",
            {"min": 0.5, "max": 1, "cond_formatting_rules": {"warn": [{"lt": LOW_CONFIDENCE}]}},
        ),
        "pct_unknown": (
            UNKNOWN,
            f"Rejected cells; about {expected:.3g} % is expected where all types are in the reference",
            "YlOrRd",
            "{:,.1f}",
            {"max": 100, "cond_formatting_rules": {"warn": [{"gt": HIGH_UNKNOWN * expected}]}},
        ),
    }  # fmt: skip
    headers = {
        name: {
            "title": title,
            "description": description,
            "scale": scale,
            "format": form,
            "min": 0,
            "namespace": "SpikGPT",
            **({"suffix": " %"} if name.startswith("pct_") else {}),
            **more,
        }
        for name, (title, description, scale, form, more) in columns.items()
    }
    return Section("spikgpt_general", "General statistics", "", "generalstats", rows, {"headers": headers})


def summary(inputs: Inputs) -> Made:
    """The first screen: cells, types, confidence, what is new."""
    cells = inputs.cells
    total, samples = len(cells), len(inputs.samples)
    plural = "" if samples == 1 else "s"
    lines = []
    if total:
        labelled = cells.loc[cells["spikgpt_cell_type"] != UNKNOWN, "spikgpt_cell_type"]
        counts = labelled.value_counts().sort_index().sort_values(ascending=False, kind="stable")
        share = 100 * (total - len(labelled)) / total
        left = cells["sample"].nunique()
        of = f"{left} of {samples} samples" if left < samples else f"{samples} sample{plural}"
        lines.append(f"<b>{total:,} cells</b> of {of} passed quality control{_per_sample(cells, left)}.")
        common = ", ".join(f"{short(name)} ({100 * n / total:.1f} %)" for name, n in counts.head(6).items())
        lines.append(f"They are of <b>{len(counts)} types</b>: {common}{', …' if len(counts) > 6 else '.'}")
        lines.append(
            f"<b>{share:.1f} %</b> are {UNKNOWN}; about {100 * inputs.unknown_rate:.3g} % is what the method "
            "rejects where every type is in the reference. Median confidence of the labelled cells: "
            f"{_median(cells.loc[cells['spikgpt_cell_type'] != UNKNOWN, 'spikgpt_confidence'])}."
        )
        found = inputs.tables.get("unknown_populations.tsv", pd.DataFrame())
        if len(found):
            first = found.iloc[0]
            lines.append(
                f"<b>{len(found)} population{'' if len(found) == 1 else 's'} outside of the reference</b>: the "
                f"largest is cluster {text(first['cluster'])} with {int(first['unknown_cells']):,} {UNKNOWN} cells, "
                f"nearest to {short(first['nearest_type'])}, markers "
                f"{text(', '.join(str(first['markers']).split(', ')[:5]))}."
            )
        else:
            lines.append("No cluster holds far more rejected cells than expected: no sign of a type missing.")
    else:
        lines.append(f"<b>No cell</b> of {samples} sample{plural} passed quality control.")
    return Section(
        "spikgpt_overview",
        "In short",
        "The whole cohort in a few lines; the sections below show each figure per sample.",
        "html",
        _ON_TOP + html_list(lines),
    )


def _per_sample(cells: pd.DataFrame, samples: int) -> str:
    """How the cells are spread over the samples: each one's number, or the range of many."""
    counts = cells["sample"].value_counts().sort_index()
    if samples == 1:
        return ""
    if samples <= 6:
        return ": " + ", ".join(f"{short(name)} {number:,}" for name, number in counts.items())
    return f": {counts.min():,} to {counts.max():,} per sample, median {counts.median():,.0f}"


def warnings(inputs: Inputs) -> tuple[list[str], list[str]]:
    """What a reader must know before using the data, and remarks on how the input was read.

    Returns
    -------
    warnings, remarks
        HTML, the gravest first, like ones in one line.
    """
    grave: dict[str, list[str]] = {}
    notes: dict[str, list[str]] = {}
    remarks: dict[str, list[str]] = {}
    for sample in inputs.samples:
        count = inputs.steps[sample]
        kept = count["annotated"] + count[UNKNOWN]
        stats = {kind: found.get(sample, {}) for kind, found in inputs.stats.items()}
        if kept == 0:
            gone = ((k.removeprefix("removed: "), v) for k, v in count.items() if k.startswith("removed"))
            why = ", ".join(f"{text(k)} {v:,}" for k, v in gone if v)
            grave.setdefault("<b>skipped</b>: no cell passed quality control", []).append(
                f"{_bold(sample)} ({count['called']:,} cells{': ' + why if why else ''})"
            )
            continue
        if kept < FEW_CELLS:
            kind = f"fewer than {FEW_CELLS} cells, so that shares and distributions are rough"
            notes.setdefault(kind, []).append(f"{_bold(sample)} ({kept:,})")
        if 2 * kept < count["called"]:
            kind = "more than half of the cells lost to quality control"
            notes.setdefault(kind, []).append(f"{_bold(sample)} ({100 * (1 - kept / count['called']):.0f} %)")
        share = count[UNKNOWN] / kept
        told = stats["annotation"].get("tissue_warning")
        if told:
            grave.setdefault(text(told), []).append(_bold(sample))
        chunks = [c for c in inputs.embeddings if c["sample"] == sample and c.get("unfamiliar_fraction") is not None]
        if chunks:
            sizes = [c["end"] - c["start"] for c in chunks]
            outside = float(np.average([c["unfamiliar_fraction"] for c in chunks], weights=sizes))
            if outside > UNFAMILIAR_SHARE:
                kind = (
                    f"looks like none of the tissues that the scGPT checkpoint {text(chunks[0]['scgpt_name'])} was "
                    "pretrained on; its embedding may not tell these cells apart, so give one that knows the tissue "
                    "with <code>--scgpt_model</code>"
                )
                grave.setdefault(kind, []).append(f"{_bold(sample)} ({100 * outside:.0f} % of its cells)")
        if not told and share > HIGH_UNKNOWN * inputs.unknown_rate and count[UNKNOWN] >= 10:
            kind = (
                f"more than {HIGH_UNKNOWN} times the expected {100 * inputs.unknown_rate:.3g} % {UNKNOWN} cells: a "
                "type that the reference lacks, low quality, or another tissue"
            )
            notes.setdefault(kind, []).append(f"{_bold(sample)} ({100 * share:.1f} %)")
        for message in stats["import"].get("messages", []):
            remarks.setdefault(text(message), []).append(_bold(sample))
        for kind in ("called", "ambient", "doublets", "filter", "annotation"):
            for message in stats[kind].get("messages", []):
                notes.setdefault(text(message), []).append(_bold(sample))
        for layer in stats["annotation"].get("dead_layers", []):
            kind = f"layer {text(layer)} of the annotator hardly fires on these cells"
            notes.setdefault(kind, []).append(_bold(sample))
    # an annotator trained in this run has the import's messages among its own
    imported = (inputs.reference or {}).get("messages", [])
    for message in imported:
        remarks.setdefault(text(message), []).append("<b>Reference</b>")
    for message in (inputs.annotator or {}).get("warnings", []):
        if message not in imported:
            notes.setdefault(text(message), []).append("<b>Reference</b>")
    losing = benchmark_verdict(inputs)
    if losing and losing[0]:
        notes.setdefault(losing[1], []).append("<b>Benchmark</b>")
    found = [_alert("danger", *item) for item in grave.items()] + [_alert("warning", *item) for item in notes.items()]
    return found, [_alert("info", *item) for item in remarks.items()]


def _bold(sample: str) -> str:
    return f"<b>{text(sample)}</b>"


def _alert(kind: str, what: str, who: list[str]) -> str:
    names, rest = ", ".join(who[:8]), ""
    if len(who) > 8:
        names += f" and {len(who) - 8} more"
        rest = f"<details><summary>the other {len(who) - 8}</summary>{', '.join(who[8:])}</details>"
    return f"<div class='alert alert-{kind} py-2 mb-2'>{names}: {what.rstrip('.')}.{rest}</div>"


def warnings_section(inputs: Inputs) -> Made:
    items, remarks = warnings(inputs)
    good = "<div class='alert alert-success py-2 mb-2'>Nothing to warn of.</div>"
    shown = "".join(items[:12])
    if len(items) > 12:
        shown += f"<details><summary>{len(items) - 12} more</summary>{''.join(items[12:])}</details>"
    shown = shown or good
    if remarks:
        plural = "" if len(remarks) == 1 else "s"
        shown += f"<details><summary>{len(remarks)} remark{plural} on how the matrices were read</summary>"
        shown += f"{''.join(remarks)}</details>"
    return Section(
        "spikgpt_warnings",
        "Warnings and skipped samples",
        "Red: the sample is missing or its labels may not be trusted. Yellow: read before use. Green: no finding.",
        "html",
        shown,
    )


def cells_per_step(inputs: Inputs) -> Made:
    """Where cells went, per sample; the parts of a bar add up to its called cells."""
    steps = inputs.steps
    reasons = [name for name in next(iter(steps.values())) if name.startswith("removed: ")]
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
        for sample, count in steps.items()
    }
    return Section(
        "spikgpt_steps",
        "Cells per step",
        "Each bar is one sample's called cells: kept ones from the left, removed ones by their first reason. "
        "Good samples keep most; one long removal bar says what went wrong.",
        "bargraph",
        data,
        {"categories": categories, "pconfig": {"ylab": "Cells", "cpswitch_counts_label": "Cells"}},
    )


def steps_table(inputs: Inputs) -> Made:
    """The same as numbers, barcodes included."""
    rows = {}
    keys = {step: f"s{at}" for at, step in enumerate(STEPS)}
    for sample, count in inputs.steps.items():
        rows[sample] = {key: count[step] for step, key in keys.items()}
    hints = (
        "Barcodes in the matrix as it came in",
        "Cells by cell calling; all barcodes where the matrix came filtered",
        "Cells with a count left without ambient RNA; the same where it was not removed (--ambient none)",
        "Those less the ones removed as doublets",
        "Cells that passed every filter",
        "Cells with a type of the reference",
        "Cells that were rejected; with Annotated they make up After filters",
    )
    titles = {key: (step[0].upper() + step[1:], hint) for (step, key), hint in zip(keys.items(), hints, strict=True)}
    return Section(
        "spikgpt_steps_table",
        "Cells per step, in numbers",
        f"From left to right what each step left; Annotated and {UNKNOWN} add up to After filters. A script reads the "
        "same from tables/cells_per_step.tsv.",
        "table",
        rows,
        _table(titles, "Sample", decimals=0),
    )


def knee(inputs: Inputs) -> Made:
    """Barcode rank curves of samples whose cells were called."""
    curves = {
        # pairs: the keys of a JSON object are text, and would be sorted as text
        sample: [[point["rank"], point["umis"]] for point in stats["knee"]]
        for sample, stats in sorted(inputs.stats["called"].items())
        if stats.get("knee")
    }
    if not curves:
        return None
    return Section(
        "spikgpt_knee",
        "Knee plot",
        "Counts of each barcode, from the largest. A good library has a clear step between cells (left) and empty "
        "droplets (right); without one, the number of cells is uncertain.",
        "linegraph",
        curves,
        {
            "pconfig": {
                "xlab": "Barcode rank",
                "ylab": "Counts (UMIs)",
                "xlog": True,
                "ylog": True,
                "smooth_points": None,
                "showlegend": len(curves) <= LEGEND_LINES,
                "colors": dict(zip(curves, series_colours(len(curves)), strict=True)),
            }
        },
    )


def features_left_out(inputs: Inputs) -> Made:
    """What of the matrices is no human gene expression, and stayed behind."""
    found = {s: stats.get("feature_types_left_out") or {} for s, stats in sorted(inputs.stats["import"].items())}
    kinds = sorted({kind for left in found.values() for kind in left})
    if not kinds:
        return None
    keys = {kind: f"f{at}" for at, kind in enumerate(kinds)}
    rows = {sample: {keys[kind]: number for kind, number in left.items()} for sample, left in found.items() if left}
    titles = {key: (text(kind), f"Features of type {text(kind)} in the matrix") for kind, key in keys.items()}
    return Section(
        "spikgpt_left_out",
        "Features left out",
        "Features of the matrices that are not human gene expression, such as antibodies: they do not go on, and no "
        "count of theirs is in any result.",
        "table",
        rows,
        _table(titles, "Sample", decimals=0),
    )


def ambient(inputs: Inputs) -> Made:
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
    titles = {
        "estimated": ("Estimated %", "Share of all counts that DecontX takes for ambient RNA"),
        "removed": ("Removed %", "Share of all counts that was removed, after rounding to whole counts"),
        "median": ("Median cell %", "Ambient share of the median cell"),
        "largest": ("Worst cell %", "Ambient share of the most contaminated cell"),
        "background": ("Profile", "Where the ambient profile comes from"),
        "genes": ("Genes", "Genes that lost most counts, and the share of their counts that they lost"),
    }
    return Section(
        "spikgpt_ambient",
        "Ambient RNA",
        "What DecontX removed. A few per cent are usual; far more, or a cell type's own markers among the genes, means "
        "that many cells burst or that the correction went too far. The counts before are in "
        "layers[&quot;uncorrected_counts&quot;].",
        "table",
        rows,
        _table(titles, "Sample", decimals=1),
    )


def batch_mixing(inputs: Inputs) -> Made:
    """Whether batches mix in the embedding, before and after Harmony."""
    table = inputs.tables.get("batch_mixing.tsv")
    if table is None or not len(table):
        return None
    rows: dict[str, dict[str, Any]] = {}
    before = table[table["embedding"] == "scGPT"].set_index("cell_type")
    after = table[table["embedding"] == "Harmony"].set_index("cell_type")
    for label, row in before.iterrows():
        values: dict[str, float] = {"cells": int(row["cells"]), "batches": int(row["batches"])}
        for name in ("ilisi", "kbet_acceptance", "clisi"):
            for when, frame in (("before", before), ("after", after)):
                value = str(frame.at[label, name])
                if value:
                    values[f"{name}_{when}"] = float(value)
        rows[text("All cells" if label == "all" else label)] = values
    titles = {
        "cells": ("Cells", "Cells that were looked at"),
        "batches": ("Batches", "Batches with such cells"),
        "ilisi_before": ("iLISI", "0: neighbours are of one batch; 1: of all batches alike"),
        "ilisi_after": ("iLISI, Harmony", "The same after Harmony"),
        "kbet_acceptance_before": ("kBET", "Share of neighbourhoods whose batches are as in all cells"),
        "kbet_acceptance_after": ("kBET, Harmony", "The same after Harmony"),
        "clisi_before": ("cLISI", "1: neighbours have one label; 0: all labels alike"),
        "clisi_after": ("cLISI, Harmony", "The same after Harmony"),
    }
    return Section(
        "spikgpt_batches",
        "Batch mixing",
        "Whether cells lie by batch in the embedding that labels come from, as it is and after Harmony. High iLISI and "
        "kBET within a type: batches do not tell its cells apart. Low ones that Harmony raises while cLISI stays "
        "high: a batch effect that labels survive; where cLISI falls with it, labels follow batches. Harmony is for "
        "this comparison alone: labels, clusters and X_scGPT are without it.",
        "table",
        rows,
        _table(titles, "Cell type", decimals=2, whole=("cells", "batches")),
    )


def _measured(inputs: Inputs) -> tuple[list[tuple[str, str, str]], str]:
    """The QC metrics that are not 0 in every cell, and a sentence on those that are."""
    there = [m for m in QC_METRICS if any(m[0] in table for table in inputs.qc.values())]
    shown = [m for m in there if any((table[m[0]] > 0).any() for table in inputs.qc.values() if m[0] in table)]
    zero = [name for metric, name, unit in there if (metric, name, unit) not in shown]
    return shown, f" Not drawn, since 0 in every cell: {', '.join(zero)}." if zero else ""


def qc_box(inputs: Inputs) -> Made:
    """Distribution of each metric per sample, before any filter."""
    shown, zero = _measured(inputs)
    datasets = []
    for metric, _, _ in shown:
        boxes = {}
        for sample, table in sorted(inputs.qc.items()):
            values = table[metric].to_numpy(dtype=np.float64)
            if len(values):
                low, q1, median, q3, high = np.quantile(values, [0.01, 0.25, 0.5, 0.75, 0.99])
                boxes[sample] = {
                    "min": round(float(low), 4),
                    "q1": round(float(q1), 4),
                    "median": round(float(median), 4),
                    "q3": round(float(q3), 4),
                    "max": round(float(high), 4),
                    "mean": round(float(values.mean()), 4),
                }
        datasets.append(boxes)
    if not any(datasets):
        return None
    return Section(
        "spikgpt_qc",
        "Quality per sample",
        "Called cells before any filter: box = middle half, line = median, whiskers = 1st to 99th percentile. Samples "
        f"of one experiment should look alike; few genes or a high mitochondrial share mean damaged cells.{zero}",
        "boxplot",
        datasets,
        {
            "pconfig": {
                "data_labels": [{"name": name, "ylab": unit} for _, name, unit in shown],
                "sort_samples": True,
            }
        },
    )


def qc_violin(inputs: Inputs) -> Made:
    """Distribution of each metric over all called cells."""
    tables = [(sample, table) for sample, table in sorted(inputs.qc.items()) if len(table)]
    if not tables:
        return None
    joined = pd.concat([table.assign(sample=sample) for sample, table in tables], ignore_index=True)
    some = joined.iloc[evenly(len(joined), VIOLIN_CELLS)]
    shown, zero = _measured(inputs)
    if not shown:
        return None
    rows = {
        f"{text(row.sample)} {text(row.barcode)}": {m[0]: number(getattr(row, m[0])) for m in shown}
        for row in some.itertuples(index=False)
    }
    headers = {
        metric: {
            "title": name,
            "description": f"{name}, {unit}",
            "min": 0,
            "suffix": " %" if metric.startswith("pct") else "",
            "format": "{:,.1f}" if metric.startswith("pct") else "{:,.0f}",
        }
        for metric, name, unit in shown
    }
    return Section(
        "spikgpt_qc_violin",
        "Quality of all cells",
        f"Violins over {len(some):,} of {len(joined):,} called cells of all samples, taken evenly, before any filter. "
        f"One bulge is usual; a second one at few genes or high mitochondrial share is debris or dying cells.{zero}",
        "violin",
        rows,
        {"headers": headers, "pconfig": {"rows_are_samples": False, "col1_header": "Cell", "series_label": "cells"}},
    )


def doublets(inputs: Inputs) -> Made:
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
    rows = {sample: {k: v for k, v in row.items() if v is not None} for sample, row in rows.items()}
    titles = {
        "expected": ("Expected %", "From the number of cells, 0.8 % per 1,000"),
        "found": ("Found %", "Predicted doublets"),
        "cells": ("Doublets", "Predicted doublets, cells"),
        "threshold": ("Threshold", "Scrublet's score from which a cell is a doublet"),
    }
    return Section(
        "spikgpt_doublets",
        "Doublets",
        "Found should not be far above expected; none found with many expected means that the scores had no gap.",
        "table",
        rows,
        _table(titles, "Sample", decimals=2, whole=("cells",)),
    )


def composition(inputs: Inputs) -> Made:
    """Types per sample, and per condition where there are several."""
    cells = inputs.cells
    if not len(cells):
        return None
    types = _types(cells)
    shown = labels(types)
    colours = cell_type_colours(types)
    ids = {name: f"t{at}" for at, name in enumerate(types)}
    categories = {ids[name]: {"name": shown[name], "color": colours[name]} for name in types}
    datasets, tabs = [], []
    for column, title in (("sample", "By sample"), ("condition", "By condition"), ("donor", "By donor")):
        values = cells[column].astype(str)
        if column != "sample" and values.nunique() < 2:
            continue
        counts = pd.crosstab(values, cells["spikgpt_cell_type"].astype(str))
        names = labels(name or "(not given)" for name in counts.index)
        datasets.append(
            {
                names[name or "(not given)"]: {ids[t]: int(row[t]) for t in counts.columns}
                for name, row in counts.iterrows()
            }
        )
        tabs.append({"name": title, "ylab": "Cells"})
    return Section(
        "spikgpt_composition",
        "Composition",
        "Share of each type; switch to counts on top. Replicates should look alike; the order and the colours of "
        "types are the same in every plot.",
        "bargraph",
        datasets,
        {
            "categories": [categories] * len(datasets),
            "pconfig": {
                "data_labels": tabs,
                "ylab": "Cells",
                "cpswitch_counts_label": "Cells",
                "cpswitch_c_active": False,
            },
        },
    )


def distribution(inputs: Inputs, column: str, id: str, name: str, description: str, xlab: str) -> Made:
    """Histogram of a number from 0 to 1 per sample, as lines."""
    edges = np.linspace(0, 1, 21)
    lines = {}
    for sample in inputs.samples:
        values = inputs.of_sample(sample)[column].to_numpy(dtype=np.float64)
        if len(values):
            counts = np.histogram(np.clip(values, 0, 1), edges)[0]
            lines[sample] = [
                [round(float(x), 3), round(100 * float(n) / len(values), 3)]
                for x, n in zip((edges[1:] + edges[:-1]) / 2, counts, strict=True)
            ]
    if not lines:
        return None
    return Section(
        id,
        name,
        description,
        "linegraph",
        lines,
        {
            "pconfig": {
                "xlab": xlab,
                "ylab": "% of cells",
                "showlegend": len(lines) <= LEGEND_LINES,
                "xmin": 0,
                "xmax": 1,
                "ymin": 0,
                "colors": dict(zip(lines, series_colours(len(lines)), strict=True)),
                **(
                    {"x_lines": [{"value": inputs.unknown_rate, "color": "#555555", "dash": "dash"}]}
                    if column == "spikgpt_p_value"
                    else {}
                ),
            }
        },
    )


def confidence(inputs: Inputs) -> Made:
    return distribution(
        inputs,
        "spikgpt_confidence",
        "spikgpt_confidence",
        "Confidence",
        "Calibrated probability of each cell's best match: of cells at 0.9, nine in ten should be right. A peak at 1 "
        "is good; a broad curve means types that resemble each other or low quality.",
        "Confidence of the best match",
    )


def p_values(inputs: Inputs) -> Made:
    return distribution(
        inputs,
        "spikgpt_p_value",
        "spikgpt_p_values",
        "p-values",
        "Conformal p-value that a cell belongs to the reference at all. Flat is what cells of known types give; a peak "
        f"left of the dashed line (unknown_rate {inputs.unknown_rate:.3g}) is cells outside of the reference.",
        "p-value",
    )


def unknown_reasons(inputs: Inputs) -> Made:
    """Rejected cells per sample, by reason."""
    if not len(inputs.cells):
        return None
    data = {}
    for sample in inputs.samples:
        reasons = inputs.of_sample(sample)["spikgpt_unknown_reason"].value_counts()
        data[sample] = {reason: int(reasons.get(reason, 0)) for reason in REASON_NAMES}
    return Section(
        "spikgpt_reasons",
        "Unknown by reason",
        "Why cells were rejected. Many that fit no type point to a type that the reference lacks; many between types, "
        "to types that it splits too finely; many too shallow, to the library.",
        "bargraph",
        data,
        {
            "categories": {
                reason: {"name": REASON_TEXTS[reason], "color": REASON_COLOURS[reason]} for reason in REASON_NAMES
            },
            "pconfig": {"ylab": "Cells", "cpswitch_counts_label": "Cells", "hide_zero_cats": False},
        },
    )


def populations(inputs: Inputs) -> Made:
    """Clusters that may be a type of their own."""
    table = inputs.tables.get("unknown_populations.tsv")
    if table is None:
        return None
    name, how = (
        "Populations outside of the reference",
        f"Clusters in which far more cells are {UNKNOWN} than unknown_rate allows. Markers say what they may be; the "
        "quality column says what else could explain them, and is empty when nothing does.",
    )
    if not len(table):
        return Section(
            "spikgpt_populations",
            name,
            how,
            "html",
            "<div class='alert alert-success py-2'>No such cluster: rejected cells are spread thinly.</div>",
        )
    rows = {
        f"Cluster {text(row.cluster)}": {
            "cells": int(row.cells),
            "unknown": int(row.unknown_cells),
            "expected": float(row.expected_unknown),
            "samples": int(row.samples),
            "nearest": f"{text(row.nearest_type)} ({float(row.nearest_percent):.0f} %)",
            "markers": text(row.markers),
            "missing": text(row.nearest_markers_missing) or "none",
            "flags": text(row.qc_flags) or "none",
        }
        for row in table.itertuples(index=False)
    }
    titles = {
        "cells": ("Cells", "Cells of the cluster"),
        "unknown": (UNKNOWN, "Rejected cells"),
        "expected": ("Expected", "Rejected cells that unknown_rate allows"),
        "samples": ("Samples", "Samples with cells in it; a population seen in one sample alone needs more proof"),
        "nearest": ("Nearest type", "Commonest best match of its rejected cells"),
        "markers": ("Markers", "Genes higher than in all other cells, best first"),
        "missing": ("Missing", "Markers of the nearest type that the cluster does not show"),
        "flags": ("Quality", "What else could explain the cluster"),
    }
    return Section("spikgpt_populations", name, how, "table", rows, _table(titles, "Cluster", decimals=0))


def evidence(inputs: Inputs) -> Made:
    """One row per cluster: its label and what speaks for it."""
    table = inputs.tables.get("evidence.tsv")
    if table is None or not len(table):
        return None
    rows = {}
    for row in table.itertuples(index=False):
        second = f"{text(row.runner_up)} ({float(row.runner_up_percent):.0f} %)" if row.runner_up else "none"
        nearest = f"{text(row.nearest_type)} ({float(row.nearest_percent):.0f} %)"
        lists = (row.markers_found, row.markers_missing, row.markers_unclear)
        found, missing, unclear = (markers.split(", ") if markers else [] for markers in lists)
        tested = len(found) + len(missing) + len(unclear)
        rows[f"Cluster {text(row.cluster)}"] = {
            "cells": int(row.cells),
            "label": text(row.cell_type),
            "share": float(row.percent),
            "confidence": float(row.median_confidence),
            "unknown": int(row.unknown_cells),
            "expected": float(row.expected_unknown),
            "nearest": nearest,
            # a sentence of its own, so that nobody takes an untested cluster for one without markers
            "score": f"{len(found)} of {tested}" if tested else "not judged",
            "missing": text(row.markers_missing) or "none",
            "found": text(row.markers_found) or "none",
            "unclear": text(", ".join(filter(None, [row.markers_unclear, row.markers_not_measured]))) or "none",
            "runner": second,
            "reasons": text(row.reasons) or "none",
        }
    titles = {
        "cells": ("Cells", "Cells of the cluster"),
        "label": ("Label", "Majority label of its cells"),
        "share": ("Share %", "Cells that have this label"),
        "confidence": ("Confidence", "Median calibrated probability of the best match"),
        "unknown": (UNKNOWN, "Rejected cells"),
        "expected": ("Expected", f"Rejected cells that unknown_rate ({100 * inputs.unknown_rate:.3g} %) allows"),
        "nearest": ("Judged as", "The type whose markers are looked for; of an Unknown cluster the nearest one"),
        "score": ("Markers", "Markers of that type in the reference that the cluster shows, of those tested"),
        "missing": ("Missing", "Seen about as rarely as outside of the type"),
        "found": ("Found", "Seen as often as in the reference's type, and in more cells than in the rest"),
        "unclear": ("Unclear", "Seen, but not more than in the rest of the cohort; or not measured at all"),
        "runner": ("Runner-up", "Commonest best match other than the nearest type"),
        "reasons": ("Reasons", "Why cells were rejected"),
    }
    return Section(
        "spikgpt_evidence",
        "Evidence per cluster",
        "What speaks for each label. Trust a cluster with a high share of one label, high confidence, about as many "
        "Unknown cells as expected, and most markers found; many missing markers mean another type, or a mixture. The "
        "markers are those of the reference, compared at equal sequencing depth; labels are not made from them. "
        "Configure columns shows the markers found, the unclear ones, the runner-up, and reasons for rejection.",
        "table",
        rows,
        _table(
            titles,
            "Cluster",
            decimals=1,
            whole=("cells", "unknown"),
            fine=("confidence",),
            hidden=("found", "unclear", "runner", "reasons"),
        ),
    )


def cell_map(inputs: Inputs) -> Made:
    """UMAP, coloured by what is known of the cells."""
    if inputs.umap is None or not len(inputs.umap):
        return None
    placed = np.flatnonzero(np.isfinite(inputs.umap["umap_1"].to_numpy()))
    if not len(placed):
        return None
    chosen = placed[evenly(len(placed), MAP_POINTS)]
    places = inputs.umap.iloc[chosen]
    cells = inputs.cells.iloc[chosen]
    x = [round(float(v), 3) for v in places["umap_1"]]
    y = [round(float(v), 3) for v in places["umap_2"]]
    types = _types(inputs.cells)
    samples = sorted(set(cells["sample"]))
    clusters = [c for c in cluster_order(cells["spikgpt_cluster"]) if c]
    bins = [f"{low:.1f} to {low + 0.2:.1f}" for low in (0.0, 0.2, 0.4, 0.6, 0.8)]
    level = np.minimum((cells["spikgpt_confidence"].to_numpy(dtype=float) * 5).astype(int), 4)
    known = "has a type"
    reasons = cells["spikgpt_unknown_reason"].where(cells["spikgpt_unknown_reason"] != "", known)
    by: list[tuple[str, list[str], Sequence[str], dict[str, str]]] = [
        ("By type", list(cells["spikgpt_cell_type"]), [UNKNOWN, *(t for t in types if t != UNKNOWN)],
         cell_type_colours(types)),
        ("By sample", list(cells["sample"]), samples,
         dict(zip(samples, series_colours(len(samples)), strict=True))),
        ("By confidence", [bins[i] for i in level], bins, dict(zip(bins, CONTINUOUS, strict=True))),
        (f"{UNKNOWN} by reason", list(reasons), [known, *REASON_NAMES],
         {known: "#dddddd", **REASON_COLOURS}),
        ("By cluster", list(cells["spikgpt_cluster"]), clusters,
         dict(zip(clusters, series_colours(len(clusters)), strict=True))),
    ]  # fmt: skip
    datasets = []
    for _, values, order, colours in by:
        shown = labels(order)
        place = {name: at for at, name in enumerate(order)}
        points: dict[str, list[dict[str, Any]]] = {}
        # grey ones first, so that they lie below
        for at in sorted(range(len(values)), key=lambda i: place[values[i]]):
            name = values[at]
            points.setdefault(shown[name], []).append(
                {"x": x[at], "y": y[at], "color": colours[name], "group": shown[name]}
            )
        datasets.append(points)
    return Section(
        "spikgpt_map",
        "Map of the cells",
        f"UMAP of the scGPT embedding, {len(chosen):,} of {len(inputs.umap):,} cells, taken evenly. Cells that lie "
        "together are alike; distances between groups mean little. Types should form groups, samples mix in them.",
        "scatter",
        datasets,
        {
            "pconfig": {
                "data_labels": [{"name": title} for title, *_ in by],
                "xlab": "UMAP 1",
                "ylab": "UMAP 2",
                "marker_size": 4,
                "marker_line_width": 0,
                "opacity": 0.8,
                "height": 640,
                "showlegend": True,
                "flat_if_very_large": False,
                "series_label": "cells",
            }
        },
    )


def checkpoint(inputs: Inputs) -> Made:
    """Which scGPT checkpoint made the embedding."""
    chunks = inputs.sample_embeddings() or inputs.embeddings
    if not chunks:
        return None
    first = chunks[0]
    items = []
    if first.get("bundled"):
        items.append(
            "<div class='alert alert-info py-2'>The embedding was made with <b>scgpt-mini</b>, a small checkpoint of "
            "the SpikGPT project in scGPT's format. It is <b>not</b> one of scGPT's own published models: it knows the "
            "tissues that it was pretrained on (blood, pancreas, placenta, and cell lines of the lung; see its model "
            "card) and may not tell the cells of others apart. For those give scGPT's own weights with "
            "<code>--scgpt_model</code>.</div>"
        )
    names = sorted({str(chunk.get("scgpt_name", "")) for chunk in chunks})
    digests = sorted({str(chunk.get("scgpt_sha256", "")) for chunk in chunks})
    cells = sum(int(chunk["end"]) - int(chunk["start"]) for chunk in chunks)
    facts = [
        ("Checkpoint", text(", ".join(names))),
        ("sha256", f"<code>{text(', '.join(digests))}</code>"),
        ("Cells embedded", f"{cells:,}"),
        ("Cells without a known gene", f"{_sum(chunks, 'cells_without_genes'):,}"),
        ("Cells cut to max_genes", f"{_sum(chunks, 'truncated_cells'):,}"),
    ]
    matched = [s["gene_match_counts"] for s in inputs.stats["import"].values() if "gene_match_counts" in s]
    if matched:
        facts.append(
            ("Counts in genes that it knows", f"{100 * min(matched):.1f} to {100 * max(matched):.1f} % per sample")
        )
    return Section(
        "spikgpt_checkpoint",
        "scGPT checkpoint",
        "The model that turned each cell's genes into an embedding. A published checkpoint of scGPT has seen many "
        "tissues; the bundled small one has not.",
        "html",
        "".join(items) + html_facts(facts),
    )


def annotator(inputs: Inputs) -> Made:
    """What the labels were learned from."""
    config = inputs.annotator
    if not config:
        return None
    held, training = config.get("held_out", {}), config.get("training", {})
    facts = [
        ("Types", f"{len(config['classes'])}: {text(', '.join(config['classes']))}"),
        ("Trained on", f"{training.get('cells', 0):,} cells, {training.get('genes', 0):,} genes, "
         f"{len(training.get('batches', {}))} batch(es)"),
        ("Looks at", text(config.get("features", ""))),
        ("Held-out accuracy", _percent(held.get("accuracy"))),
        ("Held-out macro-F1", _percent(held.get("macro_f1"))),
        ("Calibration error (ECE)", _percent(held.get("expected_calibration_error"))),
        ("Types told by depth alone", _depth_leak(config)),
        ("Trained with SpikGPT", text(config.get("spikgpt_version", ""))),
        ("sha256 of its tensors", f"<code>{text(config.get('tensors_sha256', ''))}</code>"),
    ]  # fmt: skip
    return Section(
        "spikgpt_annotator",
        "Annotator",
        "The model that names cells. Held-out figures are from cells of the reference that it was not trained on; on "
        "another laboratory's data expect less.",
        "html",
        html_facts(facts),
    )


def _depth_leak(config: dict[str, Any]) -> str:
    leak = config.get("depth", {}).get("leak")
    if not leak:
        return "not measured"
    accuracy, chance = _percent(leak["balanced_accuracy"]), _percent(leak["chance"])
    return f"{accuracy} balanced accuracy, {chance} by chance"


def firing_rates(inputs: Inputs) -> Made:
    """Mean firing rate of each layer over the samples, weighted alike."""
    by_layer: dict[str, list[float]] = {}
    dead: dict[str, int] = {}
    for stats in inputs.stats["annotation"].values():
        for layer, rate in stats.get("firing_rates", {}).items():
            by_layer.setdefault(layer, []).append(float(rate))
        for layer in stats.get("dead_layers", []):
            dead[layer] = dead.get(layer, 0) + 1
    if not by_layer:
        return None
    rows = {
        text(layer): {
            "mean": 100 * sum(rates) / len(rates),
            "least": 100 * min(rates),
            "most": 100 * max(rates),
            "dead": f"dead in {dead[layer]} of {len(rates)}" if layer in dead else "alive",
        }
        for layer, rates in by_layer.items()
    }
    titles = {
        "mean": ("Mean %", "Spikes per neuron and time step, mean over samples"),
        "least": ("Least %", "The sample with the lowest rate"),
        "most": ("Most %", "The sample with the highest rate"),
        "dead": ("State", "Dead: fewer than one spike in a thousand neuron steps, so the layer passes nothing on"),
    }
    return Section(
        "spikgpt_firing_rates",
        "Firing rates",
        "How often the neurons of each layer of the spiking network fired on these cells. A few per cent are usual; a "
        "dead layer contributes nothing, one near 100 % tells nothing apart, and samples should not differ much.",
        "table",
        rows,
        _table(titles, "Layer", decimals=2),
    )


def energy(inputs: Inputs) -> Made:
    """Theoretical energy of a cell: the spiking network beside others, and scGPT itself."""
    found = [stats["energy"] for stats in inputs.stats["annotation"].values() if stats.get("energy")]
    if not found:
        return None

    def mean(kind: str, key: str) -> float:
        return sum(entry[kind][key] for entry in found) / len(found)

    names = {
        "spiking": "Spiking network, as measured",
        "transformer": "Transformer of the same shape, no spikes",
        "linear": "Logistic regression on the embedding",
    }
    rows = {
        name: {"macs": mean(kind, "macs"), "acs": mean(kind, "acs"), "nanojoules": 1e3 * mean(kind, "microjoules")}
        for kind, name in names.items()
    }
    chunks = [chunk for chunk in inputs.sample_embeddings() if chunk.get("tokens_mean")]
    if chunks:
        sizes = [chunk["end"] - chunk["start"] for chunk in chunks]
        tokens = float(np.average([chunk["tokens_mean"] for chunk in chunks], weights=sizes))
        cost = scgpt_operations(ScGPTShape(**found[0]["scgpt"]), tokens)
        rows[f"scGPT itself, {tokens:,.0f} tokens"] = {
            "macs": cost.macs,
            "acs": cost.acs,
            "nanojoules": 1e3 * cost.microjoules,
        }
    titles = {
        "macs": ("MAC", "Multiply-accumulates of layers with real-valued input"),
        "acs": ("AC", "Accumulates behind spikes: firing rate x time steps x connections"),
        "nanojoules": ("Energy, nJ", "Nanojoules: 4.6 pJ per MAC, 0.9 pJ per AC"),
    }
    return Section(
        "spikgpt_energy",
        "Theoretical energy per cell",
        "Theoretical: operations times 4.6 pJ (MAC) or 0.9 pJ (AC) at 45 nm (Horowitz 2014), from the firing rates "
        "above, without memory. It compares networks as papers on spiking networks do; no chip was measured, CPUs and "
        "GPUs save nothing, and scGPT's own pass costs far more than any network behind it.",
        "table",
        rows,
        _table(titles, "Network", decimals=1, whole=("macs", "acs")),
    )


def leave_one_out(inputs: Inputs) -> Made:
    """Which types of the reference would be caught, were they missing from it."""
    table = (inputs.annotator or {}).get("leave_one_out")
    if not table:
        return None
    rows = {
        text(row["cell_type"]): {
            "cells": row["cells"],
            "caught": 100 * row["caught"],
            "auroc": number(row["auroc"]),
            "verdict": text(verdict(row)),
        }
        for row in table
    }
    titles = {
        "cells": ("Cells", "Held-out cells of the type"),
        "caught": (f"{UNKNOWN} %", "Share of them that is rejected where the others are at the expected rate"),
        "auroc": ("AUROC", "How well p-values part them from the other types: 1 perfect, 0.5 not at all"),
        "verdict": ("Verdict", f"Caught where at least {100 * CAUGHT:.0f} % are {UNKNOWN}; else what most are called"),
    }
    return Section(
        "spikgpt_leave_one_out",
        "Were a type missing",
        "Each type was taken out of the reference in turn. One that is caught would be seen in a sample although the "
        "reference lacked it; relatives of one that is mistaken for another will be called that, with confidence.",
        "table",
        rows,
        _table(titles, "Type left out", decimals=1, whole=("cells",), fine=("auroc",)),
    )


def reference_types(inputs: Inputs) -> Made:
    """How each type of the reference fared when held out."""
    config = inputs.annotator or {}
    types = config.get("held_out", {}).get("types")
    if not types:
        return None
    rows = {
        text(name): {
            "trained": config["class_cells"].get(name),
            "recall": number(100 * row["recall"]) if row.get("recall") is not None else None,
            "mistaken": text(row.get("most_often_mistaken_for") or "none"),
        }
        for name, row in types.items()
    }
    rows = {name: {k: v for k, v in row.items() if v is not None} for name, row in rows.items()}
    titles = {
        "trained": ("Cells", "Cells of the type in the reference"),
        "recall": ("Found %", "Held-out cells of the type that got its label"),
        "mistaken": ("Mistaken for", "What the others were called most often"),
    }
    return Section(
        "spikgpt_reference_types",
        "Types of the reference",
        "How well each type is told from the others within the reference. Types with few cells or a low share found "
        "are to be read with care in the samples.",
        "table",
        rows,
        _table(titles, "Type", decimals=1, whole=("trained",)),
    )


def benchmark_verdict(inputs: Inputs) -> tuple[bool, str] | None:
    """Whether another method of the benchmark is more accurate than SpikGPT, and a sentence."""
    table = inputs.tables.get("benchmark.tsv")
    if table is None or not len(table):
        return None
    method, metric = table.columns[0], next((c for c in ("macro_f1", "accuracy") if c in table), None)
    if metric is None:
        return None
    scores = dict(zip(table[method], pd.to_numeric(table[metric], errors="coerce"), strict=True))
    own = [name for name in scores if "spikgpt" in name.lower()]
    others = {name: value for name, value in scores.items() if name not in own and value == value}
    if not own or not others:
        return None
    best = max(others, key=lambda name: (others[name], name))
    losing = others[best] > scores[own[0]]
    comparison = "does better than" if losing else "does no better than"
    return losing, (
        f"On held-out cells of the reference {text(best)} ({metric} {others[best]:.3f}) {comparison} "
        f"SpikGPT ({scores[own[0]]:.3f})."
    )


def benchmark(inputs: Inputs) -> Made:
    """SpikGPT beside other methods on the same held-out cells."""
    table = inputs.tables.get("benchmark.tsv")
    if table is None or not len(table):
        return None
    verdict = benchmark_verdict(inputs)
    columns = {f"c{at}": name for at, name in enumerate(table.columns[1:])}
    rows = {}
    for values in table.itertuples(index=False):
        row: dict[str, Any] = {}
        for at, value in enumerate(values[1:]):
            try:
                row[f"c{at}"] = float(value)
            except ValueError:
                row[f"c{at}"] = text(value)
        rows[text(values[0])] = {k: v for k, v in row.items() if v == v and v != ""}
    titles = {key: (text(name.replace("_", " ")), text(name)) for key, name in columns.items()}
    return Section(
        "spikgpt_benchmark",
        "Benchmark",
        (verdict[1] + " " if verdict else "")
        + "All methods saw the same training cells and were scored on the same held-out ones; higher is better.",
        "table",
        rows,
        _table(titles, "Method", decimals=3, whole=[key for key, name in columns.items() if name.endswith("_cells")]),
    )


def methods(inputs: Inputs) -> Made:
    return Section(
        "spikgpt_methods",
        "Methods",
        "Text for a paper's methods section, filled in from this run; cite what it names.",
        "html",
        methods_html(inputs),
    )


def parameters(inputs: Inputs) -> Made:
    rows = {
        text(name): {"value": text("not given" if value is None else value)}
        for name, value in sorted(inputs.run["parameters"].items())
    }
    return Section(
        "spikgpt_parameters",
        "Parameters",
        "Every parameter of the run, defaults included; the same values on the same input give the same labels.",
        "table",
        rows,
        _table({"value": ("Value", "Value of the parameter")}, "Parameter", decimals=3),
    )


ORDER: tuple[tuple[Group, tuple[Callable[[Inputs], Made], ...]], ...] = (
    (SUMMARY, (summary, warnings_section)),
    (CELLS, (cells_per_step, steps_table, features_left_out, knee, ambient, qc_box, qc_violin, doublets)),
    (TYPES, (composition, cell_map, batch_mixing, confidence, evidence)),
    (UNKNOWNS, (unknown_reasons, populations, p_values)),
    (MODELS, (checkpoint, annotator, reference_types, leave_one_out, benchmark, firing_rates, energy)),
    (RECORD, (methods, parameters)),
)


def sections(inputs: Inputs) -> list[tuple[Group, Section]]:
    """All sections that have something to show, in order, general statistics first."""
    made = [(SUMMARY, general_statistics(inputs))]
    for group, makers in ORDER:
        made += [(group, section) for maker in makers if (section := maker(inputs)) is not None]
    return made


def evenly(total: int, most: int) -> np.ndarray:
    """Positions of at most `most` of `total` rows, evenly spaced."""
    return np.unique(np.linspace(0, total - 1, min(total, most)).round().astype(np.int64))


def _types(cells: pd.DataFrame) -> list[str]:
    found = set(cells["spikgpt_cell_type"].astype(str))
    return [*sorted(found - {UNKNOWN}), *([UNKNOWN] if UNKNOWN in found else [])]


def _table(
    titles: dict[str, tuple[str, str]],
    first: str,
    *,
    decimals: int,
    whole: Iterable[str] = (),
    fine: Iterable[str] = (),
    hidden: Iterable[str] = (),
) -> dict[str, Any]:
    """Headers of a table: title and hover text per column, numbers with so many decimals; some hidden at first."""

    def form(name: str) -> str:
        return f"{{:,.{0 if name in whole else 2 if name in fine else decimals}f}}"

    headers = {
        name: {"title": title, "description": hint, "format": form(name), "scale": False, "hidden": name in hidden}
        for name, (title, hint) in titles.items()
    }
    return {
        "headers": headers,
        "pconfig": {"col1_header": first, "no_violin": True, "sort_rows": False, "rows_are_samples": first == "Sample"},
    }


def _median(values: pd.Series) -> str:
    return f"{values.median():.2f}" if len(values) else "none"


def _percent(value: float | None) -> str:
    return "not measured" if value is None else f"{100 * value:.1f} %"


def _sum(chunks: Iterable[dict[str, Any]], key: str) -> int:
    return sum(int(chunk.get(key) or 0) for chunk in chunks)
