"""The head of the report as the facility wants it: title, project, customer, contact, logo, and a text of its own."""

import base64
import re
from pathlib import Path
from typing import Any

from spikgpt.report.content import Section, html_facts, text
from spikgpt.report.inputs import Inputs
from spikgpt.report.plots import markup

PNG = b"\x89PNG\r\n\x1a\n"
TITLE = "SpikGPT"
"""Of a report that is given none."""


def about(inputs: Inputs) -> Section | None:
    """What `--report_*` gave; None where nothing but a title was given."""
    given = inputs.facility
    facts = [(name.capitalize(), text(given[name])) for name in ("project", "customer", "contact") if given.get(name)]
    # an empty line begins a new paragraph
    told = [part for part in re.split(r"\r?\n\s*\r?\n", given.get("text", "").strip()) if part]
    if not (facts or told or inputs.logo):
        return None
    logo = (
        f"<img src='{inputs.logo}' alt='logo' style='max-height:5rem;max-width:20rem;float:right;margin:0 0 1rem 1rem'>"
        if inputs.logo
        else ""
    )
    paragraphs = "".join(f"<p>{'<br>'.join(text(line) for line in part.splitlines())}</p>" for part in told)
    # not as the section's name, which MultiQC's navigation shows without its escapes
    title = f"<h3>{text(given['title'])}</h3>" if given.get("title") else ""
    return markup(
        "spikgpt_about",
        "About this report",
        "Told by those who made the report; not computed.",
        f"{logo}{title}{html_facts(facts) if facts else ''}{paragraphs}<div style='clear:both'></div>",
    )


def multiqc_config(facility: dict[str, Any]) -> dict[str, str]:
    """MultiQC's settings of this report: its title.

    MultiQC writes it as it is into HTML and into a string of its script, so that it must end neither.
    """
    return {"title": text(facility.get("title") or TITLE).replace("\\", "&#92;")}


def data_uri(logo: str | Path) -> str:
    """A picture as an address that holds it. The run checks it at its start: PNG, or SVG without a document type.

    In an `img` element a browser neither runs scripts of an SVG nor loads what it points to.
    """
    raw = Path(logo).read_bytes()
    kind = "png" if raw.startswith(PNG) else "svg+xml"
    return f"data:image/{kind};base64,{base64.b64encode(raw).decode('ascii')}"
