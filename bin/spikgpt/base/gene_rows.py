"""What the rows of a matrix are, by their names: genes, names that other software altered, and rows that are no genes.

A name is taken for something else only where no table of genes has it.
"""

import re
from collections.abc import Collection, Sequence
from functools import lru_cache

import numpy as np

from spikgpt.base.genes import ENSEMBL_GENE, human_genes, symbol_of_id

GENOME_PREFIX = re.compile(
    r"^(?P<genome>[A-Za-z][A-Za-z0-9.-]*?)_+(?=ENS[A-Z]*G\d{11})"
    r"|^(?P<named>(?i:grch\d+|hg\d\d|grcm\d+|mm\d\d?|mrn\w+|rn\d|human|mouse|t2t\w*|chm13\w*))(?:_+|-+|\.)(?=\S)"
)
"""How Cell Ranger names the genes of several genomes (`hg19_ENSG...`, `mm10___Actb`), also as Seurat (`GRCh38-CD3D`)
and R (`hg19.CD3D`) leave it."""
HUMAN_GENOME = re.compile(r"(?i)^(grch|hg\d|human|homo|t2t|chm13|ncbitaxon:9606$)")

PARTS = re.compile(r"(?i)[-_.](?P<part>U|A|I|S|unspliced|spliced|ambiguous|nascent|mature|intron|exon)$")
"""Endings of rows that hold a part of a gene's counts: `ENSG...-U`, `-A` of alevin-fry's USA mode, `-I` for introns."""

ANTIBODY, TAG, SPIKE_IN, GUIDE, PEAK, STATISTIC = (
    "Antibody Capture",
    "Multiplexing Capture",
    "spike-in RNA",
    "CRISPR Guide Capture",
    "Peaks",
    "statistics of reads",
)
"""Kinds of rows, by the words of 10x where it has one."""

_NO_GENES = {
    SPIKE_IN: (r"(?:.*[-_.|])?ERCC[-_.]?\d{5}", r"SIRV\w*\d\w*", r".*spike[-_. ]?in.*"),
    TAG: (
        r".*[|_.-]stAbO",
        r"(?:hto|hashtag|hash|sample[-_. ]?tag|cmo|lmo)[-_. ]?\w{0,4}(?:[-_.|].*)?",
    ),
    ANTIBODY: (
        r".*[|_.-]pAbO",
        r"(?:adts?|ab|antibody|cite(?:[-_.]?seq)?|prot|protein|abseq|totalseq[abcd]?)[-_.:|].+",
        r".+[-_.:|](?:adt|ab|antibody|prot|protein|totalseq[-_.]?[abcd]?|total[-_.]?[abcd]|abseq|cite)(?:[-_.]\d)?",
        r"anti[-_. ].+",
        r"(?:hu|ms|humsr?t?|msrt)\.[a-z].*",
        r".*isotype.*|igg\d?[abck-]*[-_. ]?(?:ctrl|control).*",
        r".+[-_.][acgt]{12,15}",
        r"cd\d{1,3}[a-z]{0,3}(?:[-_./( ].*)?",
    ),
    GUIDE: (
        r"(?:sg|g)rna[-_.].*",
        r".*[-_.](?:sg|g)rna(?:[-_.]?\d+)?",
        r"non[-_. ]?targeting.*|ntc?[-_.]?\d+",
    ),
    PEAK: (r"(?:chr)?(?:\d{1,2}|x|y|mt?|(?:gl|ki)\d+(?:\.\d)?)[:_.-]\d+[_.-]\d+",),
    STATISTIC: (
        r"__\w+",
        r"n_(?:unmapped|multimapping|nofeature|ambiguous)",
        r"unmapped|undetermined|no_match|bad_struct|total_reads",
    ),
}
"""How such rows are called: TotalSeq, BD AbSeq, CITE-seq-Count, htseq-count, STAR, peaks of chromatin."""
_KINDS = tuple((kind, re.compile("|".join(parts), re.IGNORECASE)) for kind, parts in _NO_GENES.items())

AMPLICON = re.compile(r"^(?P<symbol>[^|]+)\|[NX][MR]_\d.*$")
"""How BD Rhapsody names the genes of a targeted panel: `CD3D|NM_000732.4|PolyA_1`."""

UPPER_CASE_MOUSE = re.compile(r"^(?:GM\d{3,}|[0-9A-Z]*\d[0-9A-Z]*RIK\d?|H2-[A-Z0-9]+)$")
"""Mouse genes without a human name, as upper case leaves them: Gm1234, 1700001C19Rik, H2-K1."""


@lru_cache(maxsize=1)
def _gene_of_name() -> dict[str, str]:
    """Every name that HGNC or GENCODE has, to the current symbol."""
    found = {symbol: symbol for symbol in symbol_of_id().values()}
    for gene in human_genes().values():
        for name in (*gene.aliases, *gene.previous):
            found.setdefault(name, gene.symbol)
    for symbol in human_genes():
        found[symbol] = symbol
    return found


def is_known(name: str) -> bool:
    """Whether a table of human genes has the name, or it is an Ensembl id of any species."""
    return name in _gene_of_name() or bool(ENSEMBL_GENE.match(name))


_MONTHS = {"MARCH": "Mar", "SEPT": "Sep", "DEC": "Dec"}
_DATED = re.compile(r"(MARCH|MARC|SEPT|DEC)(\d{1,2})")
_NOT_OF_R, _NO_START_OF_R = re.compile(r"[^A-Za-z0-9._]"), re.compile(r"[0-9_]|\.\d")


