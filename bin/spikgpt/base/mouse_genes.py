"""Names of mouse genes: MGI's current symbols, Ensembl ids and synonyms (`gene_names_mouse.tsv` beside this file)."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

MGI = Path(__file__).with_name("gene_names_mouse.tsv")
"""Made by tools/genes/make_mouse_table.py; its first lines tell source, date and licence."""


@dataclass(frozen=True)
class MouseGenes:
    """``id_of`` current symbol to Ensembl id ("" for none); ``by_id`` and ``by_synonym`` to the current symbol."""

    id_of: dict[str, str]
    by_id: dict[str, str]
    by_synonym: dict[str, str]

    @cached_property
    def names(self) -> frozenset[str]:
        """Current symbols and synonyms."""
        return frozenset(self.id_of) | frozenset(self.by_synonym)

    def current(self, gene_id: str, name: str) -> str:
        """The current symbol of a gene: by its id where MGI has that, else by its name; an unknown name stays."""
        if gene_id in self.by_id:
            return self.by_id[gene_id]
        return name if name in self.id_of else self.by_synonym.get(name, name)


@lru_cache(maxsize=1)
def mouse_genes() -> MouseGenes:
    """The genes of MGI that have an Ensembl id."""
    with MGI.open(encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file if not line.startswith("#")][1:]
    return MouseGenes(
        {symbol: gene_id for symbol, gene_id, _ in rows},
        {gene_id: symbol for symbol, gene_id, _ in rows if gene_id},
        {name: symbol for symbol, _, synonyms in rows for name in synonyms.split("|") if name},
    )
