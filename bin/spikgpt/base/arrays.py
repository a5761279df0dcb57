"""Types of arrays that many modules name."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Flags = NDArray[np.bool_]
Codes = NDArray[np.int64]
"""Whole numbers: codes of classes, positions of cells or genes."""
