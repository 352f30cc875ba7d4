"""Small volumes with known answers, for any test that needs one."""

from functools import cache

import numpy as np

from viscera.domain.geometry import Geometry
from viscera.domain.volumes import Volume
from viscera.phantom import Phantom, Phase, Scan, make_phantom

SMALL = Scan(spacing_mm=(6.0, 4.0, 4.0), matrix=(88, 88), centred=True, plain=True)
"""Whole abdomen in some 80 slices: half a second to draw."""


@cache
def small_phantom(seed: int, phase: Phase | None = None) -> Phantom:
    """An average torso on a coarse grid; drawn once a session."""
    scan = Scan(
        spacing_mm=SMALL.spacing_mm, matrix=SMALL.matrix, centred=True, plain=True, phase=phase
    )
    return make_phantom(seed, scan)


def ball(
    radius_mm: float, spacing_mm: tuple[float, float, float] = (3.0, 2.0, 2.0), hu: int = 60
) -> tuple[Volume, np.ndarray, float]:
    """A ball in air: its volume, its mask as label 1, and 4/3 pi r^3 in mL."""
    half = [int(np.ceil(radius_mm / s)) + 3 for s in spacing_mm]
    z, y, x = (np.arange(-n, n + 1) * s for n, s in zip(half, spacing_mm, strict=True))
    inside = z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2 <= radius_mm**2
    dz, dy, dx = spacing_mm
    geometry = Geometry.from_planes(
        inside.shape,
        np.array([x[0], y[0], z[0]]),
        np.array([0.0, 0.0, dz]),
        (1, 0, 0, 0, 1, 0),
        (dy, dx),
    )
    voxels = np.where(inside, hu, -1000).astype(np.int16)
    volume = Volume(voxels=voxels, geometry=geometry, modality="CT")
    return volume, inside.astype(np.uint8), 4 / 3 * np.pi * radius_mm**3 / 1000
