"""Which of several annotators, or the tissue profiles, gives a sample its labels, and how well each fits the sample."""

from collections.abc import Sequence
from typing import Any, Literal

Rule = Literal["first", "tissue", "unless_blood"]
RULES: tuple[Rule, ...] = ("first", "tissue", "unless_blood")
"""Labels come from the first annotator; from the tissue profiles; or from the profiles unless the sample looks like
blood, then from the first annotator."""
TISSUE = "tissue"
"""Name of the tissue profiles among the annotators."""


def from_profiles(rule: Rule, looks_like_blood: bool) -> bool:
    """Whether the tissue profiles give a sample its labels."""
    return rule == "tissue" or (rule == "unless_blood" and not looks_like_blood)


def distinct(names: Sequence[str]) -> list[str]:
    """The names, a second one of the same numbered: ``annotator``, ``annotator (2)``."""
    made: list[str] = []
    for name in names:
        before = sum(other == name or other.startswith(f"{name} (") for other in made)
        made.append(f"{name} ({before + 1})" if before else name)
    return made


def fits(names: Sequence[str], figures: Sequence[dict[str, Any]], chosen: int | None) -> list[dict[str, Any]]:
    """What each annotator says of a sample, for its figures.

    Parameters
    ----------
    names
        Of the annotators, distinct.
    figures
        `<sample>.annotation.json` of each.
    chosen
        Place of the annotator that gives the labels; None for the tissue profiles.

    Returns
    -------
    name, gives_labels, fit, cells, unknown, median_confidence, not_calibrated of each. fit is the likeness:
    correlation of the sample's types, pooled, with those of the annotator's reference, in what sets these apart
    (`spikgpt.annotator.views.Views.likeness`); None where no cell could be judged.
    """
    return [
        {
            "name": name,
            "gives_labels": at == chosen,
            "fit": own.get("likeness"),
            "cells": own["cells"],
            "unknown": own["unknown"],
            "median_confidence": own["median_confidence"],
            "not_calibrated": own["not_calibrated"],
        }
        for at, (name, own) in enumerate(zip(names, figures, strict=True))
    ]
