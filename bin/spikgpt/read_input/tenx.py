"""Cell Ranger's .h5, and what CellBender makes of it."""

from collections.abc import Iterator
from pathlib import Path

import h5py
from scipy import sparse

from spikgpt.base import guards
from spikgpt.base.errors import UserError
from spikgpt.base.species import HUMAN, SPECIES
from spikgpt.read_input.features import GENE_EXPRESSION, select_genes, several_genomes
from spikgpt.read_input.sources import Read, Source, csr_blocks


def read_10x_h5(path: Path, species: str | None = None) -> Read:
    """Cell Ranger's .h5, version 2 (a group for every genome) or 3 and later.

    scanpy.read_10x_h5 holds the whole matrix in memory, several times and with 64-bit places; a raw matrix
    may not fit. It is CSR of barcodes x features on disk already, so blocks of it are read by h5py.
    """
    with h5py.File(path, "r") as file:
        groups = sorted(file.keys())
        genomes = [g for g in groups if isinstance(file[g], h5py.Group) and "barcodes" in file[g]]
        other_genomes: dict[str, int] = {}
        messages: list[str] = []
        if "matrix" in groups:
            group = "matrix"
        elif genomes:
            group, other_genomes, messages = _own_group(file, genomes, species or HUMAN, path)
        else:
            raise UserError(
                "This .h5 is not a 10x matrix.",
                where=str(path),
                found=f"groups {', '.join(groups[:8])}" if groups else "an empty file",
                expected="filtered_feature_bc_matrix.h5 or raw_feature_bc_matrix.h5 of Cell Ranger "
                "(not molecule_info.h5)",
                fix="Give the matrix .h5, or name the file .h5ad if it is one.",
            )
        stored = file[group]

        def text(*names: str) -> list[str] | None:
            found = next((stored[name] for name in names if name in stored), None)
            return None if found is None else [str(value) for value in found.asstr()[:]]

        features, cells = (int(n) for n in stored["shape"][:])
        barcodes, ids = text("barcodes"), text("features/id", "genes")
        names, types = text("features/name", "gene_names"), text("features/feature_type")
        genome_of = text("features/genome")
        values = len(stored["data"])
    if barcodes is None or ids is None or names is None:
        raise ValueError("no barcodes or no features")
    guards.check_shape(cells, features, path.name)

    def blocks() -> Iterator[sparse.csr_matrix]:
        with h5py.File(path, "r") as file:
            yield from csr_blocks(file[group], features)

    return Read(
        Source((cells, features), values, blocks),
        barcodes=barcodes,
        features=select_genes(ids, names, types, genome_of, path.name, species),
        format="10x h5",
        counts_from=f"{group}/data",
        where=path.name,
        other_genomes=other_genomes,
        messages=messages,
    )


def _own_group(file: h5py.File, genomes: list[str], species: str, path: Path) -> tuple[str, dict[str, int], list[str]]:
    """Of a file of Cell Ranger 2, the group of the species' genome, and the genes of the others."""
    own = [g for g in genomes if SPECIES[species].genome.match(g)]
    if len(genomes) > 1 and len(own) != 1:
        raise several_genomes(species, genomes, str(path))
    genome = own[0] if len(genomes) > 1 else genomes[0]
    left_out = {f"{GENE_EXPRESSION} ({g})": len(file[g]["genes"]) for g in genomes if g != genome}
    messages = [f"The matrix holds the genomes {', '.join(genomes)}; only {genome} goes on."] if left_out else []
    return genome, left_out, messages
