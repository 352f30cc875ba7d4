"""What a network is to the rest: a batch of tiles in, a batch of logits out."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, runtime_checkable

import numpy as np

from viscera.domain.arrays import Logits, Tiles


class Engine(Protocol):
    """One loaded network. Not thread-safe: one engine, one job at a time."""

    @property
    def name(self) -> str:
        """Constant word for logs, metrics and results, e.g. ``onnx-cpu``."""

    @property
    def tile_batch(self) -> int:
        """How many tiles one call takes at most."""

    def infer(self, tiles: Tiles) -> Logits:
        """Return the logits of `tiles`: (tile, label, z, y, x), float32, background first.

        The returned array is valid until the next call.
        """

    def close(self) -> None:
        """Free what it holds. Idempotent."""


@runtime_checkable
class DeviceEngine(Engine, Protocol):
    """An engine whose tiles and logits stay on the GPU, at places of its own.

    The caller writes `tiles`, calls `enqueue` and reads `logits`, all on `stream`; nothing waits.
    """

    stream: Any
    """numba-cuda's."""
    tiles: Any
    """Device array (tile, channel, z, y, x), float32, of `tile_batch` tiles."""
    logits: Any
    """Device array (tile, label, z, y, x), float32; background first."""

    def enqueue(self, count: int) -> None:
        """Run the network on the first `count` tiles."""


def stream_of(engine: Engine) -> Any:
    """Return the stream on which `engine` takes its image, None where it is on the host."""
    return engine.stream if isinstance(engine, DeviceEngine) else None


def fill_batch(engine: DeviceEngine) -> None:
    """Run a full batch of nothing: memory and algorithms that a library takes at first use.

    Raises
    ------
    DeviceMemoryFull, DeviceLost
        What the GPU says.
    """
    with faults_of(engine):
        engine.tiles.copy_to_device(np.zeros(engine.tiles.shape, np.float32), stream=engine.stream)
        engine.enqueue(engine.tile_batch)
        engine.stream.synchronize()


def faults_of(engine: Engine) -> AbstractContextManager[None]:
    """Return a context in which what CUDA says becomes `DeviceLost` or `DeviceMemoryFull`."""
    if not isinstance(engine, DeviceEngine):
        return nullcontext()
    from viscera.segment import device_memory  # numba-cuda is an extra

    return device_memory.faults_named()
