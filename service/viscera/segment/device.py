"""The sliding window with everything on the GPU: `segment`, for engines that work there.

The volume goes up once, the label map comes down slab by slab while the next tiles are computed.
Launches follow one another on the engine's stream; the host stays one slab ahead at most, so that
progress and cancelling mean something.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numba import cuda

from viscera.domain.models import Model
from viscera.errors import ModelRefused
from viscera.segment import cuda_kernels, device_memory
from viscera.segment.air import without_air
from viscera.segment.engine import DeviceEngine
from viscera.segment.ring import footprint, settle
from viscera.segment.tables import AxisTable
from viscera.segment.tiles import Pass, TileGrid
from viscera.segment.weights import tile_weights


class DeviceRing:
    """`ring.Ring` on the device: blended logits of a moving range of planes."""

    def __init__(self, tiles: TileGrid, labels: int, stream: Any) -> None:
        self.planes = tiles.ring_planes
        self.final = 0
        self.steps = tiles.settling
        self._entered = 0
        self._tiles, self._stream = tiles, stream
        self._weights = tuple(cuda.to_device(w, stream=stream) for w in tile_weights(tiles))
        shape = (self.planes, *tiles.shape[1:])
        self.sums = device_memory.empty((labels, *shape))
        self.winners = device_memory.empty(shape, np.uint8)
        self._lost = cuda.to_device(np.zeros(1, np.int32), stream=stream)

    def add(self, logits: Any, one: Pass) -> None:
        """Blend one answer of the network in: (label, z, y, x), mirrored where `one` is."""
        z, y, x = self._weights
        low, high, weights = footprint(self._tiles, (z, y, x), one)
        self._clear_up_to(high[0])
        cuda_kernels.accumulate(
            logits, one.origin, one.sign, low, high, weights, self.sums, self._stream
        )

    def finish(self, until: int) -> None:
        """Declare the planes below `until` final and find their winners; see `settle`."""
        self._clear_up_to(until)  # no tile may have reached them
        cuda_kernels.find_winners(
            self.sums, self.final, until - self.final, self.winners, self._lost, self._stream
        )
        self.final = until

    def _clear_up_to(self, plane: int) -> None:
        entering = max(self._entered, plane)
        cuda_kernels.clear(self.sums, self._entered, entering - self._entered, self._stream)
        self._entered = entering

    def require_finite(self) -> None:
        """Refuse logits that were NaN or infinite; waits for the stream."""
        found = self._lost.copy_to_host(stream=self._stream)
        self._stream.synchronize()
        lost = int(found[0])
        if lost:
            raise ModelRefused(
                f"the network answered NaN or infinity at {lost} voxels; finite logits were"
                " expected: run `viscera model check` and use another engine or precision"
            )


class DeviceRestorer:
    """Writes the label map on the device and brings it down, as planes become final."""

    def __init__(
        self, ring: DeviceRing, axes: Sequence[AxisTable], shape: tuple[int, ...], stream: Any
    ) -> None:
        self._ring, self._stream = ring, stream
        z, y, x = axes
        self._upper = z.upper
        slots = (z.lower % ring.planes, z.upper % ring.planes, z.weight)
        self._z = tuple(cuda.to_device(column, stream=stream) for column in slots)
        self._yx = tuple(
            cuda.to_device(column, stream=stream)
            for axis in (y, x)
            for column in (axis.lower, axis.upper, axis.weight)
        )
        self._labels = device_memory.empty(shape, np.uint8)
        self._host = cuda.pinned_array(shape, np.uint8)
        self._down = device_memory.new_stream()
        self._written = 0
        self._pace = cuda.event()

    def write(self) -> None:
        """Restore every slice between final planes, and wait for those of the call before."""
        self._pace.synchronize()
        ready = int(np.searchsorted(self._upper, self._ring.final))
        if ready > self._written:
            new = slice(self._written, ready)
            tables = (*(column[new] for column in self._z), *self._yx)
            cuda_kernels.restore(
                self._ring.sums, self._ring.winners, tables, self._labels[new], self._stream
            )
        self._pace.record(self._stream)
        if ready > self._written:
            self._pace.wait(self._down)
            self._labels[new].copy_to_host(self._host[new], stream=self._down)
        self._written = ready

    def result(self) -> np.ndarray:
        """Return the whole label map; waits until it has come down."""
        self._down.synchronize()
        host: np.ndarray = self._host
        return host


def segment_on_device(
    image: Any,
    model: Model,
    engine: DeviceEngine,
    runs: Sequence[Pass],
    tiles: TileGrid,
    axes: Sequence[AxisTable],
    labels_out: np.ndarray,
    progress: Callable[[float], None],
) -> None:
    """Fill `labels_out` as `run.segment` does, for arguments that it has checked.

    Parameters
    ----------
    image
        (channel, z, y, x), float32, on the host or on the device.

    Raises
    ------
    ModelRefused
        If a logit is not finite.
    DeviceMemoryFull, DeviceLost
        What the GPU says.
    """
    stream = engine.stream
    with device_memory.faults_named():
        if isinstance(image, np.ndarray):
            image = cuda.to_device(np.ascontiguousarray(image), stream=stream)
        ring = DeviceRing(tiles, model.output_count, stream)
        restorer = DeviceRestorer(ring, axes, labels_out.shape, stream)
        runs = without_air(runs, tiles, model, partial(_mark, image, stream))
        remaining, done = iter(runs), 0
        while batch := tuple(itertools.islice(remaining, engine.tile_batch)):
            for k, one in enumerate(batch):
                cuda_kernels.gather(image, one.origin, one.sign, engine.tiles[k], stream)
            engine.enqueue(len(batch))
            for k, one in enumerate(batch):
                settle(ring, restorer, one.tile.start[0])
                ring.add(engine.logits[k], one)
            done += len(batch)
            progress(done / (len(runs) + 1))
        settle(ring, restorer, tiles.shape[0])
        ring.require_finite()
        found = restorer.result()
        labels_out[...] = np.array(model.outputs, np.uint8)[found] if model.outputs else found
    progress(1.0)


def _mark(image: Any, stream: Any, low: np.ndarray, high: np.ndarray, above: float) -> np.ndarray:
    marked = cuda.to_device(np.zeros(len(low), np.uint8), stream=stream)
    depth = int((high - low)[:, 0].max())
    first, end = (cuda.to_device(array, stream=stream) for array in (low, high))
    cuda_kernels.mark_above(image, first, end, depth, np.float32(above), marked, stream)
    found: np.ndarray = marked.copy_to_host(stream=stream)
    stream.synchronize()
    return found.astype(bool)
