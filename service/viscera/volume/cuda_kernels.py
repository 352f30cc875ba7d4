"""The voxel functions of `kernels` on an NVIDIA GPU: int16 goes up, the input stays there.

Nothing is compiled on import; the first call compiles for the GPU at hand.
"""

from typing import Any

from numba import cuda

from viscera.volume import kernels

_WIDTH, _HEIGHT = 32, 4

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


_resample: Any = cuda.jit(resample_thread)


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
    depth, height, width = out.shape
    blocks = (-(-width // _WIDTH), -(-height // _HEIGHT), depth)
    _resample[blocks, (_WIDTH, _HEIGHT, 1), stream](source, *tables, *numbers, out)
