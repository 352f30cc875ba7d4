"""Clip, resample and normalise in one pass: per-voxel Python, compiled by Numba for threads.

The per-voxel function knows nothing of threads: `cuda_kernels` has it compiled for the GPU. Its
arguments are `Any`: Numba infers them, and Python never runs it. Importing this module compiles,
or loads from Numba's cache, so it is imported late: after the settings have said where that is.
"""

from typing import Any

import numpy as np
from numba import float32, int16, int64, njit, prange, types


def mixed_voxel(source: Any, z: Any, y: Any, x: Any, lower: Any, upper: Any) -> Any:
    """Return the trilinear mix of eight voxels, each clipped to [lower, upper] first.

    Parameters
    ----------
    source
        (z, y, x), int16 or float32.
    z, y, x
        Each (low index, high index, weight of the high one).
    """
    (z0, z1, wz), (y0, y1, wy), (x0, x1, wx) = z, y, x
    v000: Any = min(max(np.float32(source[z0, y0, x0]), lower), upper)
    if wz == 0 and wy == 0 and wx == 0:
        return v000
    v001: Any = min(max(np.float32(source[z0, y0, x1]), lower), upper)
    v010: Any = min(max(np.float32(source[z0, y1, x0]), lower), upper)
    v011: Any = min(max(np.float32(source[z0, y1, x1]), lower), upper)
    v100: Any = min(max(np.float32(source[z1, y0, x0]), lower), upper)
    v101: Any = min(max(np.float32(source[z1, y0, x1]), lower), upper)
    v110: Any = min(max(np.float32(source[z1, y1, x0]), lower), upper)
    v111: Any = min(max(np.float32(source[z1, y1, x1]), lower), upper)
    v00 = v000 + (v001 - v000) * wx
    v01 = v010 + (v011 - v010) * wx
    v10 = v100 + (v101 - v100) * wx
    v11 = v110 + (v111 - v110) * wx
    v0 = v00 + (v01 - v00) * wy
    v1 = v10 + (v11 - v10) * wy
    return v0 + (v1 - v0) * wz


def scaled_voxel(value: Any, mean: Any, sd: Any) -> Any:
    """Return the network's input for one intensity."""
    return (value - mean) / sd


_mixed_voxel = njit(mixed_voxel)
_scaled_voxel = njit(scaled_voxel)


def _resample(
    source: Any,
    z: Any,
    y: Any,
    x: Any,
    lower: Any,
    upper: Any,
    mean: Any,
    sd: Any,
    out: Any,
) -> None:
    """Write what `mixed_voxel` and `scaled_voxel` give to every voxel of `out`.

    Parameters
    ----------
    source
        (z, y, x), int16 or float32, any strides.
    z, y, x
        Columns of the `AxisTable` of each axis.
    """
    depth, height, width = out.shape
    for line in prange(depth * height):
        k, j = line // height, line % height
        at_z = z[0][k], z[1][k], z[2][k]
        at_y = y[0][j], y[1][j], y[2][j]
        for i in range(width):
            at_x = x[0][i], x[1][i], x[2][i]
            value = _mixed_voxel(source, at_z, at_y, at_x, lower, upper)
            out[k, j, i] = _scaled_voxel(value, mean, sd)


_TABLE: Any = types.Tuple((int64[::1], int64[::1], float32[::1]))  # type: ignore[no-untyped-call]
_SIGNATURES = [
    types.void(
        types.Array(kind, 3, "A", readonly=True),
        *(_TABLE, _TABLE, _TABLE),
        *(float32, float32, float32, float32),
        float32[:, :, ::1],
    )
    for kind in (int16, float32)
]

resample: Any = njit(_SIGNATURES, parallel=True, cache=True)(_resample)
"""`_resample` on CPU threads. Two threads must not call it at once under ``workqueue``."""
