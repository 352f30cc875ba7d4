"""The float16 network, judged by ONNX Runtime and by a walk over its types."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, shape_inference

from segment_fakes import write_network
from viscera import models
from viscera.errors import ModelRefused
from viscera.segment import golden
from viscera.segment.half import to_half

REPO = Path(__file__).parents[3] / "model_repo"


def shipped():
    return models.load_model(REPO, "abdomen15-phantom")


class HalfEngine:
    """ONNX Runtime on the typed network; the CPU's half arithmetic rounds as a GPU's stores do."""

    name = "half"
    tile_batch = 1

    def __init__(self, network):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        content = network.SerializeToString()
        self._session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )

    def infer(self, tiles):
        return self._session.run(None, {self._session.get_inputs()[0].name: tiles})[0]


def test_the_shipped_network_bears_half_precision():
    model = shipped()
    engine = HalfEngine(to_half(onnx.load(model.onnx)))
    report = golden.check(engine, model, models.read_golden(model), tolerance=golden.HALF)
    assert report.largest_difference < report.allowed_difference / 5
    assert report.argmax_agreement > 0.9995


def test_convolutions_are_half_and_norms_are_not():
    typed = shape_inference.infer_shapes(to_half(onnx.load(shipped().onnx)), strict_mode=True)
    graph = typed.graph
    kind = {v.name: v.type.tensor_type.elem_type for v in graph.value_info}
    kind |= {w.name: w.data_type for w in graph.initializer}
    kind |= {v.name: v.type.tensor_type.elem_type for v in [*graph.input, *graph.output]}
    seen = {}
    for node in graph.node:
        if node.op_type != "Cast":
            seen.setdefault(node.op_type, set()).update(
                kind[n] for n in (*node.input, *node.output)
            )
    assert seen.pop("InstanceNormalization") == {TensorProto.FLOAT}
    assert set(map(frozenset, seen.values())) == {frozenset({TensorProto.FLOAT16})}
    assert "Conv" in seen
    assert {v.type.tensor_type.elem_type for v in [*graph.input, *graph.output]} == {
        TensorProto.FLOAT
    }


def test_no_weight_is_left_twice():
    whole = onnx.load(shipped().onnx)
    assert to_half(whole).ByteSize() < 0.6 * whole.ByteSize()


def test_a_weight_beyond_half_precision_is_refused(tmp_path):
    def enlarge(weights):
        weights[0, 0, 0, 0, 0] = np.float32(1e5)

    path = write_network(tmp_path / "large.onnx", edit=enlarge)
    with pytest.raises(ModelRefused, match="65504"):
        to_half(onnx.load(path))
