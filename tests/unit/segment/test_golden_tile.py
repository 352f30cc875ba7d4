"""The golden tile lets the right network pass and no other."""

from dataclasses import replace

import numpy as np
import pytest

from segment_fakes import FunctionEngine, make_model, write_network
from viscera.errors import ModelRefused
from viscera.segment import golden
from viscera.segment.onnx_cpu import OnnxCpuEngine

PATCH = (12, 14, 16)


@pytest.fixture
def model(tmp_path):
    path = write_network(tmp_path / "right.onnx", labels=4)
    return make_model(labels=3, patch=PATCH, onnx_path=path)


def engine_of(model):
    return OnnxCpuEngine(model, threads=2, tile_batch=1)


def test_the_same_network_passes(model):
    made = golden.make(engine_of(model), model, seed=7)
    report = golden.check(engine_of(model), model, made)
    assert report.argmax_agreement == 1.0
    assert report.largest_difference <= report.allowed_difference / 10
    assert report.engine == "onnx-cpu"


def test_making_is_deterministic_and_samples_every_label(model):
    one, two = (golden.make(engine_of(model), model, seed=7) for _ in range(2))
    np.testing.assert_array_equal(one.sample, two.sample)
    np.testing.assert_array_equal(one.argmax, two.argmax)
    assert len(np.unique(one.sample)) == golden.SAMPLES
    assert set(one.sample // np.prod(PATCH)) == {0, 1, 2, 3}
    assert one.argmax.shape == PATCH
    assert one.argmax.dtype == np.uint8


def test_samples_are_the_logits_at_their_places(model):
    made = golden.make(engine_of(model), model, seed=7)
    tile = np.random.default_rng(7).standard_normal((1, 1, *PATCH), np.float32)
    logits = engine_of(model).infer(tile)[0]
    places = np.unravel_index(made.sample, logits.shape)
    np.testing.assert_array_equal(made.logits, logits[places])
    np.testing.assert_array_equal(made.argmax, logits.argmax(axis=0))


@pytest.mark.parametrize("label", range(4))
def test_one_changed_weight_is_found(model, tmp_path, label):
    def edit(weights):
        weights[label, 3, 1, 1, 1] += 0.05

    made = golden.make(engine_of(model), model, seed=7)
    other = write_network(tmp_path / "other.onnx", labels=4, edit=edit)
    with pytest.raises(ModelRefused, match="does not answer as"):
        golden.check(engine_of(replace(model, onnx=other)), model, made)


def test_swapped_labels_are_found_by_the_argmax_alone(model):
    made = golden.make(engine_of(model), model, seed=7)
    right = engine_of(model)
    swapped = FunctionEngine(lambda tiles: right.infer(tiles)[:, [0, 2, 1, 3]])
    with pytest.raises(ModelRefused, match="labels agree"):
        golden.check(swapped, model, made, tolerance=golden.Tolerance(logits=1e9))


def test_a_tolerance_is_a_share_of_the_largest_logit(model):
    made = golden.make(engine_of(model), model, seed=7)
    right = engine_of(model)
    scale = float(np.abs(made.logits).max())
    assert scale > 10
    shifted = FunctionEngine(lambda tiles: right.infer(tiles) + np.float32(0.01 * scale))
    golden.check(shifted, model, made, tolerance=golden.Tolerance(logits=0.02))
    with pytest.raises(ModelRefused):
        golden.check(shifted, model, made, tolerance=golden.Tolerance(logits=0.005))


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_logit_that_is_not_finite_is_refused(model, poison):
    made = golden.make(engine_of(model), model, seed=7)
    right = engine_of(model)

    def broken(tiles):
        logits = right.infer(tiles).copy()
        logits[0, 2, 3, 4, 5] = poison
        return logits

    with pytest.raises(ModelRefused, match="NaN or infinity"):
        golden.check(FunctionEngine(broken), model, made)


def test_a_nan_in_the_golden_file_is_refused(model):
    made = golden.make(engine_of(model), model, seed=7)
    logits = made.logits.copy()
    logits[0] = np.nan
    with pytest.raises(ModelRefused):
        golden.check(engine_of(model), model, replace(made, logits=logits))


def test_a_missing_output_is_refused(model):
    made = golden.make(engine_of(model), model, seed=7)
    right = engine_of(model)
    with pytest.raises(ModelRefused, match="background and one logit a label"):
        golden.check(FunctionEngine(lambda tiles: right.infer(tiles)[:, 1:]), model, made)


def test_a_golden_tile_of_another_patch_is_refused(model):
    made = golden.make(engine_of(model), model, seed=7)
    other = replace(model, patch_size=(12, 14, 8))
    with pytest.raises(ModelRefused, match="golden tile"):
        golden.check(engine_of(other), other, made)
