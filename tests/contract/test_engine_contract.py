"""What every `Engine` keeps, whichever run-time stands behind it."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from segment_fakes import FunctionEngine, make_model, write_network
from viscera.segment.engine import Engine
from viscera.segment.onnx_cpu import OnnxCpuEngine

PATCH = (6, 7, 8)
CHANNELS, LABELS = 2, 4
BATCH = 3

Make = Callable[[], Engine]


def engine_class(name: str) -> type:
    if name == "onnx-cpu":
        return OnnxCpuEngine
    pytest.importorskip("openvino", reason="openvino is not installed: extra `openvino`")
    from viscera.segment.openvino_cpu import OpenVinoEngine

    return OpenVinoEngine


@pytest.fixture(params=["function", "onnx-cpu", "openvino-cpu"])
def make_engine(request, tmp_path) -> Make:
    if request.param == "function":
        mix = np.random.default_rng(0).standard_normal((LABELS, CHANNELS)).astype(np.float32)
        return lambda: FunctionEngine(lambda tiles: np.einsum("lc,nczyx->nlzyx", mix, tiles), BATCH)
    kind = engine_class(request.param)
    path = write_network(tmp_path / "model.onnx", channels=CHANNELS, labels=LABELS)
    model = make_model(labels=LABELS - 1, channels=CHANNELS, patch=PATCH, onnx_path=path)
    return lambda: kind(model, threads=2, tile_batch=BATCH)


@pytest.fixture
def engine(make_engine: Make) -> Iterator[Engine]:
    engine = make_engine()
    yield engine
    engine.close()


def tiles(count: int, seed: int = 0) -> np.ndarray:
    shape = (count, CHANNELS, *PATCH)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("count", range(1, BATCH + 1))
def test_a_batch_of_tiles_gives_a_batch_of_logits(engine, count):
    logits = engine.infer(tiles(count))
    assert logits.shape == (count, LABELS, *PATCH)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()


def test_it_takes_as_many_tiles_as_it_says(engine):
    assert engine.tile_batch == BATCH


def test_a_tile_does_not_see_its_neighbours(engine):
    together = engine.infer(tiles(3)).copy()
    for k in range(3):
        alone = engine.infer(tiles(3)[k : k + 1])
        np.testing.assert_allclose(alone[0], together[k], rtol=1e-5, atol=1e-5)


def test_a_smaller_batch_may_follow_a_larger_one(engine):
    first = engine.infer(tiles(1)).copy()
    engine.infer(tiles(3, seed=1))
    np.testing.assert_array_equal(engine.infer(tiles(1)), first)


def test_tiles_are_not_written_to(engine):
    given = tiles(2)
    given.flags.writeable = False
    engine.infer(given)
    np.testing.assert_array_equal(given, tiles(2))


def test_its_name_is_a_constant_word(make_engine):
    one, two = make_engine(), make_engine()
    assert one.name == two.name
    assert one.name.replace("-", "").isalnum()
    one.close()
    two.close()


def test_closing_twice_is_closing(make_engine):
    engine = make_engine()
    engine.infer(tiles(1))
    engine.close()
    engine.close()
