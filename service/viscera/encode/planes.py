"""Which two planes a picture shows, turned as a radiologist looks at them."""

from dataclasses import dataclass

import numpy as np

from viscera.domain.arrays import Labels
from viscera.domain.geometry import axes_transform, to_axes
from viscera.domain.volumes import Volume

STANDARD_AXES = "SPL"
"""Index grows upwards, to the back, to the patient's left."""
_STRIDE = 4
"""Organs are looked for on every fourth row and column: enough to choose a plane."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plane:
    """One cut through the volume: rows downwards and columns to the right on the picture."""

    title: str
    grey: np.ndarray
    """Intensities."""
    labels: np.ndarray
    pixel_mm: tuple[float, float]
    """(height, width) of a pixel."""
    letters: tuple[str, str, str, str]
    """What lies at (top, right, bottom, left)."""


def chosen_planes(labels: Labels, volume: Volume) -> tuple[Plane, Plane]:
    """Return the axial and the coronal plane that show most organs.

    Parameters
    ----------
    labels
        (slice, row, column) on the volume's grid.
    volume
        In any orientation; an oblique one is shown along its own nearest axes.

    Returns
    -------
    tuple
        Axial seen from the feet, coronal from the front: the patient's right is on the left.
    """
    axes = volume.geometry.axes
    seen, grey = (to_axes(array, axes, STANDARD_AXES) for array in (labels, volume.voxels))
    permutation, _ = axes_transform(axes, STANDARD_AXES)
    high, deep, wide = (volume.geometry.spacing_mm[axis] for axis in permutation)
    z, y = _fullest(seen, 0), _fullest(seen, 1)
    axial = Plane(
        title="Axial",
        grey=grey[z],
        labels=seen[z],
        pixel_mm=(deep, wide),
        letters=("A", "L", "P", "R"),
    )
    coronal = Plane(
        title="Coronal",
        grey=grey[::-1, y],
        labels=seen[::-1, y],
        pixel_mm=(high, wide),
        letters=("H", "L", "F", "R"),
    )
    return axial, coronal


def _fullest(labels: np.ndarray, axis: int) -> int:
    """Return the plane that shows most organs best: the square root keeps the liver from winning.

    Without a voxel it is the middle one.
    """
    planes = np.moveaxis(labels, axis, 0)[:, ::_STRIDE, ::_STRIDE]
    scores = [
        float(np.sqrt(np.bincount(plane.ravel(), minlength=256)[1:]).sum()) for plane in planes
    ]
    best = int(np.argmax(scores))
    return best if scores[best] > 0 else len(scores) // 2
