"""Volumes up to the GPU, through page-locked memory that outlives the job."""

from functools import cache
from typing import Any

import numpy as np
from numba import cuda

_BLOCK_BYTES = 16 * 2**20


def upload(source: np.ndarray, stream: Any) -> Any:
    """Return `source` on the device, contiguous.

    Planes are copied into one of two page-locked blocks while the other one goes up: a driver
    does the same for pageable memory, but only after a permuted view was made contiguous.

    Parameters
    ----------
    source
        (z, y, x), any strides. It may be freed or changed as soon as this returns.
    """
    target = cuda.device_array(source.shape, source.dtype)
    plane_bytes = source[:1].nbytes
    if plane_bytes > _BLOCK_BYTES:
        target.copy_to_device(np.ascontiguousarray(source), stream=stream)
        stream.synchronize()
        return target
    planes = _BLOCK_BYTES // max(plane_bytes, 1)
    for turn, start in enumerate(range(0, len(source), planes)):
        block, gone = _blocks()[turn % 2]
        part = source[start : start + planes]
        staged = block[: part.nbytes].view(part.dtype).reshape(part.shape)
        gone.synchronize()
        np.copyto(staged, part)
        target[start : start + planes].copy_to_device(staged, stream=stream)
        gone.record(stream)
    return target


@cache
def _blocks() -> tuple[tuple[np.ndarray, Any], ...]:
    """Return two blocks, each with the event after which it is free again."""
    return tuple((cuda.pinned_array(_BLOCK_BYTES, np.uint8), cuda.event()) for _ in range(2))
