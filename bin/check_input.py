#!/usr/bin/env python3
"""Check the samplesheet before anything else runs."""

from spikgpt.base.files import write_json
from spikgpt.cli import launch, parser


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--samplesheet", required=True, help="comma-separated table of samples")
    args.add_argument("--samplesheet-schema", required=True, help="assets/schema_input.json")
    options = args.parse_args()

    import json
    from pathlib import Path

    from spikgpt.read_input.samplesheet import read_samplesheet

    schema = json.loads(Path(options.samplesheet_schema).read_text(encoding="utf-8"))
    write_json("samples.json", read_samplesheet(options.samplesheet, schema))


if __name__ == "__main__":
    launch(main)
