"""Gene names: Ensembl ids, old and new symbols into one set of symbols, and how well they fit a vocabulary.

Current symbols, previous ones and aliases come from HGNC (`gene_names.tsv` beside this file); ids that HGNC
does not name get their symbol from the GENCODE v44 table that the CellTypist package carries. Nothing is
looked up over the network. Case is never changed: `Cd3d` is mouse, and stays unknown to a human model.
"""

import csv
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
from scipy import sparse

from spikgpt.base.errors import UserError
from spikgpt.base.files import read_json_object
from spikgpt.base.mouse_genes import mouse_genes

TABLE = "HGNC and GENCODE v44"
NAMES_TOLD = ("genes were named by Ensembl id", "genes had an older symbol and took the current one")
"""What messages say of how genes were named, by which a report tells them from others."""
HGNC = Path(__file__).with_name("gene_names.tsv")
"""Made by tools/genes/make_table.py; its first lines tell source, date and licence."""
ENSEMBL_GENE = re.compile(r"^ENS[A-Z]{0,4}G\d{11}(?:[._]\d+)?(?:[_.-]PAR[_.-]Y)?$")
"""An Ensembl gene id of any vertebrate, with or without a version; R and Seurat change the signs before PAR_Y."""
TRANSCRIPT = re.compile(r"^(?:ENS[A-Z]{0,4}T\d{11}|[NX][MR]_\d+)(?:\.\d+)?$")
PROBE = re.compile(r"^(?:\d+(?:_[a-z])?_at|\d+_[sx]_at|AFFX-.*|ILMN_\d+|A_\d+_P\d+|cg\d{8})$")
"""Probe ids of Affymetrix, Illumina and Agilent arrays."""
BOTH_IN_ONE = re.compile(r"^(?:(?P<symbol>.+)[_|])?(?P<id>ENS[A-Z]{0,4}G\d{11})(?:\.\d+)?(?:[_|](?P<after>.+))?$")
"""`CD3D_ENSG00000167286` and `ENSG00000167286.1|CD3D`, as some exporters join the two names."""
MITOCHONDRIAL = re.compile(r"^MT-", re.IGNORECASE)
RIBOSOMAL = re.compile(r"^RP[SL](?:\d|A|P)", re.IGNORECASE)
"""Ribosomal proteins: RPS6, RPL13A, RPSA, RPLP0; not the kinases RPS6KA1 (see `ribosomal_genes`)."""
HAEMOGLOBIN = re.compile(r"^HB(?:[ABDEMQZ]\d?|G\d|A[12]|Q1[AB]|A-(?:A\d|X)|B-(?:B[ST12]|BH\d|Y))$", re.IGNORECASE)
"""Haemoglobin genes (HBA1, HBB, HBG2, ...; of mice Hba-a1, Hbb-bs, ...); not HBP1, HBEGF or HBS1L."""
IMMUNOGLOBULIN = re.compile(
    r"^(?:IG[HKL]V.*|IG[HKL]J\d.*|IGHD(?:\d.*)?|IGH[AEGM]P?\d?[ABC]?|IGKC|IGLC.*|IGLL[15]|JCHAIN)$", re.IGNORECASE
)
"""Chains of antibodies (IGHG1, of mice Ighg2b; IGHV3-23, IGKC, IGLL5, JCHAIN); not IGHMBP2 or IGLON5."""

SPECIES = {
    "ENSMUSG": "mouse", "ENSRNOG": "rat", "ENSDARG": "zebrafish", "ENSMMUG": "rhesus macaque",
    "ENSMFAG": "cynomolgus macaque", "ENSSSCG": "pig", "ENSGALG": "chicken", "ENSBTAG": "cow",
    "ENSPTRG": "chimpanzee", "ENSCAFG": "dog", "ENSOCUG": "rabbit", "ENSXETG": "frog", "ENSCJAG": "marmoset",
}  # fmt: skip


@dataclass
class HumanGene:
    """A gene as HGNC names it now, and the older names that mean no other gene."""

    symbol: str
    gene_id: str
    previous: list[str]
    aliases: list[str]


