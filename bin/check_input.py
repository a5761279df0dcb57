#!/usr/bin/env python3
"""Check the samplesheet and the parameters before anything else runs."""

from spikgpt.base.files import write_json
from spikgpt.cli import launch, parser


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--samplesheet", required=True, help="comma-separated table of samples")
    args.add_argument("--parameters", required=True, help="JSON file: the pipeline's parameters as given")
    args.add_argument("--samplesheet-schema", required=True, help="assets/schema_input.json")
    args.add_argument("--parameter-schema", required=True, help="nextflow_schema.json")
    options = args.parse_args()

    import json
    from pathlib import Path

    from spikgpt import __version__
    from spikgpt.read_input.samplesheet import check_parameters, read_samplesheet

    def read(path: str) -> dict:
        return json.loads(Path(path).read_text(encoding="utf-8"))

    parameters = check_parameters(read(options.parameters), read(options.parameter_schema))
    samples = read_samplesheet(options.samplesheet, read(options.samplesheet_schema))
    write_json("samples.json", samples)
    write_json("run.json", {"pipeline": "spikgpt", "version": __version__, "parameters": parameters})


if __name__ == "__main__":
    launch(main)
