"""From tissue to a scanner's picture: blur, slice profile, correlated noise, the circle."""

import numpy as np

from viscera.domain.geometry import Geometry
from viscera.phantom.shapes import Array


def smear(hu: Array, axis: int, share: float) -> Array:
    """Give each neighbour along `axis` the given share, as a slice profile or kernel does."""
    share32 = np.float32(share)
    found: Array = hu * (1 - 2 * share32)
    into, source = np.moveaxis(found, axis, 0), np.moveaxis(hu, axis, 0)
    into[1:] += share32 * source[:-1]
    into[:-1] += share32 * source[1:]
    into[0] += share32 * source[0]
    into[-1] += share32 * source[-1]
    return found


def correlated_noise(
    rng: np.random.Generator, shape: tuple[int, int, int], sd_hu: float, soft: float
) -> Array:
    """Noise of SD `sd_hu` whose neighbours resemble one another as under a kernel.

    Parameters
    ----------
    rng
        Source of randomness.
    shape
        (slice, row, column).
    sd_hu
        Standard deviation of the result.
    soft
        0 is white noise; 0.3 a soft kernel.
    """
    noise = rng.standard_normal(shape, dtype=np.float32)
    if soft > 0:
        for axis in (1, 2):
            noise = smear(noise, axis, soft)
    noise *= np.float32(sd_hu / max(float(noise[:8].std()), 1e-6))
    return noise


def outside_circle(geometry: Geometry, radius_mm: float) -> Array:
    """Which pixels, (row, column), lie outside the circle round the middle of the slice."""
    _, rows, columns = geometry.shape
    _, dy, dx = geometry.spacing_mm
    y = (np.arange(rows) - (rows - 1) / 2) * dy
    x = (np.arange(columns) - (columns - 1) / 2) * dx
    found: Array = np.hypot(y[:, None], x[None, :]) > radius_mm
    return found
