"""Types of arrays that many modules name, and the arrays of a dataclass by name."""

from dataclasses import fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Flags = NDArray[np.bool_]
Codes = NDArray[np.int64]
"""Whole numbers: codes of classes, positions of cells or genes."""
Arrays = dict[str, NDArray[Any]]
Holder = TypeVar("Holder")


def named(prefix: str, holder: object) -> Arrays:
    """Array fields of a dataclass under ``prefix.field``."""
    return {f"{prefix}.{f.name}": getattr(holder, f.name) for f in fields(holder)}  # type: ignore[arg-type]


def unnamed(prefix: str, kind: type[Holder], arrays: Arrays) -> Holder:
    """The dataclass whose array fields stand under ``prefix.field``."""
    return kind(**{f.name: arrays[f"{prefix}.{f.name}"] for f in fields(kind)})  # type: ignore[arg-type]
