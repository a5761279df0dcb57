#!/usr/bin/env python3
"""Write docs/reliability.md from the JSON files of docs/reliability; no figure is typed by hand."""

import argparse
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UNMEASURED = "Not measured yet: `{command}` writes the figures."

HEAD = """# Reliability

What the pipeline does with bad input, faults and attacks. `tools/reliability/write_page.py` writes this page from the
JSON files in `docs/reliability/`, and a test compares the two. The page says where something was not measured.

## Bad input

`tests/python/test_bad_input.py` holds a table of files, each wrong in one way: samplesheets, parameters, matrices,
references, annotators, scGPT checkpoints. Each is given to the command that the pipeline runs for it, and must end
with exit status 65, one message that names the place, what was found, what was expected and the next step, no
traceback, and no file left behind, within 60 seconds. `tests/python/test_pipeline.py` sends some of them through
Nextflow: the run ends before anything is embedded, and no result of the good samples is published.

A sample without a cell after quality control is skipped, and the report says so; the other samples go on. If no sample
has a cell left, the run ends with a message.

`--outdir` with results of another run is refused, unless `-resume` continues that run. Even then a file of a sample
that is no longer in the samplesheet is refused. The pipeline never deletes results.

## Limits on input files

| what | limit |
|---|---|
{limits}

A file beyond a limit ends the run with a message that gives the limit.
"""

SECURITY = """
## Security

Model files and matrices come from outside and are not trusted (`tests/python/test_security.py`):

- **No code in files.** scGPT weights are read with torch's restricted reader, annotators are safetensors and JSON
  whose digests must match, embeddings are read without pickles, and a zarr that names an unknown codec (above all
  `pickle`) is refused. A test searches all code of `bin/` for calls that run code or a shell, or that use the network.
- **Archives** are unpacked file by file, and only plain files with the expected names: `..`, absolute names, links,
  devices and pipes end the run before a byte is written.
- **Bombs** (tar, gzip, matrix market, HDF5, zarr) meet the limits above before they fill memory or disk. A sparse
  matrix with indices beyond its shape is refused, because scipy would write outside of its memory.
- **Other files.** An HDF5 file that takes data from elsewhere (external links, external storage, virtual data sets)
  is refused: it could bring any file of the machine into the results. A samplesheet may name paths and addresses in a
  cloud's storage (`s3://`, `gs://`, `az://`), but no other address.
- **Names.** Names of samples consist of letters, digits, `.`, `_` and `-`; other texts are quoted before they reach a
  shell. Labels, batches, barcodes and genes that a spreadsheet would run as a formula are refused. The report shows
  HTML as text.
- **Network and folders.** No step needs the network: a test blocks it, and `tools/test-containers` runs every step in a
  container without one. A step writes only into its own folder (`tests/python/test_pipeline.py` checks home, temporary
  folder, inputs and code after a run).

"""


def limits() -> str:
    """The table of the limits, from the code."""
    import sys

    sys.path.insert(0, str(ROOT / "bin"))
    from spikgpt.base import guards
    from spikgpt.read_input.samplesheet import LARGEST_SHEET

    rows = [
        ("cells of a matrix", f"{guards.LARGEST_CELLS:,}"),
        ("genes of a matrix", f"{guards.LARGEST_GENES:,}"),
        ("what an archive, a packed file or a stored matrix unpacks to", guards.gib(guards.LARGEST_UNPACKED)),
        ("names and tables of cells and genes", guards.gib(guards.LARGEST_TABLES)),
        ("a line of text", guards.gib(guards.LARGEST_LINE)),
        ("the samplesheet", guards.gib(LARGEST_SHEET)),
    ]
    return "\n".join(f"| {what} | {limit} |" for what, limit in rows)


def audit(found: dict | None) -> str:
    """Packages, licences, known vulnerabilities."""
    lines = [
        "## Dependencies",
        "",
        "`make audit` writes an SBOM of each image (CycloneDX JSON) and a table of licences into `results/audit`. All",
        "packages are locked with hashes.",
        "",
    ]
    if found is None:
        return "\n".join([*lines, UNMEASURED.format(command="make audit"), ""])
    images = ", ".join(f"{name} {number}" for name, number in found["images"].items())
    lines += [
        f"{found['packages']} packages ({images}). By licence:",
        "",
        "| licence | packages | what it means here |",
        "|---|---|---|",
    ]
    for name, about in found["licences"].items():
        which = f" ({', '.join(about['names'])})" if about["names"] else ""
        lines.append(f"| {name} | {about['packages']}{which} | {about['meaning']} |")
    lines += ["", f"Packages without a stated licence: {', '.join(found['unknown_licences']) or 'none'}.", ""]
    for image, report in found["vulnerabilities"].items():
        if not report["measured"]:
            lines.append(f"- Known vulnerabilities of {image}: not measured ({report['why']}).")
        elif report["found"]:
            told = "; ".join(f"{name}: {', '.join(ids)}" for name, ids in report["found"].items())
            lines.append(f"- Known vulnerabilities of {image}: {told}.")
        else:
            lines.append(f"- Known vulnerabilities of {image}: none in {report['packages']} packages.")
    return "\n".join([*lines, ""])


