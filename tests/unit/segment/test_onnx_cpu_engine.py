"""ONNX Runtime on the CPU: what it computes, and which networks it refuses."""

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from segment_fakes import make_model, write_network
from viscera.errors import ModelRefused
from viscera.segment import segment
from viscera.segment.onnx_cpu import OnnxCpuEngine

PATCH = (6, 7, 8)


def test_logits_equal_the_onnx_reference(tmp_path):
    path = write_network(tmp_path / "m.onnx", labels=3, spatial=PATCH)
    engine = OnnxCpuEngine(
        make_model(labels=2, patch=PATCH, onnx_path=path), threads=1, tile_batch=2
    )
    tiles = np.random.default_rng(0).standard_normal((2, 1, *PATCH)).astype(np.float32)
    (expected,) = ReferenceEvaluator(onnx.load(path)).run(None, {"image": tiles})
    np.testing.assert_allclose(engine.infer(tiles), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_the_label_map_does_not_depend_on_the_batch(tmp_path, batch):
    path = write_network(tmp_path / "m.onnx", labels=3)
    model = make_model(labels=2, patch=PATCH, onnx_path=path, mirror_axes=(2,))
    image = np.random.default_rng(1).standard_normal((1, 13, 12, 9)).astype(np.float32)
    maps = []
    for size in (1, batch):
        maps.append(np.zeros((20, 12, 17), np.uint8))
        engine = OnnxCpuEngine(model, threads=2, tile_batch=size)
        segment(image, model, engine, maps[-1], lambda done: None)
    assert np.mean(maps[0] == maps[1]) > 0.999  # sums in another order may flip a tie
    assert len(np.unique(maps[0])) == 3


def test_a_network_for_one_tile_gets_one(tmp_path):
    path = write_network(tmp_path / "m.onnx", batch=1)
    model = make_model(labels=2, patch=PATCH, onnx_path=path)
    assert OnnxCpuEngine(model, threads=1, tile_batch=4).tile_batch == 1


@pytest.mark.parametrize(
    ("network", "promise"),
    [
        ({"labels": 4}, {}),
        ({"channels": 2}, {}),
        ({"spatial": (6, 7, 9)}, {}),
        ({}, {"labels": 4}),
    ],
)
def test_a_signature_unlike_the_manifest_is_refused(tmp_path, network, promise):
    path = write_network(tmp_path / "m.onnx", **network)
    model = make_model(**{"labels": 2, "patch": PATCH, "onnx_path": path} | promise)
    with pytest.raises(ModelRefused, match="was expected"):
        OnnxCpuEngine(model, threads=1, tile_batch=1)


@pytest.mark.parametrize("content", [None, b"", b"not a network"])
def test_a_file_that_is_no_network_is_refused(tmp_path, content):
    path = tmp_path / "m.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelRefused, match="cannot be loaded"):
        OnnxCpuEngine(make_model(labels=2, patch=PATCH, onnx_path=path), threads=1, tile_batch=1)


def test_a_closed_engine_says_so(tmp_path):
    path = write_network(tmp_path / "m.onnx")
    engine = OnnxCpuEngine(
        make_model(labels=2, patch=PATCH, onnx_path=path), threads=1, tile_batch=1
    )
    engine.close()
    with pytest.raises(ModelRefused, match="closed"):
        engine.infer(np.zeros((1, 1, *PATCH), np.float32))
