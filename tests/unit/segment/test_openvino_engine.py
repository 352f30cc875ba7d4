"""OpenVINO on the CPU: what it computes, which networks it refuses, and that it calls nobody."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from segment_fakes import make_model, write_network
from viscera.errors import HostMemoryFull, ModelRefused
from viscera.segment import golden
from viscera.segment.onnx_cpu import OnnxCpuEngine

pytest.importorskip("openvino", reason="openvino is not installed: extra `openvino`")

from viscera.segment.openvino_cpu import OpenVinoEngine

PATCH = (6, 7, 8)


def start(path, *, threads=1, tile_batch=1, **promise):
    model = make_model(**{"labels": 2, "patch": PATCH, "onnx_path": path} | promise)
    return OpenVinoEngine(model, threads=threads, tile_batch=tile_batch)


def test_logits_equal_the_onnx_reference(tmp_path):
    """Also where the CPU has bfloat16, which OpenVINO would take unless told otherwise."""
    path = write_network(tmp_path / "m.onnx", labels=3, spatial=PATCH)
    tiles = np.random.default_rng(0).standard_normal((2, 1, *PATCH)).astype(np.float32)
    (expected,) = ReferenceEvaluator(onnx.load(path)).run(None, {"image": tiles})
    np.testing.assert_allclose(
        start(path, tile_batch=2).infer(tiles), expected, rtol=1e-4, atol=1e-4
    )


def test_it_passes_the_golden_tile_that_onnx_runtime_made(tmp_path):
    path = write_network(tmp_path / "m.onnx", labels=3)
    model = make_model(labels=2, patch=PATCH, onnx_path=path)
    made = golden.make(OnnxCpuEngine(model, threads=1, tile_batch=1), model, seed=3)
    report = golden.check(OpenVinoEngine(model, threads=2, tile_batch=4), model, made)
    assert report.engine == "openvino-cpu"
    assert report.largest_difference < report.allowed_difference / 100


def test_a_short_batch_answers_as_its_tiles_in_a_full_one(tmp_path):
    """The rest of the batch holds what an earlier call left, unless it is cleared."""
    engine = start(write_network(tmp_path / "m.onnx"), tile_batch=3)
    tiles = np.random.default_rng(1).standard_normal((3, 1, *PATCH)).astype(np.float32)
    full = engine.infer(tiles).copy()
    short = engine.infer(tiles[:1])
    assert short.shape == (1, 3, *PATCH)
    np.testing.assert_array_equal(short[0], full[0])


def test_an_answer_outlives_its_engine(tmp_path):
    engine = start(write_network(tmp_path / "m.onnx"))
    answer = engine.infer(np.ones((1, 1, *PATCH), np.float32))
    kept = answer.copy()
    engine.close()
    np.testing.assert_array_equal(answer, kept)


@pytest.mark.parametrize(("asked", "fixed"), [(4, 1), (1, 2)])
def test_a_network_for_a_fixed_batch_keeps_it(tmp_path, asked, fixed):
    path = write_network(tmp_path / "m.onnx", batch=fixed)
    engine = start(path, tile_batch=asked)
    assert engine.tile_batch == fixed
    assert engine.infer(np.ones((1, 1, *PATCH), np.float32)).shape == (1, 3, *PATCH)


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
    with pytest.raises(ModelRefused, match="was expected"):
        start(path, **promise)


@pytest.mark.parametrize("content", [None, b"", b"not a network"])
def test_a_file_that_is_no_network_is_refused(tmp_path, content):
    path = tmp_path / "m.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelRefused, match="cannot be loaded"):
        start(path)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("std::bad_alloc")])
def test_memory_that_is_full_has_its_own_name(tmp_path, error):
    engine = start(write_network(tmp_path / "m.onnx"))

    class Request:
        def infer(self):
            raise error

    engine._request = Request()
    with pytest.raises(HostMemoryFull, match="tile_batch"):
        engine.infer(np.zeros((1, 1, *PATCH), np.float32))


def test_a_closed_engine_says_so(tmp_path):
    engine = start(write_network(tmp_path / "m.onnx"))
    engine.close()
    with pytest.raises(ModelRefused, match="closed"):
        engine.infer(np.zeros((1, 1, *PATCH), np.float32))


def test_importing_it_reports_to_nobody(tmp_path):
    """OpenVINO's own telemetry writes an id below the home folder, then sends; neither happens."""
    script = (
        "import socket, sys\n"
        "def refuse(*_): raise SystemExit('it looked up a host')\n"
        "socket.getaddrinfo = refuse\n"
        "import viscera.segment.openvino_cpu\n"
        "from openvino.tools.ovc import telemetry_utils as used\n"
        "assert used.tm.__name__.endswith('telemetry_stub'), used.tm\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"HOME": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())
