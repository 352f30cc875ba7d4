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

    Where the volume has a padding mask, that is padding from the plane's edge inwards, and its
    neighbours in the plane. Padding within the body is none: some scanners give its value to gas
    and to flowing blood. Otherwise it is the inscribed circle, where the voxels show that there is
    one.
    """
    if volume.padding is not None:
        before, border = None, None
        for plane in volume.padding:
            if before is None or not np.array_equal(plane, before):  # mostly all are alike
                outside = _from_edges(plane)
                before, border = plane, _widened(outside) if outside.any() else None
            yield border
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


def _from_edges(plane: Plane) -> Plane:
    """Return what of `plane` goes on without a break to an edge, along its row or column."""
    outside: Plane = np.zeros_like(plane)
    if not plane.any():
        return outside
    for axis in (0, 1):
        for way in (slice(None), slice(None, None, -1)):
            seen = (way, slice(None)) if axis == 0 else (slice(None), way)
            outside[seen] |= np.logical_and.accumulate(plane[seen], axis=axis)
    return outside


def _widened(plane: Plane) -> Plane:
    """Return `plane` and its four neighbours."""
    wide = plane.copy()
    wide[1:] |= plane[:-1]
    wide[:-1] |= plane[1:]
    wide[:, 1:] |= plane[:, :-1]
    wide[:, :-1] |= plane[:, 1:]
    return wide
