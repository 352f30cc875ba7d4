"""The voxel functions of `kernels` on an NVIDIA GPU: int16 goes up, the input stays there.

Nothing is compiled on import; the first call compiles for the GPU at hand, which
`device.compile_kernels` makes before a job comes.
"""

from typing import Any

import numpy as np
from numba import cuda

from viscera.volume import kernels

_WIDTH, _HEIGHT = 32, 4
EXTREMES = 256
"""Threads that share the voxels of one slice; each leaves an answer of its own."""

_mixed_voxel = cuda.jit(device=True, inline="always")(kernels.mixed_voxel)
_scaled_voxel = cuda.jit(device=True, inline="always")(kernels.scaled_voxel)


def resample_thread(
    source: Any,
    z0: Any,
    z1: Any,
    wz: Any,
    y0: Any,
    y1: Any,
    wy: Any,
    x0: Any,
    x1: Any,
    wx: Any,
    lower: Any,
    upper: Any,
    mean: Any,
    sd: Any,
    out: Any,
) -> None:
    """Write one voxel of `out`, as `kernels._resample` does."""
    i, j, k = cuda.grid(3)
    depth, height, width = out.shape
    if k < depth and j < height and i < width:
        at_z, at_y, at_x = (z0[k], z1[k], wz[k]), (y0[j], y1[j], wy[j]), (x0[i], x1[i], wx[i])
        value = _mixed_voxel(source, at_z, at_y, at_x, lower, upper)
        out[k, j, i] = _scaled_voxel(value, mean, sd)


def spline_thread(
    source: Any,
    axis: int,
    first: Any,
    weights: Any,
    lower: Any,
    upper: Any,
    mean: Any,
    sd: Any,
    apart: int,
    least: Any,
    most: Any,
    out: Any,
) -> None:
    """Write one voxel of a cubic spline along `axis`; see `spline.spline_taps`."""
    x, y, z = cuda.grid(3)
    depth, height, width = out.shape
    if z < depth and y < height and x < width:
        target = z if axis == 0 else (y if axis == 1 else x)
        end = source.shape[axis] - 1
        total = np.float32(0)
        for tap in range(weights.shape[1]):
            at = min(max(first[target] + tap, 0), end)
            if axis == 0:
                value = np.float32(source[at, y, x])
            elif axis == 1:
                value = np.float32(source[z, at, x])
            else:
                value = np.float32(source[z, y, at])
            scaled = _scaled_voxel(min(max(value, lower), upper), mean, sd)
            total += weights[target, tap] * scaled
        own = 0 if apart < 0 else (z if apart == 0 else (y if apart == 1 else x))
        out[z, y, x] = min(max(total, least[own]), most[own])


def extremes_thread(source: Any, axis: int, low: Any, high: Any) -> None:
    """Leave the extremes of every 256th voxel of one slice across `axis`, a block a slice."""
    one, thread = cuda.blockIdx.x, cuda.threadIdx.x
    width = source.shape[1] if axis == 2 else source.shape[2]
    count = width * (source.shape[1] if axis == 0 else source.shape[0])
    least, most = np.float32(np.inf), np.float32(-np.inf)
    for k in range(thread, count, cuda.blockDim.x):
        row, column = k // width, k % width
        if axis == 0:
            value = np.float32(source[one, row, column])
        elif axis == 1:
            value = np.float32(source[row, one, column])
        else:
            value = np.float32(source[row, column, one])
        least, most = min(least, value), max(most, value)
    low[one, thread], high[one, thread] = least, most


def scale_thread(image: Any, lower: Any, upper: Any, mean: Any, sd: Any) -> None:
    """Normalise one voxel in place."""
    x, y, z = cuda.grid(3)
    depth, height, width = image.shape
    if z < depth and y < height and x < width:
        value = min(max(image[z, y, x], lower), upper)
        image[z, y, x] = _scaled_voxel(value, mean, sd)


def scale_within_thread(
    source: Any, mask: Any, lower: Any, upper: Any, mean: Any, sd: Any, out: Any
) -> None:
    """Normalise one voxel where `mask` is not 0; the others are 0."""
    x, y, z = cuda.grid(3)
    depth, height, width = out.shape
    if z < depth and y < height and x < width:
        value = min(max(np.float32(source[z, y, x]), lower), upper)
        inside = mask[z, y, x] != 0
        out[z, y, x] = _scaled_voxel(value, mean, sd) if inside else np.float32(0)


_resample: Any = cuda.jit(resample_thread)
_spline: Any = cuda.jit(spline_thread)
_extremes: Any = cuda.jit(extremes_thread)
_scale: Any = cuda.jit(scale_thread)
_scale_within: Any = cuda.jit(scale_within_thread)


def resample(
    source: Any, tables: tuple[Any, ...], numbers: tuple[Any, ...], out: Any, stream: Any
) -> None:
    """Fill `out` (z, y, x), float32, on `stream`.

    Parameters
    ----------
    source
        (z, y, x), int16 or float32, on the device.
    tables
        (low, high, weight) of z, then y, then x: nine arrays on the device.
    numbers
        lower, upper, mean, sd: float32.
    """
    _resample[(*_grid(out.shape), stream)](source, *tables, *numbers, out)


def spline(
    source: Any,
    axis: int,
    taps: tuple[Any, Any],
    numbers: tuple[Any, ...],
    apart: int,
    limits: tuple[Any, Any],
    out: Any,
    stream: Any,
) -> None:
    """Fill `out` (z, y, x), float32, with a cubic spline along one axis of `source`.

    Parameters
    ----------
    taps
        (m,) and (m, n): as `spline.spline_taps` gives them.
    numbers
        As `resample` takes them; they come before interpolation.
    apart, limits
        The result lies between the two, (1,) each; or (size of axis `apart`,) each, where that
        is not -1.
    """
    _spline[(*_grid(out.shape), stream)](source, axis, *taps, *numbers, apart, *limits, out)


def extremes(source: Any, axis: int, low: Any, high: Any, stream: Any) -> None:
    """Leave the least and largest voxels of each slice across `axis`, in `EXTREMES` parts.

    `low` and `high` are (slices, `EXTREMES`), float32; infinite where a part has no voxel.
    """
    _extremes[len(low), EXTREMES, stream](source, axis, low, high)


def scale(image: Any, numbers: tuple[Any, ...], stream: Any) -> None:
    """Normalise `image` (z, y, x), float32, in place; `numbers` as `resample` takes them."""
    _scale[(*_grid(image.shape), stream)](image, *numbers)


def scale_within(source: Any, mask: Any, numbers: tuple[Any, ...], out: Any, stream: Any) -> None:
    """Fill `out` (z, y, x), float32: `source` normalised where `mask`, uint8, is not 0, else 0."""
    _scale_within[(*_grid(out.shape), stream)](source, mask, *numbers, out)


def _grid(shape: tuple[int, int, int]) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return blocks and threads that cover (z, y, x)."""
    depth, height, width = shape
    return (-(-width // _WIDTH), -(-height // _HEIGHT), depth), (_WIDTH, _HEIGHT, 1)
