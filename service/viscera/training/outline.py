"""Where a body's skin is and where the fat beneath it ends, in polar coordinates."""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from viscera.training.labelled import LabelledVolume

_ANGLES = 72


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outline:
    """The body in polar coordinates: where skin and where the fat under it ends.

    Radii are (z, angle), in voxels, around `centres` (z; y, x).
    """

    centres: np.ndarray
    skin: np.ndarray
    wall: np.ndarray


def outline_of(volume: LabelledVolume) -> Outline:
    """Measure where the body's skin and, beneath its fat, its wall lie."""
    slices = volume.hu.shape[0]
    _, y, x = np.nonzero(volume.structures)
    centres = np.tile(np.array([y.mean(), x.mean()], np.float32), (slices, 1))
    skin, wall = _radii(volume.hu, volume.structures, centres, _ANGLES)
    wall = np.minimum(_blur_polar(wall), _blur_polar(skin) - 1)
    return Outline(centres=centres, skin=_blur_polar(skin), wall=wall.astype(np.float32))


def _blur_polar(radii: np.ndarray) -> np.ndarray:
    """Return a mean over five slices and five angles: no ripples in the deformed skin."""
    padded = np.pad(radii, ((2, 2), (0, 0)), "edge")
    rows = np.mean([padded[k : k + len(radii)] for k in range(5)], axis=0)
    result: np.ndarray = np.mean([np.roll(rows, k, 1) for k in range(-2, 3)], axis=0)
    return result.astype(np.float32)


@njit(cache=True)  # type: ignore[untyped-decorator,unused-ignore]
def _radii(
    hu: np.ndarray, structures: np.ndarray, centres: np.ndarray, angles: int
) -> tuple[np.ndarray, np.ndarray]:
    slices, rows, columns = hu.shape
    skin = np.zeros((slices, angles), np.float32)
    wall = np.zeros((slices, angles), np.float32)
    for z in range(slices):
        for a in range(angles):
            dy, dx = math.sin(2 * math.pi * a / angles), math.cos(2 * math.pi * a / angles)
            radius = 1.0
            outer, inner = 0.0, 0.0
            while True:
                y = round(centres[z, 0] + radius * dy)
                x = round(centres[z, 1] + radius * dx)
                if y < 0 or x < 0 or y >= rows or x >= columns:
                    break
                if structures[z, y, x] > 0:
                    outer = radius
                radius += 0.5
            radius = 0.0
            while radius < outer - 2.0:  # the skin is as bright as muscle
                y = round(centres[z, 0] + radius * dy)
                x = round(centres[z, 1] + radius * dx)
                if hu[z, y, x] > -20:
                    inner = radius
                radius += 0.5
            skin[z, a], wall[z, a] = outer, inner
    return skin, wall
