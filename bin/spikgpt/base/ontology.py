"""Terms of the Cell Ontology, as CELLxGENE's schema (7.1.0) wants them: one column of `obs`, from reference to result.

https://github.com/chanzuckerberg/single-cell-curation/blob/main/schema/7.1.0/schema.md
"""

import re
from collections.abc import Mapping

import pandas as pd

TERM = "cell_type_ontology_term_id"
"""Name of the column."""
NO_TERM = "unknown"
"""What the schema asks for where no term is known, and so for a cell that is Unknown."""
PREFIXES = {"CL": 7, "WBbt": 7, "ZFA": 7, "FBbt": 8}
"""Ontologies of cell types that the schema takes (any organism, worm, zebrafish, fly), and their terms' digits."""
FORBIDDEN = ("CL:0000255", "CL:0000257", "CL:0000548")
"""Terms that the schema does not take: eukaryotic cell, Eumycetozoan cell, animal cell."""

_SHAPE = re.compile("|".join(rf"{prefix}:\d{{{digits}}}" for prefix, digits in PREFIXES.items()))


def label_terms(labels: list[str], terms: list[str]) -> tuple[dict[str, str], list[str]]:
    """The term of each label, and messages about labels that have none or several.

    Parameters
    ----------
    labels, terms
        Of each cell.

    Returns
    -------
    Label to term, for labels all of whose terms are one and well-formed; `NO_TERM` and an empty text are no term.
    """
    pairs = pd.DataFrame({"label": labels, "term": [term.strip() for term in terms]})
    pairs.loc[pairs["term"].str.lower().isin(["", NO_TERM, "na", "nan", "none"]), "term"] = ""
    found: dict[str, str] = {}
    several, malformed, without = [], [], []
    for label, own in pairs.groupby("label", sort=True)["term"]:
        given = sorted(set(own) - {""})
        if not given:
            without.append(str(label))
        elif len(given) > 1:
            several.append(f"{label} ({', '.join(given[:4])}{', ...' if len(given) > 4 else ''})")
        elif not _SHAPE.fullmatch(given[0]) or given[0] in FORBIDDEN:
            malformed.append(f"{label} ({given[0]})")
        else:
            found[str(label)] = given[0]
    messages = []
    if several:
        messages.append(f"Labels with several {TERM}, left without one: {'; '.join(several)}.")
    if malformed:
        messages.append(f"Labels whose {TERM} is none that CELLxGENE takes, left without one: {'; '.join(malformed)}.")
    if without and found:
        messages.append(f"Labels without a {TERM}: {'; '.join(without)}.")
    return found, messages


def terms_of(obs: pd.DataFrame) -> dict[str, str]:
    """Label to term, from `cell_type` and the column of the imported reference; empty where it has none."""
    if TERM not in obs:
        return {}
    pairs = obs[["cell_type", TERM]].astype(str).drop_duplicates().sort_values("cell_type")
    return {label: term for label, term in pairs.itertuples(index=False) if term != NO_TERM}


def labels_to_terms(labels: pd.Series, terms: Mapping[str, str]) -> pd.Series:
    """The term of each label, `NO_TERM` for a label without one and for Unknown."""
    return labels.map(lambda label: terms.get(label, NO_TERM)).astype(object)
