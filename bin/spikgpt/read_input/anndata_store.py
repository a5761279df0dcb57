"""AnnData on disk, h5ad and zarr: where its raw counts are, in blocks of cells."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
from scipy import sparse

from spikgpt.base import guards
from spikgpt.base.errors import UserError
from spikgpt.base.h5ad import BLOCK, matrix_blocks
from spikgpt.read_input.features import gene_expression_only, id_column, symbol_column
from spikgpt.read_input.raw_counts import CHUNK, fault, not_raw, restore_log1p
from spikgpt.read_input.sources import DAMAGE, Read, Source, csr_blocks, first_line

RAW_LAYERS = ("counts", "raw_counts", "raw", "umi", "umis", "count", "spliced_unspliced", "matrix")


# --- AnnData on disk: h5ad and zarr -------------------------------------------------------------------


@contextmanager
def _store(path: Path) -> Iterator[Any]:
    """An h5ad or zarr as a mapping of groups; both are read by anndata's `read_elem`."""
    if path.is_dir():
        import zarr

        yield zarr.open_group(path, mode="r")
    else:
        with h5py.File(path, "r") as file:
            yield file


def _element(element: Any) -> Any:
    """What anndata reads from a group; ValueError where it knows no way to."""
    try:
        return ad.io.read_elem(element)
    except DAMAGE:
        raise
    except Exception as error:  # anndata's own kind of error for that is private
        raise ValueError(first_line(error)) from error


def _is_sparse(element: Any) -> bool:
    return str(element.attrs.get("encoding-type", "")) in (
        "csr_matrix",
        "csc_matrix",
    ) or "h5sparse_format" in dict(element.attrs)


