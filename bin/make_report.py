#!/usr/bin/env python3
"""Make the MultiQC custom content of the report from all steps' statistics and tables."""

from spikgpt.cli import launch, parser


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--samples", required=True, help="samples.json")
    args.add_argument("--run", required=True, help="run.json")
    args.add_argument("--stats", nargs="*", default=[], help="JSON files of the steps")
    args.add_argument("--qc", nargs="*", default=[], help="<sample>.qc.parquet")
    args.add_argument("--tables", required=True, help="folder of the cohort's tables")
    args.add_argument("--annotator", help="folder of the annotator")
    args.add_argument("--facility", help="JSON: title, project, customer, contact and text of the report's head")
    args.add_argument("--logo", help="PNG or SVG for the report's head")
    args.add_argument("--history", help="samples of earlier runs: column run, then those of samples.tsv")
    args.add_argument("--out", required=True, help="folder for the custom content; must not exist")
    options = args.parse_args()

    from pathlib import Path

    from spikgpt.base.files import write_json
    from spikgpt.report.facility import data_uri, multiqc_config
    from spikgpt.report.history import read_history
    from spikgpt.report.inputs import read_inputs, read_json
    from spikgpt.report.sections import sections

    inputs = read_inputs(options.samples, options.run, options.stats, options.tables, options.qc, options.annotator)
    inputs.facility = read_json(options.facility) if options.facility else {}
    inputs.logo = data_uri(options.logo) if options.logo else ""
    inputs.history = read_history(options.history) if options.history else None
    out = Path(options.out)
    out.mkdir()
    for group, section in sections(inputs):
        section.write(out, group)
    write_json("multiqc_title.json", multiqc_config(inputs.facility))


if __name__ == "__main__":
    launch(main)
