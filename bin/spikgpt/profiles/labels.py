"""Labels from the profiles alone, for samples without a reference: the class of the opinion, `Unknown` where there is
none.

The table has the columns of an annotator's, so that all later steps read it alike. What an annotator measures and the
profiles cannot is left empty: there is no conformal p-value, and no rate of `Unknown` that was asked for.
"""

from typing import Any

import numpy as np
import pandas as pd

from spikgpt import UNKNOWN
from spikgpt.base.cell_ontology import ancestors
from spikgpt.base.columns import (
    AGREEMENT,
    JUDGE_COLUMNS,
    LABEL_SET,
    LEAF,
    LEVEL,
    LEVEL_NAME,
    LEVEL_TERM,
    LOW_CONFIDENCE,
    LOW_GENE_MATCH,
    LOW_QUALITY,
    OPINION,
    OPINION_SCORE,
)
from spikgpt.base.label_counts import MANY_UNKNOWN, label_counts
from spikgpt.base.ontology import TERM, labels_to_terms
from spikgpt.profiles.library import Library
from spikgpt.profiles.opinion import MIN_GENES

HEMATOPOIETIC_CELL = "CL:0000988"
BLOOD_SHARE = 0.9
"""A sample looks like blood where at least this share of its opinions are classes of blood cells. The sets of
docs/benchmarks.md, "Second opinion", which were in view, lie near all or none: any share between tells them apart. A
tissue with a tenth of other cells is no blood."""
BLOOD_OPINIONS = 0.5
"""... and at least this share of its cells has an opinion: more in every set of blood there, less in the cell lines."""
WITHOUT_OPINION = 0.25
"""Share of the cells of known classes that is expected to get no opinion: a little more than the largest of any set of
docs/benchmarks.md whose classes are known (.22, Kang; mean .09). A population of a new type is told from there on."""
NO_RATE = "its labels are broad classes of the tissue profiles, whose Unknown follows no rate that can be asked for"
"""Why the rate of Unknown cannot be promised."""


def blood_classes(library: Library) -> frozenset[str]:
    """Classes of blood and its progenitors, alone and together, by the Cell Ontology."""
    return frozenset(name for name, terms in library.terms.items() if HEMATOPOIETIC_CELL in ancestors(terms[0]))


def blood_share(library: Library, classes: dict[str, int]) -> float | None:
    """Share of the opinions (opinion to number of cells) that are classes of blood cells; None without an opinion."""
    given = sum(classes.values())
    blood = blood_classes(library)
    return sum(number for name, number in classes.items() if name in blood) / given if given else None


def looks_like_blood(figures: dict[str, Any]) -> bool:
    """Whether a sample is taken for blood; not where the profiles cannot tell.

    ``figures`` of `spikgpt.profiles.opinion.second_opinion`, with `blood_share`.
    """
    share, cells = figures["blood_share"], figures["cells"]
    return bool(share is not None and share >= BLOOD_SHARE and figures["with_opinion"] >= BLOOD_OPINIONS * cells)


def class_terms(library: Library) -> dict[str, str]:
    """The term of the Cell Ontology of each label: the class's main one."""
    return {name: terms[0] for name, terms in library.terms.items()}


def annotation(
    opinions: pd.DataFrame, figures: dict[str, Any], library: Library
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The annotation of a sample by the profiles alone.

    Parameters
    ----------
    opinions, figures
        Of `spikgpt.profiles.opinion.second_opinion`.

    Returns
    -------
    The table, one row a cell in the given order, with the columns of `spikgpt.annotator.annotation.Annotator.annotate`,
    and figures of the sample as there. ``spikgpt_cell_type`` is the opinion, ``spikgpt_best_match`` the same or the
    likeliest class, and empty where no class could be judged; ``spikgpt_confidence`` its probability, calibrated on
    simulated cells of withheld studies; ``spikgpt_p_value`` NaN. Reasons of an Unknown cell: ``low_gene_match`` the
    sample has too few of the profiles' genes; ``low_quality`` the cell has none of them; ``low_confidence`` no class is
    likely enough, because the cell lies between two or fits none: the profiles do not tell which.
    """
    values = opinions[library.classes].to_numpy(dtype=np.float32)
    said = opinions[OPINION].to_numpy(dtype=object)
    score = opinions[OPINION_SCORE].to_numpy(dtype=np.float32)
    ranked = np.argsort(-values, axis=1, kind="stable")[:, :2]
    names = np.array(library.classes, dtype=object)
    judged, unknown = score > 0, said == ""
    best = np.where(unknown, np.where(judged, names[ranked[:, 0]], ""), said)
    too_few = figures["genes_found"] < MIN_GENES
    reason = np.where(judged, LOW_CONFIDENCE.name, LOW_GENE_MATCH.name if too_few else LOW_QUALITY.name)
    labels = np.where(unknown, UNKNOWN, said)
    terms = labels_to_terms(pd.Series(labels, dtype=object), class_terms(library))
    table = pd.DataFrame(
        {
            "barcode": opinions["barcode"],
            "spikgpt_cell_type": labels,
            "spikgpt_best_match": best,
            "spikgpt_confidence": np.round(score.astype(np.float64), 6).astype(np.float32),
            "spikgpt_p_value": np.full(len(opinions), np.nan, dtype=np.float32),
            "spikgpt_unknown_reason": np.where(unknown, reason, ""),
            "spikgpt_runner_up": np.where(judged, names[ranked[:, 1]], ""),
            TERM: terms,
            # the classes have no levels: a class holds, or nothing does
            LEVEL_NAME: labels,
            LEVEL_TERM: terms,
            LEVEL: np.where(unknown, "", LEAF),
            LABEL_SET: said,
            # the judges are trained on a reference
            AGREEMENT: np.full(len(opinions), np.nan, dtype=np.float32),
            **dict.fromkeys(JUDGE_COLUMNS.values(), ""),
        }
    )
    return table, _figures(table, library)


def _figures(table: pd.DataFrame, library: Library) -> dict[str, Any]:
    counts = label_counts(table)
    cells, number = counts["cells"], counts["unknown"]
    warning = None
    if cells and number / cells > MANY_UNKNOWN:
        warning = (
            f"{number} of {cells} cells are Unknown: the tissue profiles may lack its tissue, and know neither cell "
            "lines nor other species."
        )
    return {
        "labels_from": "profiles",
        "unknown_rate": WITHOUT_OPINION,
        "annotator_sha256": library.digest,
        **counts,
        "rejected_types": [],
        "tissue_warning": warning,
        "likeness": None,
        "shift": {},
        "shift_share": None,
        "spread": {},
        "not_calibrated": [NO_RATE],
        "firing_rates": {},
        "dead_layers": [],
        "energy": None,
        "pooled": False,
    }
