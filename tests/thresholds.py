"""Networks whose right answer is known for every voxel: output k is the kth band of intensity."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def thresholds_onnx(borders: tuple[float, ...]) -> bytes:
    """Return (tile, 1, z, y, x) to (tile, len(borders) + 1, z, y, x): see `band`."""
    count = len(borders) + 1
    slopes = np.arange(count, dtype=np.float32).reshape(count, 1, 1, 1, 1)
    offsets = -np.concatenate([[0.0], np.cumsum(borders)]).astype(np.float32)
    node = helper.make_node("Conv", ["image", "w", "b"], ["logits"], kernel_shape=[1] * 3)
    graph = helper.make_graph(
        [node],
        "thresholds",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["t", 1, "z", "y", "x"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["t", count, "z", "y", "x"])],
        [numpy_helper.from_array(slopes, "w"), numpy_helper.from_array(offsets, "b")],
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return network.SerializeToString(deterministic=True)


def thresholds_logits(borders: tuple[float, ...], tile: np.ndarray) -> np.ndarray:
    """Return what that network answers to (1, 1, z, y, x), by arithmetic."""
    offsets = -np.concatenate([[0.0], np.cumsum(borders)])
    lines = [k * tile[:, 0] + offset for k, offset in enumerate(offsets)]
    return np.stack(lines, axis=1).astype(np.float32)
