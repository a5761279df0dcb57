"""The first screen of the report: what came out, a row per sample, and what to know before the data are used."""

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import pandas as pd

from spikgpt import UNKNOWN
from spikgpt.annotator.missing_types import all_rejected
from spikgpt.base.genes import NAMES_TOLD
from spikgpt.cohort.contradictions import sentence
from spikgpt.report import integration
from spikgpt.report.annotators import all_profiled, label_source, profiled_samples, where_labels_come_from
from spikgpt.report.content import Group, Section, html_list, number, short, text
from spikgpt.report.experiment import HIGH_MITO, HIGH_UNKNOWN, on_confounding, on_mito, on_unknown
from spikgpt.report.inputs import Inputs
from spikgpt.report.models import benchmark_comparison
from spikgpt.report.plots import markup
from spikgpt.report.removed import lost_types
from spikgpt.scgpt.tissue import UNFAMILIAR_SHARE

GROUP = Group("spikgpt_summary", "Summary", "What came out, and what needs a look before the data are used.")

FEW_CELLS = 100
"""A sample with fewer cells than this is pointed out."""

LOW_CONFIDENCE = 0.7
"""A sample whose median confidence is lower is pointed out: three in ten best matches would be wrong."""

FEWEST_SHARED = 80
"""Percent of the cohort's genes that all samples measured; fewer are told."""

NAMED_CLUSTERS = 4
"""Clusters that the sentence on the second opinion names."""

NAMED_SAMPLES = 8
"""Samples that a warning names; the others are folded away."""

SHOWN_WARNINGS = 12
"""Warnings on the first screen; the others are folded away."""

# MultiQC puts general statistics first whatever its configuration says; the summary goes above them. Its own
# welcome, which links to a video on the web, does not belong in a report that is sent on, and its logo, which
# the side bar has too, would take the place of the answers on the first screen. Buttons of many tabs (a volcano plot
# for each of 12 types) go on in a second row
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
.dataset-switch-group { flex-wrap: wrap; }
</style>"""


def general_statistics(inputs: Inputs) -> Section:
    """One row per sample for MultiQC's table at the top of the report."""
    rows: dict[str, dict[str, Any]] = {}
    for sample in inputs.samples:
        cells, steps = inputs.of_sample(sample), inputs.steps[sample]
        kept = len(cells)
        doublets = inputs.stats["doublets"].get(sample, {})
        values = {
            "cells_in": steps["called"],
            "cells_kept": kept,
            "median_genes": number(cells["n_genes_by_counts"].median()),
            "median_counts": number(cells["total_counts"].median()),
            "pct_mt": number(cells["pct_counts_mt"].median()),
            "pct_doublets": number(100 * doublets["predicted_rate"]) if doublets.get("run") else None,
            "median_confidence": number(cells["spikgpt_confidence"].median()),
            "pct_unknown": number(100 * steps[UNKNOWN] / kept) if kept else None,
            "rate_holds": ("not calibrated" if not_calibrated(inputs, sample) else "calibrated") if kept else None,
        }
        rows[sample] = {name: value for name, value in values.items() if value is not None}
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
            f"Rejected cells; the rate asked for is {expected:.3g} % of the cells of known types",
            "YlOrRd",
            "{:,.1f}",
            {"max": 100, "cond_formatting_rules": {"warn": [{"gt": HIGH_UNKNOWN * expected}]}},
        ),
        "rate_holds": (
            "Rate",
            f"Not calibrated: neither that rate of {UNKNOWN} nor the confidence can be promised for this sample; the "
            "warnings say why",
            "",
            "",
            {"cond_formatting_rules": {"warn": [{"s_eq": "not calibrated"}]}},
        ),
    }  # fmt: skip
    headers = {
        name: {
            "title": title,
            "description": description,
            "namespace": "SpikGPT",
            **({"scale": scale, "format": form, "min": 0} if form else {"scale": False}),
            **({"suffix": " %"} if name.startswith("pct_") else {}),
            **more,
        }
        for name, (title, description, scale, form, more) in columns.items()
    }
    return Section("spikgpt_general", "General statistics", "", "generalstats", rows, {"headers": headers})


