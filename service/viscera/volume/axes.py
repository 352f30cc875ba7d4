"""Turning arrays between the source's axes and the model's."""

import numpy as np

from viscera.domain.geometry import axes_transform


def to_axes(array: np.ndarray, source_axes: str, target_axes: str) -> np.ndarray:
    """Return a view of `array` whose indices grow towards `target_axes`.

    Parameters
    ----------
    array
        (slice, row, column), on axes `source_axes`.
    source_axes, target_axes
        Letters as `Geometry.axes` gives them.

    Returns
    -------
    numpy.ndarray
        Permuted and flipped, never copied: writing to it writes to `array`.

    Raises
    ------
    GeometryMismatch
        If the letters do not name three different directions.
    """
    permutation, flips = axes_transform(source_axes, target_axes)
    steps = tuple(slice(None, None, -1 if flip else 1) for flip in flips)
    return array.transpose(permutation)[steps]
