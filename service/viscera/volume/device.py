"""The network's input, made on the GPU: the source goes up as int16, once, and stays there."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import cuda

from viscera.volume import cuda_kernels
from viscera.volume.sampling import Scaling, axis_table


def resample_on_device(
    sources: Sequence[np.ndarray],
    shape: tuple[int, int, int],
    orders: tuple[int, int, int],
    scalings: Sequence[Scaling],
    stream: Any,
) -> Any:
    """Return the image (channel, z, y, x), float32, on the device.

    Parameters
    ----------
    sources
        One (z, y, x) a channel, int16 or float32, any strides.
    shape, orders, scalings
        As the kernels on the host take them: orders 0 or 1.
    stream
        What is launched goes there; nothing waits but the upload.
    """
    image = cuda.device_array((len(sources), *shape), np.float32)
    for channel, (source, scaling) in enumerate(zip(sources, scalings, strict=True)):
        upwards, columns = _upwards(source, shape, orders)
        numbers = (scaling.lower, scaling.upper, scaling.mean, scaling.sd)
        cuda_kernels.resample(
            cuda.to_device(np.ascontiguousarray(upwards), stream=stream),
            tuple(cuda.to_device(column, stream=stream) for column in columns),
            tuple(map(np.float32, numbers)),
            image[channel],
            stream,
        )
    return image


def _upwards(
    source: np.ndarray, shape: tuple[int, int, int], orders: tuple[int, int, int]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return `source` without its flips, and tables that read it backwards instead.

    A flipped view would have to be copied before it goes up; most series are flipped.
    """
    flips = [stride < 0 for stride in source.strides]
    steps = tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)
    columns = []
    for n, m, order, flip in zip(source.shape, shape, orders, flips, strict=True):
        table = axis_table(n, m, order)
        for index in (table.low, table.high):
            columns.append(n - 1 - index if flip else index)
        columns.append(table.weight)
    return source[steps], columns