def in_short(inputs: Inputs) -> Section:
    """A few lines on the whole cohort: cells, types, confidence, what is new."""
    if len(inputs.cells):
        sentences = [
            *_cells_and_types(inputs),
            *where_labels_come_from(inputs),
            *_not_calibrated(inputs),
            _new_populations(inputs),
            *integration.sentences(inputs),
            *_second_opinion(inputs),
        ]
    else:
        samples = len(inputs.samples)
        sentences = [f"<b>No cell</b> of {samples} sample{'' if samples == 1 else 's'} passed quality control."]
    return markup(
        "spikgpt_overview",
        "In short",
        "The whole cohort in a few lines; the sections below give each figure per sample.",
        _ON_TOP + html_list(sentences),
    )


def _cells_and_types(inputs: Inputs) -> Iterable[str]:
    cells, samples = inputs.cells, len(inputs.samples)
    labelled = cells[cells["spikgpt_cell_type"] != UNKNOWN]
    left = cells["sample"].nunique()
    of = f"{left} of {samples} samples" if left < samples else f"{samples} sample{'' if samples == 1 else 's'}"
    yield f"<b>{len(cells):,} cells</b> of {of} passed quality control{_per_sample(cells, left)}."
    counts = labelled["spikgpt_cell_type"].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    common = ", ".join(f"{short(name)} ({100 * n / len(cells):.1f} %)" for name, n in counts.head(6).items())
    yield f"They are of <b>{len(counts)} types</b>: {common}{', …' if len(counts) > 6 else '.'}"
    share = 100 * (len(cells) - len(labelled)) / len(cells)
    confidence = f"{labelled['spikgpt_confidence'].median():.2f}" if len(labelled) else "none"
    rate = (
        "the tissue profiles name no class for them"
        if all_profiled(inputs)
        else f"the rate asked for is {100 * inputs.unknown_rate:.3g} % of the cells of known types"
    )
    yield f"<b>{share:.1f} %</b> are {UNKNOWN}; {rate}. Median confidence of the labelled cells: {confidence}."


def not_calibrated(inputs: Inputs, sample: str) -> list[str]:
    """Why the rate of Unknown cannot be promised for a sample; nothing where it can."""
    return list(inputs.stats["annotation"].get(sample, {}).get("not_calibrated", []))


def _not_calibrated(inputs: Inputs) -> Iterable[str]:
    """The samples for which the rate cannot be promised, if there are any."""
    found = [name for name in inputs.samples if len(inputs.of_sample(name)) and not_calibrated(inputs, name)]
    if found:
        names = ", ".join(map(short, found[:NAMED_SAMPLES])) + (" and others" if len(found) > NAMED_SAMPLES else "")
        yield (
            f"<b>Not calibrated</b> for {len(found)} of {len(inputs.samples)} sample"
            f"{'' if len(inputs.samples) == 1 else 's'}: {names}. There neither the rate of {UNKNOWN} nor the "
            "confidence can be promised; the warnings say why."
        )


def _per_sample(cells: pd.DataFrame, samples: int) -> str:
    """How the cells are spread over the samples: each one's number, or the range of many."""
    counts = cells["sample"].value_counts().sort_index()
    if samples == 1:
        return ""
    if samples <= 6:
        return ": " + ", ".join(f"{short(name)} {count:,}" for name, count in counts.items())
    return f": {counts.min():,} to {counts.max():,} per sample, median {counts.median():,.0f}"


