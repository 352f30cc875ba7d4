"""Where measuring ends inside the array: padding, or the circle that a scanner leaves."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool

from viscera.domain.volumes import Volume

Plane = Bool[np.ndarray, "row column"]

_SAMPLED_SLICES = 7
_RIM_PX = 2.0
"""Voxels this near the circle count as touching it."""
_MIN_RIM_SHARE = 0.01
"""Share of the rim that must be lit before a dark outside is believed to be a cut."""


def border_planes(volume: Volume) -> Iterator[Plane | None]:
    """Yield for each slice the voxels at the edge of what was reconstructed; None: no edge.

    Where the volume has a padding mask, that is padding and its neighbours in the plane.
    Otherwise it is the inscribed circle, where the voxels show that there is one.
    """
    if volume.padding is not None:
        yield from (_widened(plane) if plane.any() else None for plane in volume.padding)
        return
    circle = outside_of_circle(volume)
    yield from (circle for _ in range(volume.geometry.shape[0]))


def outside_of_circle(volume: Volume) -> Plane | None:
    """Return the rim of the inscribed circle and all beyond it, or None where nothing was cut.

    A circle is believed when every voxel beyond it has one and the same value in all sampled
    slices, while its rim has other values too: a body that lies whole in even air keeps its rim
    even, and one that was not cut goes on beyond it. In doubt the answer is None.
    """
    _, rows, columns = volume.geometry.shape
    if rows != columns or rows < 16:
        return None
    sampled = _sampled(volume.voxels)
    squared = _squared_distance_from_centre(rows)
    beyond = squared > (rows / 2) ** 2
    rim = (squared > (rows / 2 - _RIM_PX) ** 2) & ~beyond
    outside = sampled[:, beyond]
    if outside.min() != outside.max():
        return None
    lit: float = np.mean(sampled[:, rim] != outside.flat[0])
    return rim | beyond if lit >= _MIN_RIM_SHARE else None


def _sampled(voxels: np.ndarray) -> np.ndarray:
    count = min(_SAMPLED_SLICES, len(voxels))
    sampled: np.ndarray = voxels[np.linspace(0, len(voxels) - 1, count).astype(int)]
    return sampled


def _squared_distance_from_centre(size: int) -> np.ndarray:
    axis = (np.arange(size) - (size - 1) / 2) ** 2
    squared: np.ndarray = axis[:, None] + axis[None, :]
    return squared


def _widened(plane: Plane) -> Plane:
    """Return `plane` and its four neighbours."""
    wide = plane.copy()
    wide[1:] |= plane[:-1]
    wide[:-1] |= plane[1:]
    wide[:, 1:] |= plane[:, :-1]
    wide[:, :-1] |= plane[:, 1:]
    return wide
