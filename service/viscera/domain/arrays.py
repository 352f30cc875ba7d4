"""Array shapes, written once. Axes are (slice, row, column); channel or class comes first."""

import numpy as np
from jaxtyping import Bool, Float32, Float64, Shaped, UInt8

Affine = Float64[np.ndarray, "4 4"]
"""Index (slice, row, column, 1) to LPS millimetres."""

Voxels = Shaped[np.ndarray, "slice row column"]
"""Rescaled intensities: int16 where every value is a whole number that fits, else float32."""

Mask = Bool[np.ndarray, "slice row column"]

Labels = UInt8[np.ndarray, "slice row column"]
"""Label map on the source grid; 0 is background."""

ModelImage = Float32[np.ndarray, "channel z y x"]
"""Normalised input on the model's grid and axes."""

Tiles = Float32[np.ndarray, "tile channel z y x"]

Logits = Float32[np.ndarray, "tile label z y x"]


def read_only(array: np.ndarray) -> np.ndarray:
    """Return a view of `array` that cannot be written through."""
    view = array.view()
    view.flags.writeable = False
    return view