@lru_cache(maxsize=1)
def human_genes() -> dict[str, HumanGene]:
    """The genes with an Ensembl id that HGNC names, by current symbol."""
    with HGNC.open(encoding="utf-8") as file:
        lines = [line.rstrip("\n").split("\t") for line in file if not line.startswith("#")]
    return {
        symbol: HumanGene(
            symbol, gene_id, previous.split("|") if previous else [], aliases.split("|") if aliases else []
        )
        for symbol, gene_id, previous, aliases in lines[1:]
    }


@lru_cache(maxsize=1)
def _by_name() -> tuple[dict[str, HumanGene], dict[str, HumanGene], dict[str, HumanGene]]:
    """HGNC's genes by Ensembl id, by previous symbol and by alias."""
    genes = human_genes().values()
    return (
        {gene.gene_id: gene for gene in genes},
        {name: gene for gene in genes for name in gene.previous},
        {name: gene for gene in genes for name in gene.aliases},
    )


class Spelling:
    """How a model's vocabulary spells the genes: some by symbols that are no longer current (IL8, SEPT4)."""

    def __init__(self, vocab: Collection[str]) -> None:
        self.vocab = vocab

    def of(self, symbol: str) -> str | None:
        """The vocabulary's name for a gene, given by its current symbol; None when it has none.

        Where it lacks the symbol itself: the first of the gene's previous symbols that it has, else the
        first alias.
        """
        if symbol in self.vocab:
            return symbol
        gene = human_genes().get(symbol)
        older = () if gene is None else (*gene.previous, *gene.aliases)
        return next((name for name in older if name in self.vocab), None)


@lru_cache(maxsize=1)
def symbol_of_id() -> dict[str, str]:
    """Ensembl gene id (no version) to symbol, GENCODE v44, as the CellTypist package ships it."""
    # importlib.metadata finds the file without importing CellTypist, which takes seconds
    path = distribution("celltypist").locate_file("celltypist/data/samples/GENCODEv44_Gene_id2name.csv")
    with Path(str(path)).open(encoding="utf-8", newline="") as file:
        return dict(csv.reader(file))


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
            found=f"{path.parent.name} without vocab.json" if path.parent.is_dir() else "no such folder",
            expected="a folder with args.json or config.json, vocab.json and the weights",
            fix="Give --scgpt_model the folder of a complete scGPT checkpoint.",
        )
    tokens = read_json_object(
        path, "The scGPT vocabulary", expected="a JSON object of token to number", fix="Copy the checkpoint again."
    )
    if not tokens:
        raise UserError(
            "The scGPT vocabulary holds no genes.",
            where=str(path),
            found="an empty object",
            expected="a JSON object of token to number",
            fix="Give the vocab.json that belongs to these weights.",
        )
    return frozenset(token for token in tokens if not (token.startswith("<") and token.endswith(">")))


def looks_like_ids(names: Sequence[str], share: float = 0.5) -> bool:
    """Whether more than `share` of the names are Ensembl gene ids of any species."""
    return len(names) > 0 and sum(bool(ENSEMBL_GENE.match(name)) for name in names) > share * len(names)


def known_share(names: Sequence[str]) -> float:
    """Share of names that are mouse symbols, or human ones whatever their case, or Ensembl ids of any species.

    For telling genes from cells and one column from another; never for matching.
    """
    if len(names) == 0:
        return 0.0
    symbols, mouse = _upper_symbols(), mouse_genes().id_of
    return sum(bool(ENSEMBL_GENE.match(n)) or n.upper() in symbols or n in mouse for n in names) / len(names)


@lru_cache(maxsize=1)
def _upper_symbols() -> frozenset[str]:
    return frozenset(symbol.upper() for symbol in symbol_of_id().values())


def plain_id(name: str) -> str:
    """An Ensembl gene id without its version; any other name gives an empty string."""
    return re.split(r"[._-]", name)[0] if ENSEMBL_GENE.match(name) else ""


