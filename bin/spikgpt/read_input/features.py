"""Which rows of a matrix are genes of its species, and which columns of its tables name them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from spikgpt.base import genes as gene_names
from spikgpt.base.errors import UserError
from spikgpt.base.gene_rows import (
    AMPLICON,
    SPIKE_IN,
    STATISTIC,
    kinds_of_rows,
    parts_of_genes,
    without_genome,
)
from spikgpt.base.mouse_genes import mouse_genes
from spikgpt.base.species import HUMAN, MOUSE, SPECIES, restored_in, species_of, told_by

GENE_EXPRESSION = "Gene Expression"
_GENE_TYPES = {"gene expression", "gene", "genes", "rna", "mrna", "gex", "expression", "transcriptome", "wta"}
_OTHER_TYPES = re.compile(
    r"antibod|\badt|\bhto|hashtag|multiplexing|crispr|guide|grna|peak|atac|chromatin|antigen|vdj|custom"
    r"|protein(?![-_ ]coding)|\bprot\b"
    r"|abseq|cite|spike|surface|\bcmo|sample.?tag",
    re.IGNORECASE,
)
"""Feature types that are not gene expression, in the words of 10x, BD, MuData, CELLxGENE and their users."""
TYPE_COLUMNS = ("feature_types", "feature_type", "modality", "feature_biotype", "library_type", "assay")
GENOME_COLUMNS = ("genome", "feature_reference")
MISSING = {"", "nan", "none", "na", "n/a", "null", "<na>", "-"}


@dataclass
class Features:
    """The columns of a matrix that are genes of its species.

    Attributes
    ----------
    chosen
        int64: which columns of the source are genes; None for all.
    target
        int64, one a chosen column: the number of the gene that its counts are added to; None where each is a gene.
    ids, names
        Of the genes; an id is "" where the file has none.
    left_out
        object, one a column of the source: what it is instead of a gene of the species, "" for a gene.
    as_named
        Names of all columns of the source, as the file has them.
    species
        A key of `spikgpt.base.species.SPECIES`.
    """

    chosen: np.ndarray | None
    target: np.ndarray | None
    ids: list[str]
    names: list[str]
    left_out: np.ndarray
    messages: list[str] = field(default_factory=list)
    as_named: list[str] = field(default_factory=list)
    species: str = HUMAN


def select_genes(
    ids: Sequence[str] | None,
    names: Sequence[str],
    types: Sequence[str] | None,
    genomes: Sequence[str] | None,
    where: str,
    species: str | None = None,
) -> Features:
    """Keep the features that are genes, of several genomes one; restore names that other software altered.

    Parameters
    ----------
    ids, names, types, genomes
        Of every feature; None where the file has no such column.
    species
        The value of --species; None: of several genomes the human one, and of one what its genes tell.

    Raises
    ------
    UserError
        No feature is a gene, which of several genomes is of the species cannot be told, or the genes are of another.
    """
    messages: list[str] = []
    ids = [""] * len(names) if ids is None else ["" if _is_missing(text) else str(text).strip() for text in ids]
    # a gene without a symbol goes by its id
    names = [ids[row] if _is_missing(text) else str(text).strip() for row, text in enumerate(names)]
    kinds, typed = _kinds_by_type(types, len(names), messages)
    as_named = names
    names, name_genomes = without_genome([AMPLICON.sub(r"\g<symbol>", name) for name in names])
    ids, id_genomes = without_genome(ids)
    names, ids, gene_of, endings = _without_parts(names, ids)
    if genomes is not None:
        genome_of = ["" if _is_missing(genome) else str(genome).strip() for genome in genomes]
    else:
        genome_of = [a or b for a, b in zip(id_genomes, name_genomes, strict=True)]
    by_name = kinds_of_rows(names, ids, mouse_genes().names if _may_be_mouse(names, genome_of, species) else ())
    # a gene by its type may bear any name (a CAR against CD19), but Cell Ranger calls spike-ins genes, too
    kinds = np.where((kinds == "") & (~typed | np.isin(by_name, (SPIKE_IN, STATISTIC))), by_name, kinds)
    if not (kinds == "").any():
        found = ", ".join(f"{number} features of type {kind}" for kind, number in _counted(kinds).items())
        raise UserError(
            "The matrix has no gene expression.",
            where=where,
            found=found,
            expected=f"features of type {GENE_EXPRESSION}",
            fix="Give the gene expression matrix of this sample; antibody or CRISPR counts alone cannot be annotated.",
        )
    kinds = _without_other_genomes(kinds, genome_of, species or HUMAN, where, messages)
    chosen = np.flatnonzero(kinds == "")
    ids, names = [ids[i] for i in chosen], [names[i] for i in chosen]
    target = None
    if gene_of is not None:
        kept, target = np.unique(gene_of[chosen], return_inverse=True)
        first = {int(gene): place for place, gene in reversed(list(enumerate(gene_of[chosen])))}
        messages.append(
            f"The counts of a gene are split over several rows (names that end in {', '.join(endings)}: spliced, "
            f"unspliced, ambiguous); they were added up, {len(names)} rows to {len(kept)} genes."
        )
        ids, names = [ids[first[int(gene)]] for gene in kept], [names[first[int(gene)]] for gene in kept]
    found, told = species_of(names, ids, species, where)
    messages += [told] if told else []
    mended = [restored_in(name, found) for name in names]
    changed = [(old, new) for old, new in zip(names, mended, strict=True) if old != new]
    if changed:
        shown = ", ".join(f"{old} to {new}" for old, new in changed[:3])
        messages.append(
            f"{len(changed)} genes had names that other software had altered (R, Seurat, Excel or upper case), "
            f"and were given back their own: {shown}{', ...' if len(changed) > 3 else ''}."
        )
    return Features(chosen if len(chosen) < len(kinds) else None, target, ids, mended, kinds, messages, as_named, found)


def _may_be_mouse(names: Sequence[str], genome_of: Sequence[str], species: str | None) -> bool:
    """Whether rows are mouse genes, so that Cd19 is no antibody: by --species, a genome, or their names."""
    if species == MOUSE or any(genome_of):
        return species == MOUSE or any(map(SPECIES[MOUSE].genome.match, set(genome_of)))
    return told_by(names, [""] * len(names))[0] == MOUSE


def _without_parts(names: list[str], ids: list[str]) -> tuple[list[str], list[str], np.ndarray | None, list[str]]:
    """Names and ids without the endings of rows that hold parts of a gene's counts.

    Returns
    -------
    names, ids, gene_of, endings
        `gene_of` is int64, one a row: the first row of the same gene; None where no row holds a part.
    """
    by_names, by_ids = parts_of_genes(names), parts_of_genes(ids)
    found = by_ids or by_names
    if found is None:
        return names, ids, None, []
    return by_names[1] if by_names else names, by_ids[1] if by_ids else ids, found[0], found[2]


def _is_missing(text: str) -> bool:
    return str(text).strip().lower() in MISSING


def _counted(kinds: np.ndarray) -> dict[str, int]:
    return {
        str(kind): int(number) for kind, number in zip(*np.unique(kinds.astype(str), return_counts=True), strict=True)
    }


def _kinds_by_type(types: Sequence[str] | None, features: int, messages: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """What features are by their types, "" for genes; and which are genes by an explicit type."""
    kinds, typed = np.full(features, "", dtype=object), np.zeros(features, dtype=bool)
    if types is None:
        return kinds, typed
    words = [str(kind).strip() for kind in types]
    plain = [word.lower().replace("_", " ") for word in words]
    has_genes = any(word in _GENE_TYPES for word in plain)
    missing = 0
    for row, (word, low) in enumerate(zip(words, plain, strict=True)):
        if low in MISSING:
            missing += 1
        elif low in _GENE_TYPES:
            typed[row] = True
        # biotypes (protein_coding) say nothing where no feature has a type of 10x
        elif has_genes or _OTHER_TYPES.search(low):
            kinds[row] = word
    if missing and missing < features:
        messages.append(f"{missing} features have no feature type; what they are was told by their names.")
    return kinds, typed


def several_genomes(species: str, genomes: Sequence[str], where: str) -> UserError:
    """The error for a matrix of several genomes, not one of which is the species'."""
    spoken = SPECIES[species].spoken
    return UserError(
        f"The matrix has several genomes, and which one is {spoken} cannot be told.",
        where=where,
        found=", ".join(genomes),
        expected="one genome whose name begins with GRCh, hg, human or T2T"
        if species == HUMAN
        else f"one genome of {spoken}",
        fix=f"Give a matrix with the {spoken} genes only, or name the species that is meant by --species.",
    )


