"""Species other than human: told from the genes, named by their own tables, and the human genes that scGPT reads.

The expression of a cell is looked at in the genes of its own species. A scGPT checkpoint knows human genes alone: it is
given those that are the one ortholog of one human gene (`orthologs.tsv`, beside this file).
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from spikgpt.base.errors import UserError
from spikgpt.base.gene_rows import HUMAN_GENOME, altered_forms, is_known, restored
from spikgpt.base.genes import BOTH_IN_ONE, GeneNames, no_name, plain_id
from spikgpt.base.genes import SPECIES as SPECIES_OF_PREFIX
from spikgpt.base.mouse_genes import mouse_genes

ORTHOLOGS = Path(__file__).with_name("orthologs.tsv")
"""Made by tools/genes/make_orthologs.py; its first lines tell source and licence."""
HUMAN, MOUSE = "human", "mouse"


@dataclass(frozen=True)
class Species:
    """A species whose genes the pipeline can read: how it is spoken of, and how its ids and genomes begin."""

    spoken: str
    prefix: str
    genome: re.Pattern[str]


SPECIES = {
    HUMAN: Species("human", "ENSG", HUMAN_GENOME),
    MOUSE: Species("mouse", "ENSMUSG", re.compile(r"(?i)^(grcm|mm\d|mouse|mus_|ncbitaxon:10090$)")),
    "pig": Species("pig", "ENSSSCG", re.compile(r"(?i)^(sscrofa|susscr|pig|sus_|ncbitaxon:9823$)")),
    "rhesus_macaque": Species(
        "rhesus macaque", "ENSMMUG", re.compile(r"(?i)^(mmul|rhemac|macaca_mulatta|ncbitaxon:9544$)")
    ),
    "cynomolgus_macaque": Species(
        "cynomolgus macaque", "ENSMFAG", re.compile(r"(?i)^(macfas|mfascicularis|macaca_fasc|ncbitaxon:9541$)")
    ),
}
"""By the value of --species. A sample of any other species is refused."""

FEWEST_NAMES = 10
"""Fewer names of mouse genes alone tell no species."""


@lru_cache(maxsize=1)
def orthologs() -> dict[str, dict[str, str]]:
    """Of each species but human: symbol to that of the human gene that it is the one ortholog of."""
    with ORTHOLOGS.open(encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file if not line.startswith("#")]
    return {
        species: {row[column]: row[0] for row in rows[1:] if row[column]}
        for column, species in enumerate(rows[0])
        if column > 0
    }


def human_orthologs(symbols: Sequence[str], species: str) -> list[str]:
    """The human gene that each gene is the one ortholog of, "" where there is none; ``species`` is not human."""
    # mitochondrial genes of pig and macaques bear the human names since `unify_other`
    table = orthologs()[species]
    own = set(table.values())
    return [table.get(symbol, symbol if symbol.startswith("MT-") and symbol in own else "") for symbol in symbols]


def is_known_in(name: str, species: str) -> bool:
    """Whether a table has the name as a gene of the species, or it is an Ensembl id."""
    if species == HUMAN or plain_id(name):
        return is_known(name)
    if species == MOUSE:
        return name in mouse_genes().names
    # names of pig and macaque genes are given after the human ones
    return name in orthologs()[species] or is_known(name)


@lru_cache(maxsize=1)
def _altered_mouse() -> dict[str, str]:
    genes = mouse_genes()
    return altered_forms(genes.by_synonym | {symbol: symbol for symbol in genes.id_of}, upper=False)


def restored_in(name: str, species: str) -> str:
    """`spikgpt.base.gene_rows.restored` for a gene of the species."""
    if species != MOUSE:
        return restored(name)
    return name if is_known_in(name, MOUSE) else _altered_mouse().get(name, name)


def told_by(names: Sequence[str], ids: Sequence[str]) -> tuple[str | None, str]:
    """The species that the genes tell, and by what.

    Ensembl ids of most genes tell it by their prefix. Symbols tell mouse from the others, whose genes are named alike,
    in upper case: more names are of mouse genes alone than of human genes alone. Rats' genes are named as mice's,
    but for the MHC (RT1-A, H2-K1).

    Returns
    -------
    A key of `SPECIES`, the words for another species, or None where nothing tells human from pig or macaque; and the
    sign, for people.
    """
    prefixes: Counter[str] = Counter()
    for name, gene_id in zip(names, ids, strict=True):
        found = plain_id(gene_id) or plain_id(name)
        if not found and (joined := BOTH_IN_ONE.match(name)):
            found = joined["id"]
        if found:
            prefixes[found[:-11]] += 1
    if 2 * prefixes.total() > len(names):
        prefix, number = prefixes.most_common(1)[0]
        if 2 * number > prefixes.total():
            species = next((key for key, known in SPECIES.items() if known.prefix == prefix), None)
            other = species or SPECIES_OF_PREFIX.get(prefix, f"a species with ids {prefix}...")
            return other, f"most Ensembl ids begin with {prefix}"
    mouse = mouse_genes().id_of
    of_mouse = [name for name in names if name in mouse and not is_known(name)]
    of_human = sum(name not in mouse and is_known(name) for name in names)
    if len(of_mouse) >= FEWEST_NAMES and len(of_mouse) > of_human:
        # rats' genes have the mouse's names but for those of the MHC
        rat = [name for name in names if re.match(r"RT1-[A-Z]", name)]
        if len(rat) > sum(bool(re.match(r"H2-[A-Z]", name)) for name in names):
            return "rat", f"symbols of the rat's MHC ({', '.join(rat[:3])})"
        return MOUSE, f"{len(of_mouse)} symbols are of mouse genes ({', '.join(of_mouse[:3])}, ...)"
    return None, "symbols in upper case, as human, pig and macaque genes have them"


def species_of(names: Sequence[str], ids: Sequence[str], asked: str | None, where: str) -> tuple[str, str]:
    """The species of a matrix, and a sentence on how it was told ("" for human genes that nobody asked about).

    Parameters
    ----------
    asked
        The value of --species; None to go by the genes, which are human where they do not tell.

    Raises
    ------
    UserError
        The genes tell another species than was asked for, or one that cannot be read.
    """
    told, sign = told_by(names, ids)
    spoken = SPECIES[told].spoken if told in SPECIES else told
    if told is not None and told not in SPECIES:
        raise UserError(
            f"The genes are of {spoken}, whose genes the pipeline cannot read.",
            where=where,
            found=sign,
            expected=f"genes of {', '.join(known.spoken for known in SPECIES.values())}",
            fix="Map the genes to human orthologs and give human symbols.",
        )
    if asked is None:
        species = told or HUMAN
        return species, "" if species == HUMAN else f"The genes are of {spoken}: {sign}."
    wanted = SPECIES[asked]
    if told not in (None, asked) or (told is None and asked == MOUSE):
        raise UserError(
            f"The genes are not of {wanted.spoken}, which --species says.",
            where=where,
            found=f"{sign}, so {spoken or 'human, pig or macaque'}",
            expected=f"genes of {wanted.spoken}"
            + (" (symbols such as Gapdh, or ENSMUSG ids)" if asked == MOUSE else f" (symbols, or {wanted.prefix} ids)"),
            fix="Leave --species out, or give the matrix of the species that was meant.",
        )
    if asked == HUMAN:
        return asked, ""
    return asked, f"The genes are of {wanted.spoken}: {sign if told else '--species says so'}."


def unify_other(names: Sequence[str], gene_ids: Sequence[str], species: str, where: str) -> GeneNames:
    """`spikgpt.base.genes.unify` for another species than human.

    A mouse gene takes the current symbol of MGI, by its id, else by its name: an older or other name of one gene is
    replaced. For pig and macaques no table names ids: a gene without a symbol keeps its id. Their mitochondrial genes
    (ND1, COX1, ...), whose names say nothing, take those of the human ones (MT-ND1, MT-CO1).
    """
    table = orthologs()[species]
    mouse = mouse_genes() if species == MOUSE else None
    symbols: list[str] = []
    ids: list[str] = []
    from_ids = renamed = mitochondrial = 0
    for name, given in zip(names, gene_ids, strict=True):
        name, gene_id = name.strip(), plain_id(given.strip())
        if plain_id(name):
            gene_id, name = gene_id or plain_id(name), ""
        elif joined := BOTH_IN_ONE.match(name):
            gene_id, name = gene_id or joined["id"], joined["symbol"] or joined["after"] or ""
        symbol = name
        if mouse is not None:
            symbol = mouse.current(gene_id, name)
            gene_id = gene_id or mouse.id_of.get(symbol, "")
            from_ids += bool(symbol and not name)
            renamed += bool(name and symbol != name)
        elif table.get(name, "").startswith("MT-"):
            symbol = table[name]
            mitochondrial += 1
        symbols.append(symbol or gene_id)
        ids.append(gene_id)
    no_name(symbols, where)
    messages = []
    if from_ids:
        messages.append(f"{from_ids} of {len(symbols)} genes were named by Ensembl id; symbols from MGI.")
    if renamed:
        messages.append(f"{renamed} genes had an older or another name and took the current symbol (MGI).")
    if mitochondrial:
        messages.append(f"{mitochondrial} mitochondrial genes took the names of the human ones (MT-ND1, ...).")
    return GeneNames(symbols, ids, "Ensembl ids by MGI" if from_ids > len(symbols) / 2 else "file", messages)
