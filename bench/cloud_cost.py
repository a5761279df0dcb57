#!/usr/bin/env python3
"""What 100,000 cells cost on rented machines, from measured seconds: writes the table of docs/cloud.md.

    bench/cloud_cost.py [--usd-per-hour 0.096 --vcpus 2 --memory-gb 8]

Seconds come from docs/benchmarks: quality control and the cohort's steps (qc.json) and the embedding (embed.json), in
proportion to the cells they were measured on. Steps that were not measured on many cells are named, not guessed. A step
is billed for the share of a machine that it fills, by cores or by memory, whichever is more. The price is the user's
to give; that of the committed page is an assumption, looked up nowhere.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

from sections.markdown import listed, table

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "cloud.md"
BEGIN, END = "<!-- bench/cloud_cost.py: begin -->", "<!-- end -->"
CELLS = 100_000


def steps(folder: Path) -> tuple[list[tuple[str, float, float, str]], tuple[float, float], tuple[float, float]]:
    """Rows (step, core-seconds, peak GiB, measured on) for 100,000 cells, the embedding excluded; and the embedding's
    core-seconds and peak GiB with the bundled and with a full-size checkpoint."""
    figures = {name: json.loads((folder / f"{name}.json").read_text()) for name in ("qc", "embed")}
    rows = []
    for part in ("scale_sample", "scale_cohort"):
        measured = figures["qc"].get(part, {"cells": CELLS, "steps": []})
        for row in measured["steps"]:
            # processor seconds where they were taken, else the clock's
            seconds = row.get("cpu_seconds", row["seconds"]) * CELLS / measured["cells"]
            rows.append(
                (row["step"].split(",")[0].upper(), seconds, row["peak_gb"] / 1.074, f"{measured['cells']:,} cells")
            )
    bundled = next(row for row in figures["embed"]["size"]["runs"] if row["cells"] == CELLS)
    full = next(
        row
        for row in figures["embed"]["package"]["results"]
        if row["way"] == "fp32" and row["token_budget"] is None and row["checkpoint"] != "bundled"
    )
    return (
        rows,
        (bundled["cpu_s"], bundled["peak_rss_mib"] / 1024),
        (CELLS / full["cells_per_core_second"], full["peak_rss_mib"] / 1024),
    )


def priced(seconds: float, peak: float, usd_per_hour: float, vcpus: int, memory_gb: float) -> float:
    """Dollars of one core for so many seconds, or of the cores whose memory is taken."""
    return seconds / 3600 * usd_per_hour / vcpus * max(1.0, peak / (memory_gb / vcpus))


def total(folder: Path, *price: Any) -> tuple[float, float]:
    """Dollars of all steps with the bundled and with a full-size checkpoint."""
    rows, bundled, full = steps(folder)
    rest = sum(priced(seconds, peak, *price) for _, seconds, peak, _ in rows)
    return rest + priced(*bundled, *price), rest + priced(*full, *price)


def render(folder: Path, usd_per_hour: float, vcpus: int, memory_gb: float) -> str:
    """The table of docs/cloud.md and the sentences around it."""
    price = (usd_per_hour, vcpus, memory_gb)
    rows, bundled, full = steps(folder)
    named = [
        *rows,
        ("EMBED_SCGPT, bundled checkpoint", *bundled, "100,000 cells"),
        ("EMBED_SCGPT, full-size checkpoint", *full, "64 cells, in proportion"),
    ]
    lines = [
        [name, f"{seconds / 3600:.2f}", f"{peak:.1f}", f"{priced(seconds, peak, *price):.2f}", source]
        for name, seconds, peak, source in named
    ]
    small, large = total(folder, *price)
    runs = json.loads((folder / "resources.json").read_text())["runs"]
    known = {name for name, *_ in named} | {"EMBED_SCGPT", "IMPORT_REFERENCE", "TRAIN_ANNOTATOR"}
    # of each process the largest run that had it
    left = {row["process"]: (row["cpu_s"], run["cells"]) for run in runs for row in run["processes"]
            if row["process"] not in known}  # fmt: skip
    sizes = listed([f"{cells:,}" for cells in sorted({cells for _, cells in left.values()})])
    took = sum(seconds for seconds, _ in left.values())
    return (
        f"A machine of {vcpus} cores and {memory_gb:g} GB for ${usd_per_hour:g} an hour; a core each step, float32.\n\n"
        + table(["step", "core-hours", "peak GiB", "$", "measured on"], lines)
        + f"\n**All steps: ${small:.2f} with the bundled checkpoint, ${large:.2f} with one of scGPT's full size** "
        "(12 layers of 512).\n\n"
        f"Not measured on many cells, and not in the sum: {listed(list(left))}; in runs of "
        f"{sizes} cells they took {took:.0f} core-seconds together.\n"
    )


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--usd-per-hour", type=float, default=0.096)
    made.add_argument("--vcpus", type=int, default=2)
    made.add_argument("--memory-gb", type=float, default=8)
    made.add_argument("--figures", type=Path, default=ROOT / "docs" / "benchmarks")
    made.add_argument("--write", action="store_true", help="into docs/cloud.md; else to standard output")
    given = made.parse_args()
    text = render(given.figures, given.usd_per_hour, given.vcpus, given.memory_gb)
    if not given.write:
        print(text)
        return
    page = PAGE.read_text(encoding="utf-8")
    whole = re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: f"{BEGIN}\n{text}{END}", page, flags=re.DOTALL)
    PAGE.write_text(whole, encoding="utf-8")


if __name__ == "__main__":
    main()