@lru_cache(maxsize=1)
def _altered() -> dict[str, str]:
    """What other software makes of the names of genes, to the name; only what is no gene's name and means one gene.

    R's `make.names` (HLA.DRA, X7SK), Seurat (`_` to `-`), upper case (C1ORF112), Excel (1-Mar).
    """
    return altered_forms(_gene_of_name(), upper=True)


def altered_forms(known: dict[str, str], upper: bool) -> dict[str, str]:
    """The same of any names of genes, each with its gene; ``upper``: whether names are altered to upper case, too."""
    meant: dict[str, set[str]] = {}
    spelt: dict[str, str] = {}
    for name, gene in known.items():
        large = name.upper()
        plain = name.isascii() and name.isalnum() and not name[0].isdigit() and not (upper and name != large)
        if plain and not large.startswith(("MARC", "SEPT", "DEC")):
            continue  # as it is in every form
        made = _NOT_OF_R.sub(".", name)
        made = f"X{made}" if _NO_START_OF_R.match(made) else made
        forms = {made, name.replace("_", "-")} | ({large} if upper else set())
        if match := _DATED.fullmatch(name if upper else large):
            month = _MONTHS.get(match[1], "Mar")
            day = int(match[2])
            forms |= {f"{day}-{month}", f"{day:02d}-{month}", f"{month}-{day:02d}", f"{month}-{day}"}
        for form in forms - {name}:
            if form not in known:
                meant.setdefault(form, set()).add(gene)
                # the current name where it gives this form itself
                if form not in spelt or name == gene:
                    spelt[form] = name
    return {form: spelt[form] for form, genes in meant.items() if len(genes) == 1}


def restored(name: str) -> str:
    """The gene's name that other software altered to `name`; `name` itself where that is not certain."""
    return name if is_known(name) else _altered().get(name, name)


FEWEST_PREFIXED = 10
"""Names that begin with a genome, for the genome to be told from a name of that look."""


def without_genome(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names without the genome that stands before them, and the genomes ("" where there is none).

    Names stay as they are where fewer than half of them, and fewer than `FEWEST_PREFIXED`, begin with a genome.
    """
    found = [None if is_known(name) else GENOME_PREFIX.match(name) for name in names]
    number = sum(match is not None for match in found)
    if number == 0 or (2 * number <= len(names) and number < FEWEST_PREFIXED):
        return list(names), [""] * len(names)
    bare = [name if match is None else name[match.end() :] for name, match in zip(names, found, strict=True)]
    return bare, ["" if match is None else match["genome"] or match["named"] for match in found]


def kinds_of_rows(
    names: Sequence[str], ids: Sequence[str] | None = None, others: Collection[str] = frozenset()
) -> np.ndarray:
    """What rows are that are no genes, by their names; "" for a gene and for a name that says nothing.

    Rows for antibodies often bear the names of genes. So where three or more are antibodies by name, the rows from the
    first of them on that no table knows, or that bear the name of a row before, are taken for antibodies too; and where
    these are most of the rows from there on, all that are left.

    Parameters
    ----------
    names, ids
        Of each row; ids where the file has some.
    others
        Names of genes of another species than human.

    Returns
    -------
    object (rows,): one of the kinds above, or "".
    """
    kinds = np.full(len(names), "", dtype=object)
    present = set(names)
    gene_of = _gene_of_name()
    for row, name in enumerate(names):
        both = (name,) if ids is None or ids[row] in ("", name) else (name, ids[row])
        if any(ENSEMBL_GENE.match(text) for text in both):
            continue
        gene = name if name in others else gene_of.get(name)
        # CD45 beside PTPRC: an alias, in the same matrix as its gene
        if gene is not None and (gene == name or gene not in present):
            continue
        for text in both:
            kind = next((kind for kind, pattern in _KINDS if pattern.fullmatch(text)), "")
            if kind and (gene is None or kind == ANTIBODY):
                kinds[row] = kind
                break
    antibodies = np.flatnonzero(kinds == ANTIBODY)
    if antibodies.size >= 3:
        first = int(antibodies[0])
        before = set(names[:first])
        left = []
        for row in range(first, len(names)):
            name = names[row]
            if kinds[row] or (ids is not None and ENSEMBL_GENE.match(ids[row])):
                continue
            if name in before or re.sub(r"[-.]\d$", "", name) in before or not (name in others or is_known(name)):
                kinds[row] = ANTIBODY
            else:
                left.append(row)
        if 2 * (kinds[first:] == ANTIBODY).sum() >= len(names) - first:
            kinds[left] = ANTIBODY
    return kinds


def parts_of_genes(names: Sequence[str]) -> tuple[np.ndarray, list[str], list[str]] | None:
    """Rows that hold parts of a gene's counts; None where the matrix has no such rows.

    A name is a part's where it ends as one, and the name without the ending is a row too or a gene's name. Single names
    of that look are no sign: at least a fifth of the rows must be parts.

    Returns
    -------
    target, names, parts
        int64 (rows,), for each row the first row with the same gene; names without the endings; the endings, sorted.
    """
    first = set(names)
    bare, endings = list(names), set()
    number = 0
    for row, name in enumerate(names):
        match = PARTS.search(name)
        base = name[: match.start()] if match else ""
        if match and base and (base in first or is_known(base)) and not is_known(name):
            bare[row] = base
            endings.add(match["part"])
            number += 1
    if 5 * number < len(names) or not number:
        return None
    place: dict[str, int] = {}
    target = np.fromiter((place.setdefault(name, row) for row, name in enumerate(bare)), dtype=np.int64)
    return target, bare, sorted(endings)