def _glance(element: Any) -> str | None:
    """`fault` of the first values of a stored matrix, without loading it."""
    if _is_sparse(element):
        return fault(np.asarray(element["data"][:CHUNK]))
    rows = max(1, CHUNK // max(1, element.shape[-1]))
    return fault(np.asarray(element[:rows]))


def _source(path: Path, place: str) -> Source:
    """A matrix of an AnnData: CSR and dense ones in blocks of cells, CSC whole, since its cells lie scattered."""
    with _store(path) as store:
        shape, is_sparse = _shape(store[place]), _is_sparse(store[place])
        values = int(store[place]["data"].shape[0]) if is_sparse else shape[0] * shape[1]

    def blocks() -> Iterator[sparse.csr_matrix]:
        with _store(path) as store:
            element = store[place]
            if not is_sparse:
                rows = max(1, BLOCK // shape[1])
                for start in range(0, shape[0], rows):
                    yield sparse.csr_matrix(np.asarray(element[start : start + rows]))
            elif "csr" in str(element.attrs.get("encoding-type", element.attrs.get("h5sparse_format"))):
                yield from csr_blocks(element, shape[1])
            else:
                loaded = _element(element)
                loaded.check_format(full_check=True)
                for _, block in matrix_blocks(sparse.csr_matrix(loaded)):
                    yield block

    return Source((shape[0], shape[1]), values, blocks)


def _places_of_counts(store: Any) -> dict[str, str]:
    """Where an AnnData may keep counts, best first: name -> the group whose var names its columns."""
    layers = list(store["layers"].keys()) if "layers" in store else []
    usual = [name for name in RAW_LAYERS if name in layers]

    # an AnnData without X or raw stores nothing, or "null"
    def has(name: str) -> bool:
        return name in store and store[name].attrs.get("encoding-type") != "null"

    places = {"X": "var"} if has("X") else {}
    if has("raw") and "X" in store["raw"]:
        places["raw/X"] = "raw/var"
    elif "raw.X" in store:  # anndata before 0.7
        places["raw.X"] = "raw.var"
    for name in [*usual, *sorted(set(layers) - set(usual))]:
        places[f"layers/{name}"] = "var"
    return places


def read_anndata(
    path: Path,
    symbol_col: str | None = None,
    geneid_col: str | None = None,
    counts_layer: str | None = None,
) -> Read:
    """h5ad or zarr: the first place that holds raw counts of X, raw.X, the layers; or `counts_layer`."""
    with _store(path) as store:
        if "obs" not in store or "var" not in store:
            raise UserError(
                "The file is not an AnnData.",
                where=str(path),
                found=f"groups {', '.join(sorted(store.keys())[:8]) or 'none'}",
                expected="X, obs and var",
                fix="Write it with anndata's write_h5ad or write_zarr.",
            )
        places = _places_of_counts(store)
        if counts_layer and counts_layer != "X":
            wanted = {f"layers/{counts_layer}", counts_layer.replace("raw.X", "raw/X"), counts_layer} & set(places)
            if not wanted:
                raise UserError(
                    f"The layer {counts_layer!r} does not exist.",
                    where=str(path),
                    found=", ".join(_spoken(place) for place in places),
                    expected="counts_layer: X, raw.X or the name of a layer",
                    fix="Correct counts_layer in the samplesheet.",
                )
            places = {place: places[place] for place in places if place in wanted}
        elif counts_layer == "X":
            places = {"X": "var"}
        if not places:
            raise UserError(
                "The file holds no matrix.",
                where=str(path),
                found="neither X nor raw.X nor a layer",
                expected="raw counts in X, raw.X or a layer",
                fix="Write the AnnData with its counts.",
            )
        faults = {place: _glance(store[place]) for place in places}
        chosen = next((place for place, found in faults.items() if found is None), None)
        messages: list[str] = []
        if chosen is None:
            chosen = _restorable(path, faults)
        cells, genes = _shape(store[chosen])[:2]
        guards.check_shape(cells, genes, path.name)
        if chosen != "X" and not counts_layer and "X" in faults:
            messages.insert(0, f"X holds {faults['X']}; the raw counts of {_spoken(chosen)} are used.")
        var = _element(store[places[chosen]])
        obs = _element(store["obs"])
    names, names_from = symbol_column(var, symbol_col, path.name)
    ids = id_column(var, geneid_col, path.name)
    types = var["feature_types"].astype(str).tolist() if "feature_types" in var else None
    genomes = var["genome"].astype(str).tolist() if "genome" in var else None
    known_ids = ids if ids is not None else [""] * len(names)
    columns, known_ids, names, left_out, said = gene_expression_only(known_ids, names, types, genomes, path.name)
    return Read(
        _source(path, chosen),
        barcodes=[str(b) for b in obs.index],
        names=names,
        gene_ids=known_ids,
        chosen=columns,
        format="zarr" if path.is_dir() else "h5ad",
        counts_from=_spoken(chosen),
        where=f"{path.name}, {_spoken(chosen)}",
        symbols_from=names_from,
        obs=obs,
        feature_types_left_out=left_out,
        messages=[*messages, *said],
    )


def _spoken(place: str) -> str:
    return "raw.X" if place in ("raw/X", "raw.X") else place.replace("layers/", "layers: ")


def _shape(element: Any) -> tuple[int, ...]:
    if _is_sparse(element):
        return tuple(int(n) for n in element.attrs.get("shape", element.attrs.get("h5sparse_shape", (1, 1))))
    return tuple(element.shape)


def _restorable(path: Path, faults: dict[str, str | None]) -> str:
    """The first place whose first cells allow to restore log1p values; else the error that tells of every place."""
    for place, found in faults.items():
        # only fractions can be log1p of counts: negative values or NaN cannot, and need no loading
        if found is not None and found.startswith("fractions"):
            first = next(_source(path, place).blocks())
            if restore_log1p(first) is not None:
                return place
    seen = [f"{_spoken(place)} has {found}" for place, found in faults.items()]
    raise not_raw(seen[0], path.name, seen[1:])
