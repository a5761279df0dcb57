"""Whether clusters show the genes that cells of their broad class are expected to show: evidence, never a label.

The genes come from the bundled profiles alone (`spikgpt.profiles.expected`), so they know nothing of a run's reference.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem
from numpy.typing import NDArray

from spikgpt import UNKNOWN
from spikgpt.annotator.reference_markers import Marker, ReferenceMarkers, seen, thinning
from spikgpt.base.cell_ontology import ancestors
from spikgpt.base.groups import class_members
from spikgpt.base.h5ad import csr_blocks
from spikgpt.cohort.evidence import MarkerEvidence, cluster_names, judge_markers
from spikgpt.cohort.second_opinion import Likeness
from spikgpt.profiles.expected import DEPTHS, read_expected, verdict
from spikgpt.profiles.kinship import covering, terms_of_labels
from spikgpt.profiles.library import Library

EXPECTED_COLUMNS = (
    "cluster",
    "cells",
    "cell_type",
    "class",
    "class_from",
    "genes_seen",
    "genes_tested",
    "verdict",
    "seen",
    "missing",
    "unclear",
    "not_measured",
)
SHOWN_COLUMNS = ("cluster", "cell_type", "class", "gene", "percent", "depth")
LABEL, OPINION = "label", "second_opinion"
"""Where the class that a cluster is asked for comes from."""
PER_CLASS = 4
"""Genes of each class in the table of shares."""
_BLOCK_ELEMENTS = 4_000_000


def expected_markers(folder: str | Path, library: Library) -> ReferenceMarkers:
    """The genes of every class in the form of a reference's markers."""
    found = read_expected(folder, library)
    return ReferenceMarkers(
        list(DEPTHS), {name: [Marker(gene, i, o) for gene, i, o in genes] for name, genes in found.items()}
    )


def class_of_label(library: Library, label: str, terms: Mapping[str, str]) -> str:
    """The class that a label lies in, the most special one; empty for none. ``terms``: label to its CL term."""
    if label in library.terms:
        return label
    inside = sorted(covering(library, terms[label])) if label in terms else []
    # an islet cell is an epithelial cell too: the class with more terms above it says more
    return max(inside, key=lambda name: len(ancestors(library.terms[name][0])), default="")


def classes_to_ask(
    cells: pd.DataFrame, library: Library, given: Mapping[str, str], likeness: Mapping[str, Likeness]
) -> dict[str, tuple[str, str]]:
    """Cluster to the class that it is asked for and where that comes from: its label, else its second opinion.

    Clusters of which neither is known are left out.
    """
    labels = cells["spikgpt_cluster_cell_type"].astype(str).groupby(cells["spikgpt_cluster"].astype(str)).first()
    terms = terms_of_labels([label for label in labels if label not in ("", UNKNOWN)], given)
    asked = {}
    for name in cluster_names(cells):
        of = class_of_label(library, labels[name], terms)
        if of:
            asked[name] = (of, LABEL)
        elif likeness[name].opinion:
            asked[name] = (likeness[name].opinion, OPINION)
    return asked


def expected_table(
    h5ad: str | Path,
    cells: pd.DataFrame,
    asked: Mapping[str, tuple[str, str]],
    markers: ReferenceMarkers,
    library: Library,
    likeliest: NDArray[np.object_],
) -> pd.DataFrame:
    """The rows of `EXPECTED_COLUMNS`, clusters in order.

    Genes are judged as a reference's markers are (`spikgpt.cohort.evidence.judge_markers`), against the cells outside
    of the cluster that look like another class.

    Parameters
    ----------
    cells
        See `spikgpt.cohort.tables.read_cohort`; in the order of the h5ad.
    asked
        Of `classes_to_ask`.
    likeliest
        Likeliest class of each cell by the profiles, (cells,).
    """
    judged: dict[str, MarkerEvidence] = {}
    # the cells of two classes that go together count as cells of both
    for merged in ("", *(name for name in library.merged if any(of == name for of, _ in asked.values()))):
        pairs = [(name, of) for name, (of, _) in asked.items() if (of if of in library.merged else "") == merged]
        of_cell = np.where(np.isin(likeliest, library.merged.get(merged, ())), merged, likeliest)
        found = judge_markers(h5ad, cells.assign(spikgpt_best_match=of_cell), markers, pairs) if pairs else {}
        judged |= {name: evidence for (name, _), evidence in found.items()}
    cluster = cells["spikgpt_cluster"].astype(str)
    labels = cells["spikgpt_cluster_cell_type"].astype(str).groupby(cluster).first()
    sizes = cluster.value_counts()
    rows = [
        (
            name,
            int(sizes[name]),
            labels[name],
            of,
            source,
            len(judged[name].found),
            judged[name].tested,
            verdict(len(judged[name].found), judged[name].tested),
            *(
                ", ".join(part)
                for part in (judged[name].found, judged[name].missing, judged[name].unclear, judged[name].not_measured)
            ),
        )
        for name, (of, source) in asked.items()
    ]
    return pd.DataFrame(rows, columns=list(EXPECTED_COLUMNS))


def shown_table(
    h5ad: str | Path, cells: pd.DataFrame, asked: Mapping[str, tuple[str, str]], markers: ReferenceMarkers
) -> pd.DataFrame:
    """Percentage of each cluster's cells that show each of the best genes of each class found: `SHOWN_COLUMNS`.

    Cells are thinned to one depth (in expectation): that of the genes' choice, or the median of all cells where it is
    less. Clusters in order, classes as the profiles have them, genes best first.
    """
    names = cluster_names(cells)
    classes = [name for name in markers.types if any(of == name for of, _ in asked.values())]
    genes = [(name, marker.gene) for name in classes for marker in markers.types[name][:PER_CLASS]]
    totals = cells["total_counts"].to_numpy(dtype=np.float64)
    with h5py.File(h5ad) as file:
        place = {gene: at for at, gene in enumerate(read_elem(file["var"]).index.astype(str))}
        genes = [(name, gene) for name, gene in genes if gene in place]
        if not genes or not names:
            return pd.DataFrame(columns=list(SHOWN_COLUMNS))
        columns = [place[gene] for _, gene in genes]
        depth = min(DEPTHS[0], float(np.median(totals)))
        codes = pd.Index(names).get_indexer(cells["spikgpt_cluster"].astype(str))
        print(f"{len(genes)} expected genes in {len(names)} clusters", file=sys.stderr)
        sums = np.zeros((len(names), len(genes)))
        for start, block in csr_blocks(file["layers/counts"], _BLOCK_ELEMENTS):
            part = slice(start, start + block.shape[0])
            kept = thinning(totals[part], depth)[:, None]
            sums += class_members(codes[part], len(names)) @ seen(block[:, columns].toarray(), kept)
    labels = cells["spikgpt_cluster_cell_type"].astype(str).groupby(cells["spikgpt_cluster"].astype(str)).first()
    sizes = np.bincount(codes[codes >= 0], minlength=len(names))
    rows = [
        (cluster, labels[cluster], of, gene, 100 * sums[row, at] / sizes[row], depth)
        for row, cluster in enumerate(names)
        for at, (of, gene) in enumerate(genes)
    ]
    return pd.DataFrame(rows, columns=list(SHOWN_COLUMNS))


def likeliest_classes(probabilities: NDArray[np.float32], classes: Sequence[str]) -> NDArray[np.object_]:
    """The likeliest class of each cell, empty where none was judged; ``probabilities`` (cells, classes)."""
    names = np.array(classes, dtype=object)[probabilities.argmax(axis=1)]
    return np.where(probabilities.max(axis=1) > 0, names, "")
