"""Working memory grows neither with slices nor with labels at full resolution."""

import tracemalloc

import numpy as np

from segment_fakes import FunctionEngine, make_model
from viscera.segment import segment


def peak_bytes(*, labels: int, shape, target) -> int:
    """Most memory that `segment` holds at once beside its arguments."""
    model = make_model(labels=labels - 1, patch=(8, 32, 32))
    answer = np.zeros((1, labels, 8, 32, 32), np.float32)
    engine = FunctionEngine(lambda tiles: answer)
    image, out = np.zeros((1, *shape), np.float32), np.zeros(target, np.uint8)
    segment(image, model, engine, out, lambda done: None)  # imports and caches
    tracemalloc.start()
    try:
        segment(image, model, engine, out, lambda done: None)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_more_slices_take_no_more_memory():
    short = peak_bytes(labels=16, shape=(32, 64, 64), target=(64, 128, 128))
    long = peak_bytes(labels=16, shape=(160, 64, 64), target=(320, 128, 128))
    assert long < short * 1.1


def test_a_label_costs_its_planes_at_model_resolution_only():
    def peak(labels):
        return peak_bytes(labels=labels, shape=(32, 64, 64), target=(128, 256, 256))

    growth = (peak(32) - peak(16)) / 16
    planes = 9 * 64 * 64 * 4
    assert 0.9 * planes < growth < 1.1 * planes
    full_resolution = 16 * 128 * 256 * 256 * 4
    assert peak(16) < full_resolution / 50
