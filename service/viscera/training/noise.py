"""Smooth random fields and blurs, the ingredients of deformation, texture and scanners."""

import numpy as np


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> np.ndarray:
    """Return a float32 field with an SD of about 0.6 that varies over `scale` voxels.

    A cubic B-spline through random knots.
    """
    knots = tuple(int(np.ceil(n / scale)) + 3 for n in shape)
    field = rng.standard_normal(knots).astype(np.float32) * np.float32(1.9)
    for axis, n in enumerate(shape):
        basis = _spline(n, knots[axis], scale)
        field = np.moveaxis(np.tensordot(basis, field, axes=(1, axis)), 0, axis)
    return field


def _spline(n: int, knots: int, scale: float) -> np.ndarray:
    """Return (n, knots): the weight of every knot at every voxel."""
    distance = np.abs(np.arange(n)[:, None] / scale + 1 - np.arange(knots)[None])
    near = (4 - 6 * distance**2 + 3 * distance**3) / 6
    far = (2 - distance) ** 3 / 6
    weights = np.where(distance < 1, near, np.where(distance < 2, far, 0))
    return weights.astype(np.float32)


def blur(field: np.ndarray, sigmas: tuple[float, float, float]) -> np.ndarray:
    """Return `field` after a Gaussian of so many voxels per axis, edges repeated."""
    for axis, sigma in enumerate(sigmas):
        if sigma < 0.2:
            continue
        reach = max(round(2.5 * sigma), 1)
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
        field = _along(field, axis, (kernel / kernel.sum()).astype(np.float32))
    return field


def _along(field: np.ndarray, axis: int, kernel: np.ndarray) -> np.ndarray:
    reach = len(kernel) // 2
    pads = [(reach, reach) if k == axis else (0, 0) for k in range(3)]
    padded = np.moveaxis(np.pad(field, pads, "edge"), axis, 0)
    n = field.shape[axis]
    total = sum(weight * padded[k : k + n] for k, weight in enumerate(kernel))
    return np.ascontiguousarray(np.moveaxis(np.asarray(total, np.float32), 0, axis))