def _new_populations(inputs: Inputs) -> str:
    populations = inputs.tables.get("unknown_populations.tsv", pd.DataFrame())
    source = label_source(inputs)
    if not len(populations):
        rate = "cells of known classes have" if all_profiled(inputs) else "that rate"
        return f"No cluster has far more {UNKNOWN} cells than {rate}: nothing suggests that a type is missing."
    known = populations[populations["probably"] != ""]
    after_all = [
        f"cluster {text(row.cluster)} ({int(row.unknown_cells):,} {UNKNOWN} cells) is probably {short(row.probably)}, "
        f"of which the reference has {int(row.reference_cells):,} cells"
        for row in known.itertuples(index=False)
    ]
    new = populations[populations["probably"] == ""]
    if not len(new):
        return f"No population outside of {source}; {_listed(after_all)}."
    largest = new.iloc[0]
    looks = f"looks like {text(largest['looks_like'])}, " if largest["looks_like"] else ""
    return (
        f"<b>{len(new)} population{'' if len(new) == 1 else 's'} outside of {source}</b>: the "
        f"largest is cluster {text(largest['cluster'])} with {int(largest['unknown_cells']):,} {UNKNOWN} cells, "
        f"{looks}nearest type of {source} {short(largest['nearest_type'])}, markers "
        f"{text(', '.join(str(largest['markers']).split(', ')[:5]))}."
        + (f" Not counted: {_listed(after_all)}." if after_all else "")
    )


def _listed(named: list[str]) -> str:
    more = len(named) - NAMED_CLUSTERS
    return "; ".join(named[:NAMED_CLUSTERS]) + (f"; {more} more" if more > 0 else "")


def _second_opinion(inputs: Inputs) -> Iterable[str]:
    """How far the tissue profiles and the labels go together."""
    opinions = inputs.tables.get("second_opinion.tsv", pd.DataFrame())
    if not len(opinions):
        return
    cells = opinions["cells"].astype(int)
    given = int(cells[opinions["second_opinion"] != ""].sum())
    against = int(cells[opinions["contradicts"] == "yes"].sum())
    compared = against + int(cells[opinions["contradicts"] == "no"].sum())
    share = f"{100 * given / cells.sum():.0f} %"
    rest = (
        f"of the {compared:,} that can be compared with their label, {100 * against / compared:.1f} % contradict "
        f"it{_contradicted_clusters(inputs)}"
        if compared
        else "none can be compared with its label"
    )
    which = "the cells that an annotator labelled" if profiled_samples(inputs) else "the cells"
    yield f"<b>Second opinion</b>: the tissue profiles name a broad class for {share} of {which}; {rest}."


def _contradicted_clusters(inputs: Inputs) -> str:
    evidence = inputs.tables.get("evidence.tsv", pd.DataFrame())
    if not len(evidence):
        return ""
    wrong = evidence[evidence["second_opinion_contradicts"] == "yes"]
    named = [
        f"cluster {text(row.cluster)}, {short(row.cell_type)}, looks like {text(row.second_opinion)}"
        for row in wrong.itertuples(index=False)
    ]
    return f" ({_listed(named)})" if named else ""


Level = Literal["danger", "warning", "info"]
"""Red: the sample or most cells of a type are missing, or its labels cannot be trusted. Yellow: read before use.
Blue: a remark."""


class _Findings:
    """Messages (HTML) by level, each said once, with everything that it is true of."""

    def __init__(self) -> None:
        self._subjects: dict[Level, dict[str, list[str]]] = {"danger": {}, "warning": {}, "info": {}}

    def add(self, level: Level, message: str, subject: str, detail: str = "") -> None:
        """Note a message for a sample, or for a thing of the run; `detail` follows its name in brackets."""
        shown = f"<b>{text(subject)}</b>" + (f" ({detail})" if detail else "")
        self._subjects[level].setdefault(message, []).append(shown)

    def warn(self, message: str, subject: str, detail: str = "") -> None:
        self.add("warning", message, subject, detail)

    def alerts(self, *levels: Level) -> list[str]:
        """MultiQC's boxes, level by level, in the order in which messages came."""
        return [
            _alert(level, message, subjects) for level in levels for message, subjects in self._subjects[level].items()
        ]


def _alert(level: Level, message: str, subjects: list[str]) -> str:
    names, rest = ", ".join(subjects[:NAMED_SAMPLES]), ""
    more = len(subjects) - NAMED_SAMPLES
    if more > 0:
        names += f" and {more} more"
        rest = f"<details><summary>the other {more}</summary>{', '.join(subjects[NAMED_SAMPLES:])}</details>"
    end = "" if message.endswith((".", "?")) else "."
    return f"<div class='alert alert-{level} py-2 mb-2'>{names}: {message}{end}{rest}</div>"


