"""What the cells are, and how sure the labels are."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from spikgpt import UNKNOWN
from spikgpt.base.colours import CONTINUOUS, REASON_COLOURS, cell_type_colours, series_colours
from spikgpt.base.columns import REASON_NAMES
from spikgpt.base.groups import evenly
from spikgpt.cohort.clusters import MAP, MAP_BEFORE, cluster_order
from spikgpt.report.content import Group, Section, labels, text
from spikgpt.report.inputs import Inputs
from spikgpt.report.integration import integration_of
from spikgpt.report.plots import TableColumn, bars, cell_scatter, histogram, lines, table

GROUP = Group("spikgpt_types", "Cell types", "What the cells are, and how sure the labels are.")

MAP_POINTS = 3000
"""Cells on the map at most: MultiQC draws each as a series, and more make a browser slow."""


def _types(cells: pd.DataFrame) -> list[str]:
    """The labels by name, Unknown last."""
    names = set(cells["spikgpt_cell_type"].astype(str))
    return [*sorted(names - {UNKNOWN}), *([UNKNOWN] if UNKNOWN in names else [])]


def composition_bars(inputs: Inputs) -> Section | None:
    """Types per sample, and per condition and donor where there are several."""
    cells = inputs.cells
    if not len(cells):
        return None
    types = _types(cells)
    shown = labels(types)
    colours = cell_type_colours(types)
    ids = {name: f"t{at}" for at, name in enumerate(types)}
    categories = {ids[name]: {"name": shown[name], "color": colours[name]} for name in types}
    data, tabs = [], []
    for column, title in (("sample", "By sample"), ("condition", "By condition"), ("donor", "By donor")):
        values = cells[column].astype(str)
        if column != "sample" and values.nunique() < 2:
            continue
        counts = pd.crosstab(values, cells["spikgpt_cell_type"].astype(str))
        names = labels(name or NOT_GIVEN for name in counts.index)
        data.append(
            {names[name or NOT_GIVEN]: {ids[t]: int(row[t]) for t in counts.columns} for name, row in counts.iterrows()}
        )
        tabs.append({"name": title, "ylab": "Cells"})
    return bars(
        "spikgpt_composition",
        "Composition",
        "Share of each cell type; the button above the plot switches to counts. Replicates should look alike. Types "
        "keep their order and colour in every plot.",
        data,
        [categories] * len(data),
        data_labels=tabs,
        cpswitch_c_active=False,
    )


NOT_GIVEN = "(not given)"
BEFORE = "Before integration, by batch"
"""The tab of the map without Harmony."""


def _axes(places: pd.DataFrame, names: tuple[str, str]) -> tuple[list[float], list[float]]:
    """Coordinates with three decimals: a pixel is more."""
    x, y = ([round(float(value), 3) for value in places[name]] for name in names)
    return x, y


def _by_sheet(
    all_cells: pd.DataFrame, cells: pd.DataFrame
) -> list[tuple[str, list[str], Sequence[str], dict[str, str]]]:
    """Colourings of the map by batch, condition and donor, where the samplesheet tells several apart.

    A batch that was not given is the sample's name: that tab would be the samples' again.
    """
    made: list[tuple[str, list[str], Sequence[str], dict[str, str]]] = []
    for column in ("batch", "condition", "donor"):
        values = all_cells[column].astype(str)
        names = sorted(set(values))
        if len(names) < 2 or (values == all_cells["sample"].astype(str)).all():
            continue
        given = {name: name or NOT_GIVEN for name in names}
        shown = [given[value] for value in cells[column].astype(str)]
        colours = dict(zip(given.values(), series_colours(len(names)), strict=True))
        made.append((f"By {column}", shown, list(given.values()), colours))
    return made


def cell_map(inputs: Inputs) -> Section | None:
    """UMAP, coloured by what is known of the cells."""
    if inputs.umap is None or not len(inputs.umap):
        return None
    placed = np.flatnonzero(np.isfinite(inputs.umap["umap_1"].to_numpy()))
    if not len(placed):
        return None
    chosen = placed[evenly(len(placed), MAP_POINTS)]
    places = inputs.umap.iloc[chosen]
    cells = inputs.cells.iloc[chosen]
    integrated = MAP_BEFORE[0] in places
    x, y = _axes(places, MAP)
    types = _types(inputs.cells)
    samples = sorted(set(cells["sample"]))
    clusters = [c for c in cluster_order(cells["spikgpt_cluster"]) if c]
    bins = [f"{low:.1f} to {low + 0.2:.1f}" for low in (0.0, 0.2, 0.4, 0.6, 0.8)]
    level = np.minimum((cells["spikgpt_confidence"].to_numpy(dtype=float) * 5).astype(int), 4)
    known = "has a type"
    reasons = cells["spikgpt_unknown_reason"].where(cells["spikgpt_unknown_reason"] != "", known)
    # grey groups come first, so that they lie below
    colourings: list[tuple[str, list[str], Sequence[str], dict[str, str]]] = [
        ("By type", list(cells["spikgpt_cell_type"]), [UNKNOWN, *(t for t in types if t != UNKNOWN)],
         cell_type_colours(types)),
        ("By sample", list(cells["sample"]), samples,
         dict(zip(samples, series_colours(len(samples)), strict=True))),
        *_by_sheet(inputs.cells, cells),
        ("By confidence", [bins[i] for i in level], bins, dict(zip(bins, CONTINUOUS, strict=True))),
        (f"{UNKNOWN} by reason", list(reasons), [known, *REASON_NAMES],
         {known: "#dddddd", **REASON_COLOURS}),
        ("By cluster", list(cells["spikgpt_cluster"]), clusters,
         dict(zip(clusters, series_colours(len(clusters)), strict=True))),
    ]  # fmt: skip
    if integrated:
        # the same batches where they would lie without Harmony; with a batch for each sample the tab is that of samples
        batches = sorted(set(inputs.cells["batch"]))
        colours = dict(zip(batches, series_colours(len(batches)), strict=True))
        colourings.append((BEFORE, list(cells["batch"]), batches, colours))
    data = []
    for title, values, order, colours in colourings:
        if title == BEFORE:
            x, y = _axes(places, MAP_BEFORE)
        shown = labels(order)
        rank = {name: at for at, name in enumerate(order)}
        points: dict[str, list[dict[str, Any]]] = {}
        for at in sorted(range(len(values)), key=lambda i: rank[values[i]]):
            name = values[at]
            points.setdefault(shown[name], []).append(
                {"x": x[at], "y": y[at], "color": colours[name], "group": shown[name]}
            )
        data.append(points)
    return cell_scatter(
        "spikgpt_map",
        "Map of the cells",
        f"UMAP of the scGPT embedding{' after Harmony' if integrated else ''}, {len(chosen):,} of "
        f"{len(inputs.umap):,} cells, evenly spaced. Cells that lie together are similar; distances between groups "
        "mean little. Types should form groups, and samples should mix within them."
        f"{' The last tab is the map as it would be without Harmony.' if integrated else ''}",
        data,
        [title for title, *_ in colourings],
        xlab="UMAP 1",
        ylab="UMAP 2",
    )


def mixing_table(inputs: Inputs) -> Section | None:
    """Whether batches mix in the embedding, before and after Harmony."""
    mixing = inputs.tables.get("batch_mixing.tsv")
    if mixing is None or not len(mixing):
        return None
    found = integration_of(inputs)
    used = found is not None and found.used == "harmony"
    rows: dict[str, dict[str, int | float]] = {}
    before = mixing[mixing["embedding"] == "scGPT"].set_index("cell_type")
    after = mixing[mixing["embedding"] == "Harmony"].set_index("cell_type")
    for label, row in before.iterrows():
        values: dict[str, int | float] = {"cells": int(row["cells"]), "batches": int(row["batches"])}
        if row["ilisi_if_mixed"]:
            values["mixed"] = float(row["ilisi_if_mixed"])
        for score in ("ilisi", "kbet_acceptance", "clisi"):
            for when, frame in (("before", before), ("after", after)):
                value = str(frame.at[label, score])
                if value:
                    values[f"{score}_{when}"] = float(value)
        rows[text("All cells" if label == "all" else label)] = values
    return table(
        "spikgpt_batches",
        "Batch mixing",
        "Whether cells group by batch in the embedding that labels come from, before and after Harmony. High iLISI and "
        "kBET within a type: its batches mix. Low scores that Harmony raises while cLISI stays high: a batch effect "
        "that leaves the types apart. Where cLISI falls as well, labels follow batches. Labels and X_scGPT are never "
        f"corrected; clusters, map and markers rest on the embedding {'after' if used else 'before'} Harmony.",
        rows,
        {
            "cells": TableColumn("Cells", "Cells that were scored", decimals=0),
            "batches": TableColumn("Batches", "Batches with such cells", decimals=0),
            "ilisi_before": TableColumn("iLISI", "0: all neighbours are of one batch; 1: of all batches equally"),
            "ilisi_after": TableColumn("iLISI, Harmony", "The same after Harmony"),
            "mixed": TableColumn(
                "iLISI if mixed", "What iLISI would be if batches of these sizes were mixed at random", hidden=True
            ),
            "kbet_acceptance_before": TableColumn(
                "kBET", "Share of neighbourhoods with the same shares of batches as all cells"
            ),
            "kbet_acceptance_after": TableColumn("kBET, Harmony", "The same after Harmony"),
            "clisi_before": TableColumn(
                "cLISI", "1: all neighbours of its cells, among all cells, have one label; 0: all labels equally"
            ),
            "clisi_after": TableColumn("cLISI, Harmony", "The same after Harmony"),
        },
        first="Cell type",
        decimals=2,
    )


def confidence_lines(inputs: Inputs) -> Section | None:
    """Distribution of the confidence, per sample."""
    curves = {sample: histogram(values) for sample, values in inputs.values("spikgpt_confidence").items()}
    if not curves:
        return None
    return lines(
        "spikgpt_confidence",
        "Confidence",
        "Probability of each cell's best match, calibrated on held-out cells of the reference: of cells at 0.9, nine "
        "in ten were right there. On other data sets the mean error of that probability was 0.01 to 0.11 (0.19 where "
        "the labels of the two disagree), and for a sample that is not calibrated it is unknown. A peak at 1 is good; "
        "a broad curve means types that resemble each other, or low quality.",
        curves,
        xlab="Confidence of the best match",
        ylab="% of cells",
        xmin=0,
        xmax=1,
        ymin=0,
    )


def cluster_evidence(inputs: Inputs) -> Section | None:
    """One row per cluster: its label and what speaks for it."""
    clusters = inputs.tables.get("evidence.tsv")
    if clusters is None or not len(clusters):
        return None
    rows = {}
    for row in clusters.itertuples(index=False):
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
            "nearest": f"{text(row.nearest_type)} ({float(row.nearest_percent):.0f} %)",
            # a sentence of its own, so that nobody takes an untested cluster for one without markers
            "score": f"{len(found)} of {tested}" if tested else "not judged",
            "missing": text(row.markers_missing) or "none",
            "lineage": text(row.wrong_lineage) or "none",
            "found": text(row.markers_found) or "none",
            "unclear": text(", ".join(filter(None, [row.markers_unclear, row.markers_not_measured]))) or "none",
            "runner": f"{text(row.runner_up)} ({float(row.runner_up_percent):.0f} %)" if row.runner_up else "none",
            "opinion": opinion_text(row.second_opinion, row.second_opinion_score, row.second_opinion_contradicts),
            "against": int(row.cells_contradicted),
            "reasons": text(row.reasons) or "none",
            "lost": text(row.rejected_types) or "none",
        }
    rate = f"{100 * inputs.unknown_rate:.3g} %"
    return table(
        "spikgpt_evidence",
        "Evidence per cluster",
        "The evidence for each label. Trust a cluster with a high share of one label, high confidence, no more Unknown "
        "cells than the rate allows, most markers found and a second opinion that agrees; many missing markers mean "
        "another type, or a mixture. The markers come from the reference and are compared at equal sequencing depth; "
        "cells are not labelled by them. 'Configure columns' shows the markers found, the unclear ones, the runner-up, "
        "and reasons for rejection.",
        rows,
        {
            "cells": TableColumn("Cells", "Cells of the cluster", decimals=0),
            "label": TableColumn("Label", "Majority label of its cells"),
            "share": TableColumn("Share %", "Cells that have this label"),
            "confidence": TableColumn("Confidence", "Median calibrated probability of the best match", decimals=2),
            "unknown": TableColumn(UNKNOWN, "Rejected cells", decimals=0),
            "expected": TableColumn("Expected", f"Rejected cells that unknown_rate ({rate}) allows"),
            "nearest": TableColumn(
                "Judged as",
                "The type whose markers are looked for: the label, or the nearest type of an Unknown cluster",
            ),
            "score": TableColumn("Markers", "How many of that type's markers the cluster shows, of those tested"),
            "missing": TableColumn("Missing", "Detected at a rate nearer to the other types' than to the type's"),
            "lineage": TableColumn(
                "Wrong lineage", "Genes of a lineage that the label excludes, where so many cells show them"
            ),
            "opinion": TableColumn(
                "Second opinion",
                "Broad class that the bundled tissue profiles name without the reference, and its probability",
            ),
            "against": TableColumn(
                "Contradicted", "Cells whose own second opinion contradicts their label", decimals=0
            ),
            "found": TableColumn(
                "Found",
                "Detected at a rate nearer to the type's than to the other types', and in more cells than in the rest",
                hidden=True,
            ),
            "unclear": TableColumn(
                "Unclear",
                "Detected, but not in more cells than in the rest of the cohort; or not measured",
                hidden=True,
            ),
            "runner": TableColumn("Runner-up", "Commonest best match other than the nearest type", hidden=True),
            "reasons": TableColumn("Reasons", "Why cells were rejected", hidden=True),
            "lost": TableColumn(
                "Rejected types", "Nearest types of which 80 % or more of at least 20 cells were rejected", hidden=True
            ),
        },
        first="Cluster",
        decimals=1,
    )


def opinion_text(opinion: str, score: str, contradicts: str) -> str:
    """A cluster's second opinion in a few words (HTML)."""
    if not opinion:
        return "none"
    said = {"yes": ": contradicts", "no": ": agrees"}.get(contradicts, "")
    return f"{text(opinion)} ({float(score):.2f}){said}"