def current_symbol(gene_id: str, name: str, vocab: Collection[str]) -> str:
    """The current symbol of a gene by its id, "" when no table has that; without an id by its name (see `unify`)."""
    by_id, by_previous, by_alias = _by_name()
    if gene_id:
        gene = by_id.get(gene_id)
        return gene.symbol if gene else symbol_of_id().get(gene_id, "")
    gene = by_previous.get(name) or (None if name in vocab else by_alias.get(name))
    # GENCODE may still give another gene this name, and then it says nothing
    return gene.symbol if gene and id_of_symbol().get(name, gene.gene_id) == gene.gene_id else name


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
    where: str = "the matrix",
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
    A gene with a known id takes the current symbol of that id. It keeps the file's symbol where the model
    knows only that one, by none of the gene's names. A name without an id is replaced by the current symbol
    when it is a previous symbol of one gene; when it is an alias of one gene, only if the model does not know
    it as it is, for aliases are looser. Otherwise it stays. So the same gene gets the same symbol whether a
    sample brings ids, old symbols or new ones. An id that no table has stays as it is when the file has no
    symbol for it.
    """
    ids_by_symbol, spelling = id_of_symbol(), Spelling(vocab)
    symbols: list[str] = []
    ids: list[str] = []
    from_ids = renamed = 0
    for row, name in enumerate(names):
        name = name.strip()
        gene_id = plain_id(gene_ids[row].strip()) if gene_ids is not None else ""
        if plain_id(name):
            gene_id, name = gene_id or plain_id(name), ""
        elif joined := BOTH_IN_ONE.match(name):
            gene_id, name = gene_id or joined["id"], joined["symbol"] or joined["after"] or ""
        current = current_symbol(gene_id, name, vocab)
        if not name:
            symbol = current or gene_id
            from_ids += bool(current)
        elif current and current != name and (spelling.of(current) or name not in vocab):
            symbol = current
            renamed += 1
        else:
            symbol = name
        symbols.append(symbol)
        known = human_genes().get(symbol)
        ids.append(gene_id or ids_by_symbol.get(symbol, "") or (known.gene_id if known else ""))
    no_name(symbols, where)
    messages = []
    if from_ids:
        messages.append(f"{from_ids} of {len(symbols)} {NAMES_TOLD[0]}; symbols from {TABLE}.")
    if renamed:
        messages.append(f"{renamed} {NAMES_TOLD[1]} ({TABLE}).")
    return GeneNames(symbols, ids, f"Ensembl ids by {TABLE}" if from_ids > len(symbols) / 2 else "file", messages)


def no_name(symbols: Sequence[str], where: str) -> None:
    """UserError where a gene has neither a symbol nor an id."""
    blank = [row for row, symbol in enumerate(symbols) if not symbol]
    if blank:
        raise UserError(
            f"{len(blank)} genes have no name.",
            where=where,
            found=f"first at gene number {blank[0] + 1}",
            expected="a symbol or an Ensembl id for every gene",
            fix="Name or drop these genes.",
        )


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
    spelling = Spelling(vocab)
    names = [spelling.of(symbol) for symbol in symbols]
    known = np.fromiter((name is not None for name in names), dtype=bool, count=len(symbols))
    seen = gene_totals > 0
    total = float(gene_totals.sum())
    return GeneMatch(
        genes=float(known[seen].mean()) if seen.any() else 0.0,
        counts=float(gene_totals[known].sum()) / total if total else 0.0,
        vocabulary=len({name for name in names if name}) / len(vocab) if vocab else 0.0,
    )


def check_match(
    symbols: Sequence[str],
    gene_ids: Sequence[str],
    gene_totals: np.ndarray,
    vocab: frozenset[str],
    at_least: float,
    where: str,
    orthologs: Sequence[str] | None = None,
) -> GeneMatch:
    """`match`, and a UserError with unmatched names and a guess why when it is under `at_least`.

    With ``orthologs``, the human genes that those of another species are read as, these are matched.
    """
    found = match(symbols if orthologs is None else orthologs, gene_totals, vocab)
    if found.best >= at_least:
        return found
    order = np.argsort(-gene_totals, kind="stable")
    if orthologs is not None:
        without = [symbols[i] for i in order if not orthologs[i]]
        raise UserError(
            "Too few of the genes are, by way of a human ortholog, those that the scGPT checkpoint knows.",
            where=where,
            found=f"{found.counts:.1%} of the counts are on known genes, and {found.vocabulary:.1%} of the known "
            f"genes are in the matrix; {len(without)} of {len(symbols)} genes are not the one ortholog of a human "
            f"gene: {', '.join(without[:10])}",
            expected=f"at least {at_least:.0%} of either (--min_gene_match)",
            fix="Give gene symbols; Ensembl ids alone are understood of human and mouse genes, current ones.",
        )
    spelling = Spelling(vocab)
    unmatched = [symbols[i] for i in order if spelling.of(symbols[i]) is None]
    why, fix = guess_why(unmatched, gene_ids, vocab)
    raise UserError(
        "The genes of this matrix are not those the scGPT checkpoint knows.",
        where=where,
        found=f"{found.counts:.1%} of the counts are on known genes, and {found.vocabulary:.1%} of the known "
        f"genes are in the matrix; not known: {', '.join(unmatched[:10])}. {why}",
        expected=f"at least {at_least:.0%} of either (--min_gene_match), by human gene symbols or ENSG ids",
        fix=fix,
    )


NAME_THE_GENES = (
    "Give human gene symbols or Ensembl ids; where an h5ad keeps them in a column of var, name it in the samplesheet "
    "(symbol_col or geneid_col)."
)
ANOTHER_SPECIES = "Give a matrix of human genes: reads aligned to a human genome, or genes mapped to human orthologues."


def guess_why(unmatched: Sequence[str], gene_ids: Sequence[str], vocab: frozenset[str]) -> tuple[str, str]:
    """A sentence on what the unmatched names look like, and the next step for the user."""
    if not unmatched:
        return "The matrix has too few genes.", "Give a matrix of more genes, or lower --min_gene_match."

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
        return (
            f"These are Ensembl ids of {SPECIES.get(prefix, 'another species')} ({prefix}...), not human ones.",
            ANOTHER_SPECIES,
        )
    if most(TRANSCRIPT, unmatched):
        return (
            "These are transcripts.",
            "Add up the counts of each gene's transcripts (tximport, or the quantifier's own option).",
        )
    upper = _upper_symbols()
    title = [n for n in unmatched if re.match(r"^(mt-)?[A-Z][a-z0-9]", n) and n.upper() in upper]
    if len(title) > 0.3 * len(unmatched):
        return "These look like mouse (or rat) gene symbols.", ANOTHER_SPECIES
    if most(PROBE, unmatched):
        return "These are ids of array probes.", "Give single-cell counts by gene."
    if most(re.compile(r"^[0-9]+$"), unmatched):
        return "These are numbers: Entrez ids, or row numbers where gene names should be.", NAME_THE_GENES
    if most(re.compile(r"^[ACGT]{8,}(-\d+)?$"), unmatched):
        return (
            "These are cell barcodes: genes and cells seem to be swapped.",
            "Write the matrix with cells in rows and genes in columns (in Python: adata.T.write_h5ad).",
        )
    if most(re.compile(r"^ENSG\d{11}"), unmatched):
        return f"These human Ensembl ids are not in {TABLE}: outdated or newer ids?", NAME_THE_GENES
    if most(re.compile(r"^[a-z0-9-]+$"), unmatched):
        return "These are in lower case: zebrafish symbols, or human ones that were changed.", NAME_THE_GENES
    return "Another species, another kind of gene name, or proteins instead of genes?", NAME_THE_GENES


def ribosomal_genes(symbols: Sequence[str]) -> np.ndarray:
    """Ribosomal protein genes; boolean, shape (genes,). Kinases such as RPS6KA1 are none."""
    return np.fromiter((bool(RIBOSOMAL.match(s)) and "K" not in s[4:].upper() for s in symbols), dtype=bool)


def mitochondrial_genes(symbols: Sequence[str]) -> np.ndarray:
    """Genes of the mitochondrial genome (`MT-`); boolean, shape (genes,)."""
    return np.fromiter((bool(MITOCHONDRIAL.match(s)) for s in symbols), dtype=bool)


def haemoglobin_genes(symbols: Sequence[str]) -> np.ndarray:
    """Haemoglobin genes; boolean, shape (genes,)."""
    return np.fromiter((bool(HAEMOGLOBIN.match(s)) for s in symbols), dtype=bool)


def immunoglobulin_genes(symbols: Sequence[str]) -> np.ndarray:
    """Genes of antibodies' chains; boolean, shape (genes,)."""
    return np.fromiter((bool(IMMUNOGLOBULIN.match(s)) for s in symbols), dtype=bool)
