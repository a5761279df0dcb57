"""Gene names: Ensembl ids and symbols into one set of symbols, and how well they fit a vocabulary.

Ids are turned into symbols by the GENCODE v44 table that the CellTypist package carries; nothing is
looked up over the network. Case is never changed: `Cd3d` is mouse, and stays unknown to a human model.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from spikgpt.errors import UserError

TABLE = "GENCODE v44"
ENSEMBL_GENE = re.compile(r"^ENS[A-Z]{0,4}G\d{11}(?:\.\d+)?(?:_PAR_Y)?$")
"""An Ensembl gene id of any vertebrate, with or without a version."""
TRANSCRIPT = re.compile(r"^(?:ENS[A-Z]{0,4}T\d{11}|[NX][MR]_\d+)(?:\.\d+)?$")
BOTH_IN_ONE = re.compile(r"^(?:(?P<symbol>.+)[_|])?(?P<id>ENS[A-Z]{0,4}G\d{11})(?:\.\d+)?(?:[_|](?P<after>.+))?$")
"""`CD3D_ENSG00000167286` and `ENSG00000167286.1|CD3D`, as some exporters join the two names."""
MITOCHONDRIAL = re.compile(r"^MT-", re.IGNORECASE)
RIBOSOMAL = re.compile(r"^RP[SL](?:\d|A|P)", re.IGNORECASE)
"""Ribosomal proteins: RPS6, RPL13A, RPSA, RPLP0; not the kinases RPS6KA1 (see `ribosomal_genes`)."""
HAEMOGLOBIN = re.compile(r"^HB(?:[ABDEMQZ]\d?|G\d|A[12])$", re.IGNORECASE)
"""Haemoglobin genes (HBA1, HBB, HBG2, ...); not HBP1, HBEGF or HBS1L."""

SPECIES = {
    "ENSMUSG": "mouse", "ENSRNOG": "rat", "ENSDARG": "zebrafish", "ENSMMUG": "rhesus macaque",
    "ENSMFAG": "cynomolgus macaque", "ENSSSCG": "pig", "ENSGALG": "chicken", "ENSBTAG": "cow",
    "ENSPTRG": "chimpanzee", "ENSCAFG": "dog", "ENSOCUG": "rabbit", "ENSXETG": "frog", "ENSCJAG": "marmoset",
}  # fmt: skip


@lru_cache(maxsize=1)
def symbol_of_id() -> dict[str, str]:
    """Ensembl gene id (no version) to symbol, GENCODE v44, as the CellTypist package ships it."""
    # importlib.metadata finds the file without importing CellTypist, which takes seconds
    path = distribution("celltypist").locate_file("celltypist/data/samples/GENCODEv44_Gene_id2name.csv")
    table = pd.read_csv(Path(str(path)), header=None, names=["id", "symbol"], dtype=str, keep_default_na=False)
    return dict(zip(table["id"], table["symbol"], strict=True))


@lru_cache(maxsize=1)
def id_of_symbol() -> dict[str, str]:
    """Symbol to Ensembl gene id, for symbols that belong to one id only (`Y_RNA` has hundreds)."""
    table = symbol_of_id()
    times = Counter(table.values())
    return {symbol: gene_id for gene_id, symbol in table.items() if times[symbol] == 1}


@lru_cache(maxsize=4)
def vocabulary(scgpt_model: str | Path) -> frozenset[str]:
    """The gene symbols of a scGPT checkpoint's `vocab.json` (its special tokens `<...>` left out).

    Raises
    ------
    UserError
        When the file is absent or is no JSON object of token to number.
    """
    path = Path(scgpt_model) / "vocab.json"
    if not path.is_file():
        raise UserError(
            "The scGPT checkpoint has no vocabulary.",
            where=str(path),
            expected="a folder with args.json or config.json, vocab.json and the weights",
            fix="Give --scgpt_model the folder of a complete scGPT checkpoint.",
        )
    try:
        tokens = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError("The scGPT vocabulary is not JSON.", where=str(path), found=str(error)) from error
    if not isinstance(tokens, dict) or not tokens:
        raise UserError(
            "The scGPT vocabulary holds no genes.",
            where=str(path),
            expected="a JSON object of token to number",
        )
    return frozenset(token for token in tokens if not (token.startswith("<") and token.endswith(">")))


def looks_like_ids(names: Sequence[str], share: float = 0.5) -> bool:
    """Whether more than `share` of the names are Ensembl gene ids of any species."""
    return len(names) > 0 and sum(bool(ENSEMBL_GENE.match(name)) for name in names) > share * len(names)


def known_share(names: Sequence[str]) -> float:
    """Share of names that are human symbols or Ensembl ids of any species, whatever their case.

    For telling genes from cells and one column from another; never for matching.
    """
    if len(names) == 0:
        return 0.0
    symbols = _upper_symbols()
    return sum(bool(ENSEMBL_GENE.match(n)) or n.upper() in symbols for n in names) / len(names)


@lru_cache(maxsize=1)
def _upper_symbols() -> frozenset[str]:
    return frozenset(symbol.upper() for symbol in symbol_of_id().values())


def plain_id(name: str) -> str:
    """An Ensembl gene id without its version; any other name gives an empty string."""
    return name.split(".")[0].removesuffix("_PAR_Y") if ENSEMBL_GENE.match(name) else ""


@dataclass
class GeneNames:
    """One symbol and one id (or "") for every row of names, and what was done to get there."""

    symbols: list[str]
    gene_ids: list[str]
    symbols_from: str
    messages: list[str]


def unify(
    names: Sequence[str],
    vocab: frozenset[str],
    gene_ids: Sequence[str] | None = None,
    where: str | None = None,
) -> GeneNames:
    """Give every gene one symbol, and its Ensembl id where it is known.

    Parameters
    ----------
    names
        What the file calls its genes: symbols, Ensembl ids, or both in one.
    vocab
        Symbols that the model knows.
    gene_ids
        Ensembl ids from the file, where it has them beside the names.

    Notes
    -----
    A gene with a known id takes the table's symbol if the model knows that one, else the file's symbol
    if the model knows it, else the table's: so the same gene gets the same symbol whether a sample
    brings ids, old symbols or new ones. A gene without an id keeps the file's symbol. An id that is
    not in the table stays as it is when the file has no symbol for it.
    """
    table, ids_by_symbol = symbol_of_id(), id_of_symbol()
    symbols: list[str] = []
    ids: list[str] = []
    from_ids = renamed = 0
    blank: list[int] = []
    for row, name in enumerate(names):
        name = name.strip()
        gene_id = plain_id(gene_ids[row].strip()) if gene_ids is not None else ""
        if plain_id(name):
            gene_id, name = gene_id or plain_id(name), ""
        elif joined := BOTH_IN_ONE.match(name):
            gene_id, name = gene_id or joined["id"], joined["symbol"] or joined["after"] or ""
        current = table.get(gene_id, "")
        if not name:
            symbol = current or gene_id
            from_ids += bool(current)
        elif current and current != name and (current in vocab or name not in vocab):
            symbol = current
            renamed += 1
        else:
            symbol = name
        if not symbol:
            blank.append(row)
        symbols.append(symbol)
        ids.append(gene_id or ids_by_symbol.get(symbol, ""))
    if blank:
        raise UserError(
            f"{len(blank)} genes have no name.",
            where=where,
            found=f"first at gene number {blank[0] + 1}",
            expected="a symbol or an Ensembl id for every gene",
            fix="Name or drop these genes.",
        )
    messages = []
    if from_ids:
        messages.append(f"{from_ids} of {len(symbols)} genes were named by Ensembl id; symbols from {TABLE}.")
    if renamed:
        messages.append(f"{renamed} genes took the symbol that {TABLE} has for their Ensembl id.")
    return GeneNames(symbols, ids, f"Ensembl ids by {TABLE}" if from_ids > len(symbols) / 2 else "file", messages)


def sum_duplicates(
    counts: sparse.csr_matrix, genes: GeneNames
) -> tuple[sparse.csr_matrix, list[str], list[str], list[str]]:
    """Add up the counts of genes that share a symbol.

    Returns
    -------
    counts, symbols, gene_ids, messages
        Symbols are unique, in the order of their first row; the id is the first one known.
    """
    first: dict[str, int] = {}
    target = np.fromiter((first.setdefault(s, len(first)) for s in genes.symbols), dtype=np.int64)
    if len(first) == len(genes.symbols):
        return counts, genes.symbols, genes.gene_ids, []
    gene_ids = [""] * len(first)
    for row, to in enumerate(target):
        gene_ids[to] = gene_ids[to] or genes.gene_ids[row]
    gather = sparse.csr_matrix(
        (np.ones(target.size, dtype=counts.dtype), (np.arange(target.size), target)),
        shape=(target.size, len(first)),
    )
    times = Counter(genes.symbols)
    twice = [symbol for symbol in first if times[symbol] > 1]
    merged = sum(times[symbol] for symbol in twice)
    message = (
        f"{merged} rows of genes share {len(twice)} symbols; their counts were added up "
        f"({', '.join(twice[:5])}{', ...' if len(twice) > 5 else ''})."
    )
    return sparse.csr_matrix(counts @ gather), list(first), gene_ids, [message]


@dataclass
class GeneMatch:
    """How well a matrix and a vocabulary fit, each a share from 0 to 1."""

    genes: float
    """Of the matrix's genes with a count, those in the vocabulary."""
    counts: float
    """Of the matrix's counts, those on genes of the vocabulary."""
    vocabulary: float
    """Of the vocabulary's genes, those the matrix has a row for."""

    @property
    def best(self) -> float:
        """What `min_gene_match` bounds: the larger of `counts` and `vocabulary`."""
        return max(self.counts, self.vocabulary)


