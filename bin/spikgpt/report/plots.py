"""One constructor for each kind of section that MultiQC draws, with the settings that all sections of a kind share."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from spikgpt.base.colours import series_colours
from spikgpt.report.content import Section

LEGEND_LINES = 15
"""Lines in a plot up to which a legend helps."""

Points = list[list[float]]
"""A line, as pairs: the keys of a JSON object are text, and MultiQC would sort them as text."""


@dataclass(frozen=True)
class TableColumn:
    """A column of a table: its title, the text shown on hover, the decimals of its numbers (None: the table's)."""

    title: str
    hint: str
    decimals: int | None = None
    hidden: bool = False
    """Hidden at first; the reader brings it back under "Configure columns"."""


def table(
    id: str,
    name: str,
    description: str,
    rows: Mapping[str, Mapping[str, Any]],
    columns: Mapping[str, TableColumn],
    *,
    first: str,
    decimals: int,
) -> Section:
    """A table: a row each, whose values are numbers or texts by column; a value of None leaves the field empty.

    `first` is the title of the column with the rows' names, `decimals` those of every number whose column says nothing.
    """
    headers = {
        key: {
            "title": column.title,
            "description": column.hint,
            "format": f"{{:,.{decimals if column.decimals is None else column.decimals}f}}",
            "scale": False,
            "hidden": column.hidden,
        }
        for key, column in columns.items()
    }
    config = {"col1_header": first, "no_violin": True, "sort_rows": False, "rows_are_samples": first == "Sample"}
    data = {row: {key: value for key, value in values.items() if value is not None} for row, values in rows.items()}
    return Section(id, name, description, "table", data, {"headers": headers, "pconfig": config})


def bars(id: str, name: str, description: str, data: Any, categories: Any, **config: Any) -> Section:
    """Stacked bars of cells: sample (or a like name) to category to number of cells, or a list of such, one per tab.

    `categories` gives each category its name and colour, in the order in which they are stacked; one per tab.
    """
    config = {"ylab": "Cells", "cpswitch_counts_label": "Cells", **config}
    return Section(id, name, description, "bargraph", data, {"categories": categories, "pconfig": config})


def lines(
    id: str, name: str, description: str, curves: Mapping[str, Points], *, xlab: str, ylab: str, **config: Any
) -> Section:
    """A line for each name, in a colour of its own."""
    config = {
        "xlab": xlab,
        "ylab": ylab,
        "showlegend": len(curves) <= LEGEND_LINES,
        "colors": dict(zip(curves, series_colours(len(curves)), strict=True)),
        **config,
    }
    return Section(id, name, description, "linegraph", curves, {"pconfig": config})


def boxes(id: str, name: str, description: str, data: Any, tabs: Iterable[tuple[str, str]]) -> Section:
    """Box plots, a list of samples to `five_numbers` per tab; a tab is its name and its axis."""
    config = {"data_labels": [{"name": tab, "ylab": unit} for tab, unit in tabs], "sort_samples": True}
    return Section(id, name, description, "boxplot", data, {"pconfig": config})


def violins(id: str, name: str, description: str, cells: Any, headers: Any) -> Section:
    """A violin per header over cells, each of which is a name to header to number."""
    config = {"rows_are_samples": False, "col1_header": "Cell", "series_label": "cells"}
    return Section(id, name, description, "violin", cells, {"headers": headers, "pconfig": config})


def cell_scatter(
    id: str, name: str, description: str, data: Any, tabs: Iterable[str], *, xlab: str, ylab: str
) -> Section:
    """Cells as points, a list of group to points per tab; every point brings its colour."""
    config = {
        "data_labels": [{"name": tab} for tab in tabs],
        "xlab": xlab,
        "ylab": ylab,
        "marker_size": 4,
        "marker_line_width": 0,
        "opacity": 0.8,
        "height": 640,
        "showlegend": True,
        "flat_if_very_large": False,
        "series_label": "cells",
    }
    return Section(id, name, description, "scatter", data, {"pconfig": config})


def category_scatter(
    id: str, name: str, description: str, data: Any, categories: Iterable[str], *, xlab: str, ylab: str
) -> Section:
    """Points over named places of the x axis, name to points: 0 is the first place; every point brings its colour."""
    config = {
        "categories": list(categories),
        "xlab": xlab,
        "ylab": ylab,
        "ymin": 0,
        "marker_size": 7,
        "marker_line_width": 0,
        "opacity": 0.7,
        "height": 520,
        "showlegend": True,
        "flat_if_very_large": False,
        "series_label": "points",
    }
    # in a list: of a mapping MultiQC takes the keys for paths of samples, and keeps what follows a "/"
    return Section(id, name, description, "scatter", [data], {"pconfig": config})


def heat_map(
    id: str, name: str, description: str, data: Any, *, xlab: str, ylab: str, zlab: str, most: float
) -> Section:
    """A row to column to number from 0 to `most`; rows and columns stay in their order."""
    config = {
        "xlab": xlab,
        "ylab": ylab,
        "zlab": zlab,
        "min": 0,
        "max": most,
        "xcats_samples": False,
        "ycats_samples": False,
        "square": False,
        "display_values": False,
        "tt_decimals": 1,
        "cluster_rows": False,
        "cluster_cols": False,
        # white is none: MultiQC's own scale would have a colour for it
        "colstops": [[0, "#ffffff"], [0.5, "#7fb3d5"], [1, "#0b3c6f"]],
    }
    return Section(id, name, description, "heatmap", data, {"pconfig": config})


def markup(id: str, name: str, description: str, html: str) -> Section:
    """HTML as it is; every text in it that a user chose must have gone through `content.text`."""
    return Section(id, name, description, "html", html)


def histogram(values: np.ndarray) -> Points:
    """Numbers from 0 to 1 as a line: the middle of each of 20 equal bins, and the percentage of values in it."""
    edges = np.linspace(0, 1, 21)
    counts = np.histogram(np.clip(values, 0, 1), edges)[0]
    middles = (edges[1:] + edges[:-1]) / 2
    return [
        [round(float(x), 3), round(100 * float(count) / len(values), 3)]
        for x, count in zip(middles, counts, strict=True)
    ]


def five_numbers(values: np.ndarray) -> dict[str, float]:
    """A box plot of numbers: whiskers at the 1st and 99th percentile, and the mean."""
    low, q1, median, q3, high = np.quantile(values, [0.01, 0.25, 0.5, 0.75, 0.99])
    box = {"min": low, "q1": q1, "median": median, "q3": q3, "max": high, "mean": values.mean()}
    return {name: round(float(value), 4) for name, value in box.items()}
