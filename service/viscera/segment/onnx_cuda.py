"""ONNX Runtime on an NVIDIA GPU, with tiles and logits on the device."""

from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from viscera.domain.arrays import Logits, Tiles
from viscera.domain.models import Model
from viscera.errors import DeviceLost, DeviceMemoryFull, DeviceUnavailable, ModelRefused
from viscera.segment import device_memory
from viscera.segment.onnx_session import check_signature, open_session

_PROVIDER = "CUDAExecutionProvider"
_OUT_OF_MEMORY = ("out of memory", "failed to allocate", "available memory", "alloc_failed")
_RUN_ERRORS = (RuntimeError, ort_errors.RuntimeException, ort_errors.Fail)
"""A bound run raises Python's own RuntimeError, and keeps ONNX Runtime's classes for others."""


class OnnxCudaEngine:
    """One network in ONNX Runtime's CUDA provider, all of it: nothing falls back to the CPU.

    Convolutions take TF32 (ten bits of mantissa) where the GPU has it.

    Parameters
    ----------
    model
        Its `onnx` is read, as `OnnxCpuEngine` does.
    tile_batch
        Tiles a call; a network exported for one tile at a time gets one.
    provider, device
        ONNX Runtime's names of where it runs and of whose memory it is given.

    Raises
    ------
    DeviceUnavailable
        If ONNX Runtime has no such provider here: it is the CPU's wheel, or CUDA's libraries do
        not load.
    ModelRefused
        If the file cannot be loaded, or a part of it cannot run on the GPU.
    DeviceMemoryFull
        If tiles and logits do not fit.
    """

    def __init__(
        self, model: Model, *, tile_batch: int, provider: str = _PROVIDER, device: str = "cuda"
    ) -> None:
        device_memory.free_dropped()
        self.stream = device_memory.new_stream()
        self._device = device
        self._session: Any = _load(model, provider, device_memory.handle_of(self.stream))
        batch = check_signature(self._session, model) or tile_batch
        self.tiles = device_memory.empty((batch, len(model.channels), *model.patch_size))
        self.logits = device_memory.empty((batch, model.output_count, *model.patch_size))
        self._options = onnxruntime.RunOptions()
        # What follows is on the same stream; who needs the logits on the host waits for it.
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self._bindings: dict[int, Any] = {}

    @property
    def name(self) -> str:
        """Constant word for logs, metrics and results."""
        return "onnx-cuda"

    @property
    def tile_batch(self) -> int:
        """How many tiles one call takes at most."""
        return int(self.tiles.shape[0])

    def infer(self, tiles: Tiles) -> Logits:
        """Return the logits of `tiles`, both in host memory."""
        if self._session is None:
            raise ModelRefused("this engine is closed; start another one")
        return device_memory.answer(self, tiles)

    def enqueue(self, count: int) -> None:
        """Put the network on `stream`: the first `count` of `tiles` to those of `logits`.

        Raises
        ------
        DeviceMemoryFull
            If the network finds no memory to work in.
        DeviceLost
            For every other failure: what CUDA once failed at it goes on failing at.
        """
        try:
            self._session.run_with_iobinding(self._bound(count), self._options)
        except _RUN_ERRORS as error:
            if any(word in str(error).lower() for word in _OUT_OF_MEMORY):
                raise DeviceMemoryFull(
                    f"no GPU memory to run the network on {count} tiles; lower engine.tile_batch,"
                    " or free the GPU"
                ) from error
            raise DeviceLost(
                f"{self.name} failed on {count} tiles: {error}; the worker must start anew"
            ) from error

    def close(self) -> None:
        """Free the network and its memory. Idempotent."""
        self._bindings.clear()
        self._session = None
        self.tiles = self.logits = np.empty((0,), np.float32)

    def _bound(self, count: int) -> Any:
        """Return the places of the first `count` tiles and logits, as ONNX Runtime takes them."""
        if count not in self._bindings:
            binding = self._session.io_binding()
            (taken,), (given,) = self._session.get_inputs(), self._session.get_outputs()
            for bind, node, array in (
                (binding.bind_input, taken, self.tiles),
                (binding.bind_output, given, self.logits),
            ):
                shape = (count, *array.shape[1:])
                address = device_memory.address_of(array)
                bind(node.name, self._device, 0, np.float32, shape, address)
            self._bindings[count] = binding
        return self._bindings[count]


def _load(model: Model, provider: str, stream: int) -> Any:
    # The libraries of NVIDIA's own wheels, where those are installed.
    onnxruntime.preload_dlls()
    if provider not in onnxruntime.get_available_providers():
        raise DeviceUnavailable(
            f"ONNX Runtime {onnxruntime.__version__} has no {provider}, only"
            f" {', '.join(onnxruntime.get_available_providers())}; install the extra `gpu`"
        )
    options = onnxruntime.SessionOptions()
    if provider == _PROVIDER:
        # Otherwise what the GPU cannot do runs on the CPU, or all of it, without a word.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    session = open_session(model, options, [(provider, _provider_options(provider, stream))])
    if session.get_providers()[0] != provider:
        raise DeviceUnavailable(
            f"ONNX Runtime took {session.get_providers()[0]} instead of {provider}: libraries of"
            " CUDA or cuDNN do not load; install the extra `gpu` anew"
        )
    return session


def _provider_options(provider: str, stream: int) -> dict[str, str]:
    if provider != _PROVIDER:
        return {}
    return {
        "user_compute_stream": str(stream),
        "use_tf32": "1",
        # Every tile has one shape: trying all algorithms once pays.
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "cudnn_conv_use_max_workspace": "1",
        "arena_extend_strategy": "kSameAsRequested",
    }
