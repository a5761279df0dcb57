"""Labels that cells already had beside the pipeline's own: confusion, agreement and kappa per sample."""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path

import pandas as pd

from spikgpt import UNKNOWN
from spikgpt.base.cell_ontology import ancestors, current_term, term_of_label
from spikgpt.base.names import name_before
from spikgpt.base.ontology import NO_TERM, TERM
from spikgpt.read_input.labels import spelling

COMPARISON_COLUMNS = ("sample", "own_label", "cell_type", "cells", "relation")
AGREEMENT_COLUMNS = ("sample", "cells", "unknown", "not_comparable", "compared", "agreement", "kappa")

AGREE = ("same", "broader", "narrower")
"""Relations that count as agreement: one name, one term, or one term above the other in the Cell Ontology."""


def read_own(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Labels of all samples: sample, barcode, own_label."""
    parts = [
        pd.read_parquet(path)
        .assign(sample=name_before(path, ".own_labels.parquet"))
        .rename(columns={"label": "own_label"})
        for path in sorted(map(Path, paths))
    ]
    return pd.concat(parts, ignore_index=True)[["sample", "barcode", "own_label"]]


def plain(label: str) -> str:
    """A label without case, signs between words, plural, and the word `cell` at its end."""
    return spelling(label).removesuffix("cell")


def relation(own: str, own_term: str | None, ours: str, our_term: str | None, names: frozenset[str]) -> str:
    """How a label stands to the pipeline's.

    Parameters
    ----------
    own, own_term, ours, our_term
        The two labels, and their terms of the Cell Ontology, if they mean one.
    names
        `plain` of all labels of the pipeline: another label than one of these names another type, also without terms.

    Returns
    -------
    same, broader (theirs is above ours in the Cell Ontology), narrower, different; "" where this cannot be told,
    because the names differ, one of them means no term and the pipeline has no label of that name, or because ours is
    Unknown.
    """
    if ours == UNKNOWN:
        return ""
    if plain(own) == plain(ours):
        return "same"
    if own_term is None or our_term is None:
        return "different" if plain(own) in names else ""
    if own_term == our_term:
        return "same"
    if own_term in ancestors(our_term):
        return "broader"
    return "narrower" if our_term in ancestors(own_term) else "different"


def compare(cells: pd.DataFrame, own: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Confusion of labels, and agreement per sample.

    Kappa is Cohen's with the agreement of each pair of labels as its weight, 1 or 0 (Cohen 1968): with the same names
    on both sides it is his kappa of 1960. Expected agreement comes from the sample's own margins.

    Parameters
    ----------
    cells
        `spikgpt.cohort.tables.read_cohort`.
    own
        `read_own`; cells that quality control removed are no part of the comparison.

    Returns
    -------
    confusion
        `COMPARISON_COLUMNS`: cells of each pair of labels, by sample and name.
    agreement
        `AGREEMENT_COLUMNS`, a row per sample with labels and one, "all", over all of them: annotated cells with a label
        of their own; of these Unknown, not comparable, compared; share of the compared ones that agree, and kappa. Both
        are missing (NaN) where nothing can be compared, kappa also where chance alone gives full agreement.
    """
    columns = ["sample", "barcode", "spikgpt_cell_type", "spikgpt_best_match", *([TERM] if TERM in cells else [])]
    named = cells[columns].astype(str)
    both = own.merge(named, on=["sample", "barcode"], how="inner", validate="one_to_one")
    terms = _our_terms(named)
    names = frozenset(map(plain, {*named["spikgpt_cell_type"], *named["spikgpt_best_match"]} - {UNKNOWN}))

    @cache
    def related(label: str, ours: str) -> str:
        own_term = current_term(label.replace("_", ":")) or term_of_label(label)
        return relation(label, own_term, ours, terms.get(ours), names)

    counts = both.groupby(["sample", "own_label", "spikgpt_cell_type"], sort=True).size().rename("cells").reset_index()
    counts = counts.rename(columns={"spikgpt_cell_type": "cell_type"})
    counts["relation"] = [related(a, b) for a, b in counts[["own_label", "cell_type"]].itertuples(index=False)]
    rows = [_agreement(str(sample), part, related) for sample, part in counts.groupby("sample", sort=True)]
    rows.append(
        _agreement("all", counts.groupby(["own_label", "cell_type", "relation"])["cells"].sum().reset_index(), related)
    )
    agreement = pd.DataFrame(rows, columns=list(AGREEMENT_COLUMNS)).astype({"agreement": float, "kappa": float})
    return counts[list(COMPARISON_COLUMNS)], agreement


def _our_terms(cells: pd.DataFrame) -> Mapping[str, str | None]:
    """The term of each of our labels: the reference's, else the one that its name means."""
    given = {}
    if TERM in cells:
        pairs = cells[["spikgpt_cell_type", TERM]].drop_duplicates()
        given = {label: term for label, term in pairs.itertuples(index=False) if term not in ("", NO_TERM)}
    return {name: current_term(given.get(name, "")) or term_of_label(name) for name in set(cells["spikgpt_cell_type"])}


def _agreement(sample: str, pairs: pd.DataFrame, related: Callable[[str, str], str]) -> tuple:
    total = int(pairs["cells"].sum())
    unknown = int(pairs.loc[pairs["cell_type"] == UNKNOWN, "cells"].sum())
    told = pairs[pairs["relation"] != ""]
    compared = int(told["cells"].sum())
    agreement = kappa = None
    if compared:
        agreement = float(told.loc[told["relation"].isin(AGREE), "cells"].sum()) / compared
        theirs = told.groupby("own_label")["cells"].sum() / compared
        ours = told.groupby("cell_type")["cells"].sum() / compared
        chance = sum(p * q for a, p in theirs.items() for b, q in ours.items() if related(str(a), str(b)) in AGREE)
        kappa = (agreement - chance) / (1 - chance) if chance < 1 else None
    return sample, total, unknown, total - unknown - compared, compared, agreement, kappa
