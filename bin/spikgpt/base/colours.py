"""One palette for cell types, in every plot and in the h5ad's colours."""

from collections.abc import Iterable

from spikgpt import UNKNOWN
from spikgpt.base.columns import REASON_NAMES

UNKNOWN_COLOUR = "#b3b3b3"
"""Grey: no cell type ever has it."""

# Okabe and Ito (https://jfly.uni-koeln.de/color/) without black and yellow (too light for points on
# white), then Tol's muted scheme (https://personal.sron.nl/~pault/): both made for colour-blind readers.
_SAFE = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00",
    "#332288", "#999933", "#882255", "#44aa99", "#ddcc77", "#aa4499", "#117733", "#cc6677", "#88ccee",
)  # fmt: skip


def _shade(colour: str, factor: float) -> str:
    channels = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    mixed = [round(c * factor) if factor <= 1 else round(255 - (255 - c) / factor) for c in channels]
    return "#" + "".join(f"{c:02x}" for c in mixed)


def _nth(at: int) -> str:
    """The colour at a place; after the last one, the same darker, then lighter."""
    turn, place = divmod(at, len(_SAFE))
    factor = (1.0, 0.6, 1.8)[turn % 3]
    return _SAFE[place] if factor == 1 else _shade(_SAFE[place], factor)


def cell_type_colours(cell_types: Iterable[str]) -> dict[str, str]:
    """A colour for each cell type, by its place in the alphabet; Unknown and "" are grey.

    The first 15 stay apart for colour-blind readers; more reuse them darker, then lighter, since
    no palette keeps more apart: tables and hover texts name the type.
    """
    colours = {UNKNOWN: UNKNOWN_COLOUR, "": "#e0e0e0"}
    names = sorted(set(cell_types) - set(colours))
    return colours | {name: _nth(at) for at, name in enumerate(names)}


REASON_COLOURS = dict(zip(REASON_NAMES, ("#e69f00", "#d55e00", "#cc79a7", "#56b4e9"), strict=True))
"""Colours of the reasons for Unknown."""

CONTINUOUS = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")
"""Five steps of viridis, low to high."""


def series_colours(count: int) -> list[str]:
    """Colours for series that are no cell types: samples, clusters, reasons."""
    return [_nth(at) for at in range(count)]