def match(symbols: Sequence[str], gene_totals: np.ndarray, vocab: frozenset[str]) -> GeneMatch:
    """Measure how well the sample's genes fit the model's vocabulary.

    A vocabulary may be much smaller than a matrix (the bundled model has some 8,000 genes), and a
    matrix may be cut to a panel of genes; so neither the share of the matrix's genes nor the share of
    the vocabulary tells a wrong species by itself. Both "most of what was counted is readable" and
    "most of what the model reads is there" are fits; another species or another kind of name is
    neither, because matching is exact. `GeneMatch.best`, the larger of the two, is what
    `min_gene_match` bounds.

    Parameters
    ----------
    gene_totals
        Counts per gene, summed over cells; shape (genes,).
    """
    known = np.fromiter((s in vocab for s in symbols), dtype=bool, count=len(symbols))
    seen = gene_totals > 0
    total = float(gene_totals.sum())
    return GeneMatch(
        genes=float(known[seen].mean()) if seen.any() else 0.0,
        counts=float(gene_totals[known].sum()) / total if total else 0.0,
        vocabulary=float(known.sum()) / len(vocab) if vocab else 0.0,
    )


def check_match(
    symbols: Sequence[str],
    gene_ids: Sequence[str],
    gene_totals: np.ndarray,
    vocab: frozenset[str],
    at_least: float,
    where: str,
) -> GeneMatch:
    """`match`, and a UserError with unmatched names and a guess why when it is under `at_least`."""
    found = match(symbols, gene_totals, vocab)
    if found.best >= at_least:
        return found
    order = np.argsort(-gene_totals, kind="stable")
    unmatched = [symbols[i] for i in order if symbols[i] not in vocab]
    raise UserError(
        "The genes of this matrix are not those the scGPT checkpoint knows.",
        where=where,
        found=f"{found.counts:.1%} of the counts are on known genes, and {found.vocabulary:.1%} of the known "
        f"genes are in the matrix; not known: {', '.join(unmatched[:10])}. {guess_why(unmatched, gene_ids, vocab)}",
        expected=f"at least {at_least:.0%} of either (--min_gene_match), by human gene symbols or ENSG ids",
        fix="Give human gene symbols or Ensembl ids; where an h5ad keeps them in a column of var, name it in the "
        "samplesheet (symbol_col or geneid_col).",
    )


