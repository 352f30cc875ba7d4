"""TensorRT 10.13 or later, and TensorRT-RTX, which has the same interface: one class for both."""

from typing import Any

import numpy as np

from viscera.domain.arrays import Logits, Tiles
from viscera.domain.models import Model
from viscera.errors import DeviceLost, DeviceMemoryFull, ModelRefused
from viscera.segment import device_memory


class PlanRefused(Exception):
    """A plan does not load here, or is not of this network; it must be built again."""


class TensorRtEngine:
    """One plan, loaded, with its input and output on the device.

    Parameters
    ----------
    trt
        The module ``tensorrt`` or ``tensorrt_rtx``.
    model
        What the plan was built of.
    plan
        As `tensorrt_build.build_plan` made it, on this machine and for this GPU.
    tile_batch
        That it was built for.

    Raises
    ------
    PlanRefused
        If the plan does not load, or its inputs and outputs are not the manifest's.
    DeviceMemoryFull
        If plan, tiles and logits do not fit.
    """

    def __init__(self, trt: Any, model: Model, plan: bytes, *, tile_batch: int) -> None:
        self._name: str = trt.__name__.replace("_", "-")
        self._trt = trt
        self._logger = trt.Logger(trt.Logger.ERROR)
        self._runtime = trt.Runtime(self._logger)
        device_memory.require(len(plan))  # for lack of memory too the answer would be None
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise PlanRefused("the plan does not load on this GPU with this TensorRT")
        self._input, self._output = self._names()
        low, _, high = self._engine.get_tensor_profile_shape(self._input, 0)
        if not low[0] <= tile_batch <= high[0]:
            tile_batch = int(high[0])
        self.stream = device_memory.new_stream()
        # The context's scratch memory is taken by TensorRT itself, at its creation.
        device_memory.require(int(self._engine.device_memory_size_v2))
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise DeviceMemoryFull(
                "TensorRT made no execution context for the plan; lower engine.tile_batch, or"
                " free the GPU"
            )
        self.tiles = device_memory.empty((tile_batch, len(model.channels), *model.patch_size))
        self.logits = device_memory.empty((tile_batch, model.output_count, *model.patch_size))
        self._bind(low[0])

    @property
    def name(self) -> str:
        """Constant word for logs, metrics and results."""
        return self._name

    @property
    def tile_batch(self) -> int:
        """How many tiles one call takes at most."""
        return int(self.tiles.shape[0])

    def infer(self, tiles: Tiles) -> Logits:
        """Return the logits of `tiles`, both in host memory."""
        if self._context is None:
            raise ModelRefused("this engine is closed; start another one")
        return device_memory.answer(self, tiles)

    def enqueue(self, count: int) -> None:
        """Put the network on `stream`: the first `count` of `tiles` to those of `logits`.

        Raises
        ------
        DeviceLost
            If TensorRT does not take it: the context is broken, or the GPU is.
        """
        self._set_count(max(count, self._least))
        if not self._context.execute_async_v3(device_memory.handle_of(self.stream)):
            raise DeviceLost(f"{self._name} did not take {count} tiles; the worker must start anew")

    def close(self) -> None:
        """Free the plan and its memory."""
        self._context = self._engine = self._runtime = None
        self.tiles = self.logits = np.empty((0,), np.float32)

    def _names(self) -> tuple[str, str]:
        """Return the names of the one input and the one output, both float32."""
        engine, mode = self._engine, self._trt.TensorIOMode
        names = [engine.get_tensor_name(k) for k in range(engine.num_io_tensors)]
        modes = [engine.get_tensor_mode(name) for name in names]
        kinds = {engine.get_tensor_dtype(name) for name in names}
        if sorted(map(str, modes)) != sorted(map(str, (mode.INPUT, mode.OUTPUT))):
            raise PlanRefused(f"the plan has inputs and outputs {names}, one of each was expected")
        if kinds != {self._trt.float32}:
            raise PlanRefused(f"the plan's inputs and outputs are {kinds}, not float32")
        return names[modes.index(mode.INPUT)], names[modes.index(mode.OUTPUT)]

    def _bind(self, least: int) -> None:
        """Tell TensorRT where tiles and logits are, and see that it agrees on their shapes."""
        self._least, self._count = int(least), 0
        self._context.set_tensor_address(self._input, device_memory.address_of(self.tiles))
        self._context.set_tensor_address(self._output, device_memory.address_of(self.logits))
        self._set_count(self.tile_batch)
        promised = tuple(self._context.get_tensor_shape(self._output))
        if promised != tuple(self.logits.shape):
            raise PlanRefused(
                f"the plan answers {promised}, the manifest promises {tuple(self.logits.shape)}"
            )

    def _set_count(self, count: int) -> None:
        if count == self._count:
            return
        if not self._context.set_input_shape(self._input, (count, *self.tiles.shape[1:])):
            raise PlanRefused(f"the plan does not take {count} tiles of {self.tiles.shape[1:]}")
        self._count = count