def _without_other_genomes(
    kinds: np.ndarray, genome_of: Sequence[str], species: str, where: str, messages: list[str]
) -> np.ndarray:
    """The kinds, with genes of other genomes than that of the species named so."""
    genome = SPECIES[species].genome
    present = sorted({name for name, kind in zip(genome_of, kinds, strict=True) if not kind and name})
    if not present or (len(present) == 1 and genome.match(present[0])):
        return kinds
    own = [name for name in present if genome.match(name)]
    # genes without a genome are of the species where the others are not
    bare = any(not name and not kind for name, kind in zip(genome_of, kinds, strict=True))
    if len(own) > 1 or (len(present) > 1 and not own and not bare):
        raise several_genomes(species, present, where)
    if not own and not bare:
        return kinds
    kept = own[0] if own else "genes without a genome's name"
    messages.append(f"The matrix has the genomes {', '.join(present)}; only {kept} goes on.")
    made = kinds.copy()
    for row, name in enumerate(genome_of):
        if not kinds[row] and name and name not in own:
            made[row] = f"{GENE_EXPRESSION} ({name})"
    return made


def known_share(names: Sequence[str]) -> float:
    """`spikgpt.base.genes.known_share`, whatever stands before or after the names."""
    return gene_names.known_share([AMPLICON.sub(r"\g<symbol>", name) for name in without_genome(names)[0]])


