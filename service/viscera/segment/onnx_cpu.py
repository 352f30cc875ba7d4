"""ONNX Runtime on the CPU: the engine that runs everywhere."""

from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from viscera.domain.arrays import Logits, Tiles
from viscera.domain.models import Model
from viscera.errors import HostMemoryFull, ModelRefused
from viscera.segment.onnx_session import check_signature, open_session
from viscera.segment.runtime import usable_threads


class OnnxCpuEngine:
    """One network in ONNX Runtime's CPU provider.

    Parameters
    ----------
    model
        Its `onnx` is read, and must take (tile, channel, z, y, x) and answer
        (tile, label, z, y, x), both float32.
    threads
        Threads of one operator; 0 takes every core that this process may use.
    tile_batch
        Tiles a call; a network exported for one tile at a time gets one.

    Raises
    ------
    ModelRefused
        If the file cannot be loaded or its signature does not fit the manifest.
    """

    def __init__(self, model: Model, *, threads: int, tile_batch: int) -> None:
        self._patch = model.patch_size
        self._labels = model.output_count
        self._session: Any = _load(model, usable_threads(threads))
        batch = check_signature(self._session, model)
        self._tile_batch = tile_batch if batch is None else batch
        self._answer = np.empty((0,), np.float32)

    @property
    def name(self) -> str:
        """Constant word for logs, metrics and results."""
        return "onnx-cpu"

    @property
    def tile_batch(self) -> int:
        """How many tiles one call takes at most."""
        return self._tile_batch

    def infer(self, tiles: Tiles) -> Logits:
        """Return the logits of `tiles`, in memory that the next call writes again."""
        if self._session is None:
            raise ModelRefused("this engine is closed; start another one")
        shape = (len(tiles), self._labels, *self._patch)
        if self._answer.shape[:1] < shape[:1]:
            self._answer = np.empty(shape, np.float32)
        answer = self._answer[: len(tiles)]
        binding = self._session.io_binding()
        binding.bind_cpu_input(self._session.get_inputs()[0].name, np.ascontiguousarray(tiles))
        binding.bind_output(
            self._session.get_outputs()[0].name, "cpu", 0, np.float32, shape, answer.ctypes.data
        )
        try:
            self._session.run_with_iobinding(binding)
        except ort_errors.RuntimeException as error:
            if "alloc" in str(error).lower():
                raise HostMemoryFull(
                    f"no memory to run the network on {len(tiles)} tiles of {self._patch};"
                    " free memory or lower engine.tile_batch"
                ) from error
            raise
        return answer

    def close(self) -> None:
        """Free the network and its memory."""
        self._session = None
        self._answer = np.empty((0,), np.float32)


def _load(model: Model, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin between tiles would take the cores from our kernels.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Tiles have one shape, so the arena stops growing with the first call. Without patterns it
    # peaks a seventh lower at equal speed; without the arena a call takes a fifth longer.
    options.enable_mem_pattern = False
    return open_session(model, options, ["CPUExecutionProvider"])