def warnings_and_remarks(inputs: Inputs) -> tuple[list[str], list[str]]:
    """What a reader must know before using the data, and remarks on how the input was read.

    Returns
    -------
    warnings, remarks
        HTML, the gravest first; samples of which the same is true share one.
    """
    findings = _Findings()
    for sample in inputs.samples:
        if len(inputs.of_sample(sample)):
            _on_cells(findings, inputs, sample)
            _on_labels(findings, inputs, sample)
            _from_steps(findings, inputs, sample)
        else:
            _on_skipped(findings, inputs, sample)
    _on_copies(findings, inputs)
    on_confounding(findings.warn, inputs)
    _on_genes(findings, inputs)
    parted = integration.warning(inputs)
    if parted:
        findings.add("warning", parted, "Cohort")
    _on_reference(findings, inputs)
    for message in [*inputs.comparison, *(inputs.differential or {}).get("messages", [])]:
        findings.add("warning", text(message), "Conditions")
    for row in inputs.tables.get("evidence.tsv", pd.DataFrame()).itertuples(index=False):
        if row.wrong_lineage:
            detail = f"{short(row.cell_type)}, {int(row.cells):,} cells"
            message = f"shows genes that its label excludes: {text(row.wrong_lineage)}"
            findings.add("warning", message, f"Cluster {row.cluster}", detail)
    for row in inputs.tables.get("contradictions.tsv", pd.DataFrame()).to_dict("records"):
        if row["of"] == "type":
            message = f"its cells show genes that the label excludes: {text(sentence(row))}"
            findings.add("warning", message, f"Label {row['cell_type']}", f"{int(row['cells']):,} cells")
    benchmark = benchmark_comparison(inputs)
    if benchmark and benchmark.lost:
        findings.add("warning", benchmark.sentence, "Benchmark")
    return findings.alerts("danger", "warning"), findings.alerts("info")


def _on_skipped(findings: _Findings, inputs: Inputs, sample: str) -> None:
    steps = inputs.steps[sample]
    removed = {name.removeprefix("removed: "): n for name, n in steps.items() if name.startswith("removed: ")}
    why = ", ".join(f"{text(reason)} {n:,}" for reason, n in removed.items() if n)
    detail = f"{steps['called']:,} cells{': ' + why if why else ''}"
    findings.add("danger", "<b>skipped</b>: no cell passed quality control", sample, detail)


def _on_cells(findings: _Findings, inputs: Inputs, sample: str) -> None:
    kept, called = len(inputs.of_sample(sample)), inputs.steps[sample]["called"]
    if kept < FEW_CELLS:
        message = f"fewer than {FEW_CELLS} cells, so that shares and distributions are rough"
        findings.add("warning", message, sample, f"{kept:,}")
    if 2 * kept < called:
        message = "more than half of the cells were removed by quality control"
        findings.add("warning", message, sample, f"{100 * (1 - kept / called):.0f} %")
    on_mito(findings.warn, inputs, sample)
    for message in lost_types(inputs, sample):
        findings.add("danger", message, sample)


def _on_labels(findings: _Findings, inputs: Inputs, sample: str) -> None:
    other_tissue = inputs.stats["annotation"].get(sample, {}).get("tissue_warning")
    if other_tissue:
        findings.add("danger", text(other_tissue), sample)
    chunks = [c for c in inputs.embeddings if c["sample"] == sample and c.get("unfamiliar_fraction") is not None]
    if chunks:
        sizes = [chunk["end"] - chunk["start"] for chunk in chunks]
        unfamiliar = float(np.average([chunk["unfamiliar_fraction"] for chunk in chunks], weights=sizes))
        if unfamiliar > UNFAMILIAR_SHARE:
            message = (
                f"looks like none of the tissues that the scGPT checkpoint {text(chunks[0]['scgpt_name'])} was "
                "pretrained on; its embedding may not separate these cell types. Use a checkpoint that was pretrained "
                "on this tissue (<code>--scgpt_model</code>)"
            )
            findings.add("danger", message, sample, f"{100 * unfamiliar:.0f} % of its cells")
    for reason in not_calibrated(inputs, sample):
        findings.add("warning", f"<b>not calibrated for this sample</b>: {text(reason)}", sample)
    for row in inputs.stats["annotation"].get(sample, {}).get("rejected_types", []):
        findings.add("warning", text(all_rejected(row)), sample)
    if sample not in profiled_samples(inputs) and not other_tissue:
        on_unknown(findings.warn, inputs, sample)


