"""AnnData on disk, h5ad and zarr: where its raw counts are, in blocks of cells."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from scipy import sparse

from spikgpt.base import guards
from spikgpt.base.errors import UserError
from spikgpt.base.h5ad import BLOCK, matrix_blocks
from spikgpt.read_input.features import id_column, select_genes, symbol_column, types_and_genomes
from spikgpt.read_input.places import RAW_LAYERS, choose
from spikgpt.read_input.raw_counts import CHUNK, fault, not_raw
from spikgpt.read_input.sources import DAMAGE, Read, Source, csr_blocks, first_line


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
    usual = [layer for name in RAW_LAYERS for layer in layers if layer.lower() == name]

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


def _asked_for(path: Path, places: dict[str, str], counts_layer: str) -> str:
    """The place that counts_layer names."""
    wanted = [counts_layer, f"layers/{counts_layer}", counts_layer.replace("raw.X", "raw/X")]
    place = next((place for place in wanted if place in places), None)
    if place is None:
        raise UserError(
            f"The layer {counts_layer!r} does not exist.",
            where=str(path),
            found=", ".join(map(_spoken, places)),
            expected="counts_layer: X, raw.X or the name of a layer",
            fix="Correct counts_layer in the samplesheet.",
        )
    return place


def read_anndata(
    path: Path,
    symbol_col: str | None = None,
    geneid_col: str | None = None,
    counts_layer: str | None = None,
    species: str | None = None,
) -> Read:
    """h5ad or zarr: raw counts of X, raw.X or layers (`spikgpt.read_input.places.choose`), or of `counts_layer`."""
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
        if not places:
            raise UserError(
                "The file has no matrix.",
                where=str(path),
                found="neither X nor raw.X nor a layer",
                expected="raw counts in X, raw.X or a layer",
                fix="Write the AnnData with its counts.",
            )
        messages: list[str] = []
        for place in places:
            guards.check_shape(_shape(store[place])[0], _shape(store[place])[1], path.name)
        if counts_layer:
            asked = _asked_for(path, places, counts_layer)
            why = _glance(store[asked])
            if why is not None and not why.startswith("fractions"):
                raise not_raw(f"{_spoken(asked)} has {why}", path.name)
            parts, source = [asked], _source(path, asked)
        else:
            faults = {_spoken(place): _glance(store[place]) for place in places}
            chosen = choose({_spoken(place): _source(path, place) for place in places}, faults, path.name, messages)
            parts, source = [place for place in places if _spoken(place) in chosen.parts], chosen.source
        var = _frame(store, places[parts[0]])
        obs = _frame(store, "obs")
    named = " + ".join(map(_spoken, parts))
    names, names_from = symbol_column(var, symbol_col, path.name)
    types, genomes = types_and_genomes(var)
    return Read(
        source,
        barcodes=[str(barcode) for barcode in obs.index],
        features=select_genes(id_column(var, geneid_col, path.name), names, types, genomes, path.name, species),
        format="zarr" if path.is_dir() else "h5ad",
        counts_from=named,
        where=f"{path.name}, {named}",
        symbols_from=names_from,
        obs=obs,
        messages=messages,
    )


def _frame(store: Any, key: str) -> pd.DataFrame:
    """`obs` or `var`; before anndata 0.7 a table of records, with the categories of its columns in `uns`."""
    if not (isinstance(store[key], h5py.Dataset) and store[key].dtype.names):
        return _element(store[key])
    guards.check_hdf5(Path(store.filename), unread=())
    records = store[key][:]

    def text(values: np.ndarray) -> np.ndarray:
        if values.dtype.kind == "S" or (values.dtype == object and len(values) and isinstance(values[0], bytes)):
            return np.array([value.decode("utf-8", "replace") for value in values], dtype=object)
        return values

    columns = {name: text(records[name]) for name in records.dtype.names}
    index = next((name for name in ("index", "_index") if name in columns), next(iter(columns)))
    made = pd.DataFrame({name: values for name, values in columns.items() if name != index}, index=columns[index])
    for name in made.columns:
        place = f"uns/{name}_categories"
        if key == "obs" and made[name].dtype.kind in "iu" and place in store:
            categories = text(np.asarray(store[place][:]))
            made[name] = pd.Categorical.from_codes(made[name].to_numpy(), categories=pd.Index(categories))
    return made


def _spoken(place: str) -> str:
    return "raw.X" if place in ("raw/X", "raw.X") else place.replace("layers/", "layers: ")


def _shape(element: Any) -> tuple[int, ...]:
    if _is_sparse(element):
        return tuple(int(n) for n in element.attrs.get("shape", element.attrs.get("h5sparse_shape", (1, 1))))
    return tuple(element.shape)