def faults(found: dict | None) -> str:
    """Kills and full disks."""
    lines = [
        "## Faults",
        "",
        "`make faults` kills Nextflow or a task at random moments of a run on small samples, resumes it, and compares",
        "the files of the results with those of an undisturbed run (all but `pipeline_info/`, `multiqc/` and",
        "`benchmark.tsv`, which contain run times); it also fills the disks.",
        "",
    ]
    if found is None:
        return "\n".join([*lines, UNMEASURED.format(command="make faults"), ""])
    kills = found["kills"]
    same = [kill for kill in kills if not kill["differing"] and kill["resumed_status"] == 0]
    lines += [
        f"The undisturbed run took {found['undisturbed_s']} s and wrote {found['files']} files that are compared.",
        "",
        "| killed | runs | same bytes in the end | with a file half-written at the kill |",
        "|---|---|---|---|",
    ]
    for target in ("Nextflow", "task"):
        mine = [kill for kill in kills if kill["target"] == target]
        # where a task is killed the run goes on: there is no such moment
        halves = sum(bool(kill["half_written_at_the_kill"]) for kill in mine) if target == "Nextflow" else "–"
        lines.append(f"| {target} | {len(mine)} | {sum(kill in same for kill in mine)} | {halves} |")
    lines.append("")
    for disk in found["disks"]:
        if not disk["measured"]:
            lines.append(f"- Full {disk['where']}: not measured ({disk['why']}).")
            continue
        told = "with a message that says so" if disk["told"] else "without a message that says so"
        halves = f"; half-written: {', '.join(disk['half_written'])}" if disk["half_written"] else ""
        lines.append(f"- Full {disk['where']} ({disk['room']}): exit status {disk['status']}, {told}{halves}.")
    return "\n".join([*lines, ""])


def gib(mib: float) -> str:
    return f"{mib / 1024:.1f} GiB"


def load(found: dict | None) -> str:
    """Whole runs of many samples, and of one large one."""
    lines = [
        "## Load",
        "",
        "`make load` runs the pipeline with the bundled annotator on 200 samples of 500 cells, and on one of 200,000,",
        "drawn from real cells and thinned. It then adds one sample to the 200, with `-resume`.",
        "",
    ]
    runs = [] if found is None else found["runs"]
    for samples, cells in sorted({(200, 500), (1, 200_000)} - {(run["samples"], run["cells_each"]) for run in runs}):
        size = f"--samples {samples} --cells-each {cells}"
        lines += [UNMEASURED.format(command=f"tools/reliability/load.py {size} --cells X.h5ad --work DIR"), ""]
    if found is None:
        return "\n".join(lines)
    tasks, heap, about = found["limit_gb"] - found["head_heap_gb"], found["head_heap_gb"], found["machine"]
    lines += [
        f"{found['cores']} cores and {found['limit_gb']} GB: tasks may request {tasks} GB together, and the head job's",
        f"Java has a heap of at most {heap} GB (`NXF_OPTS=-Xmx{heap}g`). The memory of a run is the largest sum over",
        f"its processes at one moment; shared memory counts for each. {about['cpu']}, {about['memory_gib']} GiB.",
        "Minutes are wall-clock time, with other work on the machine; core-minutes are the CPU time of the tasks.",
        "",
        "| samples | cells each | minutes | core-minutes | memory of the head job | of the whole run | largest task |",
        "|---:|---:|---:|---:|---:|---:|---|",
    ]
    for run in found["runs"]:
        largest = max(run["processes"], key=lambda row: row["peak_mib"])
        work = sum(row["cpu_s"] for row in run["processes"]) / 60
        lines.append(
            f"| {run['samples']} | {run['cells_each']:,} | {run['wall_s'] / 60:.0f} | {work:.0f} "
            f"| {gib(run['head_peak_mib'])} | {gib(run['peak_mib'])} "
            f"| {largest['process']}, {gib(largest['peak_mib'])} |"
        )
    for run in found["runs"]:
        samples = f"{run['samples']} samples of" if run["samples"] > 1 else "One sample of"
        lines += [
            "",
            f"### {samples} {run['cells_each']:,} cells",
            "",
            f"Drawn from {run['drawn_from']}.",
            "",
            "| process | tasks | CPU s of all | longest, s | largest, MiB |",
            "|---|---:|---:|---:|---:|",
        ]
        for row in run["processes"]:
            lines.append(
                f"| {row['process']} | {row['tasks']} | {row['cpu_s']:,.0f} | {row['longest_s']:,.0f} "
                f"| {row['peak_mib']:,} |"
            )
        if more := run.get("one_more"):
            lines += ["", *one_more(more)]
    lines += ["", "The steps of a large cohort one by one: `docs/benchmarks.md`."]
    return "\n".join([*lines, ""])


def one_more(more: dict) -> list[str]:
    """What -resume ran after one sample was added."""
    ran, must = more["ran"], more["must"]
    verdict = "as it should" if ran == must else "NOT as it should"
    lines = [
        f"One more sample and `-resume`: {more['wall_s'] / 60:.0f} minutes; {sum(ran.values())} tasks ran, {verdict}:",
        "those of the new sample, those that use all samples, and the writing of each sample's file, because clusters",
        "and map are those of all cells.",
    ]
    for process in sorted(ran.keys() | must.keys()):
        if ran.get(process, 0) != must.get(process, 0):
            lines.append(f"- {process}: {ran.get(process, 0)} tasks, not {must.get(process, 0)}")
    return lines


def page(folder: Path) -> str:
    """The whole page."""

    def read(name: str) -> dict | None:
        path = folder / f"{name}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    parts = [audit(read("audit")), faults(read("faults")), load(read("load"))]
    return HEAD.format(limits=limits()) + SECURITY + "\n".join(parts)


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--figures", type=Path, default=ROOT / "docs" / "reliability", help="folder of the JSON files")
    made.add_argument("--out", type=Path, default=ROOT / "docs" / "reliability.md")
    given = made.parse_args()
    given.out.write_text(page(given.figures), encoding="utf-8")


if __name__ == "__main__":
    main()
