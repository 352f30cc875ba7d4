"""One pass of a cubic spline along one axis, on CPU threads.

Importing this module compiles, or loads from Numba's cache; only models of order 3 need it.
"""

from typing import Any

import numpy as np
from numba import float32, float64, int16, int64, njit, prange, types, void

_POLE = np.sqrt(3.0) - 2.0
_PAD = 12
"""Edge voxels that go on at both ends, as SciPy has it; the pole's twelfth power is 1e-7."""
_BLOCK = 64
"""Lines that are filtered together: their coefficients stay in the cache."""


def _resample_axis(
    source: Any,
    first: Any,
    weights: Any,
    lower: Any,
    upper: Any,
    mean: Any,
    sd: Any,
    least: Any,
    most: Any,
    out: Any,
) -> None:
    """Write the spline through ``(clip(source) - mean) / sd`` at new places of the middle axis.

    Parameters
    ----------
    source
        (outer, n, inner), int16 or float32, any strides.
    first, weights
        (m,) and (m, 4): the first of four coefficients of each target, and what they count.
    lower, upper
        Clip of the source.
    least, most
        (outer,): clip of the result.
    out
        (outer, m, inner).
    """
    outer, size, inner = source.shape
    targets = out.shape[1]
    blocks = (inner + _BLOCK - 1) // _BLOCK
    for job in prange(outer * blocks):
        plane, start = job // blocks, (job % blocks) * _BLOCK
        width = min(_BLOCK, inner - start)
        c = np.empty((size + 2 * _PAD, _BLOCK), np.float64)
        for k in range(size + 2 * _PAD):
            at = min(max(k - _PAD, 0), size - 1)
            for x in range(width):
                value = np.float32(source[plane, at, start + x])
                value = (min(max(value, lower), upper) - mean) / sd
                if k == 0:  # as if the edge had gone on for ever
                    c[k, x] = 6.0 * value / (1.0 - _POLE)
                else:
                    c[k, x] = 6.0 * value + _POLE * c[k - 1, x]
        last = size + 2 * _PAD - 1
        for x in range(width):
            c[last, x] *= _POLE / (_POLE - 1.0)
        for k in range(last - 1, -1, -1):
            for x in range(width):
                c[k, x] = _POLE * (c[k + 1, x] - c[k, x])
        for j in range(targets):
            at = first[j] + _PAD
            w0, w1, w2, w3 = weights[j, 0], weights[j, 1], weights[j, 2], weights[j, 3]
            for x in range(width):
                value = np.float32(
                    w0 * c[at, x] + w1 * c[at + 1, x] + w2 * c[at + 2, x] + w3 * c[at + 3, x]
                )
                out[plane, j, start + x] = min(max(value, least[plane]), most[plane])


_SIGNATURES = [
    void(
        types.Array(kind, 3, "A", readonly=True),
        int64[::1],
        float64[:, ::1],
        *(float32, float32, float32, float32),
        float32[::1],
        float32[::1],
        types.Array(float32, 3, "A"),
    )
    for kind in (int16, float32)
]

resample_axis: Any = njit(_SIGNATURES, parallel=True, cache=True)(_resample_axis)
"""`_resample_axis` on CPU threads."""
