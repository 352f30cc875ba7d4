"""Which engine serves, and what start-up refuses."""

import sys
import weakref
from importlib import metadata

import numpy as np
import pytest
from structlog.testing import capture_logs

from segment_fakes import FunctionEngine, make_model, write_network
from viscera.config import EngineSettings
from viscera.errors import (
    DeviceMemoryFull,
    DeviceUnavailable,
    HostMemoryFull,
    InvalidSettings,
    ModelRefused,
)
from viscera.metrics import Metrics
from viscera.segment import golden, start_engine
from viscera.segment.driver import Gpu
from viscera.segment.ladder import LADDER, Rung
from viscera.segment.onnx_cpu import OnnxCpuEngine

PATCH = (6, 7, 8)


class FaultyEngine(FunctionEngine):
    """Loads, and then does something wrong."""

    def __init__(self, function):
        super().__init__(function)
        self.closed = 0

    def close(self):
        self.closed += 1


def raising(error):
    def fail(*_):
        raise error

    return fail


RUN_FAULTS = {
    "wrong logits": lambda tiles: tiles.repeat(3, axis=1),
    "wrong shape": lambda tiles: tiles,
    "NaN": lambda tiles: np.full((1, 3, *PATCH), np.nan, np.float32),
    "no memory": raising(HostMemoryFull("no memory")),
    "its own exception": raising(RuntimeError("primitive descriptor")),
}
LOAD_FAULTS = {
    "a refused file": ModelRefused("cannot be loaded"),
    "libraries missing": ImportError("libtbb.so.12: cannot open shared object file"),
    "its own exception": RuntimeError("no CPU plugin"),
}


def rung_of(name, build):
    return Rung(name, "numpy", build)


@pytest.fixture
def package(tmp_path):
    path = write_network(tmp_path / "m.onnx", labels=3)
    model = make_model(labels=2, patch=PATCH, onnx_path=path)
    return model, golden.make(OnnxCpuEngine(model, threads=1, tile_batch=1), model, seed=1)


@pytest.fixture
def absent(monkeypatch):
    """Make a module look as if it were not installed."""
    return lambda module: monkeypatch.setitem(sys.modules, module, None)


def demotions(metrics, engine):
    return metrics.registry.get_sample_value("viscera_engine_fallbacks_total", {"engine": engine})


def test_the_fastest_comes_first():
    names = [rung.name for rung in LADDER]
    assert names == ["tensorrt", "tensorrt-rtx", "onnx-cuda", "openvino-cpu", "onnx-cpu"]


def test_openvino_serves_where_it_is_installed(package):
    pytest.importorskip("openvino", reason="openvino is not installed: extra `openvino`")
    metrics = Metrics()
    engine = start_engine(*package, EngineSettings(strict=True), metrics)
    assert engine.name == "openvino-cpu"
    assert demotions(metrics, "openvino-cpu") is None


def test_an_engine_that_is_not_installed_is_no_demotion(package, absent):
    absent("openvino")
    settings, metrics = EngineSettings(tile_batch=2, strict=True), Metrics()
    with capture_logs() as logs:
        engine = start_engine(*package, settings, metrics)
    assert (engine.name, engine.tile_batch) == ("onnx-cpu", 2)
    assert demotions(metrics, "openvino-cpu") is None
    assert [entry["event"] for entry in logs] == ["engine_ready"]


def test_no_engine_installed_says_what_to_install(package, absent):
    absent("openvino")
    absent("onnxruntime")
    with pytest.raises(InvalidSettings, match="extra `cpu`"):
        start_engine(*package, EngineSettings(), Metrics())


def test_a_wrong_golden_tile_stops_the_start(package, tmp_path):
    made = package[1]
    other = write_network(tmp_path / "other.onnx", labels=3, seed=9)
    changed = make_model(labels=2, patch=PATCH, onnx_path=other)
    with pytest.raises(ModelRefused, match="does not answer as"):
        start_engine(changed, made, EngineSettings(), Metrics())


