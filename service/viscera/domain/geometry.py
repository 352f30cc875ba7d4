"""Where voxels lie: world is LPS in mm, at voxel centres (DICOM PS3.3 C.7.6.2.1.1)."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from viscera.domain.arrays import Affine, read_only
from viscera.errors import GeometryMismatch

_LETTERS = (("L", "R"), ("P", "A"), ("S", "I"))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Geometry:
    """A regular grid in the patient.

    Parameters
    ----------
    shape
        (slices, rows, columns).
    affine_lps
        4x4, index (slice, row, column, 1) to LPS mm. May be oblique or sheared by gantry tilt.
    """

    shape: tuple[int, int, int]
    affine_lps: Affine

    def __post_init__(self) -> None:
        affine = np.array(self.affine_lps, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise GeometryMismatch("the affine must be 4x4 and finite; check the position tags")
        if min(self.shape) < 1 or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise GeometryMismatch(f"no volume spans shape {self.shape} with this affine")
        object.__setattr__(self, "affine_lps", read_only(affine))

    @classmethod
    def from_planes(
        cls,
        shape: tuple[int, int, int],
        first_position_lps: np.ndarray,
        slice_step_lps: np.ndarray,
        orientation_lps: tuple[float, ...],
        spacing_mm: tuple[float, float],
    ) -> Self:
        """Build from DICOM's plane attributes.

        Parameters
        ----------
        shape
            (slices, rows, columns).
        first_position_lps
            ImagePositionPatient of slice 0.
        slice_step_lps
            Vector from one slice's position to the next.
        orientation_lps
            ImageOrientationPatient: direction along a row, then down a column.
        spacing_mm
            PixelSpacing: (between rows, between columns).
        """
        affine = np.eye(4)
        affine[:3, 0] = slice_step_lps
        affine[:3, 1] = np.asarray(orientation_lps[3:]) * spacing_mm[0]
        affine[:3, 2] = np.asarray(orientation_lps[:3]) * spacing_mm[1]
        affine[:3, 3] = first_position_lps
        return cls(shape=shape, affine_lps=affine)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbours along (slice, row, column), in mm."""
        steps = np.linalg.norm(self.affine_lps[:3, :3], axis=0)
        return (float(steps[0]), float(steps[1]), float(steps[2]))

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in mL; right for sheared grids too."""
        return abs(float(np.linalg.det(self.affine_lps[:3, :3]))) / 1000.0

    @property
    def axes(self) -> str:
        """Three letters: towards which side each index grows, nearest axis, e.g. ``"SPL"``."""
        directions = self.affine_lps[:3, :3] / np.linalg.norm(self.affine_lps[:3, :3], axis=0)
        letters = [""] * 3
        free_world, free_index = {0, 1, 2}, {0, 1, 2}
        while free_index:
            world, index = max(
                ((w, i) for w in free_world for i in free_index),
                key=lambda pair: abs(directions[pair]),
            )
            letters[index] = _LETTERS[world][0 if directions[world, index] > 0 else 1]
            free_world.remove(world)
            free_index.remove(index)
        return "".join(letters)

    def to_lps(self, indices: np.ndarray) -> np.ndarray:
        """Map (n, 3) voxel indices to (n, 3) LPS points in mm."""
        points: np.ndarray = indices @ self.affine_lps[:3, :3].T + self.affine_lps[:3, 3]
        return points

    def to_index(self, points_lps: np.ndarray) -> np.ndarray:
        """Map (n, 3) LPS points in mm to (n, 3) fractional voxel indices."""
        inverse = np.linalg.inv(self.affine_lps[:3, :3])
        indices: np.ndarray = (points_lps - self.affine_lps[:3, 3]) @ inverse.T
        return indices

    def same_grid(self, other: "Geometry", tolerance_mm: float = 0.01) -> bool:
        """Whether both grids have one shape and agree at every corner within `tolerance_mm`."""
        if self.shape != other.shape:
            return False
        last = np.array(self.shape) - 1
        corners = np.array(np.meshgrid(*[(0, n) for n in last])).reshape(3, -1).T
        gap = self.to_lps(corners) - other.to_lps(corners)
        return bool(np.abs(gap).max() <= tolerance_mm)


def axes_transform(source: str, target: str) -> tuple[tuple[int, int, int], tuple[bool, ...]]:
    """Return how to turn an array with axes `source` into one with axes `target`.

    Parameters
    ----------
    source, target
        Letters as :attr:`Geometry.axes` gives them.

    Returns
    -------
    tuple
        ``(permutation, flips)``: ``array.transpose(permutation)``, then reverse each axis k
        where ``flips[k]``.

    Raises
    ------
    GeometryMismatch
        If the letters do not name three different directions.
    """
    pairs = [set(pair) for pair in _LETTERS]
    which = [
        {next((k for k, p in enumerate(pairs) if c in p), -1) for c in s} for s in (source, target)
    ]
    if any(w != {0, 1, 2} or len(s) != 3 for w, s in zip(which, (source, target), strict=True)):
        raise GeometryMismatch(f"axes {source!r} and {target!r} must name three directions each")
    permutation, flips = [], []
    for letter in target:
        pair = next(p for p in pairs if letter in p)
        k = next(i for i, c in enumerate(source) if c in pair)
        permutation.append(k)
        flips.append(source[k] != letter)
    return (permutation[0], permutation[1], permutation[2]), tuple(flips)


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
