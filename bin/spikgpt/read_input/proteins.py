"""Antibody and hashtag counts of a sample, which stand beside the genes in the file of the counts."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from spikgpt.base.gene_rows import ANTIBODY, TAG
from spikgpt.base.h5ad import cell_frame, new_h5ad, write_csr, write_frame
from spikgpt.read_input.raw_counts import fault
from spikgpt.read_input.sources import Read

_WORDS = re.compile(
    r"antibod|\badt|\bhto|hashtag|multiplexing|protein|\bprot\b|abseq|cite|surface|\bcmo|sample.?tag", re.IGNORECASE
)
"""Feature types of antibodies and hashtags, in the words of 10x, BD, MuData and their users; not of guides, peaks,
antigens or spike-ins."""
_CUSTOM = "custom"
"""10x's feature type for whatever has no other, hashtags and guides alike: there the names tell."""
_HASHTAG = re.compile(r"hashtag|(?<![a-z])(?:hto|cmo|lmo)|sample.?tag", re.IGNORECASE)


def protein_columns(read: Read) -> np.ndarray:
    """The columns of the source that are antibodies or hashtags, int64."""
    kinds = read.features.left_out.astype(str)
    chosen = [kind for kind in set(kinds) if kind in (ANTIBODY, TAG) or _WORDS.search(kind)]
    found = np.isin(kinds, chosen)
    for column in np.flatnonzero(np.char.lower(kinds) == _CUSTOM):
        found[column] = bool(_HASHTAG.search(read.features.as_named[column]))
    return np.flatnonzero(found)


def write_proteins(read: Read, barcodes: np.ndarray, kept: np.ndarray, out: str | Path) -> list[str]:
    """Write the counts of antibodies and hashtags, a block of cells at a time; nothing where there are none.

    Parameters
    ----------
    read
        What the reader found; its source is read once more.
    barcodes, kept
        Of all cells of the source, and bool: which of them are written.
    out
        The h5ad to write: X int32 CSR (cells x features); obs index barcode; var index name as in the file, where two
        are the same with its number behind, column feature_type.

    Returns
    -------
    Messages: the counts are left out where they are not whole numbers (normalised, denoised).
    """
    columns = protein_columns(read)
    if not len(columns):
        return []
    names = pd.Series([read.features.as_named[column] for column in columns], dtype=object)
    again = names.groupby(names).cumcount()
    names = names.where(again == 0, names + "-" + (again + 1).astype(str))
    found: list[str] = []

    def blocks() -> Iterator[sparse.csr_matrix]:
        start = 0
        for block in read.source.blocks():
            rows = kept[start : start + block.shape[0]]
            start += block.shape[0]
            own = sparse.csr_matrix(block[rows][:, columns])
            own.sum_duplicates()
            wrong = fault(own.data)
            if wrong:
                found.append(wrong)
                return
            own.eliminate_zeros()
            yield sparse.csr_matrix((own.data.astype(np.int32), own.indices, own.indptr), shape=own.shape)

    with new_h5ad(out) as file:
        write_csr(file, "X", blocks(), len(columns), np.int32, read.source.values)
        write_frame(file, "obs", cell_frame(barcodes[kept]))
        kinds = read.features.left_out[columns].astype(str).astype(object)
        var = pd.DataFrame({"feature_type": kinds}, index=pd.Index(names, dtype=object, name="feature"))
        write_frame(file, "var", var)
    if found:
        Path(out).unlink()
        return [f"Antibody and hashtag counts are not carried, since they are no raw counts: {found[0]}."]
    return []
