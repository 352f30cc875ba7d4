"""Implicit shapes in canonical mm: negative inside, roughly a distance near the surface."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

Array = np.ndarray
Bounds = tuple[np.ndarray, np.ndarray]
Points = list[tuple[float, ...]]
"""Knots along a tube: (x, y, z, radius)."""


class Shape(Protocol):
    """What a canvas can paint."""

    @property
    def bounds(self) -> Bounds:
        """Lowest and highest corner of a box that holds the shape."""

    def distance(self, x: Array, y: Array, z: Array) -> Array:
        """Signed distance in mm at the points; exact at the surface, approximate elsewhere."""


@dataclass(frozen=True, slots=True, eq=False)
class Ellipsoid:
    """An ellipsoid whose axes are the columns of `rotation`."""

    centre: Array
    radii: Array
    rotation: Array

    @property
    def bounds(self) -> Bounds:
        """See :class:`Shape`."""
        reach = np.sqrt(((self.rotation * self.radii) ** 2).sum(axis=1))
        return self.centre - reach, self.centre + reach

    def distance(self, x: Array, y: Array, z: Array) -> Array:
        """First-order distance k(k-1)/|grad|; see Quilez, "ellipsoid - distance"."""
        near: Array = np.zeros_like(x)
        slope: Array = np.zeros_like(x)
        cx, cy, cz = self.centre.astype(np.float32)
        axes, radii = self.rotation.T.astype(np.float32), self.radii.astype(np.float32)
        for axis, radius in zip(axes, radii, strict=True):
            u = ((x - cx) * axis[0] + (y - cy) * axis[1] + (z - cz) * axis[2]) / radius
            u *= u
            near += u
            slope += u / (radius * radius)
        near = np.sqrt(near)
        found: Array = near * (near - 1) / np.sqrt(slope + np.float32(1e-9))
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Tube:
    """Round cones strung along knots."""

    knots: Array
    """(n, 4): x, y, z, radius in mm."""
    flatten: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Factors on the distance's components: more than 1 makes the tube thinner along x, y, z."""

    @property
    def bounds(self) -> Bounds:
        """See :class:`Shape`."""
        reach = self.knots[:, 3:] / np.array(self.flatten)
        return (self.knots[:, :3] - reach).min(axis=0), (self.knots[:, :3] + reach).max(axis=0)

    def distance(self, x: Array, y: Array, z: Array) -> Array:
        """See :class:`Shape`; the smallest over all segments."""
        best: Array | None = None
        knots = self.knots.astype(np.float32)
        for start, end in pairwise(knots):
            one = self._segment(start, end, x, y, z)
            best = one if best is None else np.minimum(best, one, out=best)
        assert best is not None
        return best

    def _segment(self, start: Array, end: Array, x: Array, y: Array, z: Array) -> Array:
        fx, fy, fz = flatten = np.array(self.flatten, np.float32)
        along = (end - start)[:3] * flatten
        px, py, pz = (x - start[0]) * fx, (y - start[1]) * fy, (z - start[2]) * fz
        length2 = np.float32(max(float((along**2).sum()), 1e-6))
        t = np.clip((px * along[0] + py * along[1] + pz * along[2]) / length2, 0, 1)
        px -= t * along[0]
        py -= t * along[1]
        pz -= t * along[2]
        found: Array = np.sqrt(px * px + py * py + pz * pz) - (start[3] + t * (end[3] - start[3]))
        return found

    def pieces(self, segments: int = 3) -> Iterator["Tube"]:
        """Short tubes that together are this one: small boxes are quick to paint."""
        for first in range(0, len(self.knots) - 1, segments):
            yield Tube(self.knots[first : first + segments + 1], self.flatten)

    def resized(self, by_mm: float) -> "Tube":
        """Return this tube with every radius changed by `by_mm`, at least 0.5 mm."""
        knots = self.knots.copy()
        knots[:, 3] = np.maximum(knots[:, 3] + by_mm, 0.5)
        return Tube(knots, self.flatten)


@dataclass(frozen=True, slots=True, eq=False)
class Blend:
    """Shapes melted into one another where they come closer than `melt_mm`."""

    parts: tuple[Shape, ...]
    melt_mm: float

    @property
    def bounds(self) -> Bounds:
        """See :class:`Shape`."""
        lows, highs = zip(*(part.bounds for part in self.parts), strict=True)
        return np.min(lows, axis=0) - self.melt_mm / 4, np.max(highs, axis=0) + self.melt_mm / 4

    def distance(self, x: Array, y: Array, z: Array) -> Array:
        """Polynomial smooth minimum (Quilez, "smooth minimum")."""
        found = self.parts[0].distance(x, y, z)
        melt = np.float32(self.melt_mm)
        for part in self.parts[1:]:
            other = part.distance(x, y, z)
            overlap = np.maximum(melt - np.abs(found - other), 0) / melt
            found = np.minimum(found, other) - overlap * overlap * melt * np.float32(0.25)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Carved:
    """`body` without `hole`."""

    body: Shape
    hole: Shape

    @property
    def bounds(self) -> Bounds:
        """See :class:`Shape`."""
        return self.body.bounds

    def distance(self, x: Array, y: Array, z: Array) -> Array:
        """See :class:`Shape`."""
        found: Array = np.maximum(self.body.distance(x, y, z), -self.hole.distance(x, y, z))
        return found


def turn(x_deg: float = 0.0, y_deg: float = 0.0, z_deg: float = 0.0) -> Array:
    """Rotation matrix: about x first, then y, then z, right-handed in LPS."""
    matrix = np.eye(3)
    for axis, degrees in enumerate((x_deg, y_deg, z_deg)):
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        one = np.eye(3)
        a, b = (axis + 1) % 3, (axis + 2) % 3
        one[a, a], one[a, b], one[b, a], one[b, b] = cos, -sin, sin, cos
        matrix = one @ matrix
    return matrix


def vec(x: float, y: float, z: float) -> Array:
    """Return a point or a displacement in canonical mm."""
    return np.array((x, y, z))


def ellipsoid(
    centre: Array | tuple[float, float, float],
    radii: Array | tuple[float, float, float],
    rotation: Array | None = None,
) -> Ellipsoid:
    """Build an :class:`Ellipsoid` from plain numbers in mm."""
    return Ellipsoid(np.array(centre), np.array(radii), np.eye(3) if rotation is None else rotation)


def smooth_knots(points: Points, step_mm: float = 12.0) -> Array:
    """Knots of a Catmull-Rom spline through `points`, about `step_mm` apart."""
    control = np.array(points, dtype=np.float64)
    padded = np.concatenate(
        [[2 * control[0] - control[1]], control, [2 * control[-1] - control[-2]]]
    )
    knots = []
    for p0, p1, p2, p3 in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        count = max(int(np.ceil(np.linalg.norm((p2 - p1)[:3]) / step_mm)), 1)
        t = (np.arange(count) / count)[:, None]
        bend = (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3
        knots.append(0.5 * (2 * p1 + (p2 - p0) * t + bend))
    knots.append(control[-1:])
    found = np.concatenate(knots)
    found[:, 3] = np.maximum(found[:, 3], 0.5)
    return found


def tube(points: Points, flatten: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Tube:
    """Build a smooth :class:`Tube` through (x, y, z, radius) points in mm."""
    return Tube(smooth_knots(points), flatten)