def _from_steps(findings: _Findings, inputs: Inputs, sample: str) -> None:
    """What the steps themselves wrote of a sample."""
    for message in inputs.stats["import"].get(sample, {}).get("warnings", []):
        findings.add("warning", text(message), sample)
    for message in inputs.stats["import"].get(sample, {}).get("messages", []):
        findings.add("info", text(message), sample)
    for step in ("called", "ambient", "doublets", "filter", "annotation", "second_opinion"):
        for message in inputs.stats[step].get(sample, {}).get("messages", []):
            findings.add("warning", text(message), sample)
    for layer in inputs.stats["annotation"].get(sample, {}).get("dead_layers", []):
        findings.add("warning", f"layer {text(layer)} of the spiking network hardly fires on these cells", sample)


def _on_copies(findings: _Findings, inputs: Inputs) -> None:
    """Samples with the same counts: one library under several names."""
    by_counts: dict[str, list[str]] = {}
    for sample, stats in sorted(inputs.stats["import"].items()):
        if "counts_sha256" in stats:
            by_counts.setdefault(stats["counts_sha256"], []).append(sample)
    for samples in by_counts.values():
        for sample in samples[1:]:
            message = f"has the same counts as {text(samples[0])}: is one library listed twice?"
            findings.add("danger", message, sample)


def _on_genes(findings: _Findings, inputs: Inputs) -> None:
    """Whether the samples measured the same genes."""
    table = inputs.tables.get("genes_measured.tsv")
    if table is None or len(table) < 2 or float(table["percent_shared"].iloc[0]) >= FEWEST_SHARED:
        return
    shared = f"{float(table['percent_shared'].iloc[0]):.0f} % ({int(table['shared'].iloc[0]):,})"
    message = (
        f"all samples measured only {shared} of the cohort's genes. A gene that a sample did not measure is 0 in "
        "cohort.h5ad, which looks like a difference in expression: compare genes that the samples measured "
        '(<code>varm["measured"]</code>); markers and variable genes do'
    )
    findings.add("warning", message, "Cohort")


def _on_reference(findings: _Findings, inputs: Inputs) -> None:
    # an annotator trained in this run has the import's messages among its own
    imported = (inputs.reference or {}).get("messages", [])
    for message in imported:
        findings.add("info", text(message), "Reference")
    checked = inputs.stats["second_opinion"].get("reference", {})
    for message in checked.get("labels", {}).get("messages", []):
        findings.add("warning", text(message), "Reference")
    for message in (inputs.annotator or {}).get("grave", []):
        findings.add("danger", text(message), "Reference")
    for message in (inputs.annotator or {}).get("warnings", []):
        if message not in imported:
            # how its genes were named changes no decision of a reader
            level: Level = "info" if any(told in message for told in NAMES_TOLD) else "warning"
            findings.add(level, text(message), "Reference")


def warnings_list(inputs: Inputs) -> Section:
    warnings, remarks = warnings_and_remarks(inputs)
    shown = "".join(warnings[:SHOWN_WARNINGS])
    if len(warnings) > SHOWN_WARNINGS:
        folded = warnings[SHOWN_WARNINGS:]
        shown += f"<details><summary>{len(folded)} more</summary>{''.join(folded)}</details>"
    shown = shown or "<div class='alert alert-success py-2 mb-2'>No warnings.</div>"
    if remarks:
        plural = "" if len(remarks) == 1 else "s"
        shown += f"<details><summary>{len(remarks)} remark{plural} on how the matrices were read</summary>"
        shown += f"{''.join(remarks)}</details>"
    return markup(
        "spikgpt_warnings",
        "Warnings and skipped samples",
        "Red: the sample or most cells of a type are missing, or its labels cannot be trusted. Yellow: read before you "
        "use the data. Green: no warnings.",
        shown,
    )
