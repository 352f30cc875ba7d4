"""Other bodies from one: habitus, fat, organs that move and grow, image and labels together."""

import math
from dataclasses import dataclass

import numpy as np

from viscera.training.labelled import LabelledVolume
from viscera.training.noise import smooth_noise
from viscera.training.outline import Outline
from viscera.training.sample import deformed

_MARGIN_MM = 54.0
"""Around the body in plane: room for arms and a table."""
_AIR_HU = -1000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Warp:
    """Where each voxel of a new body comes from."""

    shape: tuple[int, int, int]
    matrix: np.ndarray
    """(3, 3): offsets from the new grid's middle to offsets from the old one's."""
    displacement: np.ndarray
    """(3, z, y, x), old voxels."""
    bumps: np.ndarray
    """(n, 8): centre, radius, growth, shift (3), of what moves or grows by itself."""
    fat: float
    """How much thicker the fat under the skin is."""


def draw_warp(
    volume: LabelledVolume,
    rng: np.random.Generator,
    spacing_mm: float,
    habitus: tuple[float, float],
) -> Warp:
    """Draw another body: how large within `habitus`, how fat, how turned, its organs elsewhere."""
    scale = np.exp(rng.uniform(*np.log(habitus))) * np.exp(rng.normal(0, 0.08, 3))
    if rng.random() < 0.3:
        scale[1] *= rng.uniform(0.78, 0.95)  # flat, as thin people lie
    scale = np.clip(scale, 0.6, 1.5)
    source = np.array(volume.hu.shape)
    margin = np.array([0, 1, 1]) * _MARGIN_MM / spacing_mm
    shape = tuple(np.maximum(np.round(source * scale + margin), 16).astype(int).tolist())
    displacement = np.stack(
        [
            smooth_noise(rng, shape, 110 / spacing_mm) * (rng.uniform(1, 9) / spacing_mm)
            + smooth_noise(rng, shape, 48 / spacing_mm) * (rng.uniform(0.5, 5) / spacing_mm)
            for _ in range(3)
        ]
    )
    return Warp(
        shape=shape,
        matrix=(_rotation(rng.normal(0, 4, 3)) / scale).astype(np.float32),
        displacement=displacement.astype(np.float32),
        bumps=_draw_bumps(volume, rng, spacing_mm),
        fat=float(np.exp(rng.uniform(math.log(0.15), math.log(2.0)))),
    )


def _rotation(degrees: np.ndarray) -> np.ndarray:
    result = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        one, two = [k for k in range(3) if k != axis]
        turn = np.eye(3)
        turn[one, one] = turn[two, two] = math.cos(angle)
        turn[one, two], turn[two, one] = -math.sin(angle), math.sin(angle)
        result = result @ turn
    return result


def _draw_bumps(volume: LabelledVolume, rng: np.random.Generator, spacing_mm: float) -> np.ndarray:
    """Let some organs grow, shrink or move, with what lies around them."""
    organs = [value for value in range(1, len(volume.names)) if volume.organs[value]]
    chosen = rng.permutation(organs)[: rng.integers(2, 6)]
    bumps = []
    for value in chosen:
        voxels = np.argwhere(volume.structures == value)
        if len(voxels) < 30:
            continue
        radius = max(np.cbrt(len(voxels) * 0.24), 12 / spacing_mm) * rng.uniform(1.0, 1.6)
        # Both bounds keep the map from folding.
        growth = rng.uniform(-0.45, 0.45)
        shift = np.clip(rng.normal(0, 8, 3) / spacing_mm, -0.5 * radius, 0.5 * radius)
        bumps.append([*voxels.mean(0), radius, growth, *shift])
    return np.array(bumps, np.float32).reshape(-1, 8)


def warp(volume: LabelledVolume, outline: Outline, by: Warp) -> tuple[np.ndarray, np.ndarray]:
    """Return (z, y, x) float32 HU and uint8 structures of the new body."""
    image = np.full(by.shape, _AIR_HU, np.float32)
    labels = np.zeros(by.shape, np.uint8)
    polar = (outline.centres, outline.skin, outline.wall, by.fat)
    deformed(
        (volume.hu, volume.structures), (image, labels), by.matrix, by.displacement, by.bumps, polar
    )
    return image, labels
