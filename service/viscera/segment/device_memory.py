"""Arrays and streams on the GPU, as numba-cuda has them, for engines of other makers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from cuda.core._utils.cuda_utils import CUDAError
from numba import config, cuda
from numba.cuda.cudadrv.driver import CudaAPIError

from viscera.domain.arrays import Logits, Tiles
from viscera.errors import DeviceLost, DeviceMemoryFull
from viscera.segment.engine import DeviceEngine

_OUT_OF_MEMORY = 2  # cuda.h: CUDA_ERROR_OUT_OF_MEMORY
_SAYS_FULL = "CUDA_ERROR_OUT_OF_MEMORY"
_FAULTS = (CudaAPIError, CUDAError)
"""Copies and queries raise numba's; launches and linking raise cuda.core's, which has no code."""


def new_stream() -> Any:
    """Return a stream of our own; everything of one engine runs on it, in order."""
    return cuda.stream()


def handle_of(stream: Any) -> int:
    """Return a stream as other libraries take it."""
    return int(stream.handle)


def address_of(array: Any) -> int:
    """Return where a device array begins."""
    return int(array.__cuda_array_interface__["data"][0])


def empty(shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
    """Return an uninitialised array on the device.

    Raises
    ------
    DeviceMemoryFull
        If it does not fit.
    """
    require(int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize)
    with faults_named():
        return cuda.device_array(shape, dtype)


def require(size_bytes: int) -> None:
    """Refuse what does not fit into the memory that is free now.

    Raises
    ------
    DeviceMemoryFull
        With how much was asked for and how much there is.
    DeviceLost
        If the GPU does not say.
    """
    free_dropped()
    with faults_named():
        free, total = cuda.current_context().get_memory_info()
    if size_bytes > free:
        raise DeviceMemoryFull(
            f"{size_bytes / 2**20:.0f} MiB of GPU memory are needed, {free / 2**20:.0f} of"
            f" {total / 2**20:.0f} MiB are free; lower engine.tile_batch, or free the GPU"
        )


def free_dropped() -> None:
    """Give back what numba keeps of dropped arrays; other libraries cannot ask it to."""
    if vars(config)["ENABLE_CUDASIM"]:
        return
    with faults_named():
        context = cuda.current_context()
        context.memory_manager.deallocations.clear()
        context.deallocations.clear()


@contextmanager
def faults_named() -> Iterator[None]:
    """Turn what CUDA says into `DeviceMemoryFull`, or `DeviceLost` for everything that sticks."""
    try:
        yield
    except _FAULTS as error:
        if getattr(error, "code", None) == _OUT_OF_MEMORY or _SAYS_FULL in str(error):
            raise DeviceMemoryFull(
                f"the GPU's memory is used up: {error}; lower engine.tile_batch, or free the GPU"
            ) from error
        raise DeviceLost(
            f"the GPU failed: {error}; the worker starts anew, and tries its golden tile first"
        ) from error


def answer(engine: DeviceEngine, tiles: Tiles) -> Logits:
    """Take `tiles` up to an engine's own, run it, and bring the logits down; both on the host."""
    with faults_named():
        engine.tiles[: len(tiles)].copy_to_device(np.ascontiguousarray(tiles), stream=engine.stream)
        engine.enqueue(len(tiles))
        logits: Logits = engine.logits[: len(tiles)].copy_to_host(stream=engine.stream)
        engine.stream.synchronize()
    return logits
