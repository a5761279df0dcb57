"""Where the labels come from, and how good the models are."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from spikgpt import UNKNOWN
from spikgpt.annotator.energy import ScGPTShape
from spikgpt.annotator.energy import scgpt as scgpt_operations
from spikgpt.annotator.missing_types import share_on_levels
from spikgpt.base.species import SPECIES
from spikgpt.report.content import Group, Section, html_facts, number, percent, text
from spikgpt.report.inputs import Inputs
from spikgpt.report.plots import TableColumn, markup, table

GROUP = Group("spikgpt_models", "Models", "Where the labels come from, and how good the models are.")

_BUNDLED = (
    "<div class='alert alert-info py-2'>The embedding was made with <b>scgpt-mini</b>, a small checkpoint of "
    "the SpikGPT project in scGPT's format. It is <b>not</b> one of scGPT's own published models: it was "
    "pretrained on blood, pancreas, placenta and lung cancer cell lines (see its model card) and may not separate the "
    "cell types of other tissues. For those, use scGPT's own weights (<code>--scgpt_model</code>).</div>"
)


def checkpoint_facts(inputs: Inputs) -> Section | None:
    """Which scGPT checkpoint made the embedding."""
    chunks = inputs.sample_embeddings() or inputs.embeddings
    if not chunks:
        return None
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
            (
                "Counts in genes that the checkpoint knows",
                f"{100 * min(matched):.1f} to {100 * max(matched):.1f} % per sample",
            )
        )
    imported = [s for s in inputs.stats["import"].values() if "ortholog_counts" in s]
    if imported:
        genes, counts = ([100 * s[key] for s in imported] for key in ("ortholog_genes", "ortholog_counts"))
        facts += [
            ("Species", text(", ".join(sorted({SPECIES[s["species"]].spoken for s in imported})))),
            (
                "Genes that are the one ortholog of a human gene",
                f"{min(genes):.1f} to {max(genes):.1f} % of the genes with a count, {min(counts):.1f} to "
                f"{max(counts):.1f} % of the counts per sample; the embedding reads no others",
            ),
        ]
    return markup(
        "spikgpt_checkpoint",
        "scGPT checkpoint",
        "The model that turned each cell's genes into an embedding. A published checkpoint of scGPT has seen many "
        "tissues; the bundled small one has not.",
        (_BUNDLED if chunks[0].get("bundled") else "") + html_facts(facts),
    )


def _sum(chunks: Iterable[dict[str, Any]], key: str) -> int:
    return sum(int(chunk.get(key) or 0) for chunk in chunks)


def annotator_facts(inputs: Inputs) -> Section | None:
    """What the labels were learned from."""
    config = inputs.annotator
    if not config:
        return None
    held, training = config.get("held_out", {}), config.get("training", {})
    facts = [
        ("Types", f"{len(config['classes'])}: {text(', '.join(config['classes']))}"),
        ("Trained on", f"{training.get('cells', 0):,} cells, {training.get('genes', 0):,} genes, "
         f"{len(training.get('batches', {}))} batch(es)"),
        *(
            (f"Taught: {text(one['name'])}",
             f"{one['held_out']['cells']:,} Unknown cells of {text(', '.join(one['samples']))}; "
             f"{percent(one['held_out']['called'])} of them, held out, are called so"
             + (f"; named by {text(one['taught_by'])}" if one["taught_by"] else "")
             + (f", {text(one['taught_on'])}" if one["taught_on"] else ""))
            for one in config.get("taught", [])
        ),
        ("Features", text(config.get("features", ""))),
        ("Held-out accuracy", percent(held.get("accuracy"))),
        ("Held-out macro-F1", percent(held.get("macro_f1"))),
        ("Calibration error (ECE)", percent(held.get("expected_calibration_error"))),
        ("Types from sequencing depth alone", _depth_leak(config)),
        ("Trained with SpikGPT", text(config.get("spikgpt_version", ""))),
        ("sha256 of its tensors", f"<code>{text(config.get('tensors_sha256', ''))}</code>"),
    ]  # fmt: skip
    return markup(
        "spikgpt_annotator",
        "Annotator",
        "The model that labels the cells. Held-out figures are from cells of the reference that its views were not "
        "trained on; only the weight between the views and a temperature were fitted on these cells. Expect less on "
        "another laboratory's data.",
        html_facts(facts),
    )


def _depth_leak(config: dict[str, Any]) -> str:
    leak = config.get("depth", {}).get("leak")
    if not leak:
        return percent(None)
    return f"{percent(leak['balanced_accuracy'])} balanced accuracy; chance is {percent(leak['chance'])}"


def reference_types_table(inputs: Inputs) -> Section | None:
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
    return table(
        "spikgpt_reference_types",
        "Types of the reference",
        "How well each type is recognised within the reference. Be careful in the samples with types that have few "
        "cells or a low share found.",
        rows,
        {
            "trained": TableColumn("Cells", "Cells of the type in the reference", decimals=0),
            "recall": TableColumn("Found %", "Held-out cells of the type that got its label"),
            "mistaken": TableColumn("Mistaken for", "The label that its other cells got most often"),
        },
        first="Type",
        decimals=1,
    )


def leave_one_out_table(inputs: Inputs) -> Section | None:
    """Which types of the reference would be caught if they were missing from it."""
    left_out = (inputs.annotator or {}).get("leave_one_out")
    if not left_out:
        return None
    rows = {
        text(row["cell_type"]): {
            "cells": row["cells"],
            "caught": 100 * row["caught"],
            "interval": "{:.0f} to {:.0f}".format(*(100 * bound for bound in row["interval"])),
            "auroc": number(row["auroc"]),
            "nearest": text(row["mistaken_for"]),
            "levels": None if (on_levels := share_on_levels(row)) is None else number(100 * on_levels),
            "level": None if on_levels is None else text(row["level"] or "none"),
        }
        for row in left_out
    }
    return table(
        "spikgpt_leave_one_out",
        "What if a type were missing from the reference?",
        "Each type was taken out of the reference in turn, and its held-out cells were annotated without it. Those "
        f"that did not become {UNKNOWN} got the label of another type, perhaps with high confidence. This is measured "
        "within the reference, on few cells; on another laboratory's data fewer may become Unknown.",
        rows,
        {
            "cells": TableColumn("Cells", "Held-out cells of the type", decimals=0),
            "caught": TableColumn(f"{UNKNOWN} %", "Share of these cells that became Unknown"),
            "interval": TableColumn("95 % interval", "Of that share, for so few cells; donors vary more"),
            "auroc": TableColumn(
                "AUROC",
                "How well p-values separate them from cells of the other types: 1 perfect, 0.5 not at all",
                decimals=2,
            ),
            "nearest": TableColumn("Nearest to", "The label that most of them would get"),
            "levels": TableColumn(
                "On levels %",
                f"Share of these cells whose answer on levels would be {UNKNOWN} or a level that has the type",
            ),
            "level": TableColumn("Level", "The level above the type that most of those would get"),
        },
        first="Type left out",
        decimals=1,
    )


@dataclass(frozen=True)
class BenchmarkComparison:
    """SpikGPT beside the best other method of the benchmark."""

    lost: bool
    sentence: str
    """HTML."""


def benchmark_comparison(inputs: Inputs) -> BenchmarkComparison | None:
    """Whether another method of the benchmark is more accurate than SpikGPT; None without a benchmark of both."""
    methods = inputs.tables.get("benchmark.tsv")
    if methods is None or not len(methods):
        return None
    metric = next((c for c in ("macro_f1", "accuracy") if c in methods), None)
    if metric is None:
        return None
    scores = dict(zip(methods[methods.columns[0]], pd.to_numeric(methods[metric], errors="coerce"), strict=True))
    ours = [name for name in scores if "spikgpt" in name.lower()]
    others = {name: score for name, score in scores.items() if name not in ours and np.isfinite(score)}
    if not ours or not others:
        return None
    best = max(others, key=lambda name: (others[name], name))
    lost = bool(others[best] > scores[ours[0]])
    return BenchmarkComparison(
        lost,
        f"On held-out cells of the reference {text(best)} ({metric} {others[best]:.3f}) "
        f"{'does better than' if lost else 'does no better than'} SpikGPT ({scores[ours[0]]:.3f}).",
    )


def benchmark_table(inputs: Inputs) -> Section | None:
    """SpikGPT beside other methods on the same held-out cells."""
    methods = inputs.tables.get("benchmark.tsv")
    if methods is None or not len(methods):
        return None
    names = {f"c{at}": name for at, name in enumerate(methods.columns[1:])}
    rows = {
        text(values[0]): {key: _number_or_text(value) for key, value in zip(names, values[1:], strict=True)}
        for values in methods.itertuples(index=False)
    }
    comparison = benchmark_comparison(inputs)
    return table(
        "spikgpt_benchmark",
        "Benchmark",
        (comparison.sentence + " " if comparison else "")
        + "All methods were trained on the same cells and scored on the same held-out cells; only the weight between "
        "SpikGPT's two views was also learned on them. Higher accuracy and macro-F1 are better.",
        rows,
        {
            key: TableColumn(text(name.replace("_", " ")), text(name), decimals=0 if name.endswith("_cells") else None)
            for key, name in names.items()
        },
        first="Method",
        decimals=3,
    )


def _number_or_text(value: str) -> float | str | None:
    """A field of a table that was read as text; None where it is empty or not a number."""
    try:
        return number(float(value))
    except ValueError:
        return text(value) or None


def firing_rates_table(inputs: Inputs) -> Section | None:
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
    return table(
        "spikgpt_firing_rates",
        "Firing rates",
        "How often the neurons of each layer of the spiking network fired on these cells. A few per cent are usual; a "
        "dead layer contributes nothing, a layer near 100 % carries no information, and samples should not differ "
        "much.",
        rows,
        {
            "mean": TableColumn("Mean %", "Spikes per neuron and time step, mean over samples"),
            "least": TableColumn("Least %", "The sample with the lowest rate"),
            "most": TableColumn("Most %", "The sample with the highest rate"),
            "dead": TableColumn(
                "State", "Dead: fewer than one spike in a thousand neuron steps, so the layer contributes nothing"
            ),
        },
        first="Layer",
        decimals=2,
    )


def energy_table(inputs: Inputs) -> Section | None:
    """Theoretical energy of a cell: the spiking network beside others, and scGPT itself."""
    samples = [stats["energy"] for stats in inputs.stats["annotation"].values() if stats.get("energy")]
    if not samples:
        return None

    def mean(network: str, key: str) -> float:
        return sum(energy[network][key] for energy in samples) / len(samples)

    networks = {
        "spiking": "Spiking network, as measured",
        "transformer": "Transformer of the same shape, no spikes",
        "linear": "Logistic regression on the embedding",
    }
    rows = {
        title: {
            "macs": mean(network, "macs"),
            "acs": mean(network, "acs"),
            "nanojoules": 1e3 * mean(network, "microjoules"),
        }
        for network, title in networks.items()
    }
    chunks = [chunk for chunk in inputs.sample_embeddings() if chunk.get("tokens_mean")]
    if chunks:
        sizes = [chunk["end"] - chunk["start"] for chunk in chunks]
        tokens = float(np.average([chunk["tokens_mean"] for chunk in chunks], weights=sizes))
        cost = scgpt_operations(ScGPTShape(**samples[0]["scgpt"]), tokens)
        rows[f"scGPT itself, {tokens:,.0f} tokens"] = {
            "macs": cost.macs,
            "acs": cost.acs,
            "nanojoules": 1e3 * cost.microjoules,
        }
    return table(
        "spikgpt_energy",
        "Theoretical energy per cell",
        "Theoretical: operations times 4.6 pJ (MAC) or 0.9 pJ (AC) at 45 nm (Horowitz 2014), from the firing rates "
        "above, without memory. It compares networks as papers on spiking networks do; nothing was measured on a "
        "chip, CPUs and GPUs save no energy by spikes, and scGPT itself costs far more than any network behind it.",
        rows,
        {
            "macs": TableColumn("MAC", "Multiply-accumulates of layers with real-valued input", decimals=0),
            "acs": TableColumn("AC", "Accumulates behind spikes: firing rate x time steps x connections", decimals=0),
            "nanojoules": TableColumn("Energy, nJ", "Nanojoules: 4.6 pJ per MAC, 0.9 pJ per AC"),
        },
        first="Network",
        decimals=1,
    )
