"""A grid that shapes are painted on: HU with soft edges, labels with sharp ones."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from viscera.domain.geometry import Geometry
from viscera.phantom.shapes import Array, Bounds, Shape, Tube

Window = tuple[slice, slice, slice]
Paint = float | Callable[[Array, Array, Array, Array], Array]
"""HU, or HU from (x, y, z, distance) in canonical mm."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pose:
    """How the canonical body lies in the world."""

    scale: Array
    """World mm per canonical mm along x, y, z."""
    rotation: Array
    """Canonical directions to world directions, 3x3."""
    warp_mm: float
    """SD of the smooth displacement, canonical mm."""
    wavelength_mm: float = 90.0


class Canvas:
    """HU and labels on a grid, addressed in canonical mm.

    Parameters
    ----------
    geometry
        Axis-aligned grid with axes ``SPL``.
    pose
        Where the body lies; its warp is drawn from `rng`.
    rng
        Draws the same numbers whatever the grid is, so that one seed is one body.
    edge_mm
        World mm over which an edge is smeared; None: a voxel's mean width.
    """

    def __init__(
        self,
        geometry: Geometry,
        pose: Pose,
        rng: np.random.Generator,
        edge_mm: float | None = None,
    ) -> None:
        self.hu = np.full(geometry.shape, -1000, np.float32)
        self.labels = np.zeros(geometry.shape, np.uint8)
        self.spacing_mm = geometry.spacing_mm
        self._axes_mm = [
            geometry.affine_lps[2 - axis, 3] + np.arange(n) * geometry.spacing_mm[axis]
            for axis, n in enumerate(geometry.shape)
        ]
        self._to_world = pose.rotation @ np.diag(pose.scale)
        self._bend_mm = 0.0
        self.x, self.y, self.z = self._canonical(pose, rng)
        self.rough = [self._smooth_field(rng, 45.0) for _ in range(3)]
        dz, dy, dx = geometry.spacing_mm
        # How far an edge is smeared by partial volume: by default a voxel's mean width.
        width_mm = edge_mm or (dz * dy * dx) ** (1 / 3)
        self.edge_mm = np.float32(width_mm / np.prod(pose.scale) ** (1 / 3))

    def _smooth_field(self, rng: np.random.Generator, wavelength_mm: float) -> Array:
        """Return a random field of SD about 1 that is the same in the world for every grid."""
        reach_mm = 720.0  # of the lattice around the world's origin, in every direction
        knots = int(2 * reach_mm / wavelength_mm) + 4
        lattice = rng.standard_normal((knots, knots, knots)).astype(np.float32)
        along_z, along_y, along_x = (
            _spline_weights((np.clip(mm, -reach_mm, reach_mm) + reach_mm) / wavelength_mm, knots)
            for mm in self._axes_mm
        )
        used = tuple(
            slice(int(near[0]), int(near[-1]) + 1)
            for near in (np.flatnonzero(w.any(axis=0)) for w in (along_z, along_y, along_x))
        )
        lattice = np.tensordot(along_z[:, used[0]], lattice[used], axes=(1, 0))
        lattice = along_y[:, used[1]] @ lattice
        flat = lattice.reshape(-1, lattice.shape[2]) @ np.ascontiguousarray(along_x[:, used[2]].T)
        found: Array = flat.reshape(len(along_z), len(along_y), len(along_x))
        # A cubic B-spline of white noise has a variance of 0.479 an axis: bring the SD near 1.
        found *= np.float32(0.479**-1.5)
        return found

    def _canonical(self, pose: Pose, rng: np.random.Generator) -> tuple[Array, Array, Array]:
        back = (np.diag(1 / pose.scale) @ pose.rotation.T).astype(np.float32)
        mm = [positions.astype(np.float32) for positions in self._axes_mm]
        wz, wy, wx = mm[0][:, None, None], mm[1][None, :, None], mm[2][None, None, :]
        found = []
        for axis in range(3):
            bend = self._smooth_field(rng, pose.wavelength_mm)
            bend /= np.sqrt(1 + (bend / 2) ** 2)  # never beyond two: boxes stay small
            bend *= np.float32(pose.warp_mm)
            self._bend_mm = max(self._bend_mm, float(bend.max()), -float(bend.min()))
            bend += back[axis, 0] * wx + back[axis, 1] * wy + back[axis, 2] * wz
            found.append(bend)
        return found[0], found[1], found[2]

    def window(self, bounds: Bounds, margin_mm: float = 3.0) -> Window | None:
        """Return the part of the grid that holds `bounds`, or None where nothing does."""
        reach = margin_mm + float(self.edge_mm) + self._bend_mm
        middle, half = (bounds[0] + bounds[1]) / 2, (bounds[1] - bounds[0]) / 2 + reach
        centre, extent = self._to_world @ middle, np.abs(self._to_world) @ half
        found = []
        for axis, positions in enumerate(self._axes_mm):
            low, high = np.searchsorted(
                positions,
                (centre[2 - axis] - extent[2 - axis], centre[2 - axis] + extent[2 - axis]),
            )
            if low >= high:
                return None
            found.append(slice(int(low), int(high)))
        return found[0], found[1], found[2]

    def distance(self, shape: Shape, at: Window, rough_mm: float = 0.0, key: int = 0) -> Array:
        """Distance to `shape` in a window, its surface made uneven by `rough_mm`."""
        found = shape.distance(self.x[at], self.y[at], self.z[at])
        if rough_mm:
            first, second = self.rough[key % 3], self.rough[(key + 1) % 3]
            found = found + np.float32(rough_mm) * (
                np.float32(np.cos(key)) * first[at] + np.float32(np.sin(key)) * second[at]
            )
        return found

    def lay(self, at: Window, distance: Array, hu: Paint, label: int | None = 0) -> None:
        """Paint where `distance` is negative, half-way at the edge.

        Parameters
        ----------
        at
            Window of `distance`.
        distance
            Canonical mm, negative inside.
        hu
            Colour.
        label
            Set where more than half of the voxel is covered; None leaves the labels.
        """
        cover = np.clip(np.float32(0.5) - distance / self.edge_mm, 0, 1)
        colour = hu(self.x[at], self.y[at], self.z[at], distance) if callable(hu) else hu
        self.hu[at] += cover * (colour - self.hu[at])
        if label is not None:
            self.labels[at][cover > 0.5] = label

    def paint(
        self,
        shape: Shape,
        hu: Paint,
        label: int = 0,
        *,
        rough_mm: float = 0.0,
        key: int = 0,
        halo_mm: float = 0.0,
        halo_hu: float = -100.0,
        within: Array | None = None,
    ) -> None:
        """Paint one shape, after a `halo_mm` of fat around it.

        Parameters
        ----------
        shape, hu, label
            See :meth:`lay`.
        rough_mm, key
            How uneven its surface is, and which mixture of the fields makes it so.
        halo_mm, halo_hu
            Fat that keeps it apart from what lies beneath.
        within
            A distance on the whole grid that cuts the shape, e.g. the diaphragm.
        """
        at = self.window(shape.bounds, margin_mm=3.0 + 2 * rough_mm + halo_mm)
        if at is None:
            return
        distance = self.distance(shape, at, rough_mm, key)
        if within is not None:
            distance = np.maximum(distance, within[at])
        if halo_mm:
            self.lay(at, distance - np.float32(halo_mm), halo_hu)
        self.lay(at, distance, hu, label)

    def paint_tube(
        self, shape: Tube, hu: Paint, label: int = 0, *, rough_mm: float = 0.0, key: int = 0
    ) -> None:
        """Paint a long tube by pieces."""
        for piece in shape.pieces():
            self.paint(piece, hu, label, rough_mm=rough_mm, key=key)


def _spline_weights(at: Array, knots: int) -> Array:
    """Weights (position, knot) of a uniform cubic B-spline."""
    gap = np.abs(np.arange(knots)[None, :] - 1 - at[:, None])
    near = 2 / 3 - gap**2 + gap**3 / 2
    far = np.maximum(2 - gap, 0) ** 3 / 6
    found: Array = np.where(gap < 1, near, far).astype(np.float32)
    return found