def types_and_genomes(var: pd.DataFrame) -> tuple[list[str] | None, list[str] | None]:
    """The columns of an AnnData's var that say what its features are, and of which genome."""

    def texts(column: str) -> list[str]:
        values = var[column]
        return values.astype(object).where(values.notna(), "").astype(str).tolist()

    types = None
    for column in TYPE_COLUMNS:
        if column in var and types is None:
            plain = {value.strip().lower().replace("_", " ") for value in texts(column)}
            if plain & _GENE_TYPES or any(map(_OTHER_TYPES.search, plain)):
                types = texts(column)
    genomes = next((texts(column) for column in GENOME_COLUMNS if column in var), None)
    return types, genomes


def symbol_column(var: pd.DataFrame, symbol_col: str | None, where: str) -> tuple[list[str], str]:
    """The column of var that names the genes, and what to call it.

    The index, unless it holds Ensembl ids or nothing known while a column holds more known names.
    """
    index = [str(name) for name in var.index]
    if symbol_col and symbol_col != "index":
        return _given_column(var, symbol_col, "symbol_col", where), f"var column {symbol_col}"
    if symbol_col == "index":
        return index, "var index"
    if not gene_names.looks_like_ids(index) and known_share(index) >= 0.5:
        return index, "var index"
    best, share, place = index, known_share(index), "var index"
    if gene_names.looks_like_ids(index):
        share = 0.3  # symbols are worth more than ids that a table must translate
    for column in var.columns:
        if var[column].dtype.kind in "OSUT" or isinstance(var[column].dtype, pd.CategoricalDtype | pd.StringDtype):
            values = var[column].astype(str).tolist()
            known = known_share(values)
            if known > share and not gene_names.looks_like_ids(values):
                best, share, place = values, known, f"var column {column}"
    return best, place


def id_column(var: pd.DataFrame, geneid_col: str | None, where: str) -> list[str] | None:
    """The column of var (or its index) that holds Ensembl ids; None when there is none."""
    if geneid_col and geneid_col != "index":
        return _given_column(var, geneid_col, "geneid_col", where)
    candidates = {"index": [str(name) for name in var.index]}
    for column in var.columns:
        if var[column].dtype.kind in "OSUT" or isinstance(var[column].dtype, pd.CategoricalDtype | pd.StringDtype):
            candidates[str(column)] = var[column].astype(str).tolist()
    return next((v for v in candidates.values() if gene_names.looks_like_ids(without_genome(v)[0])), None)


def _given_column(var: pd.DataFrame, column: str, parameter: str, where: str) -> list[str]:
    if column not in var:
        raise UserError(
            f"var has no column {column!r}.",
            where=where,
            found=f"columns {', '.join(map(str, var.columns)) or 'none'}, and the index",
            expected=f"{parameter}: one of these, or index",
            fix=f"Correct {parameter} in the samplesheet.",
        )
    return [str(value) for value in var[column]]
