"""The voxel loop of `deform`: where each new voxel comes from, and what lies there."""

import math

import numpy as np
from numba import njit

_Point = tuple[float, float, float]


@njit(cache=True)  # type: ignore[untyped-decorator,unused-ignore]
def deformed(
    source: tuple[np.ndarray, np.ndarray],
    out: tuple[np.ndarray, np.ndarray],
    matrix: np.ndarray,
    displacement: np.ndarray,
    bumps: np.ndarray,
    polar: tuple[np.ndarray, np.ndarray, np.ndarray, float],
) -> None:
    """Fill the arrays `out` from `source`, (image, structures) each; what lies outside is kept.

    Parameters
    ----------
    matrix, displacement, bumps
        See `deform.Warp`.
    polar
        Centres, skin and wall of `outline.Outline`, and how much thicker the fat between is.
    """
    image, labels = out
    shape, size = image.shape, source[0].shape
    for z in range(shape[0]):
        for y in range(shape[1]):
            for x in range(shape[2]):
                offset = (z - (shape[0] - 1) / 2, y - (shape[1] - 1) / 2, x - (shape[2] - 1) / 2)
                p = _turned(offset, matrix, size)
                moved = displacement[:, z, y, x]
                p = _bumped((p[0] + moved[0], p[1] + moved[1], p[2] + moved[2]), bumps)
                p = _thinned(p, polar, size[0])
                last = (size[0] - 1.001, size[1] - 1.001, size[2] - 1.001)
                if p[1] >= 0 and p[2] >= 0 and p[1] <= last[1] and p[2] <= last[2]:
                    # The last slices go on for ever: z has no outside.
                    inside = (min(max(p[0], 0.0), last[0]), p[1], p[2])
                    image[z, y, x], labels[z, y, x] = _at(inside, source[0], source[1])


@njit(cache=True)  # type: ignore[untyped-decorator,unused-ignore]
def _turned(offset: _Point, matrix: np.ndarray, size: tuple[int, int, int]) -> _Point:
    z, y, x = offset
    return (
        matrix[0, 0] * z + matrix[0, 1] * y + matrix[0, 2] * x + (size[0] - 1) / 2,
        matrix[1, 0] * z + matrix[1, 1] * y + matrix[1, 2] * x + (size[1] - 1) / 2,
        matrix[2, 0] * z + matrix[2, 1] * y + matrix[2, 2] * x + (size[2] - 1) / 2,
    )


@njit(cache=True)  # type: ignore[untyped-decorator,unused-ignore]
def _bumped(p: _Point, bumps: np.ndarray) -> _Point:
    for b in range(len(bumps)):
        z, y, x = p[0] - bumps[b, 0], p[1] - bumps[b, 1], p[2] - bumps[b, 2]
        near = (z * z + y * y + x * x) / (2 * bumps[b, 3] * bumps[b, 3])
        if near < 5:
            weight, growth = math.exp(-near), bumps[b, 4]
            p = (
                p[0] - weight * (growth * z + bumps[b, 5]),
                p[1] - weight * (growth * y + bumps[b, 6]),
                p[2] - weight * (growth * x + bumps[b, 7]),
            )
    return p


@njit(cache=True)  # type: ignore[untyped-decorator,unused-ignore]
def _thinned(
    p: _Point, polar: tuple[np.ndarray, np.ndarray, np.ndarray, float], slices: int
) -> _Point:
    """Move `p` along its radius in the old body's slice, so that the fat's thickness changes."""
    centres, skin, wall, fat = polar
    z = min(max(int(p[0]), 0), slices - 1)
    dy, dx = p[1] - centres[z, 0], p[2] - centres[z, 1]
    radius = math.hypot(dy, dx)
    if radius <= 1:
        return p
    turn = (math.atan2(dy, dx) / (2 * math.pi) % 1.0) * skin.shape[1]
    low = int(turn) % skin.shape[1]
    high = (low + 1) % skin.shape[1]
    part = turn - int(turn)
    inner = wall[z, low] * (1 - part) + wall[z, high] * part
    outer = max(skin[z, low] * (1 - part) + skin[z, high] * part, inner + 0.5)
    factor = _source_radius(radius, inner, outer, fat) / radius
    return p[0], centres[z, 0] + dy * factor, centres[z, 1] + dx * factor


@njit(cache=True)  # type: ignore[untyped-decorator,unused-ignore]
def _source_radius(radius: float, wall: float, skin: float, fat: float) -> float:
    """Return which old radius shows at the new `radius`, the fat `fat` times as thick."""
    if radius <= wall:
        return radius
    thick = (skin - wall) * fat
    if radius <= wall + thick:
        return wall + (radius - wall) / fat
    return radius - thick + (skin - wall)


@njit(cache=True)  # type: ignore[untyped-decorator,unused-ignore]
def _at(p: _Point, image: np.ndarray, structures: np.ndarray) -> tuple[float, int]:
    """Return the interpolated intensity, and the structure with most of the weight."""
    z, y, x = int(p[0]), int(p[1]), int(p[2])
    value, most, best = 0.0, 0.0, 0
    weights = np.empty(8)
    for corner in range(8):
        i, j, k = corner >> 2, (corner >> 1) & 1, corner & 1
        weight = abs(1 - i - p[0] + z) * abs(1 - j - p[1] + y) * abs(1 - k - p[2] + x)
        weights[corner] = weight
        value += weight * image[z + i, y + j, x + k]
    for corner in range(8):
        kind = structures[z + (corner >> 2), y + ((corner >> 1) & 1), x + (corner & 1)]
        votes = 0.0
        for other in range(8):
            if structures[z + (other >> 2), y + ((other >> 1) & 1), x + (other & 1)] == kind:
                votes += weights[other]
        if votes > most:
            most, best = votes, kind
    return value, best
