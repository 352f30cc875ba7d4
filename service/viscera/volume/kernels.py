"""Clip, resample and normalise in one pass: per-voxel Python, compiled by Numba for threads.

The per-voxel function knows nothing of threads, so that a GPU launcher can compile it too. Its
arguments are `Any`: Numba infers them, and Python never runs it.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np


def sample(source: Any, z: Any, y: Any, x: Any, lower: Any, upper: Any) -> Any:
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


@cache
def resample_kernel() -> Callable[..., None]:
    """Compile (or load from Numba's cache) the launcher over CPU threads.

    Returns
    -------
    Callable
        ``f(source, z, y, x, lower, upper, mean, sd, out)`` writes ``(sample - mean) / sd`` to
        every voxel of `out`; z, y and x are the columns of an `AxisTable`, `source` int16 or
        float32 with any strides. Two threads must not call it at once where Numba's layer is
        ``workqueue``.
    """
    import numba
    from numba import float32, int16, int64, prange, types

    per_voxel = numba.njit(nogil=True, inline="always")(sample)

    def resample(
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
        depth, height, width = out.shape
        for line in prange(depth * height):
            k, j = line // height, line % height
            at_z = z[0][k], z[1][k], z[2][k]
            at_y = y[0][j], y[1][j], y[2][j]
            for i in range(width):
                at_x = x[0][i], x[1][i], x[2][i]
                value = per_voxel(source, at_z, at_y, at_x, lower, upper)
                out[k, j, i] = (value - mean) / sd

    table: Any = types.Tuple((int64[::1], int64[::1], float32[::1]))  # type: ignore[no-untyped-call]
    numbers = (float32,) * 4
    signatures = [
        types.void(
            types.Array(kind, 3, "A", readonly=True),
            *(table, table, table),
            *numbers,
            float32[:, :, ::1],
        )
        for kind in (int16, float32)
    ]
    compiled: Callable[..., None] = numba.njit(signatures, parallel=True, nogil=True, cache=True)(
        resample
    )
    return compiled
