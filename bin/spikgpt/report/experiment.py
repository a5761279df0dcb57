"""What a reader should know of the experiment before the data are used: mitochondrial shares, Unknown, confounding."""

from collections.abc import Callable

from scipy.stats import binom

from spikgpt import UNKNOWN
from spikgpt.report.content import short, text
from spikgpt.report.inputs import Inputs

HIGH_MITO = 10
"""A sample whose median mitochondrial percentage is higher is pointed out, as populations are."""

HIGH_UNKNOWN = 2
"""A sample with more Unknown cells than this many times `unknown_rate` is pointed out, ..."""

SURE = 0.001
"""... where chance alone would give so many with a probability below this: the bound of unknown populations."""

Add = Callable[[str, str, str], None]
"""Notes a warning (HTML), what it is true of, and a detail."""


def on_mito(add: Add, inputs: Inputs, sample: str) -> None:
    """The kept cells' median mitochondrial share."""
    median = inputs.of_sample(sample)["pct_counts_mt"].median()
    if median > HIGH_MITO:
        message = (
            f"more than {HIGH_MITO} % of a kept cell's counts are mitochondrial in the median: damaged cells, or a "
            "tissue that is rich in mitochondria. The samplesheet's <code>max_mito_percentage</code> sets a limit"
        )
        add(message, sample, f"{median:.1f} %")


def on_unknown(add: Add, inputs: Inputs, sample: str) -> None:
    """More Unknown cells than twice what `unknown_rate` gives, beyond chance (binomial)."""
    cells, unknown = len(inputs.of_sample(sample)), inputs.steps[sample][UNKNOWN]
    rate = inputs.unknown_rate
    if unknown > HIGH_UNKNOWN * rate * cells and binom.sf(unknown - 1, cells, rate) < SURE:
        message = (
            f"more than twice as many {UNKNOWN} cells as the rate asked for ({100 * rate:.3g} %) gives: the reference "
            "may lack a type, the cells may be of low quality, or the sample of another tissue"
        )
        add(message, sample, f"{100 * unknown / cells:.1f} %, {unknown:,} where {rate * cells:,.0f} are expected")


def on_confounding(add: Add, inputs: Inputs) -> None:
    """Conditions that no batch has side by side: their difference may be the batches'."""
    batches: dict[str, set[str]] = {}
    for row in inputs.sheet:
        if row.get("batch") and row.get("condition"):
            batches.setdefault(row["batch"], set()).add(row["condition"])
    conditions = set().union(*batches.values()) if batches else set()
    if len(batches) > 1 and len(conditions) > 1 and all(len(found) == 1 for found in batches.values()):
        message = (
            f"every batch has one condition ({_named(batches)}): a difference between conditions cannot be told from "
            "one between batches"
        )
        add(message, "Cohort", "")


NAMED_BATCHES = 4
"""Batches that the sentence on confounding names."""


def _named(batches: dict[str, set[str]]) -> str:
    shown = [f"{short(batch)}: {', '.join(map(short, sorted(found)))}" for batch, found in sorted(batches.items())]
    more = len(shown) - NAMED_BATCHES
    return "; ".join(shown[:NAMED_BATCHES]) + (f"; {text(more)} more" if more > 0 else "")
