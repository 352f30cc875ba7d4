"""Cubic-spline resampling as nnU-Net does it.

Equal to scikit-image's ``resize(order=3, mode="edge")``: clipped to the input's range, and each
slice of a separate axis to its own. A cubic spline is separable, so every axis is one pass, the
one that shrinks the volume most first; the first pass also clips and scales, straight from the
source's int16.
"""

import math
from typing import Any

import numpy as np

from viscera.volume.sampling import Scaling, axis_table

_WHOLE = Scaling()


def resample_cubic(
    source: np.ndarray, out: np.ndarray, orders: tuple[int, int, int], scaling: Scaling
) -> None:
    """Fill `out` with `source`, scaled, on another grid over the same box.

    Parameters
    ----------
    source
        (z, y, x), int16 or float32, any strides.
    out
        (z, y, x), float32, contiguous.
    orders
        Along (z, y, x). Either all 3, or one of another order, which is resampled apart after
        the others.
    scaling
        What becomes of intensities before they are interpolated.
    """
    from viscera.volume import kernels

    apart = next((axis for axis in range(3) if orders[axis] != 3), None)
    limits = _limits(source, apart, scaling)
    passes = sorted(
        (k for k in range(3) if k != apart and source.shape[k] != out.shape[k]),
        key=lambda k: out.shape[k] / source.shape[k],
    )
    current, todo = source, scaling
    for axis in passes:
        outer = apart if apart is not None else (1 if axis == 0 else 0)
        order = (outer, axis, 3 - outer - axis)
        shape = tuple(out.shape[k] if k == axis else current.shape[k] for k in range(3))
        target = out if shape == out.shape else np.empty(shape, np.float32)
        least, most = limits if axis == passes[-1] else _NO_LIMITS
        place = (np.arange(out.shape[axis]) + 0.5) * (source.shape[axis] / out.shape[axis]) - 0.5
        _one_pass(current, target, order, place, todo, (least, most))
        current, todo = target, _WHOLE
    if current is not out:
        tables = [
            axis_table(n, m, orders[k] if k == apart else 1)
            for k, (n, m) in enumerate(zip(current.shape, out.shape, strict=True))
        ]
        columns = [(t.low, t.high, t.weight) for t in tables]
        numbers = (todo.lower, todo.upper, todo.mean, todo.sd)
        kernels.resample(current, *columns, *map(np.float32, numbers), out)


_NO_LIMITS = (np.float32(-math.inf), np.float32(math.inf))


def resample_axis_at(source: np.ndarray, axis: int, place: np.ndarray) -> np.ndarray:
    """Return `source`, float32, at other places of one axis; nothing is clipped.

    Parameters
    ----------
    source
        (z, y, x), int16 or float32, any strides.
    place
        In indices of `source` along `axis`, each at most 12 beyond its ends.
    """
    shape = [len(place) if k == axis else n for k, n in enumerate(source.shape)]
    out = np.empty(shape, np.float32)
    outer = 1 if axis == 0 else 0
    _one_pass(source, out, (outer, axis, 3 - outer - axis), place, _WHOLE, _NO_LIMITS)
    return out


def _one_pass(
    source: np.ndarray,
    out: np.ndarray,
    order: tuple[int, int, int],
    place: np.ndarray,
    scaling: Scaling,
    limits: tuple[Any, Any],
) -> None:
    """Resample the middle axis of `order`; `limits` hold for each index of its first one."""
    from viscera.volume import spline_kernels

    size = source.shape[order[0]]
    spline_kernels.resample_axis(
        source.transpose(order),
        *_taps(place),
        *map(np.float32, (scaling.lower, scaling.upper, scaling.mean, scaling.sd)),
        *(np.full(size, limit, np.float32) for limit in limits),
        out.transpose(order),
    )


def _limits(
    source: np.ndarray, apart: int | None, scaling: Scaling
) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and largest scaled intensity: of the volume, or of each slice apart."""
    others = tuple(k for k in range(3) if k != apart)
    low, high = source.min(axis=others), source.max(axis=others)
    return scaling.apply(low), scaling.apply(high)


def _taps(place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where the four B-spline coefficients of each place begin, and their weights.

    Coefficients outside the source are those of its edge voxels going on.
    """
    below = np.floor(place)
    t = place - below
    weights = (
        (1 - t) ** 3 / 6,
        (4 - 6 * t**2 + 3 * t**3) / 6,
        (1 + 3 * t + 3 * t**2 - 3 * t**3) / 6,
        t**3 / 6,
    )
    return below.astype(np.int64) - 1, np.stack(weights, axis=1)
