#!/usr/bin/env python3
"""Make bin/spikgpt/base/cell_ontology.tsv: terms of the Cell Ontology, their names, parents and exact synonyms.

The source is the ontology as the wheel of cellxgene-ontology-guide ships it (a JSON of each term's ancestors with
their distance; those at distance 1 are its parents). Descriptions stay out. Of the deprecated terms only those stay
that another term replaces: a file may still name them.

    pip download --no-deps --require-hashes -r tools/assets/cell_ontology.lock -d .demo/download
    tools/assets/make_cell_ontology.py --wheel .demo/download/cellxgene_ontology_guide-*.whl \\
        --out bin/spikgpt/base/cell_ontology.tsv

Needs the program `zstd`.
"""

import argparse
import hashlib
import json
import subprocess
import zipfile
from pathlib import Path

SOURCE = "cellxgene_ontology_guide/data/CL-ontology-v2026-03-26.json.zst"
HEADER = """\
# Cell Ontology, release 2026-03-26: terms, parents, exact synonyms. Made by tools/assets/make_cell_ontology.py.
# source: https://obofoundry.org/ontology/cl, licence CC BY 4.0; changes: descriptions and other relations left out
# through: {wheel}, {source}, sha256 {digest}
term\tlabel\tparents\tsynonyms\treplaced_by
"""


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--wheel", type=Path, required=True, help="cellxgene_ontology_guide-*.whl")
    made.add_argument("--out", type=Path, required=True)
    args = made.parse_args()

    with zipfile.ZipFile(args.wheel) as package:
        packed = package.read(SOURCE)
    unpacked = subprocess.run(["zstd", "-dc"], input=packed, stdout=subprocess.PIPE, check=True).stdout
    terms = json.loads(unpacked)
    with args.out.open("w", encoding="utf-8", newline="") as file:
        digest = hashlib.sha256(packed).hexdigest()
        file.write(HEADER.format(wheel=args.wheel.name, source=SOURCE, digest=digest))
        for name, term in sorted(terms.items()):
            if term["deprecated"]:
                if term.get("replaced_by") in terms:
                    file.write(f"{name}\t{term['label']}\t\t\t{term['replaced_by']}\n")
                continue
            parents = sorted(parent for parent, distance in term["ancestors"].items() if distance == 1)
            file.write(f"{name}\t{term['label']}\t{'|'.join(parents)}\t{'|'.join(term.get('synonyms', []))}\t\n")


if __name__ == "__main__":
    main()
