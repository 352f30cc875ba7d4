"""Which engine serves, and what start-up refuses."""

from importlib import metadata

import pytest

from segment_fakes import FunctionEngine, make_model, write_network
from viscera.config import EngineSettings
from viscera.errors import InvalidSettings, ModelRefused
from viscera.metrics import Metrics
from viscera.segment import golden, start_engine
from viscera.segment.ladder import LADDER, Rung
from viscera.segment.onnx_cpu import OnnxCpuEngine

PATCH = (6, 7, 8)


class WrongEngine(FunctionEngine):
    """Answers the right shape and the wrong logits."""

    def __init__(self):
        super().__init__(lambda tiles: tiles.repeat(3, axis=1))
        self.closed = 0

    def close(self):
        self.closed += 1


@pytest.fixture
def package(tmp_path):
    path = write_network(tmp_path / "m.onnx", labels=3)
    model = make_model(labels=2, patch=PATCH, onnx_path=path)
    return model, golden.make(OnnxCpuEngine(model, threads=1, tile_batch=1), model, seed=1)


def demotions(metrics, engine):
    return metrics.registry.get_sample_value("viscera_engine_fallbacks_total", {"engine": engine})


def test_the_cpu_engine_serves_after_its_golden_tile(package):
    settings, metrics = EngineSettings(tile_batch=2), Metrics()
    engine = start_engine(*package, settings, metrics)
    assert (engine.name, engine.tile_batch) == ("onnx-cpu", 2)
    assert demotions(metrics, "onnx-cpu") is None


def test_a_wrong_golden_tile_stops_the_start(package, tmp_path):
    made = package[1]
    other = write_network(tmp_path / "other.onnx", labels=3, seed=9)
    changed = make_model(labels=2, patch=PATCH, onnx_path=other)
    with pytest.raises(ModelRefused, match="does not answer as"):
        start_engine(changed, made, EngineSettings(), Metrics())


def test_a_demotion_is_counted_and_the_failed_engine_closed(package):
    wrong, metrics = WrongEngine(), Metrics()
    ladder = (Rung("wrong", lambda model, settings: wrong), *LADDER)
    engine = start_engine(*package, EngineSettings(), metrics, ladder)
    assert engine.name == "onnx-cpu"
    assert wrong.closed == 1
    assert demotions(metrics, "wrong") == 1


def test_a_demotion_is_fatal_in_strict_mode(package):
    wrong, metrics = WrongEngine(), Metrics()
    ladder = (Rung("wrong", lambda model, settings: wrong), *LADDER)
    with pytest.raises(ModelRefused):
        start_engine(*package, EngineSettings(strict=True), metrics, ladder)
    assert demotions(metrics, "wrong") is None


def test_both_onnx_runtimes_together_are_refused(package, monkeypatch, tmp_path):
    """A second distribution on the path, as pip would have left it."""
    info = tmp_path / "onnxruntime_gpu-1.31.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.31\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert metadata.version("onnxruntime-gpu") == "1.31"
    with pytest.raises(InvalidSettings, match="onnxruntime and onnxruntime-gpu"):
        start_engine(*package, EngineSettings(), Metrics())
