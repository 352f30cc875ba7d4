"""The one pass over a label map: sums per label, slice by slice, foreground voxels only."""

from dataclasses import dataclass

import numpy as np

from viscera.domain.arrays import Labels
from viscera.domain.volumes import Volume
from viscera.errors import GeometryMismatch
from viscera.measure.border import Plane, border_planes

_VALUES = 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tally:
    """What was counted; the first axis of every array is the label's value, 0..255."""

    count: np.ndarray
    """(256,) voxels."""
    total: np.ndarray
    """(256,) sum of intensities."""
    squares: np.ndarray
    """(256,) sum of squared intensities."""
    moments: np.ndarray
    """(256, 3) sums of the indices along (slice, row, column)."""
    occupied: tuple[np.ndarray, np.ndarray, np.ndarray]
    """Per axis (256, length): whether the label has a voxel there."""
    at_border: np.ndarray
    """(256,) whether a voxel touches the edge of what was reconstructed."""

    def span(self, value: int, axis: int) -> tuple[int, int]:
        """First and last index of a label that has voxels, along one axis."""
        indices = np.flatnonzero(self.occupied[axis][value])
        return int(indices[0]), int(indices[-1])


def tally(labels: Labels, volume: Volume) -> Tally:
    """Count every label of `labels` at once.

    Parameters
    ----------
    labels
        (slice, row, column), 0 is background. Need not be contiguous.
    volume
        Intensities on the same grid; memory beyond it is that of one slice.

    Raises
    ------
    GeometryMismatch
        If the shapes differ.
    """
    if labels.shape != volume.geometry.shape:
        raise GeometryMismatch(f"label map {labels.shape} on grid {volume.geometry.shape}")
    result = _empty(volume.geometry.shape)
    for index, border in enumerate(border_planes(volume)):
        plane = np.ascontiguousarray(labels[index])
        if plane.any():
            _add(result, index, plane, volume.voxels[index], border)
    return result


def _empty(shape: tuple[int, int, int]) -> Tally:
    slices, rows, columns = (np.zeros((_VALUES, length), dtype=bool) for length in shape)
    return Tally(
        count=np.zeros(_VALUES, dtype=np.int64),
        total=np.zeros(_VALUES),
        squares=np.zeros(_VALUES),
        moments=np.zeros((_VALUES, 3)),
        occupied=(slices, rows, columns),
        at_border=np.zeros(_VALUES, dtype=bool),
    )


def _add(
    result: Tally, index: int, plane: np.ndarray, voxels: np.ndarray, border: Plane | None
) -> None:
    where = np.flatnonzero(plane)
    values = plane.ravel()[where].astype(np.intp)
    rows, columns = np.divmod(where, plane.shape[1])
    intensities = voxels.ravel()[where].astype(np.float64)

    def sums(weights: np.ndarray) -> np.ndarray:
        return np.bincount(values, weights=weights, minlength=_VALUES)

    count = np.bincount(values, minlength=_VALUES)
    result.count[:] += count
    result.total[:] += sums(intensities)
    result.squares[:] += sums(intensities * intensities)
    result.moments[:, 0] += count * index
    result.moments[:, 1] += sums(rows)
    result.moments[:, 2] += sums(columns)
    result.occupied[0][:, index] = count > 0
    result.occupied[1][values, rows] = True
    result.occupied[2][values, columns] = True
    if border is not None:
        result.at_border[values[border.ravel()[where]]] = True