@pytest.mark.parametrize("fault", RUN_FAULTS)
def test_an_engine_that_runs_wrong_is_demoted_and_closed(package, fault):
    faulty, metrics = FaultyEngine(RUN_FAULTS[fault]), Metrics()
    ladder = (rung_of("faulty", lambda *_: faulty), LADDER[-1])
    with capture_logs() as logs:
        engine = start_engine(*package, EngineSettings(), metrics, ladder)
    assert engine.name == "onnx-cpu"
    assert faulty.closed == 1
    assert demotions(metrics, "faulty") == 1
    assert [entry["event"] for entry in logs] == ["engine_demoted", "engine_ready"]
    assert logs[0]["engine"] == "faulty"


@pytest.mark.parametrize("fault", LOAD_FAULTS)
def test_an_engine_that_does_not_load_is_demoted(package, fault):
    metrics = Metrics()
    ladder = (rung_of("faulty", raising(LOAD_FAULTS[fault])), LADDER[-1])
    with capture_logs() as logs:
        engine = start_engine(*package, EngineSettings(), metrics, ladder)
    assert engine.name == "onnx-cpu"
    assert demotions(metrics, "faulty") == 1
    assert str(LOAD_FAULTS[fault]) in logs[0]["why"]


@pytest.mark.parametrize("fault", RUN_FAULTS)
def test_a_demotion_is_fatal_in_strict_mode(package, fault):
    faulty, metrics = FaultyEngine(RUN_FAULTS[fault]), Metrics()
    ladder = (rung_of("faulty", lambda *_: faulty), LADDER[-1])
    with pytest.raises((ModelRefused, HostMemoryFull, RuntimeError)):
        start_engine(*package, EngineSettings(strict=True), metrics, ladder)
    assert faulty.closed == 1
    assert demotions(metrics, "faulty") is None


@pytest.mark.parametrize("fault", LOAD_FAULTS)
def test_failing_to_load_is_fatal_in_strict_mode(package, fault):
    ladder = (rung_of("faulty", raising(LOAD_FAULTS[fault])), LADDER[-1])
    with pytest.raises((ModelRefused, InvalidSettings, RuntimeError)):
        start_engine(*package, EngineSettings(strict=True), Metrics(), ladder)


def test_the_last_engine_tried_has_the_last_word(package):
    ladder = (
        rung_of("first", raising(ModelRefused("first"))),
        rung_of("last", raising(ImportError("broken"))),
    )
    with pytest.raises(InvalidSettings, match="last: numpy is installed and cannot be imported"):
        start_engine(*package, EngineSettings(), Metrics(), ladder)


def test_both_onnx_runtimes_together_are_refused(package, monkeypatch, tmp_path):
    """A second distribution on the path, as pip would have left it."""
    info = tmp_path / "onnxruntime_gpu-1.31.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.31\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert metadata.version("onnxruntime-gpu") == "1.31"
    with pytest.raises(InvalidSettings, match="onnxruntime and onnxruntime-gpu"):
        start_engine(*package, EngineSettings(), Metrics())


GPU = Gpu(name="fake", capability=(9, 0), cuda=13010, driver="580.95.05", memory_bytes=80 * 2**30)


def gpu_rung(name, build):
    return Rung(name, "numpy", build, needs_gpu=True, tolerance=golden.HALF)


def no_gpu():
    raise DeviceUnavailable("no usable NVIDIA GPU")


def test_without_a_driver_no_gpu_engine_is_imported(package):
    """Importing one may crash the process; the driver is asked once for all of them."""
    asked, metrics = [], Metrics()

    def probe():
        asked.append(1)
        no_gpu()

    never = raising(AssertionError("imported"))
    ladder = (gpu_rung("tensorrt", never), gpu_rung("onnx-cuda", never), LADDER[-1])
    with capture_logs() as logs:
        engine = start_engine(*package, EngineSettings(), metrics, ladder, probe)
    assert engine.name == "onnx-cpu"
    assert asked == [1]
    assert [demotions(metrics, name) for name in ("tensorrt", "onnx-cuda")] == [1, 1]
    assert [entry["why"] for entry in logs[:2]] == ["no usable NVIDIA GPU"] * 2


def test_without_a_driver_strict_mode_stops(package):
    ladder = (gpu_rung("tensorrt", raising(AssertionError("imported"))), LADDER[-1])
    with pytest.raises(DeviceUnavailable):
        start_engine(*package, EngineSettings(strict=True), Metrics(), ladder, no_gpu)


