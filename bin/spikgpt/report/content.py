"""MultiQC custom content: sections as JSON files, with every text that a user chose made harmless."""

import html
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spikgpt.base.files import write_json

LONGEST_LABEL = 40
"""Characters of a name in a plot; tables show names in full."""


def text(value: Any) -> str:
    """A text as HTML and plotly show it letter by letter; control characters become spaces.

    Numeric entities for quotes, since plotly knows no others.
    """
    plain = re.sub(r"[\x00-\x1f\x7f]+", " ", str(value))
    return html.escape(plain, quote=True).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")


def short(value: Any, longest: int = LONGEST_LABEL) -> str:
    """`text` of a value, its middle left out where it is longer than `longest` characters."""
    plain = str(value)
    if len(plain) > longest:
        plain = f"{plain[: longest // 2]}…{plain[-(longest - longest // 2 - 1) :]}"
    return text(plain)


def labels(names: Iterable[str]) -> dict[str, str]:
    """A label for a plot for each name: short, harmless, and different where the names are."""
    made: dict[str, str] = {}
    for name in names:
        label, number = short(name), 1
        while label in made.values():
            number += 1
            label = f"{short(name, LONGEST_LABEL - 5)} ({number})"
        made[name] = label
    return made


def number(value: Any) -> float | int | None:
    """A number as JSON has it; None for a missing one."""
    if value is None:
        return None
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def percent(share: float | None) -> str:
    """A share from 0 to 1 as a percentage with one decimal; None is something that was not measured."""
    return "not measured" if share is None else f"{100 * share:.1f} %"


def html_list(items: Iterable[str], ordered: bool = False) -> str:
    """A list of HTML items."""
    tag = "ol" if ordered else "ul"
    return f"<{tag}>{''.join(f'<li>{item}</li>' for item in items)}</{tag}>"


def html_facts(facts: Iterable[tuple[str, str]]) -> str:
    """A two-column table of names and HTML values."""
    rows = "".join(f"<tr><th style='width:16em'>{text(k)}</th><td>{v}</td></tr>" for k, v in facts)
    return f"<table class='table table-sm' style='table-layout:fixed;overflow-wrap:anywhere'>{rows}</table>"


@dataclass(frozen=True)
class Group:
    """A heading of the report that sections stand under."""

    id: str
    name: str
    description: str


@dataclass(frozen=True)
class Section:
    """One section: what MultiQC draws, and a sentence on how to read it.

    `data` is in the form that MultiQC's plot type wants; `options` are further keys of its
    custom content (pconfig, headers, categories).
    """

    id: str
    name: str
    description: str
    plot_type: str
    data: Any
    options: Mapping[str, Any] = field(default_factory=dict)

    def write(self, folder: Path, group: Group) -> None:
        """Write `<id>_mqc.json` into a folder."""
        options = {**self.options}
        if self.plot_type != "html":
            options["pconfig"] = {
                "id": f"{self.id}_plot",
                "title": f"SpikGPT: {self.name}",
                **options.get("pconfig", {}),
            }
        write_json(
            folder / f"{self.id}_mqc.json",
            {
                "id": self.id,
                "parent_id": group.id,
                "parent_name": group.name,
                "parent_description": group.description,
                "section_name": self.name,
                "description": self.description,
                "plot_type": self.plot_type,
                **options,
                "data": self.data,
            },
        )
