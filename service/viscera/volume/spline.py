"""Cubic-spline resampling as nnU-Net does it.

Equal to scikit-image's ``resize(order=3, mode="edge")``: clipped to the input's range, and each
slice of a separate axis to its own. A cubic spline is separable, so every axis is one pass, the
one that shrinks the volume most first; the first pass also clips and scales, straight from the
source's int16.
"""

import math
from typing import Any

import numpy as np

from viscera.volume.sampling import Scaling, axis_table, box_centres

_WHOLE = Scaling()
_POLE = math.sqrt(3) - 2
_REACH = 12
"""Voxels on either side that a coefficient is felt; the pole's twelfth power is 1e-7."""
_NO_LIMITS = (np.float32(-math.inf), np.float32(math.inf))


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

    apart = axis_apart(orders)
    limits = _limits(source, apart, scaling)
    passes = spline_axes(source.shape, out.shape, orders)
    current, todo = source, scaling
    for axis in passes:
        outer = apart if apart is not None else (1 if axis == 0 else 0)
        order = (outer, axis, 3 - outer - axis)
        shape = tuple(out.shape[k] if k == axis else current.shape[k] for k in range(3))
        target = out if shape == out.shape else np.empty(shape, np.float32)
        least, most = limits if axis == passes[-1] else _NO_LIMITS
        place = box_centres(source.shape[axis], out.shape[axis])
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


def axis_apart(orders: tuple[int, int, int]) -> int | None:
    """Return the axis that no spline runs along, if there is one."""
    return next((axis for axis in range(3) if orders[axis] != 3), None)


def spline_axes(
    source: tuple[int, ...], target: tuple[int, ...], orders: tuple[int, int, int]
) -> list[int]:
    """Return the axes to resample, a pass each: so sorted, no volume between exceeds both ends."""
    axes = (k for k in range(3) if orders[k] == 3 and source[k] != target[k])
    return sorted(axes, key=lambda k: target[k] / source[k])


def spline_taps(source: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what each target voxel of an axis takes from the source's own voxels.

    The recursion along a line, written out: a voxel's share in a coefficient n steps away is
    ``sqrt(3) * pole ** n``. For processors where each voxel has a thread of its own.

    Returns
    -------
    tuple
        The first voxel of each target, int64, and the weights of it and those that follow,
        (target, 28), float32; voxels outside the source are its edges.
    """
    first, basis = _taps(box_centres(source, target))
    tap = np.arange(2 * _REACH + basis.shape[1])
    weights = sum(
        basis[:, k, None] * np.sqrt(3.0) * _POLE ** np.abs(tap - _REACH - k)
        for k in range(basis.shape[1])
    )
    return first - _REACH, np.asarray(weights, np.float32)


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
