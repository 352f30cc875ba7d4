"""Plans on disk: one for each GPU, driver, TensorRT and network, and never a damaged one."""

import sys
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from segment_fakes import make_model
from viscera.config import EngineSettings
from viscera.errors import DeviceUnavailable
from viscera.segment.building import PlanNotBuilt
from viscera.segment.driver import Gpu
from viscera.segment.plans import PlanCache, PlanKey, read_sealed, write_sealed
from viscera.segment.tensorrt_start import load_tensorrt

KEY = PlanKey(
    library="tensorrt",
    version="11.4.0.106",
    gpu="NVIDIA H200",
    capability=(9, 0),
    driver="580.95.05 13010",
    onnx_sha256="0" * 64,
    patch=(64, 160, 160),
    channels=1,
    labels=16,
    tile_batch=2,
    half=True,
)
OTHERS = {
    "library": "tensorrt_rtx",
    "version": "10.16.1.11",
    "gpu": "NVIDIA L4",
    "capability": (8, 9),
    "driver": "580.95.06 13010",
    "onnx_sha256": "1" * 64,
    "patch": (64, 160, 128),
    "channels": 2,
    "labels": 15,
    "tile_batch": 4,
    "half": False,
}


def test_what_was_written_is_read(tmp_path):
    cache = PlanCache(tmp_path / "plans")
    assert cache.read(KEY) is None
    write_sealed(cache.path_of(KEY), b"machine code")
    assert cache.read(KEY) == b"machine code"
    assert len(list((tmp_path / "plans").iterdir())) == 1


def test_a_plan_that_does_not_load_is_built_again_once(tmp_path):
    cache = PlanCache(tmp_path)
    write_sealed(cache.path_of(KEY), b"for another chip")
    assert cache.refuse(KEY)
    assert cache.read(KEY) is None
    write_sealed(cache.path_of(KEY), b"built anew")
    assert not cache.refuse(KEY)
    assert cache.read(KEY) == b"built anew", "kept, so that the next start does not build either"
    cache.accept(KEY)
    assert cache.refuse(KEY)


@pytest.mark.parametrize("field", [field.name for field in fields(PlanKey)])
def test_another_value_of_any_field_is_another_plan(tmp_path, field):
    cache = PlanCache(tmp_path)
    write_sealed(cache.path_of(KEY), b"machine code")
    assert cache.read(replace(KEY, **{field: OTHERS[field]})) is None


def test_timings_are_shared_by_the_plans_of_one_gpu(tmp_path):
    cache = PlanCache(tmp_path)
    assert cache.timing_path(KEY) == cache.timing_path(replace(KEY, onnx_sha256="1" * 64))
    assert cache.timing_path(KEY) != cache.timing_path(replace(KEY, gpu="NVIDIA L4"))


@pytest.mark.parametrize("damage", ["cut", "flipped", "grown", "empty", "foreign"])
def test_a_damaged_plan_is_no_plan(tmp_path, damage):
    """TensorRT would crash on it, not complain."""
    path = tmp_path / "one.plan"
    write_sealed(path, bytes(range(256)) * 8)
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    path.write_bytes(
        {
            "cut": whole[:-7],
            "flipped": flipped,
            "grown": whole + b"\0",
            "empty": b"",
            "foreign": b"ftrt" + whole,
        }[damage]
    )
    assert read_sealed(path) is None


def test_a_plan_is_built_from_the_half_network_that_a_package_brings(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "any_tensorrt", SimpleNamespace(__version__="11.4"))
    gpu = Gpu(name="g", capability=(9, 0), cuda=13010, driver="580", memory_bytes=2**36)
    settings = EngineSettings(plan_cache=tmp_path)
    plain = make_model(labels=2, patch=(4, 4, 4), onnx_path=tmp_path / "model.onnx")
    typed = replace(plain, half=tmp_path / "model.fp16.onnx", half_sha256="1" * 64)
    wanted = []
    for model in (plain, typed):
        with pytest.raises(PlanNotBuilt) as missing:
            load_tensorrt("any_tensorrt", model, settings, gpu)
        wanted.append(missing.value.request)
    assert [(Path(one.onnx).name, one.half) for one in wanted] == [
        ("model.onnx", True),
        ("model.fp16.onnx", False),
    ]
    assert wanted[0].plan != wanted[1].plan


def test_a_gpu_that_this_tensorrt_has_no_code_for_gets_no_plan(tmp_path, monkeypatch):
    """TensorRT-RTX names the chips that it builds for; a plan for another would never load."""
    kinds = SimpleNamespace(SM89=1, SM120=2)
    rtx = SimpleNamespace(__name__="any_rtx", __version__="1.7", ComputeCapability=kinds)
    monkeypatch.setitem(sys.modules, "any_rtx", rtx)
    settings = EngineSettings(plan_cache=tmp_path)
    model = make_model(labels=2, patch=(4, 4, 4), onnx_path=tmp_path / "model.onnx")
    gpu = Gpu(name="NVIDIA H200", capability=(9, 0), cuda=13010, driver="580", memory_bytes=2**36)
    with pytest.raises(DeviceUnavailable, match="knows SM120, SM89, not the SM90 of NVIDIA H200"):
        load_tensorrt("any_rtx", model, settings, gpu)
    with pytest.raises(PlanNotBuilt) as missing:
        load_tensorrt("any_rtx", model, settings, replace(gpu, capability=(12, 0)))
    assert missing.value.request.chip == "SM120"
