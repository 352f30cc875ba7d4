"""Models, networks and engines whose answers the tests of `segment` can work out themselves."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from viscera.domain.models import Code, Grade, Label, Model, Normalisation, NormalisationScheme

_CODE = Code("1", "99TEST", "Test")


def make_model(
    *,
    labels: int,
    patch: tuple[int, int, int],
    channels: int = 1,
    step: float = 0.5,
    mirror_axes: tuple[int, ...] = (),
    logits_order: int = 1,
    onnx_path: Path = Path("missing.onnx"),
) -> Model:
    """A model with `labels` labels, background not counted."""
    return Model(
        name="fake",
        version="1",
        grade=Grade.DEMONSTRATION,
        digest="0" * 64,
        folder=onnx_path.parent,
        onnx=onnx_path,
        onnx_sha256="0" * 64,
        golden=Path("missing.npz"),
        labels=tuple(
            Label(value=v, name=f"l{v}", title=f"L{v}", category=_CODE, type=_CODE, rgb=(0, 0, v))
            for v in range(1, labels + 1)
        ),
        modalities=("CT",),
        channels=tuple(f"c{k}" for k in range(channels)),
        axes="SPL",
        spacing_mm=None,
        normalisation={"CT": (Normalisation(scheme=NormalisationScheme.NONE),)},
        patch_size=patch,
        step=step,
        mirror_axes=mirror_axes,
        logits_order=logits_order,
    )


class FunctionEngine:
    """An engine that is one numpy function of (tile, channel, z, y, x)."""

    name = "function"

    def __init__(
        self, function: Callable[[np.ndarray], np.ndarray] = np.array, tile_batch: int = 1
    ) -> None:
        self._function = function
        self.tile_batch = tile_batch
        self.calls: list[int] = []

    def infer(self, tiles: np.ndarray) -> np.ndarray:
        assert 1 <= len(tiles) <= self.tile_batch
        self.calls.append(len(tiles))
        return self._function(tiles)

    def close(self) -> None:
        pass


def write_network(
    path: Path,
    *,
    channels: int = 1,
    labels: int = 3,
    seed: int = 0,
    batch: int | str = "n",
    edit: Callable[[np.ndarray], None] = lambda weights: None,
    spatial: Sequence[int | str] = ("z", "y", "x"),
) -> Path:
    """Two 3x3x3 convolutions with a ReLU between; `labels` outputs, background counted.

    `edit` may change the second convolution's weights in place.
    """
    rng = np.random.default_rng(seed)
    first = rng.standard_normal((8, channels, 3, 3, 3)).astype(np.float32)
    second = rng.standard_normal((labels, 8, 3, 3, 3)).astype(np.float32)
    edit(second)
    nodes = [
        helper.make_node("Conv", ["image", "first"], ["hidden"], pads=[1] * 6),
        helper.make_node("Relu", ["hidden"], ["positive"]),
        helper.make_node("Conv", ["positive", "second"], ["logits"], pads=[1] * 6),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, channels, *spatial])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, labels, *spatial])],
        [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path
    )
    return path