def guess_why(unmatched: Sequence[str], gene_ids: Sequence[str], vocab: frozenset[str]) -> str:
    """A sentence on what the unmatched names look like."""
    if not unmatched:
        return "The matrix has too few genes."

    def most(test: "re.Pattern[str]", names: Sequence[str], share: float = 0.5) -> bool:
        return sum(bool(test.match(name)) for name in names) > share * max(len(names), 1)

    prefixes = Counter(
        m.group(1)
        for name in (*unmatched, *(i for i in gene_ids if i))
        if (m := re.match(r"^(ENS[A-Z]*G)\d{11}", name))
    )
    prefixes.pop("ENSG", None)
    if prefixes and prefixes.most_common(1)[0][1] > 0.3 * len(unmatched):
        prefix = prefixes.most_common(1)[0][0]
        return f"These are Ensembl ids of {SPECIES.get(prefix, 'another species')} ({prefix}...): not human."
    if most(TRANSCRIPT, unmatched):
        return "These are transcripts: sum them to genes first."
    upper = _upper_symbols()
    title = [n for n in unmatched if re.match(r"^(mt-)?[A-Z][a-z0-9]", n) and n.upper() in upper]
    if len(title) > 0.3 * len(unmatched):
        return "These look like mouse (or rat) gene symbols: this pipeline annotates human cells."
    if most(re.compile(r"^[0-9]+$"), unmatched):
        return "These are numbers: Entrez ids, or row numbers where gene names should be."
    if most(re.compile(r"^[ACGT]{8,}(-\d+)?$"), unmatched):
        return "These are cell barcodes: genes and cells seem to be swapped."
    if most(re.compile(r"^ENSG\d{11}"), unmatched):
        return f"These human Ensembl ids are not in {TABLE}: outdated or newer ids?"
    if most(re.compile(r"^[a-z0-9-]+$"), unmatched):
        return "These are in lower case: zebrafish symbols, or human ones that were changed."
    return "Another species, another kind of gene name, or proteins instead of genes?"


def ribosomal_genes(symbols: Sequence[str]) -> np.ndarray:
    """Ribosomal protein genes; boolean, shape (genes,). Kinases such as RPS6KA1 are none."""
    return np.fromiter((bool(RIBOSOMAL.match(s)) and "K" not in s[4:].upper() for s in symbols), dtype=bool)


def mitochondrial_genes(symbols: Sequence[str]) -> np.ndarray:
    """Genes of the mitochondrial genome (`MT-`); boolean, shape (genes,)."""
    return np.fromiter((bool(MITOCHONDRIAL.match(s)) for s in symbols), dtype=bool)


def haemoglobin_genes(symbols: Sequence[str]) -> np.ndarray:
    """Haemoglobin genes; boolean, shape (genes,)."""
    return np.fromiter((bool(HAEMOGLOBIN.match(s)) for s in symbols), dtype=bool)