def second_opinion_table(inputs: Inputs) -> Section | None:
    """One row per label: how many of its cells have a second opinion, and what speaks against the label."""
    opinions = inputs.tables.get("second_opinion.tsv")
    if opinions is None or not len(opinions):
        return None
    rows = {}
    for label, mine in opinions.groupby("cell_type", sort=True):
        cells = mine["cells"].astype(int)
        given = cells[mine["second_opinion"] != ""]
        against, agreeing = (cells[mine["contradicts"] == said] for said in ("yes", "no"))
        compared = int(against.sum() + agreeing.sum())
        most = mine.loc[given.index, "second_opinion"].iloc[0] if len(given) else ""
        other = mine.loc[against.index, "second_opinion"].iloc[0] if len(against) else ""
        rows[text(label)] = {
            "cells": int(cells.sum()),
            "given": 100 * int(given.sum()) / int(cells.sum()),
            "most": f"{text(most)} ({100 * int(given.iloc[0]) / int(given.sum()):.0f} %)" if most else "none",
            "against": f"{int(against.sum()):,} of {compared:,}" if compared else "not compared",
            "other": f"{text(other)} ({int(against.iloc[0]):,})" if other else "none",
        }
    return table(
        "spikgpt_second_opinion",
        "Second opinion",
        "What mean profiles of human tissues say of the cells without the reference. They know 31 broad classes and no "
        "fine types, and give no opinion where they are not sure. An opinion contradicts a label when the Cell "
        "Ontology puts neither above the other; T and NK cells are never held against each other. A label that many "
        "opinions contradict needs a look; a few conflicts are usually the opinion's mistake. A label without a Cell "
        "Ontology term is not compared. No label is changed.",
        rows,
        {
            "cells": TableColumn("Cells", "Cells with this label", decimals=0),
            "given": TableColumn("With opinion %", "Cells that the profiles give an opinion"),
            "most": TableColumn("Commonest opinion", "With its share of the opinions"),
            "against": TableColumn("Contradicted", "Opinions that contradict the label, of those that can be compared"),
            "other": TableColumn("By", "The commonest of these, with its cells"),
        },
        first="Label",
        decimals=1,
    )