def test_where_every_engine_needs_a_gpu_its_absence_is_the_last_word(package):
    ladder = (gpu_rung("tensorrt", raising(AssertionError("imported"))),)
    with pytest.raises(DeviceUnavailable):
        start_engine(*package, EngineSettings(), Metrics(), ladder, no_gpu)


def test_nobody_asks_for_a_gpu_that_no_engine_needs(package):
    probe = raising(AssertionError("asked"))
    start_engine(*package, EngineSettings(), Metrics(), LADDER[-1:], probe).close()


@pytest.mark.parametrize("fault", RUN_FAULTS)
def test_a_gpu_that_answers_wrongly_is_demoted(package, fault):
    faulty, metrics = FaultyEngine(RUN_FAULTS[fault]), Metrics()
    ladder = (gpu_rung("tensorrt", lambda *_: faulty), LADDER[-1])
    engine = start_engine(*package, EngineSettings(), metrics, ladder, lambda: GPU)
    assert engine.name == "onnx-cpu"
    assert (faulty.closed, demotions(metrics, "tensorrt")) == (1, 1)


@pytest.mark.parametrize(("share", "serves"), [(5e-3, True), (2e-2, False)])
def test_half_precision_may_be_farther_off(package, share, serves):
    """Noise of a known share of the largest logit: too much for float32 either way."""
    model, made = package
    right = OnnxCpuEngine(model, threads=1, tile_batch=1)
    offset = np.float32(share * np.abs(made.logits).max())
    shifted = FunctionEngine(lambda tiles: right.infer(tiles) + offset)
    ladder = (gpu_rung("half", lambda *_: shifted), LADDER[-1])
    engine = start_engine(*package, EngineSettings(), Metrics(), ladder, lambda: GPU)
    assert (engine is shifted) is serves
    whole = (rung_of("single", lambda *_: shifted), LADDER[-1])
    assert start_engine(*package, EngineSettings(), Metrics(), whole).name == "onnx-cpu"


def test_a_module_of_another_distribution_is_not_installed():
    """onnxruntime brings the module of onnxruntime-gpu, and no GPU engine."""
    assert not Rung("x", "numpy", raising(RuntimeError()), distribution="numpy-gpu").is_installed
    assert Rung("x", "numpy", raising(RuntimeError()), distribution="numpy").is_installed


@pytest.mark.parametrize("kind", [HostMemoryFull, DeviceMemoryFull])
def test_what_does_not_fit_gets_a_smaller_tile_batch(package, kind):
    """Only with one tile a call is it a demotion."""
    model, made = package
    right = OnnxCpuEngine(model, threads=1, tile_batch=1)
    asked, metrics = [], Metrics()

    def build(model, settings, gpu):
        asked.append(settings.tile_batch)
        if settings.tile_batch > 2:
            raise kind("too many tiles")
        return FunctionEngine(right.infer, settings.tile_batch)

    ladder = (rung_of("greedy", build), LADDER[-1])
    engine = start_engine(model, made, EngineSettings(tile_batch=9), metrics, ladder)
    assert (asked, engine.tile_batch) == ([9, 4, 2], 2)
    assert demotions(metrics, "greedy") is None
    never = (rung_of("greedy", raising(kind("not even one"))), LADDER[-1])
    assert start_engine(*package, EngineSettings(tile_batch=4), metrics, never).name == "onnx-cpu"
    assert demotions(metrics, "greedy") == 1


def test_what_did_not_fit_is_gone_before_less_is_tried(package):
    """An error's frames hold the engine that raised it: with all its memory, on a GPU."""
    model, made = package
    right = OnnxCpuEngine(model, threads=1, tile_batch=1)
    before = []

    class Full(FunctionEngine):
        def infer(self, tiles):
            raise DeviceMemoryFull(f"no room for {len(tiles)} tiles beside {self}")

    def build(model, settings, gpu):
        assert [made() for made in before] == [None] * len(before)
        kind = Full if settings.tile_batch > 2 else FunctionEngine
        engine = kind(right.infer, settings.tile_batch)
        before.append(weakref.ref(engine))
        return engine

    ladder = (rung_of("greedy", build), LADDER[-1])
    engine = start_engine(model, made, EngineSettings(tile_batch=9), Metrics(), ladder)
    assert (engine.tile_batch, len(before)) == (2, 3)
