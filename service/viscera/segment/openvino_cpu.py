"""OpenVINO on the CPU: the fastest engine where there is no GPU."""

import sys
from typing import Any

import numpy as np

from viscera.domain.arrays import Logits, Tiles
from viscera.domain.models import Model
from viscera.errors import HostMemoryFull, ModelRefused
from viscera.segment.runtime import usable_threads

# OpenVINO reports each import to its maker over the network, unasked, if it finds this module;
# where a hospital's scans lie, nothing calls out. Without it OpenVINO takes a stub of its own.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # None: not importable

import openvino  # noqa: E402


class OpenVinoEngine:
    """One network in OpenVINO's CPU plugin.

    Parameters
    ----------
    model
        Its `onnx` is read, and must take (tile, channel, z, y, x) and answer
        (tile, label, z, y, x), both float32.
    threads
        Threads of one call; 0 takes every core that this process may use.
    tile_batch
        Tiles a call. The network is compiled for just this number, and a smaller batch is filled
        up with tiles of zeros. A network exported for a fixed number keeps that.

    Raises
    ------
    ModelRefused
        If the file cannot be loaded or its signature does not fit the manifest.
    """

    def __init__(self, model: Model, *, threads: int, tile_batch: int) -> None:
        core = openvino.Core()
        try:
            network = core.read_model(str(model.onnx))
            self._tile_batch = _check_signature(network, model) or tile_batch
            taken = (self._tile_batch, len(model.channels), *model.patch_size)
            network.reshape(list(taken))
            compiled = core.compile_model(network, "CPU", _properties(usable_threads(threads)))
        except RuntimeError as error:
            raise ModelRefused(
                f"the network of {model.full_name} cannot be loaded by OpenVINO"
                f" {openvino.__version__}: {error}"
            ) from error
        self._tiles = np.zeros(taken, np.float32)
        self._answer = np.empty((taken[0], model.output_count, *taken[2:]), np.float32)
        self._request: Any = _bind(compiled, self._tiles, self._answer)

    @property
    def name(self) -> str:
        """Constant word for logs, metrics and results."""
        return "openvino-cpu"

    @property
    def tile_batch(self) -> int:
        """How many tiles one call takes at most."""
        return self._tile_batch

    def infer(self, tiles: Tiles) -> Logits:
        """Return the logits of `tiles`, in memory that the next call writes again."""
        if self._request is None:
            raise ModelRefused("this engine is closed; start another one")
        self._tiles[: len(tiles)] = tiles
        self._tiles[len(tiles) :] = 0
        try:
            self._request.infer()
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, MemoryError) or "alloc" in str(error).lower():
                raise HostMemoryFull(
                    f"no memory to run the network on {len(self._tiles)} tiles of"
                    f" {self._tiles.shape[2:]}; free memory or lower engine.tile_batch"
                ) from error
            raise
        return self._answer[: len(tiles)]

    def close(self) -> None:
        """Free the network and its memory."""
        self._request = None
        self._tiles = self._answer = np.empty((0,), np.float32)


def _properties(threads: int) -> dict[str, Any]:
    return {
        # One tile after another: all threads work on the same one.
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        # Left alone it takes bfloat16 where the CPU has it, and fails the golden tile.
        "INFERENCE_PRECISION_HINT": "f32",
        # Pinned threads of two workers would meet on the same cores.
        "ENABLE_CPU_PINNING": False,
    }


def _bind(compiled: Any, tiles: np.ndarray, answer: np.ndarray) -> Any:
    """Return a request that reads `tiles` and writes `answer`, both without a copy."""
    promised = tuple(compiled.outputs[0].shape)
    if promised != answer.shape:
        raise ModelRefused(
            f"the network answers {promised} to {tiles.shape}, {answer.shape} was expected"
        )
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(tiles, shared_memory=True))
    request.set_output_tensor(openvino.Tensor(answer, shared_memory=True))
    return request


def _check_signature(network: Any, model: Model) -> int | None:
    """Return the batch size that the network is fixed to, None where it takes any.

    Raises
    ------
    ModelRefused
        If inputs and outputs are not one array each of the manifest's shape.
    """
    expected = {
        "input": (network.inputs, len(model.channels)),
        "output": (network.outputs, model.output_count),
    }
    batches = []
    for what, (nodes, channels) in expected.items():
        wanted = (channels, *model.patch_size)
        shape = _shape(nodes[0]) if len(nodes) == 1 else ()
        if len(shape) != 5 or any(
            seen not in (None, size) for seen, size in zip(shape[1:], wanted, strict=True)
        ):
            raise ModelRefused(
                f"{what}s of the network of {model.full_name} are"
                f" {[(str(n.element_type), str(n.partial_shape)) for n in nodes]}; one float32"
                f" array (tile, {', '.join(map(str, wanted))}) was expected"
            )
        batches.append(shape[0])
    return next((size for size in batches if size is not None), None)


def _shape(node: Any) -> tuple[int | None, ...]:
    """Return the sizes of a float32 array, None where any is taken; () for something else."""
    shape = node.partial_shape
    if node.element_type != openvino.Type.f32 or shape.rank.is_dynamic:
        return ()
    return tuple(size.get_length() if size.is_static else None for size in shape)
