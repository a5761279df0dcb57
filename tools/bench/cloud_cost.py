#!/usr/bin/env python3
"""What 100,000 cells cost on rented machines, from measured seconds: writes the table of docs/cloud.md.

    tools/bench/cloud_cost.py [--usd-per-hour 0.096 --vcpus 2 --memory-gb 8]

Seconds come from docs/benchmarks: quality control (qc.json) and the embedding (embed.json) as they were measured on
100,000 cells; the other steps from the largest run of resources.json, in proportion to its cells. A step is billed for the
share of a machine that it fills, by cores or by memory, whichever is more. The price is the user's to give; that of the
committed page is the public on-demand price of an m5.large in us-east-1 (November 2026).
"""

import argparse
import json
import re
from pathlib import Path

from sections.markdown import table

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "cloud.md"
BEGIN, END = "<!-- tools/bench/cloud_cost.py: begin -->", "<!-- end -->"
CELLS = 100_000


def steps(folder: Path) -> tuple[list[tuple[str, float, float, str]], float, float]:
    """Rows (step, core-seconds, peak GiB, where from) for 100,000 cells, embedding excluded; and the embedding's
    core-seconds with the bundled and with a full-size checkpoint."""
    figures = {name: json.loads((folder / f"{name}.json").read_text()) for name in ("qc", "embed", "resources")}
    scale = figures["qc"]["scale_sample"]
    per_cell = CELLS / scale["cells"]
    # processor seconds where they were taken, else the clock's
    rows = [
        (row["step"].upper(), row.get("cpu_seconds", row["seconds"]) * per_cell, row["peak_gb"], "100,000 cells")
        for row in scale["steps"]
    ]
    known = {name for name, *_ in rows} | {"EMBED_SCGPT", "IMPORT_REFERENCE", "TRAIN_ANNOTATOR"}
    run = figures["resources"]["runs"][-1]
    rows += [
        (row["process"], row["cpu_s"] * CELLS / run["cells"], row["peak_mib"] / 1024, f"{run['cells']:,} cells, in proportion")
        for row in run["processes"]
        if row["process"] not in known
    ]
    bundled = next(row["cpu_s"] for row in figures["embed"]["size"]["runs"] if row["cells"] == CELLS)
    full = next(
        row["cells_per_core_second"]
        for row in figures["embed"]["package"]["results"]
        if row["way"] == "fp32" and row["token_budget"] is None and row["checkpoint"] != "bundled"
    )
    return rows, bundled, CELLS / full


def render(folder: Path, usd_per_hour: float, vcpus: int, memory_gb: float) -> str:
    rows, bundled, full = steps(folder)
    core_hour = usd_per_hour / vcpus
    per_core = memory_gb / vcpus

    def dollars(seconds: float, peak: float) -> float:
        return seconds / 3600 * core_hour * max(1.0, peak / per_core)

    def row(name: str, seconds: float, peak: float, source: str) -> list[str]:
        return [name, f"{seconds / 3600:.2f}", f"{peak:.1f}", f"{dollars(seconds, peak):.2f}", source]

    peak_of = 0.8  # GiB, as measured (embed.json); a full-size checkpoint takes 1.2
    rest = sum(dollars(seconds, peak) for _, seconds, peak, _ in rows)
    lines = [row(*step) for step in rows]
    lines.append(row("EMBED_SCGPT, bundled checkpoint", bundled, peak_of, "100,000 cells"))
    lines.append(row("EMBED_SCGPT, full-size checkpoint", full, 1.2, "64 cells, in proportion"))
    return (
        f"A machine of {vcpus} cores and {memory_gb:g} GB for ${usd_per_hour:g} an hour; one core each step, float32.\n\n"
        + table(["step", "core-hours", "peak GiB", "$", "measured on"], lines)
        + f"\n**All steps: ${rest + dollars(bundled, peak_of):.2f} with the bundled checkpoint, "
        f"${rest + dollars(full, 1.2):.2f} with one of scGPT's full size** (12 layers of 512), of which the embedding is "
        f"${dollars(full, 1.2):.2f}.\n"
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
