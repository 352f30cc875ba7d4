"""TensorRT without a GPU: the real API of 10 and 11, and real builds by TensorRT-RTX.

`make test-tensorrt` makes the three venvs that this needs; without them it is skipped.
"""

import json
import os
import subprocess
from pathlib import Path

import onnx
import pytest

from segment_fakes import write_network
from viscera.errors import ModelRefused
from viscera.segment.building import PlanBuild
from viscera.segment.plans import read_sealed
from viscera.segment.tensorrt_build import BuildRequest

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "model_repo" / "abdomen15-phantom" / "1" / "model.onnx"

# What the bindings link to; none of it is ever called.
STUBS = {
    "libnvinfer.so": (
        "createInferBuilder_INTERNAL",
        "createInferRefitter_INTERNAL",
        "createInferRuntime_INTERNAL",
        "getBuilderPluginRegistry",
        "getPluginRegistry",
    ),
    "libnvinfer_plugin.so": ("initLibNvInferPlugins",),
    "libnvonnxparser.so": (
        "createNvOnnxParserRefitter_INTERNAL",
        "createNvOnnxParser_INTERNAL",
        "getNvOnnxParserVersion",
    ),
}


def python_of(name: str) -> str:
    python = ROOT / name / "bin" / "python"
    if not python.exists():
        pytest.skip(f"{name} is missing: make test-tensorrt")
    return str(python)


@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    """Return a maker of shared libraries of one major version that hold names and nothing else."""

    def make(major):
        folder = tmp_path_factory.mktemp(f"stubs{major}")
        for name, functions in STUBS.items():
            source = "".join(f"void {function}(void) {{}}\n" for function in functions)
            target = folder / f"{name}.{major}"
            subprocess.run(
                [
                    *("cc", "-shared", "-fPIC", "-x", "c", "-"),
                    *(f"-Wl,-soname,{target.name}", "-o", target),
                ],
                input=source.encode(),
                check=True,
            )
        return folder

    return make


@pytest.mark.parametrize("major", [10, 11])
def test_every_name_we_use_is_in_the_real_bindings(stubs, major):
    done = subprocess.run(
        [
            python_of(f".venv-trt{major}"),
            ROOT / "tests/tensorrt_api/bindings_contract.py",
            stubs(major),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{major}.")


def request(folder, onnx_path, **changes):
    given = {
        "library": "tensorrt_rtx",
        "onnx": str(onnx_path),
        "tile_batch": 2,
        "half": True,
        "plan": str(folder / "one.plan"),
        "timing": str(folder / "gpu.timing"),
        "chip": "SM89",
        **changes,
    }
    return BuildRequest(**given)


def build(folder, onnx_path, **changes):
    """Build as the service does, by the builder's own process; return what it reported."""
    seen: list[float] = []
    command = (python_of(".venv-trtrtx"), "-m", "viscera.segment.tensorrt_build")
    running = PlanBuild(request(folder, onnx_path, **changes), seen.append, command)
    try:
        running.require_success()
    finally:
        running.stop()
    return seen


def test_the_shipped_network_becomes_a_plan(tmp_path):
    seen = build(tmp_path, SHIPPED)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert len(seen) > 10
    half = read_sealed(tmp_path / "one.plan")
    assert half is not None
    assert read_sealed(tmp_path / "gpu.timing") is not None
    build(tmp_path, SHIPPED, half=False)
    whole = read_sealed(tmp_path / "one.plan")
    assert len(half) < 0.75 * len(whole), "weights in half precision take half the room"


def test_a_plan_says_what_it_takes_and_gives(tmp_path):
    """The library's own reader of plans; without a driver it may not load one."""
    build(tmp_path, SHIPPED)
    code = (
        "import sys, json, tensorrt_rtx as trt\n"
        "from viscera.segment.tensorrt_build import read_network\n"
        "from pathlib import Path\n"
        "builder = trt.Builder(trt.Logger(trt.Logger.ERROR))\n"
        "network = builder.create_network(1)\n"
        "parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))\n"
        "assert parser.parse(read_network(Path(sys.argv[1]), half=True))\n"
        "kinds = {}\n"
        "for k in range(network.num_layers):\n"
        "    layer = network.get_layer(k)\n"
        "    kinds.setdefault(layer.type.name, set()).add(layer.get_output(0).dtype.name)\n"
        "ends = [network.get_input(0).dtype.name, network.get_output(0).dtype.name]\n"
        "print(json.dumps([{k: sorted(v) for k, v in kinds.items()}, ends]))\n"
    )
    done = subprocess.run(
        [python_of(".venv-trtrtx"), "-c", code, SHIPPED],
        capture_output=True,
        text=True,
        env=os.environ,
        check=True,
    )
    kinds, ends = json.loads(done.stdout)
    assert kinds["CONVOLUTION"] == kinds["DECONVOLUTION"] == ["HALF"]
    assert kinds["NORMALIZATION"] == ["FLOAT"]
    assert ends == ["FLOAT", "FLOAT"]


def test_a_file_that_is_no_network_is_a_named_failure(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"not a network")
    with pytest.raises(ModelRefused, match="cannot be parsed"):
        build(tmp_path, path, half=False)
    assert not (tmp_path / "one.plan").exists()


def test_a_network_of_open_size_is_a_named_failure(tmp_path):
    with pytest.raises(ModelRefused, match="only the tile count"):
        build(tmp_path, write_network(tmp_path / "m.onnx"))


def test_a_network_for_a_fixed_number_of_tiles_is_built_for_that(tmp_path):
    path = write_network(tmp_path / "m.onnx", batch=1, spatial=(8, 8, 8))
    assert onnx.load(path).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
    assert build(tmp_path, path)[-1] == 1.0
