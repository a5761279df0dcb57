"""The bundled library of mean expression profiles, and how its genes are found in a sample.

Its folder `assets/cell_profiles` says where the profiles come from; tools/assets/make_cell_profiles.py makes it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from spikgpt.base.errors import UserError
from spikgpt.base.tsv import read_tsv

TENSORS, GENES, PROFILES, CLASSES = "profiles.safetensors", "genes.tsv", "profiles.tsv", "classes.tsv"
"""Files of the folder."""
SCALE = 10.0
"""log1p CP10k that the largest code stands for; log1p of 10,000 is 9.2."""

Floats = NDArray[np.float64]


def encoded(values: Floats) -> NDArray[np.uint8]:
    """log1p CP10k in one byte, finer near zero: the code is the square root's."""
    return np.rint(255 * np.sqrt(values / SCALE)).astype(np.uint8)


def decoded(codes: NDArray[np.uint8]) -> Floats:
    """The opposite of `encoded`."""
    return SCALE * (codes / 255.0) ** 2


@dataclass
class Library:
    """Mean profiles of cell types.

    ``genes`` symbols and ``gene_ids`` Ensembl ids ("" where none is known) of the rows of ``values`` (genes,
    profiles), log1p of counts per 10,000. ``profiles`` has a row for each profile: study, source, type,
    cell_type_ontology_term_id, cell_type, class. ``classes`` are the broad classes in order, ``codes`` (profiles,)
    the class of each profile; ``merged`` names what is said where two classes are likely together, with the two.
    ``terms`` are the terms of the Cell Ontology that a class, or two together, cover, the main one first. ``digest`` is
    the sha256 of the files.
    """

    genes: list[str]
    gene_ids: list[str]
    values: Floats
    profiles: pd.DataFrame
    classes: list[str]
    codes: NDArray[np.int64]
    merged: dict[str, tuple[str, str]]
    terms: dict[str, tuple[str, ...]]
    digest: str = ""

    @classmethod
    def read(cls, folder: str | Path) -> "Library":
        """Read the folder.

        Raises
        ------
        UserError
            A file is absent or broken, or they do not belong together.
        """
        folder = Path(folder)
        try:
            values = decoded(load_file(folder / TENSORS)["log1p_cp10k"])
            genes, profiles, classes = (read_tsv(folder / name) for name in (GENES, PROFILES, CLASSES))
            if values.shape != (len(genes), len(profiles)):
                raise ValueError(f"{values.shape} values for {len(genes)} genes and {len(profiles)} profiles")
            names = classes.loc[classes["members"] == "", "class"].tolist()
            codes = np.array([names.index(name) for name in profiles["class"]])
            merged = {}
            for name, members in zip(classes["class"], classes["members"], strict=True):
                if members:
                    first, second = members.split("|")
                    merged[name] = (names[names.index(first)], names[names.index(second)])
            terms = {name: tuple(text.split()) for name, text in zip(classes["class"], classes["terms"], strict=True)}
            digest = hashlib.sha256()
            for name in (TENSORS, GENES, PROFILES, CLASSES):
                digest.update((folder / name).read_bytes())
            return cls(
                genes["gene"].tolist(), genes["gene_id"].tolist(), values, profiles, names, codes, merged, terms,
                digest.hexdigest(),
            )  # fmt: skip
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise UserError(
                "The library of cell profiles cannot be read.",
                where=str(folder),
                found=str(error),
                expected=f"{TENSORS}, {GENES}, {PROFILES} and {CLASSES} that belong together",
                fix="Take assets/cell_profiles of this version of the pipeline.",
            ) from error

    def columns_in(self, symbols: Sequence[str], gene_ids: Sequence[str]) -> NDArray[np.int64]:
        """Column ``(genes,)`` of each of the library's genes in a sample, -1 where the sample does not have it.

        A gene is found by its Ensembl id, else by its symbol. Letter case is never changed: mouse genes are not found.
        """
        by_id = {gene_id: at for at, gene_id in enumerate(gene_ids) if gene_id}
        by_symbol = {symbol: at for at, symbol in enumerate(symbols)}
        found = [
            by_id.get(gene_id, by_symbol.get(gene, -1)) if gene_id else by_symbol.get(gene, -1)
            for gene, gene_id in zip(self.genes, self.gene_ids, strict=True)
        ]
        return np.array(found, dtype=np.int64)
