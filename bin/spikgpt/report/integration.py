"""Whether the batches were integrated, why, and what of them still parts."""

from collections.abc import Iterable

import pandas as pd

from spikgpt import UNKNOWN
from spikgpt.cohort.integration import MIXED, Integration, read_integration
from spikgpt.report.content import text
from spikgpt.report.inputs import Inputs

OF_ONE_BATCH = 0.9
"""A cluster with at least this share of one batch is of that batch; its type is found in others where that batch has
less than this share of the type's cells."""


def integration_of(inputs: Inputs) -> Integration | None:
    """What was decided; None where batches were not told apart."""
    table = inputs.tables.get("integration.tsv")
    return read_integration(table) if table is not None and len(table) else None


def clusters_of_one_batch(cells: pd.DataFrame) -> tuple[list[str], int]:
    """Clusters that hold one batch alone although their type is found in others.

    Parameters
    ----------
    cells
        batch, spikgpt_cell_type, spikgpt_cluster and spikgpt_cluster_cell_type of every cell, as text.

    Returns
    -------
    Their names, and the number of clusters that have a type.
    """
    labelled = cells[(cells["spikgpt_cluster"] != "") & (cells["spikgpt_cluster_cell_type"] != UNKNOWN)]
    in_cluster = pd.crosstab(labelled["spikgpt_cluster"], labelled["batch"])
    of_type = pd.crosstab(cells["spikgpt_cell_type"], cells["batch"])
    label = labelled.groupby("spikgpt_cluster")["spikgpt_cluster_cell_type"].first()
    found = []
    for name, counts in in_cluster.iterrows():
        batch = counts.idxmax()
        whole = of_type.loc[label[name]]
        if counts[batch] >= OF_ONE_BATCH * counts.sum() and whole[batch] < OF_ONE_BATCH * whole.sum():
            found.append(str(name))
    return sorted(found, key=int), len(in_cluster)


def figures(found: Integration) -> str:
    """The scores in brackets."""
    if found.mixing_before is None or found.mixing_after is None:
        return ""
    kept = (
        f"; cLISI {found.clisi_before:.2f} before, {found.clisi_after:.2f} after"
        if found.clisi_before is not None and found.clisi_after is not None
        else ""
    )
    return f" (mixing within types {found.mixing_before:.2f} before Harmony, {found.mixing_after:.2f} after{kept})"


def sentences(inputs: Inputs) -> Iterable[str]:
    """A line for the first screen: what clusters, map and markers rest on."""
    found = integration_of(inputs)
    if found is None:
        return
    if found.used == "harmony":
        yield (
            f"<b>Integrated</b>: clusters, map and markers rest on the embedding after Harmony, as {text(found.reason)}"
            f"{figures(found)}. Labels did not change.{_confounded(inputs.cells)}"
        )
    else:
        yield f"<b>Not integrated</b>: {text(found.reason)}{figures(found)}."


def _confounded(cells: pd.DataFrame) -> str:
    """That Harmony may have taken out conditions, where each batch has one of several."""
    pairs = cells[["batch", "condition"]].drop_duplicates()
    if pairs["condition"].nunique() < 2 or len(pairs) > pairs["batch"].nunique():
        return ""
    return (
        " Every batch has one condition: what that does to the cells may be taken out of clusters and map as well; "
        "the last tab of the map is the one without Harmony."
    )


def warning(inputs: Inputs) -> str | None:
    """That batches still part, and what follows; None where they do not."""
    cells, found = inputs.cells, integration_of(inputs)
    if not len(cells) or cells["batch"].nunique() < 2:
        return None
    alone, clusters = clusters_of_one_batch(cells)
    how_many = (
        f"{len(alone)} of {clusters} clusters hold at least {100 * OF_ONE_BATCH:.0f} % cells of one batch although "
        "other batches have their type"
    )
    if found is not None and found.parted:
        mixing = found.mixing_after if found.used == "harmony" else found.mixing_before
        after = " even after Harmony" if found.used == "harmony" else ""
        return (
            f"batches part within the types{after} (mixing {mixing:.2f}, under {MIXED:.1f}); {how_many}. Clusters, "
            f"markers and populations may be those of a batch{_next_step(found)}"
        )
    # where no batch was named, each sample is one, and nothing was measured
    if found is None and 2 * len(alone) > clusters:
        return (
            f"{how_many}; each sample counts as a batch. Name the batches in the samplesheet's column batch, or give "
            "<code>--integrate harmony</code>"
        )
    return None


def _next_step(found: Integration) -> str:
    if found.used == "harmony":
        return ""
    return f". Not integrated: {text(found.reason)}; <code>--integrate harmony</code> integrates all the same"
